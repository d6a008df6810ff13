"""Pure: what a drain knows of the slots of its fleet; gone after a restart, and asked for anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zdd_agent.decide.results import OfSlots, SlotMissed, SlotsSeen, SlotsSilent
from zdd_agent.errors import AgentError
from zdd_agent.model.slots import Holder, SlotTable


@dataclass(frozen=True, slots=True)
class SlotEvidence:
    """What DynamoDB said. Moments are seconds since the epoch.

    Args:
        table: who holds a slot and who waits; None before the first look, and after a claim that came too late.
        error: why the table could not be asked, and when; None once it answers.
        missed_at: when somebody else was faster.
        asked_at: when EC2 was last asked about the holders.
    """

    table: SlotTable | None = None
    error: tuple[AgentError, float] | None = None
    missed_at: float = float("-inf")
    asked_at: float = float("-inf")

    def after(self, result: OfSlots, now: float) -> SlotEvidence:
        """What is known after one more answer."""
        match result:
            case SlotsSeen(table, asked):
                return replace(self, table=table, error=None, asked_at=now if asked else self.asked_at)
            case SlotMissed():
                return replace(self, table=None, error=None, missed_at=now)
            case SlotsSilent(error):
                return replace(self, error=(error, now))

    def claimed(self, holder: Holder, now: float) -> SlotEvidence:
        """What is known once this host has taken a slot."""
        known = self.table or SlotTable()
        others = (one for one in known.holders if one.instance != holder.instance)
        return replace(self, table=replace(known, holders=(*others, holder), seen_at=now), error=None)
