"""What a decision can ask for about the slots of the fleet."""

from __future__ import annotations

from dataclasses import dataclass

from zdd_agent.model.slots import Holder, Slot, Waiter

# Asked of the world.


@dataclass(frozen=True, slots=True)
class LookAtSlots:
    """Ask who holds a slot of this host's service, and who waits for one."""


@dataclass(frozen=True, slots=True)
class ClaimSlot:
    """Take a slot, unless `limit` are taken; None: whatever is taken."""

    holder: Holder
    limit: int | None


@dataclass(frozen=True, slots=True)
class StandInLine:
    """Take a place in the line for a slot, or, where it is not `new`, give a sign of life there."""

    waiter: Waiter
    new: bool


@dataclass(frozen=True, slots=True)
class PassOver:
    """Take a waiter out of the line that gives no sign of life."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class AskHolders:
    """Ask EC2 about these holders, and release the slots of those that are terminated."""

    holders: tuple[Holder, ...]


SlotCall = LookAtSlots | ClaimSlot | StandInLine | PassOver | AskHolders

# Steps of the record alone.


@dataclass(frozen=True, slots=True)
class WantSlot:
    """A slot of this service will be claimed: put that on disk, since the answer may be lost."""

    name: str


@dataclass(frozen=True, slots=True)
class NoteSlot:
    """How this host stands to its slot, as the agent found out between operations; None: it has none."""

    slot: Slot | None
