"""Pure: the slot that a host takes before it leaves, the line in which it waits, and when it gives the slot back.

A slot never expires. Elastic Load Balancing knows no fencing: a holder that was taken for dead, and wakes up, could not
be stopped. So it is given back only by what proves that the host serves again, or is gone.
"""

from __future__ import annotations

from dataclasses import replace

from zdd_agent.decide.actions import Wait
from zdd_agent.decide.evidence import Evidence
from zdd_agent.decide.slot_actions import AskHolders, ClaimSlot, LookAtSlots, PassOver, SlotCall, StandInLine, WantSlot
from zdd_agent.decide.timing import give_up_at
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.operation import Check, Failure, Observation
from zdd_agent.model.record import Record, Underway
from zdd_agent.model.slots import Holder, Slot, SlotLimit, SlotRules, SlotTable, Stage, Waiter
from zdd_agent.model.states import InService

# Waiters that have a place in line; an item of DynamoDB bears no more than 400 KB, and each change pays for all of it.
PLACES = 50
# Seconds without a sign of life after which a waiter is passed over.
PASSED_OVER_SECONDS = 60.0
# Seconds between two signs of life of a waiter. A third of the former: one lost call costs no place.
RENEW_SECONDS = 20.0
# Seconds for which a look at the table is good enough to leave on.
FRESH_SECONDS = 20.0
# Seconds after its last sign of life for which a holder counts as alive: three that were lost.
ALIVE_SECONDS = 180.0
# Seconds before DynamoDB is asked again when it has not answered.
RETRY_SECONDS = 5.0
# Seconds between two questions to EC2 about the holders.
ASK_SECONDS = 60.0

SlotStep = SlotCall | WantSlot | Wait


def allowed(limit: SlotLimit, seen: Observation, table: SlotTable) -> int:
    """How many hosts may be out at once.

    A percentage is of the hosts that belong: those that a target group lists, and the holders that it does not list,
    for the group with the fewest.

    Args:
        limit: of the settings.
        seen: what AWS lists.
        table: the holders.
    """
    if limit.percent is None:
        return limit.number
    groups: dict[str, set[str]] = {}
    for health in seen.population:
        groups.setdefault(health.target.group, set()).add(health.target.id)
    sizes = [len(ids) + sum(ids.isdisjoint(one.targets) for one in table.holders) for ids in groups.values()]
    return limit.of(min(sizes, default=len(table.holders)))


def due(record: Record, one: Underway, evidence: Evidence, now: float, rules: SlotRules) -> SlotStep | Failure | None:
    """What comes before this drain may leave; why it may not; None when its slot allows it.

    Args:
        record: with a drain under way that has changed nothing yet.
        one: the drain.
        evidence: with a look at AWS.
        now: seconds since the epoch.
        rules: of the slots.
    """
    slot, table, error = record.slot, evidence.slots.table, evidence.slots.error
    if record.leaving is not None:
        return None  # it has no time to ask
    over = now >= give_up_at(one)
    # Nothing can prevent this departure: the host takes its slot beyond the limit, and leaves without one if it must.
    anyway = Check.SLOT in one.request.force or (one.request.stopping and over)
    if error is not None:
        if anyway:
            return None if slot is not None else WantSlot(rules.name)
        return _not_answered(one, *error, now, rules)
    if table is None or (now - table.seen_at > FRESH_SECONDS and now >= table.look_again_at):
        return LookAtSlots()
    if slot is not None and slot.stage is Stage.HELD and table.holder(record.owner.instance_id) is not None:
        return None
    if slot is None or slot.stage is not Stage.WANTED or slot.name != rules.name:
        return WantSlot(rules.name)
    return _claim_or_wait(record, one, evidence, table, now, rules, anyway=anyway)


def _claim_or_wait(
    record: Record,
    one: Underway,
    evidence: Evidence,
    table: SlotTable,
    now: float,
    rules: SlotRules,
    *,
    anyway: bool,
) -> SlotStep | Failure:
    assert evidence.seen is not None  # noqa: S101  the caller's promise, and what mypy needs
    limit = allowed(rules.limit, evidence.seen, table)
    holder = holding(record, one.request.reason, one.request.uid, now)
    if anyway:
        return ClaimSlot(holder, None)
    if evidence.slots.missed_at < table.seen_at and may_claim(table, holder.instance, limit, now):
        return ClaimSlot(holder, limit)
    if now >= give_up_at(one):
        return _full(table, limit, rules, now)
    return _in_line(one, evidence, holder.instance, table, limit, now)


def still_held(
    record: Record, one: Underway, evidence: Evidence, now: float, rules: SlotRules | None
) -> LookAtSlots | Failure | None:
    """What comes before a host that has made its claim deregisters: it may have been frozen since it took its slot.

    None where it still holds the slot, or needs none; otherwise why it has to stay.
    """
    slot, table, error = record.slot, evidence.slots.table, evidence.slots.error
    needed = not (one.request.stopping or record.leaving is not None or Check.SLOT in one.request.force)
    if rules is None or slot is None or slot.stage is Stage.WANTED or not needed:
        return None
    if slot.stage is Stage.HELD:
        if error is not None:
            return _no_answer(error[0])
        if table is None or now - table.seen_at > FRESH_SECONDS:
            return LookAtSlots()
        if table.holder(record.owner.instance_id) is not None:
            return None
    said = f"cannot drain: somebody has released the slot of {slot.name} that this host held"
    return Failure(Kind.REFUSED.wire, said, "run `zdd-agent drain` again to take another one")


