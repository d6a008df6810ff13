"""Pure: the only place where a record changes. One table says which step is legal in which state.

A step that the table does not hold raises, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from zdd_agent.decide import asked
from zdd_agent.decide.actions import (
    Action,
    Asked,
    Attach,
    Begin,
    Boot,
    Cancel,
    Confirm,
    Deregister,
    Discover,
    Drop,
    End,
    EnterStandby,
    ExitStandby,
    Extend,
    Forget,
    GoBack,
    Identify,
    Join,
    Launch,
    Leave,
    MakeClaim,
    Refresh,
    Register,
    Resume,
    Retry,
)
from zdd_agent.decide.endings import IllegalStepError, back_again, ended
from zdd_agent.decide.results import (
    Done,
    Found,
    NotTaken,
    Refreshed,
    Result,
    SlotMissed,
    SlotsSeen,
    SlotsSilent,
)
from zdd_agent.decide.slot_actions import AskHolders, ClaimSlot, LookAtSlots, NoteSlot, PassOver, StandInLine, WantSlot
from zdd_agent.model.aws import Membership
from zdd_agent.model.record import (
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
    Record,
    Resting,
    State,
    Warming,
    departure,
)
from zdd_agent.model.slots import Slot, Stage

# (record, its state, action, now, result) → record
Step = Callable[[Record, Any, Any, float, Any], Record]


def apply(record: Record, action: Action | Asked, result: Result, now: float) -> Record:
    """The record after a step.

    Args:
        record: as it stands on disk.
        action: what was done, or asked for.
        result: what came of it; `Done` where there is nothing more to say.
        now: seconds since the epoch.

    Raises:
        IllegalStepError: the step is not in the table; nothing changes.
    """
    step = STEPS.get((type(record.state), type(action), type(result)))
    if step is None:
        said = f"{type(action).__name__} with {type(result).__name__} in {type(record.state).__name__}"
        raise IllegalStepError(said)
    return step(record, record.state, action, now, result)


def _found(record: Record, _: State, __: Discover, ___: float, found: Found) -> Record:
    seen = (*(health.target for health in found.seen.population), *found.seen.absent)
    # A group that does not list this host says nothing here of the others in it.
    asked = {target.group for target in seen}
    listed = (*seen, *(target for target in record.listed if target.group not in asked))
    return replace(record, membership=found.membership, listed=listed)


def _refreshed(record: Record, _: State, __: Refresh, ___: float, result: Refreshed) -> Record:
    return replace(record, membership=result.membership)


def _dropped(record: Record, _: State, action: Drop, *__: Any) -> Record:
    return replace(record, membership=record.membership.without_groups(action.groups))


def _extended(record: Record, _: State, action: Extend, *__: Any) -> Record:
    return _until(record, action.deadline)


def _wanted(record: Record, _: State, action: WantSlot, now: float, *__: Any) -> Record:
    return replace(record, slot=Slot(Stage.WANTED, action.name, now))


def _taken(record: Record, _: State, __: ClaimSlot, now: float, *___: Any) -> Record:
    return replace(record, slot=replace(record.slot, stage=Stage.HELD, since=now)) if record.slot else record


def _noted(record: Record, _: State, action: NoteSlot, *__: Any) -> Record:
    return replace(record, slot=action.slot)


def _claimed(record: Record, _: Guarding | Draining, action: MakeClaim, now: float, *__: Any) -> Record:
    before = record.resting
    # Where others have registered the host again in a drain, the nodes are those of before.
    left = record.state.left if isinstance(record.state, Draining) else None
    earlier, nodes = (left.targets, action.nodes or left.nodes) if left is not None else ((), action.nodes)
    targets = tuple({t.key: t for t in (*earlier, *action.targets)}.values())
    state = Claiming(before, _since(before, now), targets, nodes, action.claim, action.ending)
    known = Membership((), action.targets).joined(record.membership)
    membership = replace(known, spare=action.spare)
    return _until(replace(record, membership=membership, state=state), action.deadline)


def _resumed(record: Record, _: Guarding, action: Resume, now: float, *__: Any) -> Record:
    before = record.left
    standby = before.standby if before is not None else ""
    left = Departure(_since(record.resting, now), action.accepted_at, (), action.nodes, standby)
    return _until(replace(record, state=Draining(left, action.ending)), action.deadline)


def _deregistered(record: Record, state: Claiming, action: Deregister, now: float, *_: Any) -> Record:
    return replace(record, state=Confirming(state.before, departure(state, now), action.claim, state.ending))


def _confirmed(record: Record, state: Confirming, *_: Any) -> Record:
    return replace(record, state=Draining(state.left, state.ending))


def _entered_standby(record: Record, state: Draining, action: EnterStandby, *_: Any) -> Record:
    left, ending = replace(state.left, standby=action.group), replace(state.ending, standby="")
    return replace(record, state=Draining(left, ending))


def _left_standby(record: Record, state: Joining, *_: Any) -> Record:
    before = state.before
    if isinstance(before, InService):
        return record
    return replace(record, state=Joining(replace(before, left=replace(before.left, standby=""))))


def _going_back(record: Record, state: Claiming | Confirming | Draining, action: GoBack, now: float, *_: Any) -> Record:
    left = departure(state, now) if isinstance(state, Claiming) else state.left
    before = record.resting if isinstance(state, Draining) else state.before
    return _until(replace(record, state=GoingBack(before, left, action.failure)), action.deadline)


def _retried(record: Record, state: GoingBack, action: Retry, now: float, *_: Any) -> Record:
    return _until(replace(record, state=Guarding(back_again(state.before, now))), action.deadline)


def _joined(record: Record, state: Probing | Warming, action: Join, *_: Any) -> Record:
    return _until(replace(record, state=Joining(state.before, action.launching)), action.deadline)


def _registered(record: Record, state: Joining, action: Register, now: float, *_: Any) -> Record:
    return replace(record, state=Warming(state.before, now, bool(action.targets)))


def _launched(record: Record, state: Joining, _: Launch, now: float, *__: Any) -> Record:
    return replace(record, state=Warming(state.before, now, called=True))


def _same(record: Record, *_: Any) -> Record:
    return record


def _ended(record: Record, _: State, end: End, now: float, *__: Any) -> Record:
    return ended(record, end, now)


def _until(record: Record, deadline: float) -> Record:
    # A time-out that somebody gave is for the whole operation, and no step lengthens it.
    one = record.underway
    if one is None or one.request.timeout is not None:
        return record
    return replace(record, underway=replace(one, deadline=deadline))


def _since(before: Resting, now: float) -> float:
    return now if isinstance(before, InService) else before.left.since


_RESTING = (InService, Drained, Out)
_OF_A_DRAIN = (Guarding, Claiming, Confirming, Draining, GoingBack)
_OF_A_REJOIN = (Probing, Joining, Warming)
_BUSY = (*_OF_A_DRAIN, *_OF_A_REJOIN)


def _in(states: tuple[type, ...], action: type, result: type, step: Step) -> dict[tuple[type, type, type], Step]:
    return {(state, action, result): step for state in states}


_SLOT_LOOKS = (LookAtSlots, StandInLine, PassOver, AskHolders)

STEPS: Mapping[tuple[type, type, type], Step] = {
    **_in((InService, Guarding, Probing), Discover, Found, _found),
    **_in((Probing, Joining), Refresh, Refreshed, _refreshed),
    **_in((Guarding,), WantSlot, Done, _wanted),
    **_in((Guarding,), ClaimSlot, Done, _taken),
    **_in((Guarding,), ClaimSlot, SlotMissed, _same),
    **_in((Guarding,), ClaimSlot, SlotsSilent, _same),
    **{
        (state, look, result): _same
        for state in (Guarding, Claiming)
        for look in _SLOT_LOOKS
        for result in (SlotsSeen, SlotsSilent)
    },
    **_in((Guarding, Draining), MakeClaim, Done, _claimed),
    **_in((Guarding,), Resume, Done, _resumed),
    **_in((Claiming,), Deregister, Done, _deregistered),
    **_in((Confirming,), Confirm, Done, _confirmed),
    **_in((Claiming, Confirming, Draining), GoBack, Done, _going_back),
    **_in((Draining,), EnterStandby, Done, _entered_standby),
    **_in((Joining,), ExitStandby, Done, _left_standby),
    **_in((Draining,), EnterStandby, NotTaken, _same),
    **_in((Joining,), ExitStandby, NotTaken, _same),
    **_in((GoingBack,), Retry, Done, _retried),
    **_in((Probing, Warming), Join, Done, _joined),
    **_in((Joining,), Register, Done, _registered),
    **_in((Joining,), Launch, Done, _launched),
    **_in((Joining, GoingBack), Register, NotTaken, _same),
    **_in((GoingBack,), Register, Done, _same),
    **_in(_BUSY, Drop, Done, _dropped),
    **_in(_BUSY, Extend, Done, _extended),
    **_in(_BUSY, End, Done, _ended),
    **_in((*_RESTING, *_OF_A_REJOIN), Begin, Done, asked.begun),
    **_in(_BUSY, Attach, Done, asked.attached),
    **_in(_BUSY, Cancel, Done, asked.cancelled),
    **_in((*_RESTING, Probing), Forget, Done, asked.forgotten),
    **_in((*_RESTING, *_BUSY), Boot, Done, asked.booted),
    **_in((*_RESTING, *_BUSY), Identify, Done, asked.identified),
    **_in((*_RESTING, *_BUSY), Leave, Done, asked.leaves),
    **_in((*_RESTING, *_BUSY), NoteSlot, Done, _noted),
}
