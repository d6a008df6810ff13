"""Slots: how many hosts of a service may be out at once, over the whole fleet, and who is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class SlotLimit:
    """How many hosts may be out at once: a number, or a percentage of those that belong."""

    number: int = 1
    percent: float | None = None

    def of(self, hosts: int) -> int:
        """The number for a fleet of this many hosts: rounded down, and at least 1."""
        return self.number if self.percent is None else max(int(hosts * self.percent / 100 + 1e-9), 1)


@dataclass(frozen=True, slots=True)
class SlotRules:
    """The settings of the slots.

    Args:
        name: of the service, which all hosts of it share.
        limit: how many of them may be out at once.
    """

    name: str
    limit: SlotLimit


@dataclass(frozen=True, slots=True)
class Holder:
    """A host that is out, or about to be. Moments are seconds since the epoch, by that host's own clock.

    Args:
        instance: its instance ID.
        since: when it took the slot.
        seen: its last sign of life. For people: a slot never expires.
        reason: what it said when it took it.
        who: the user who asked, such as `uid 0`.
        targets: the IDs of its targets: its instance ID, or addresses.
    """

    instance: str
    since: float
    seen: float
    reason: str = ""
    who: str = ""
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiter:
    """A host that stands in line. Moments are seconds since the epoch, by that host's own clock.

    Args:
        instance: its instance ID.
        since: when it came.
        seen: its last sign of life; without one for a minute it is passed over.
        who: the user who asked.
    """

    instance: str
    since: float
    seen: float
    who: str = ""


@dataclass(frozen=True, slots=True)
class SlotTable:
    """What DynamoDB says of one service at one moment.

    Args:
        holders: in the order in which they took their slots.
        waiters: in the order of their arrival; at most fifty, whoever else waits is not in it.
        seen_at: the moment, seconds since the epoch by this host's clock.
        look_again_at: before this moment asking again would waste requests.
    """

    holders: tuple[Holder, ...] = ()
    waiters: tuple[Waiter, ...] = ()
    seen_at: float = field(default=0.0, compare=False)
    look_again_at: float = field(default=0.0, compare=False)

    def holder(self, instance: str) -> Holder | None:
        """What this host holds."""
        return next((one for one in self.holders if one.instance == instance), None)

    def waiter(self, instance: str) -> Waiter | None:
        """How this host stands in line."""
        return next((one for one in self.waiters if one.instance == instance), None)


class Stage(StrEnum):
    """How a host stands to its slot."""

    # On disk before the first call: the answer may be lost, and the slot may be taken all the same.
    WANTED = "wanted"
    HELD = "held"
    GIVING_BACK = "giving_back"
    # By somebody else, while this host is out.
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Slot:
    """The slot of this host, as its record keeps it.

    Args:
        stage: how the host stands to it.
        name: of the service that it was taken from: the settings may change meanwhile.
        since: when that stage began, seconds since the epoch.
    """

    stage: Stage
    name: str
    since: float
