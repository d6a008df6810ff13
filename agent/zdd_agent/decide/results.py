"""What comes of an action."""

from __future__ import annotations

from dataclasses import dataclass

from zdd_agent.errors import AgentError
from zdd_agent.model.auto_scaling import ScalingPlace
from zdd_agent.model.aws import Membership
from zdd_agent.model.operation import Observation, ProbeResult
from zdd_agent.model.slots import SlotTable


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more than that it is done."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a discovery found.

    Args:
        membership: which targets are this host.
        seen: every target of the groups that were asked.
        terminating: Auto Scaling is about to terminate this instance.
        place: where it stands in its Auto Scaling group; None where it is in none, or nobody asked.
    """

    membership: Membership
    seen: Observation
    terminating: bool = False
    place: ScalingPlace | None = None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The membership with the groups' settings of now, without the groups that are gone (ARNs)."""

    membership: Membership
    gone: frozenset[str]
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What AWS said."""

    seen: Observation


@dataclass(frozen=True, slots=True)
class Probed:
    """What the app answered. The next probe is due at `again_at`, seconds since the epoch."""

    results: tuple[ProbeResult, ...]
    again_at: float


@dataclass(frozen=True, slots=True)
class NotTaken:
    """AWS refuses, for a reason that may pass: to register an address, perhaps, that still drains."""

    error: AgentError


@dataclass(frozen=True, slots=True)
class SlotsSeen:
    """Who holds a slot, and who waits. `asked`: EC2 has been asked about the holders."""

    table: SlotTable
    asked: bool = False


@dataclass(frozen=True, slots=True)
class SlotMissed:
    """Somebody else was faster: no slot is free."""


@dataclass(frozen=True, slots=True)
class SlotsSilent:
    """The table of slots cannot be asked, and why."""

    error: AgentError


OfSlots = SlotsSeen | SlotMissed | SlotsSilent
Result = OfSlots | Done | Found | Refreshed | Seen | Probed | NotTaken
