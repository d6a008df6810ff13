"""The wire of the slots: who holds one, who waits, and what releases one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from zdd_agent.api.schema import Reason
from zdd_agent.model.slots import Holder, SlotRules, SlotTable, Waiter

_INSTANCE = r"^i-[0-9A-Za-z]{1,32}$"


class _Slots(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReleaseBody(_Slots):
    """Whose slot to release, and why."""

    model_config = ConfigDict(strict=True)

    instance: str = Field(pattern=_INSTANCE, description="the instance ID of a holder")
    reason: Reason = Field(min_length=1)
    force: tuple[Literal["alive"], ...] = Field(
        (), description="checks to skip: `alive` releases the slot although that host's agent gives signs of life"
    )


class HolderView(_Slots):
    """A host that is out, or about to be. Moments are seconds since the epoch, by that host's clock.

    `seen` is its agent's last sign of life; `alive` says that it is younger than three minutes.
    """

    instance: str
    since: float
    seen: float
    alive: bool
    reason: str
    who: str

    @classmethod
    def of(cls, one: Holder, *, alive: bool) -> HolderView:
        """The view of a holder."""
        return cls(instance=one.instance, since=one.since, seen=one.seen, alive=alive, reason=one.reason, who=one.who)


class WaiterView(_Slots):
    """A host in line. Moments as in HolderView."""

    instance: str
    since: float
    seen: float
    who: str

    @classmethod
    def of(cls, one: Waiter) -> WaiterView:
        """The view of a waiter."""
        return cls(instance=one.instance, since=one.since, seen=one.seen, who=one.who)


class SlotsView(_Slots):
    """Who holds a slot, in the order in which they took theirs; and who waits, in the order of arrival.

    `limit` is as the settings of this host have it: a number, or a percentage such as `25%`.
    """

    service: str
    limit: str
    holders: tuple[HolderView, ...]
    waiters: tuple[WaiterView, ...]

    @classmethod
    def of(cls, table: SlotTable, rules: SlotRules, holders: tuple[HolderView, ...]) -> SlotsView:
        """The view of a service."""
        limit = rules.limit
        return cls(
            service=rules.name,
            limit=str(limit.number) if limit.percent is None else f"{limit.percent:g}%",
            holders=holders,
            waiters=tuple(map(WaiterView.of, table.waiters)),
        )


class ReleasedView(_Slots):
    """The instance whose slot is released."""

    service: str
    instance: str
