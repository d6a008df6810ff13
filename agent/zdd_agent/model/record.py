"""What a host is, as it stands on disk: one state with exactly its own data, and what outlives every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Failure, Operation, Phase, Reboot, Request
from zdd_agent.model.slots import Slot


class Wanted(StrEnum):
    """Where somebody last asked this host to be."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose record it is. An image baked from a host carries that host's record, which is not the clone's.

    Args:
        instance_id: empty until the instance metadata service has said it.
        boot_id: `/proc/sys/kernel/random/boot_id` of that moment; empty where it cannot be read.
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
        accepted_at: the latest moment at which AWS can have accepted the deregistration; the floor starts here.
        targets: what this drain deregistered. Going back registers these and nothing else.
        nodes: the load balancer's addresses that had checked this host before; empty where the sensor was not trusted.
        standby: the Auto Scaling group in whose Standby this host is; empty where it is in none.
    """

    since: float
    accepted_at: float
    targets: tuple[Target, ...] = ()
    nodes: tuple[str, ...] = ()
    standby: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a drain: decided before the deregistration. `doubt` says why it is not what was asked for.

    `standby` is the Auto Scaling group whose Standby this drain has yet to enter; empty where it does not.
    """

    until: Until
    doubt: str = ""
    standby: str = ""


# Where a host rests between operations.


@dataclass(frozen=True, slots=True)
class InService:
    """This agent has not taken the host out."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Out, with the proof on which the drain ended; `at` is that moment (seconds since the epoch)."""

    left: Departure
    proof: str
    at: float


@dataclass(frozen=True, slots=True)
class Out:
    """Out, or partly out, without proof; `why` says for what reason. A new drain proves it."""

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
    """It may leave: the intent is on disk. Next, it deregisters `targets`."""

    before: Resting
    since: float
    targets: tuple[Target, ...]
    nodes: tuple[str, ...]
    claim: Claim
    ending: Ending


@dataclass(frozen=True, slots=True)
class Confirming:
    """Deregistered. Next comes the second look: did other hosts leave at the same moment?"""

    before: Resting
    left: Departure
    claim: Claim
    ending: Ending


@dataclass(frozen=True, slots=True)
class Draining:
    """It may stay out, and waits for the proof that no work is left and none can come."""

    left: Departure
    ending: Ending


@dataclass(frozen=True, slots=True)
class GoingBack:
    """It has to be in service after all: it registers what it deregistered, then ends with `failure`."""

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
    """The registration comes next, or is under way.

    `launching`: it is the Auto Scaling group that registers this host, once its launch hook is completed.
    """

    before: Resting
    launching: bool = False


@dataclass(frozen=True, slots=True)
class Warming:
    """Registered at `accepted_at`; waits until every target is healthy. Not `called`: all were registered already."""

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
    """An operation under way. Moments are seconds since the epoch.

    `request.timeout`: the settings' time-out where the caller gave none; None: derived.
    """

    id: str
    request: Request
    started_at: float
    deadline: float
    cancelled_by: int | None = None


@dataclass(frozen=True, slots=True)
class Leaving:
    """This instance will be gone soon: it is taken out for good, and no rejoin puts it back.

    Args:
        why: a whole clause, for people.
        earlier: the ID of the operation that had ended last: only a drain that ends later proves that no work is left.
        deadline: when the instance is gone, seconds since the epoch; None where nobody says.
    """

    why: str
    earlier: str = ""
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that the store keeps about one service of this host.

    Args:
        owner: whose it is.
        membership: which targets are this host.
        wanted: where somebody last asked it to be.
        state: what it is.
        underway: the operation under way, in the states of a drain or a rejoin.
        last: the operation that ended last.
        listed: every target of its groups at the last look. One that vanishes while its instance runs still belongs.
        leaving: why this instance will be gone soon; None while it may stay. A new boot clears it: who stopped returns.
        reboot: after the next boot it comes back; None where nobody asked for that, or it has begun to.
        slot: what this host holds of its fleet's slots, or may hold; None where it needs none.
    """

    owner: Owner = Owner()
    membership: Membership = field(default_factory=Membership)
    wanted: Wanted = Wanted.IN
    state: State = InService()
    underway: Underway | None = None
    last: Operation | None = None
    listed: tuple[Target, ...] = ()
    leaving: Leaving | None = None
    reboot: Reboot | None = None
    slot: Slot | None = None

    @property
    def operation(self) -> Operation | None:
        """The operation under way; without one, the last."""
        if (one := self.underway) is None:
            return self.last
        return Operation(
            one.id, one.request, PHASES[type(self.state)], one.started_at, one.deadline, cancelled_by=one.cancelled_by
        )

    @property
    def resting(self) -> Resting:
        """Where the host would rest if the operation under way ended now, without another call."""
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
        """How this host left; None when this agent has not taken it out."""
        resting = self.resting
        return None if isinstance(resting, InService) else resting.left

    @property
    def out_since(self) -> float | None:
        """When this agent took the host out, seconds; None when it has not."""
        return self.left.since if self.left is not None else None


def departure(state: Claiming, accepted_at: float) -> Departure:
    """The departure of a host whose deregistration was accepted at this moment (seconds)."""
    standby = "" if isinstance(state.before, InService) else state.before.left.standby
    return Departure(state.since, accepted_at, state.targets, state.nodes, standby)
