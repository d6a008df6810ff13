"""What a host is, as it stands on disk: its state, and what outlives every state."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.operation import Operation, Reboot, Request
from zdd_agent.model.owner import Owner
from zdd_agent.model.slots import Slot
from zdd_agent.model.states import (
    PHASES,
    Claiming,
    Confirming,
    Departure,
    Drained,
    Draining,
    GoingBack,
    Guarding,
    InService,
    Joining,
    Out,
    Probing,
    Resting,
    State,
    Warming,
    departure,
)


class Wanted(StrEnum):
    """Where somebody last asked this host to be."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Underway:
    """An operation under way. `request.timeout`: of the settings where the caller gave none. Moments are seconds."""

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
        listed: every target of its groups at the last look, this host's and the others'. One that vanishes from it
            while EC2 calls its instance running still belongs, and counts for a percentage.
        leaving: why this instance will be gone soon; None while it may stay. A new boot clears it: who stopped returns.
        slot: what this host holds of its fleet's slots, or may hold; None where it needs none.
        reboot: after the next boot it comes back; None where nobody asked for that, or it has begun to.
        heeded: the notices whose advice this host has followed, in words: a restart does not follow it again.
    """

    owner: Owner = field(default_factory=Owner)
    membership: Membership = field(default_factory=Membership)
    wanted: Wanted = Wanted.IN
    state: State = field(default_factory=InService)
    underway: Underway | None = None
    last: Operation | None = None
    listed: tuple[Target, ...] = ()
    leaving: Leaving | None = None
    slot: Slot | None = None
    reboot: Reboot | None = None
    heeded: tuple[str, ...] = ()

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
        """Where the host would rest if the operation under way ended now, without another call."""
        match self.state:
            case InService() | Drained() | Out() as state:
                return state
            case Guarding(before) | Probing(before):
                return before
            case Claiming():
                return Out(departure(self.state, self.state.since), "a drain is under way")
            case Draining():
                return Out(self.state.departure, "a drain is under way")
            case Confirming() | GoingBack():
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
