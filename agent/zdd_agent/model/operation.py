"""Operations and what they go by: frozen values, without behaviour that touches the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from zdd_agent.model.aws import Membership, Target, TargetHealth
from zdd_agent.model.kernel import Until


class Verb(StrEnum):
    """What a caller can ask for."""

    DRAIN = "drain"
    REJOIN = "rejoin"


class Phase(StrEnum):
    """Where an operation stands."""

    GUARDING = "guarding"
    DEREGISTERING = "deregistering"
    DRAINING = "draining"
    SETTLED = "settled"
    PROBING = "probing"
    REGISTERING = "registering"
    WARMING = "warming"
    IN_SERVICE = "in_service"


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = MappingProxyType(
    {
        Phase.GUARDING: frozenset({Phase.DEREGISTERING, Phase.SETTLED}),
        Phase.DEREGISTERING: frozenset({Phase.DRAINING}),
        Phase.DRAINING: frozenset({Phase.DEREGISTERING, Phase.SETTLED}),
        Phase.SETTLED: frozenset(),
        Phase.PROBING: frozenset({Phase.REGISTERING, Phase.IN_SERVICE}),
        Phase.REGISTERING: frozenset({Phase.WARMING}),
        Phase.WARMING: frozenset({Phase.REGISTERING, Phase.IN_SERVICE}),
        Phase.IN_SERVICE: frozenset(),
    }
)
FIRST_PHASE: Mapping[Verb, Phase] = MappingProxyType({Verb.DRAIN: Phase.GUARDING, Verb.REJOIN: Phase.PROBING})
LAST_PHASE: Mapping[Verb, Phase] = MappingProxyType({Verb.DRAIN: Phase.SETTLED, Verb.REJOIN: Phase.IN_SERVICE})


class Check(StrEnum):
    """What a caller can force, each by its name."""

    MIN_HEALTHY = "min-healthy"
    PROBE = "probe"


FORCIBLE: Mapping[Verb, tuple[Check, ...]] = MappingProxyType(
    {Verb.DRAIN: (Check.MIN_HEALTHY,), Verb.REJOIN: (Check.PROBE,)}
)


class Outcome(StrEnum):
    """How an operation ended."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Posture(StrEnum):
    """Where the host stands towards its load balancers."""

    IN_SERVICE = "in_service"
    DRAINING = "draining"
    DRAINED = "drained"
    REJOINING = "rejoining"
    OUT_OF_SERVICE = "out_of_service"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is kept and sent."""

    kind: str
    message: str
    hint: str = ""
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked for.

    `timeout` is in seconds, None for the derived one. `force` names the checks to skip. `wait` is for how many
    seconds a refusal is tried again. `until` is what ends a drain, None for the settings' word. `stopping`: the stop
    that this drain belongs to cannot be prevented, so a drain that is still refused after `wait` goes on anyway.
    """

    verb: Verb
    uid: int
    timeout: float | None = None
    reason: str = ""
    force: tuple[Check, ...] = ()
    wait: float = 0.0
    until: Until | None = None
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """A drain or a rejoin under way or ended. Moments are seconds since the epoch.

    A drain also keeps its claim: which other targets were healthy (`guarded`) at which moment (`guarded_at`) when the
    guard let it go, and whether the look behind the deregistration found that nobody else went meanwhile (`confirmed`).
    And what ends it: `until` (None as long as that is open), decided at `relied_at`; `doubt` says why the kernel is not
    relied on.
    """

    id: str
    request: Request
    phase: Phase
    started_at: float
    deadline: float
    accepted_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    message: str = ""
    failure: Failure | None = None
    cancelled_by: int | None = None
    guarded: tuple[Target, ...] = ()
    guarded_at: float | None = None
    confirmed: bool = False
    until: Until | None = None
    doubt: str = ""
    relied_at: float | None = None

    @property
    def verb(self) -> Verb:
        """Drain or rejoin."""
        return self.request.verb

    @property
    def changed(self) -> bool:
        """Whether there was something to do: False where the host was drained, or in service, already."""
        return self.accepted_at is not None or self.guarded_at is not None

    def moved(self, phase: Phase) -> Operation:
        """The operation one phase on. Raises ValueError for a step that TRANSITIONS does not allow."""
        if phase not in TRANSITIONS[self.phase]:
            raise ValueError(f"illegal transition: {self.phase} to {phase}")
        return replace(self, phase=phase)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of progress. Moments are seconds since the epoch; `until` is when the next change is possible."""

    seq: int
    at: float
    operation: str
    phase: Phase
    text: str
    until: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """All that the store keeps.

    `out_since` is set before the first deregistration and cleared by a rejoin. `settled`: a drain has ended with proof,
    and nothing was registered since. `nodes`: the load balancer's addresses that had sent this host work before.
    """

    membership: Membership | None = None
    out_since: float | None = None
    settled: bool = False
    nodes: tuple[str, ...] = ()
    operation: Operation | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One health check of ours against the app on this host. `said` is what it answered, for people."""

    target: Target
    passed: bool
    said: str


@dataclass(frozen=True, slots=True)
class Tally:
    """The probes of one target in a row: how many passed since the last failure, and what the last one said."""

    target: Target
    passes: int
    said: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What AWS said last: every target of every group of the membership, siblings included.

    `probes` are what the app on this host answered at the same time, where that was asked. `seen_at` and
    `look_again_at` are moments; before the second, asking again would waste the shared API budget.
    """

    population: tuple[TargetHealth, ...]
    missing_groups: frozenset[str]
    seen_at: float
    look_again_at: float
    probes: tuple[ProbeResult, ...] = ()

    def of(self, target: Target) -> TargetHealth | None:
        """This target's health; None when it is not registered."""
        for health in self.population:
            seen = health.target
            if (seen.group, seen.id, seen.port) == (target.group, target.id, target.port):
                return health
        return None
