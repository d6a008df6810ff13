"""Operations: what is asked for, how it goes, how it ends, and what a decision may go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from zdd_agent.model.aws import Target, TargetHealth
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


LAST_PHASE: Mapping[Verb, Phase] = MappingProxyType({Verb.DRAIN: Phase.SETTLED, Verb.REJOIN: Phase.IN_SERVICE})


class Check(StrEnum):
    """The checks that a caller can skip, by name. `DRAINED`: a host that is out already is not rebooted."""

    MIN_HEALTHY = "min-healthy"
    PROBE = "probe"
    SLOT = "slot"
    DRAINED = "drained"


FORCIBLE: Mapping[Verb, tuple[Check, ...]] = MappingProxyType(
    {Verb.DRAIN: (Check.MIN_HEALTHY, Check.SLOT, Check.DRAINED), Verb.REJOIN: (Check.PROBE,)}
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
    LEAVING = "leaving"
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
    """What a caller asks for.

    Args:
        verb: drain or rejoin.
        uid: who asks.
        timeout: give up after this many seconds; None: derived from the target groups' settings.
        reason: text for the log.
        force: the checks to skip, each by its name.
        wait: keep retrying a refused drain for this many seconds.
        until: what ends a drain; None: as the settings say.
        stopping: nothing can prevent this stop: once `wait` is over, drain even if the guard refuses.
        keep_trying: nobody waits for the result: a rejoin that fails is tried again.
        reboot: the caller reboots this host once it is drained, and wants it back after that.
    """

    verb: Verb
    uid: int
    timeout: float | None = None
    reason: str = ""
    force: tuple[Check, ...] = ()
    wait: float = 0.0
    until: Until | None = None
    stopping: bool = False
    keep_trying: bool = False
    reboot: bool = False


@dataclass(frozen=True, slots=True)
class Reboot:
    """Somebody drains this host to reboot it, and wants it back after that: a later boot begins a rejoin.

    Args:
        boot_id: of the boot in which that was asked for.
        uid: who asked.
    """

    boot_id: str
    uid: int


@dataclass(frozen=True, slots=True)
class Operation:
    """A drain or a rejoin as others see it. Moments are seconds since the epoch.

    Args:
        phase: where it stands, or where it ended.
        outcome: how it ended; None while it is under way.
        changed: False where there was nothing to do: the host was drained, or in service, already.
        cancelled_by: the uid that asked it to stop.
    """

    id: str
    request: Request
    phase: Phase
    started_at: float
    deadline: float
    ended_at: float | None = None
    outcome: Outcome | None = None
    message: str = ""
    failure: Failure | None = None
    changed: bool = False
    cancelled_by: int | None = None

    @property
    def verb(self) -> Verb:
        """Drain or rejoin."""
        return self.request.verb


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
    """What AWS said at one moment: every target of every group of the membership, other hosts' included.

    Args:
        population: the targets.
        missing_groups: the ARNs of groups that do not exist any more.
        seen_at: the moment, seconds.
        look_again_at: before this moment asking again would waste the API budget that the whole account shares.
        probes: what the app on this host answered at the same time, where that was asked.
        absent: targets that an earlier look listed and this one does not, whose instances EC2 still calls running.
    """

    population: tuple[TargetHealth, ...]
    missing_groups: frozenset[str]
    seen_at: float
    look_again_at: float
    probes: tuple[ProbeResult, ...] = ()
    absent: tuple[Target, ...] = ()

    def of(self, target: Target) -> TargetHealth | None:
        """This target's health; None when it is not registered."""
        return next((health for health in self.population if health.target.key == target.key), None)
