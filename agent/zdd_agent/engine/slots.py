"""The slot of this host: carries out what a drain decides about it, and gives it back in the background.

For the loop's thread; `said`, `table`, `alive` and `release` may be called from any thread.
"""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import replace
from math import inf

from zdd_agent.decide import slots as decisions
from zdd_agent.decide.results import Done, SlotMissed, SlotsSeen, SlotsSilent
from zdd_agent.decide.slot_actions import AskHolders, ClaimSlot, LookAtSlots, PassOver, SlotCall, StandInLine
from zdd_agent.engine.journal_fields import EventId
from zdd_agent.engine.ledger import Ledger
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.record import Record
from zdd_agent.model.slots import Holder, Slot, SlotRules, SlotTable, Stage
from zdd_agent.ports import Clock, Instances, Slots

log = logging.getLogger(__name__)

# Seconds between two looks of a host that has a place in line, and of one that has none; up to half as much is added,
# so that a thousand hosts do not ask at the same moment.
LOOK_SECONDS = 5.0
OUTSIDE_SECONDS = 10.0
# Seconds between two signs of life of a holder.
RENEW_SECONDS = 60.0
# Seconds after which no call that was given up can take effect any more: AWS refuses an older signature.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
LATE_SECONDS = 300.0
# Seconds for which one look at the table answers every reader, so that readers cannot run up costs.
READERS_SECONDS = 1.0
# Seconds before a call between operations is tried again, doubling up to the last of these.
_RETRY_SECONDS = (2.0, 60.0)


