"""What a host is, as it stands on disk: one state with exactly its own data, and what outlives every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Failure, Operation, Phase, Request


class Wanted(StrEnum):
    """Where somebody last asked this host to be."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose record it is. An image baked from a host carries the host's record, and it is not the clone's.

    Args:
        instance_id: empty until the instance metadata service has said it.
        boot_id: `/proc/sys/kernel/random/boot_id` when that service said so, or, as long as there is no instance ID,
            when the record was written; empty where it cannot be read.
    """

    instance_id: str = ""
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the guard went by when it allowed this host to leave.

    Args:
        counted: the other targets that were healthy.
        at: the moment of that look, seconds.
    """

    counted: tuple[Target, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Departure:
    """How this host left. Moments are seconds since the epoch.

    Args:
        since: when the intent to leave was put on disk, or when an earlier drain did so.
        accepted_at: when AWS accepted the deregistration, at the latest; new work may come until the floor after it.
        targets: what this drain deregistered. Going back registers these and nothing else.
        nodes: the load balancer's addresses that had checked this host before.
    """

    since: float
    accepted_at: float
    targets: tuple[Target, ...] = ()
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a drain: decided before the deregistration. `doubt` says why it is not what was asked for."""

    until: Until
    doubt: str = ""


# Where a host rests between operations.


@dataclass(frozen=True, slots=True)
class InService:
    """Not out by an act of this agent."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Out, with the proof that the drain ended on, at this moment (seconds since the epoch)."""

    left: Departure
    proof: str
    at: float


@dataclass(frozen=True, slots=True)
class Out:
    """Out, or partly out, without proof; `why` says how that came. A new drain proves it."""

    left: Departure
    why: str


Resting = InService | Drained | Out

# The states of a drain.


@dataclass(frozen=True, slots=True)
class Guarding:
    """May this host leave? Nothing is changed yet."""

    before: Resting


@dataclass(frozen=True, slots=True)
class Claiming:
    """It may: the intent is on disk, the deregistration is to come. `targets` are what it will deregister."""

    before: Resting
    since: float
    targets: tuple[Target, ...]
    nodes: tuple[str, ...]
    claim: Claim
    ending: Ending


@dataclass(frozen=True, slots=True)
class Confirming:
    """Deregistered; the second look, whether other hosts left at the same moment, is to come."""

    before: Resting
    left: Departure
    claim: Claim
    ending: Ending


@dataclass(frozen=True, slots=True)
class Draining:
    """May stay out; waits for the proof that no work is left and none can come."""

    left: Departure
    ending: Ending


@dataclass(frozen=True, slots=True)
class GoingBack:
    """Has to be in service after all: registers what it deregistered, and then ends with `failure`."""

    before: Resting
    left: Departure
    failure: Failure


# The states of a rejoin.


@dataclass(frozen=True, slots=True)
class Probing:
    """Does the app pass its health check? Nothing is registered yet."""

    before: Resting


@dataclass(frozen=True, slots=True)
class Joining:
    """The registration is to come, or is under way."""

    before: Resting


@dataclass(frozen=True, slots=True)
class Warming:
    """Registered at `accepted_at`; waits until every target is healthy.

    `called` is False where nothing had to be registered: then there is no moment to wait from.
    """

    before: Resting
    accepted_at: float
    called: bool


State = (
    InService | Drained | Out | Guarding | Claiming | Confirming | Draining | GoingBack | Probing | Joining | Warming
)

PHASES: Mapping[type, Phase] = MappingProxyType(
    {
        Guarding: Phase.GUARDING,
        Claiming: Phase.DEREGISTERING,
        Confirming: Phase.DRAINING,
        Draining: Phase.DRAINING,
        GoingBack: Phase.DRAINING,
        Probing: Phase.PROBING,
        Joining: Phase.REGISTERING,
        Warming: Phase.WARMING,
    }
)


@dataclass(frozen=True, slots=True)
class Underway:
    """An operation under way: the request, and its deadlines. Moments are seconds since the epoch.

    `request.timeout` holds the settings' time-out where the caller gave none; None means derived.
    """

    id: str
    request: Request
    started_at: float
    deadline: float
    cancelled_by: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """All that the store keeps of one service of this host.

    Args:
        owner: whose it is.
        membership: which targets are this host.
        wanted: where somebody last asked it to be.
        state: what it is.
        underway: the operation under way, in the states of a drain or a rejoin.
        last: the operation that ended last.
        listed: every target of its groups at the last look, this host's and the others': who vanishes from the list
            while EC2 calls its instance running still belongs, and counts for a percentage.
    """

    owner: Owner = Owner()
    membership: Membership = field(default_factory=Membership)
    wanted: Wanted = Wanted.IN
    state: State = InService()
    underway: Underway | None = None
    last: Operation | None = None
    listed: tuple[Target, ...] = ()

    @property
    def operation(self) -> Operation | None:
        """The operation under way; without one, the last."""
        if self.underway is None:
            return self.last
        one = self.underway
        return Operation(
            one.id, one.request, PHASES[type(self.state)], one.started_at, one.deadline, cancelled_by=one.cancelled_by
        )

    @property
    def resting(self) -> Resting:
        """Where the host stands apart from the operation under way, if it ended now without another call."""
        match self.state:
            case InService() | Drained() | Out() as state:
                return state
            case Guarding(before) | Probing(before):
                return before
            case Claiming():
                return Out(departure(self.state, self.state.since), "a drain is under way")
            case Confirming() | Draining() | GoingBack():
                return Out(self.state.left, "a drain is under way")
            case Joining(before) | Warming(before):
                return before if isinstance(before, InService) else Out(before.left, "a rejoin is under way")

    @property
    def left(self) -> Departure | None:
        """How this host left, where it is out by an act of this agent."""
        resting = self.resting
        return None if isinstance(resting, InService) else resting.left

    @property
    def out_since(self) -> float | None:
        """Since when this host is out by an act of this agent, seconds; None while it is not."""
        return self.left.since if self.left is not None else None


def departure(state: Claiming, accepted_at: float) -> Departure:
    """How a host leaves whose deregistration is accepted at this moment (seconds)."""
    return Departure(state.since, accepted_at, state.targets, state.nodes)