def may_claim(table: SlotTable, me: str, limit: int, now: float) -> bool:
    """Whether it is this host's turn: it holds a slot already, or one is free and nobody comes before it.

    Args:
        table: what DynamoDB says.
        me: this host's instance ID.
        limit: how many may be out at once.
        now: seconds since the epoch.
    """
    if table.holder(me) is not None:
        return True
    free = limit - len(table.holders)
    line = [one.instance for one in living(table, now)]
    return free > (line.index(me) if me in line else len(line))


def living(table: SlotTable, now: float) -> tuple[Waiter, ...]:
    """The waiters that gave a sign of life in the last minute, in the order of their arrival."""
    return tuple(one for one in table.waiters if now - one.seen <= PASSED_OVER_SECONDS)


def _in_line(one: Underway, evidence: Evidence, me: str, table: SlotTable, limit: int, now: float) -> SlotStep:
    mine = table.waiter(me)
    dead = tuple(waiter for waiter in table.waiters if now - waiter.seen > PASSED_OVER_SECONDS and waiter is not mine)
    if dead:
        return PassOver(dead[0])
    stale = mine is None or now - mine.seen >= RENEW_SECONDS
    if stale and (mine is not None or len(table.waiters) < PLACES):
        return StandInLine(Waiter(me, mine.since if mine else now, now, f"uid {one.request.uid}"), new=mine is None)
    if now - evidence.slots.asked_at >= ASK_SECONDS and table.holders:
        return AskHolders(table.holders)
    until = min(table.look_again_at, give_up_at(one))
    return Wait(until, _place(table, me, limit, now)) if now < until else LookAtSlots()


def _not_answered(one: Underway, error: AgentError, at: float, now: float, rules: SlotRules) -> SlotStep | Failure:
    give_up = give_up_at(one)
    if now >= give_up or not error.transient:
        return _no_answer(error)
    again = min(at + RETRY_SECONDS, give_up)
    if now >= again:
        return LookAtSlots()
    return Wait(again, f"cannot take a slot of {rules.name} yet: {error.message}")


def _place(table: SlotTable, me: str, limit: int, now: float) -> str:
    line = [one.instance for one in living(table, now)]
    where = f"place {line.index(me) + 1} of {len(line)}" if me in line else f"after the first {len(line)} in line"
    return f"waiting for a slot, {where}: {_held(table, limit, now)}"


def _held(table: SlotTable, limit: int, now: float) -> str:
    held = "; ".join(
        f"{one.instance} holds one for {max(now - one.since, 0.0):.0f} s" + (f" ({one.reason})" if one.reason else "")
        for one in table.holders[:3]
    )
    more = f"; and {len(table.holders) - 3} more" if len(table.holders) > 3 else ""
    return f"{len(table.holders)} of {limit} taken" + (f": {held}{more}" if held else "")


def _full(table: SlotTable, limit: int, rules: SlotRules, now: float) -> Failure:
    held = _held(table, limit, now)
    why = f"no slot of {rules.name} is free: {held}" if len(table.holders) >= limit else f"others wait in line: {held}"
    hint = (
        "retry with --wait SECONDS to stand in line; `zdd-agent slots` shows the holders: a host whose release failed "
        "keeps its slot until it is back"
    )
    return Failure(Kind.REFUSED.wire, f"cannot drain: {why}", hint)


def _no_answer(error: AgentError) -> Failure:
    # Nobody knows whether one is free: that is a reason to wait, unless the role or the settings are wrong.
    kind = Kind.REFUSED if error.transient and error.kind is not Kind.AWS_DENIED else error.kind
    value = None if error.value is None else str(error.value)
    hint = error.hint or "retry later, or `--force slot` to leave without one"
    return Failure(kind.wire, f"cannot drain without a slot: {error.message}", hint, value)


def holding(record: Record, reason: str, uid: int, now: float) -> Holder:
    """What this host says of itself in the table."""
    targets = tuple(dict.fromkeys(target.id for target in record.membership.targets))
    return Holder(record.owner.instance_id, now, now, reason, f"uid {uid}", targets)


def rested(record: Record, now: float) -> Record:
    """The record of a host whose operation is over: one that is in service owes its slot back."""
    slot = record.slot
    if slot is None or slot.stage is Stage.GIVING_BACK or not isinstance(record.state, InService):
        return record
    return replace(record, slot=Slot(Stage.GIVING_BACK, slot.name, now))


def owed(record: Record) -> Slot | None:
    """The slot that is to be given back now: the host serves again, or is gone for good; None where there is none."""
    slot = record.slot
    if slot is None or record.underway is not None:
        return None
    if slot.stage is Stage.GIVING_BACK:
        return slot
    gone = record.leaving is not None and record.last is not None and record.last.id != record.leaving.earlier
    return slot if gone and not isinstance(record.state, InService) else None


def unwritten(record: Record) -> bool:
    """Whether this host is out and holds no slot, nor has been told to go without: it is written in, limit or not."""
    if record.underway is not None or record.leaving is not None or isinstance(record.state, InService):
        return False
    return record.slot is None or record.slot.stage is Stage.WANTED


_SAID = {
    Stage.WANTED: "asking for one of {name}, for {seconds:.0f} s",
    Stage.HELD: "holds one of {name}, for {seconds:.0f} s",
    Stage.GIVING_BACK: "giving back the one of {name}, for {seconds:.0f} s",
    Stage.RELEASED: "somebody released the one of {name}, {seconds:.0f} s ago",
}


def described(slot: Slot, now: float) -> str:
    """How a host stands to its slot, for people."""
    return _SAID[slot.stage].format(name=slot.name, seconds=max(now - slot.since, 0.0))