class SlotHolding:
    """Everything that this host does about its slot.

    Args:
        slots: of this host's service.
        instances: EC2, which knows the holders that are gone.
        ledger: of this host.
        clock: the time.
        rules: of the slots.
        rng: draws the jitter.
        uid: of the agent, which acts by itself between operations.
    """

    def __init__(
        self,
        *,
        slots: Slots,
        instances: Instances,
        ledger: Ledger,
        clock: Clock,
        rules: SlotRules,
        rng: random.Random,
        uid: int,
    ) -> None:
        self._slots = slots
        self._instances = instances
        self._ledger = ledger
        self._clock = clock
        self.rules = rules
        self._rng = rng
        self._uid = uid
        self._renew_at = -inf
        self._check_at = inf
        self._retry_at = -inf
        self._failures = 0
        self._trouble = ""
        self._ec2_trouble = ""
        self._reading = threading.Lock()
        self._read: SlotTable | None = None

    def perform(self, action: SlotCall) -> Done | SlotMissed | SlotsSeen | SlotsSilent:
        """Do it. What DynamoDB does not answer is a result, too: the decision differs from one drain to the next."""
        try:
            match action:
                case LookAtSlots():
                    return SlotsSeen(self._look())
                case ClaimSlot(holder, limit):
                    return self._claim(holder, limit)
                case StandInLine(waiter, new):
                    if new:
                        self._slots.stand_in_line(waiter, decisions.PLACES)
                    else:
                        self._slots.wait_on(waiter.instance, waiter.seen)
                    return SlotsSeen(self._look())
                case PassOver(waiter):
                    log.info("passing over %s, which waits for a slot and gives no sign of life", waiter.instance)
                    self._slots.pass_over(waiter)
                    return SlotsSeen(self._look())
                case AskHolders(holders):
                    self._release_terminated(holders)
                    return SlotsSeen(self._look(), asked=True)
        except AgentError as error:
            return SlotsSilent(error)

    def table(self) -> SlotTable:
        """Who holds a slot, and who waits: at most a second old. Raises AgentError."""
        with self._reading:
            if self._read is None or self._clock.now() - self._read.seen_at >= READERS_SECONDS:
                self._read = replace(self._slots.table(), seen_at=self._clock.now())
            return self._read

    def alive(self, holder: Holder) -> bool:
        """Whether its agent gave a sign of life in the last minutes. One of the future counts: its clock is ahead."""
        return self._clock.now() - holder.seen < decisions.ALIVE_SECONDS

    def release(self, instance: str, *, alive_too: bool, reason: str, uid: int) -> None:
        """Release the slot of another host, or of this one, for a person.

        Args:
            instance: its ID.
            alive_too: even if that host's agent gave a sign of life in the last minutes.
            reason: for the log.
            uid: who asks.

        Raises:
            AgentError: NOT_FOUND where it holds none, REFUSED for one that is alive, and what DynamoDB answers.
        """
        holder = self._slots.table().holder(instance)
        if holder is None:
            said = f"cannot release the slot of {instance}: it holds none of {self.rules.name}"
            raise AgentError(Kind.NOT_FOUND, said, hint="`zdd-agent slots` lists the holders")
        if self.alive(holder) and not alive_too:
            ago = max(self._clock.now() - holder.seen, 0.0)
            said = f"cannot release the slot of {instance}: its agent gave a sign of life {ago:.0f} s ago"
            hint = "`zdd-agent rejoin` on that host gives it back; `--force alive` releases it all the same"
            raise AgentError(Kind.REFUSED, said, hint=hint)
        # Only the slot that was looked at. Where the SDK asked twice, the first call may have released it.
        if not self._slots.release(instance, holder.since) and self._slots.table().holder(instance) is not None:
            said = f"cannot release the slot of {instance}: it has changed hands just now"
            raise AgentError(Kind.REFUSED, said, hint="look again with `zdd-agent slots`")
        extra = {"MESSAGE_ID": EventId.SLOT.value, "ZDD_SLOT": self.rules.name, "ZDD_CALLER_UID": uid}
        extra["ZDD_HOLDER"] = instance
        log.warning("uid %d released the slot of %s: %r", uid, instance, reason, extra=extra)
        with self._reading:
            self._read = None

    def said(self) -> tuple[str, ...]:
        """For people: what is not as it should be."""
        slot, lines = self._ledger.record().slot, []
        if slot is not None and slot.stage is Stage.GIVING_BACK:
            lines.append(f"the slot of {slot.name} is still to be given back")
        if slot is not None and slot.stage is Stage.RELEASED:
            lines.append(f"somebody released this host's slot of {slot.name}: others may leave although it is out")
        return (*lines, *filter(None, (self._trouble, self._ec2_trouble)))

    def may_hold(self) -> str:
        """For people: how many slots are taken, where this host may take one. Changes nothing. Raises AgentError."""
        table = self._slots.table()
        # A sign of life of a host that holds none is the change that DynamoDB refuses last, after the permissions.
        self._slots.renew(self._ledger.record().owner.instance_id or "i-nobody", self._clock.now())
        limit = self.rules.limit
        of = f"{limit.percent:g}% of the hosts" if limit.percent is not None else str(limit.number)
        return f"{len(table.holders)} of {of} taken in {self.rules.name}, {len(table.waiters)} waiting"

    def attend(self) -> float:
        """Do what is due between operations, and in them; answers how long nothing more is due (seconds)."""
        now, record = self._clock.now(), self._ledger.record()
        if now < self._retry_at or not self._ledger.identified:
            return max(self._retry_at - now, LOOK_SECONDS)
        try:
            self._attend(record, now)
        except AgentError as error:
            self._failures += 1
            self._retry_at = now + min(_RETRY_SECONDS[0] * 2.0 ** min(self._failures - 1, 10), _RETRY_SECONDS[1])
            if self._trouble != error.message:
                log.warning("cannot keep the slot of this host right, trying again: %s", error.message)
            self._trouble = error.message
        else:
            self._failures, self._trouble = 0, ""
        return LOOK_SECONDS

    def _attend(self, record: Record, now: float) -> None:
        if (slot := decisions.owed(record)) is not None:
            self._give_back(record, slot)
        elif decisions.unwritten(record):
            self._write_in(record, now)
        elif record.slot is not None and record.slot.stage is Stage.HELD and now >= self._renew_at:
            self._renew(record, record.slot, now)
        elif now >= self._check_at and record.slot is None and record.underway is None:
            self._check(record)

    def _give_back(self, record: Record, slot: Slot) -> None:
        if not self._emptied(record.owner.instance_id):
            return  # it has changed since the look: look again
        self._ledger.note_slot(record, None)
        self._check_at = self._clock.now() + LATE_SECONDS
        if slot.name != self.rules.name:
            said = "this host may still hold a slot of %s, but its settings name another: release it from a host of %s"
            log.warning(said, slot.name, slot.name)
            return
        extra = {"MESSAGE_ID": EventId.SLOT.value, "ZDD_SLOT": slot.name}
        log.info("gave back the slot of %s", slot.name, extra=extra)

    def _emptied(self, me: str) -> bool:
        """Give back what this host is seen to hold now, and nothing else: the call may take effect late."""
        table = self._slots.table()
        if (mine := table.holder(me)) is not None:
            return self._slots.release(me, mine.since)
        if (place := table.waiter(me)) is not None:
            self._slots.pass_over(place)
        return True

    def _check(self, record: Record) -> None:
        """A claim that was given up may have arrived after the slot was given back: nobody would give it back again."""
        me = record.owner.instance_id
        if (mine := self._slots.table().holder(me)) is not None and self._slots.release(me, mine.since):
            log.warning("gave back a slot of %s that this host took without learning of it", self.rules.name)
        self._check_at = inf

    def _write_in(self, record: Record, now: float) -> None:
        """This host is out: that is so, whatever the limit is."""
        wanted = Slot(Stage.WANTED, self.rules.name, now)
        if record.slot is None and not self._ledger.note_slot(record, wanted):
            return
        record = self._ledger.record()
        reason = record.last.request.reason if record.last is not None else ""
        self._slots.table()  # makes the item where there is none
        self._slots.claim(decisions.holding(record, reason, self._uid, now), None)
        self._ledger.note_slot(record, replace(wanted, stage=Stage.HELD))
        log.warning("this host is out, and holds a slot of %s from now on, whatever the limit is", self.rules.name)

    def _renew(self, record: Record, slot: Slot, now: float) -> None:
        if not self._slots.renew(record.owner.instance_id, now):
            log.warning("somebody released this host's slot of %s", slot.name)
            self._ledger.note_slot(record, replace(slot, stage=Stage.RELEASED))
        self._renew_at = now + RENEW_SECONDS

    def _claim(self, holder: Holder, limit: int | None) -> Done | SlotMissed:
        if not self._slots.claim(holder, limit):
            return SlotMissed()
        forced = ", whatever the limit is" if limit is None else ""
        extra = {"MESSAGE_ID": EventId.SLOT.value, "ZDD_SLOT": self.rules.name}
        log.info("took a slot of %s%s", self.rules.name, forced, extra=extra)
        self._ledger.say(f"took a slot of {self.rules.name}{forced}")
        self._renew_at = self._clock.now() + RENEW_SECONDS
        return Done()

    def _look(self) -> SlotTable:
        table = self._slots.table()
        inside = table.waiter(self._ledger.record().owner.instance_id) is not None
        pace = (LOOK_SECONDS if inside else OUTSIDE_SECONDS) * self._rng.uniform(1.0, 1.5)
        return replace(table, seen_at=self._clock.now(), look_again_at=self._clock.now() + pace)

    def _release_terminated(self, holders: tuple[Holder, ...]) -> None:
        try:
            gone = self._instances.terminated([one.instance for one in holders])
        except AgentError as error:
            if self._ec2_trouble != error.message:
                log.warning("cannot tell whether a holder of a slot is terminated: %s", error.message)
            self._ec2_trouble = error.message
            return
        self._ec2_trouble = ""
        for one in holders:
            if one.instance in gone and self._slots.release(one.instance, one.since):
                extra = {"MESSAGE_ID": EventId.SLOT.value, "ZDD_SLOT": self.rules.name}
                log.warning("released the slot of %s: EC2 says that it is terminated", one.instance, extra=extra)
