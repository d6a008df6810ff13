"""Pure: the one way in which an operation ends, and where the host rests after it."""

from __future__ import annotations

from dataclasses import replace

from zdd_agent.decide import slots
from zdd_agent.decide.actions import End
from zdd_agent.model.operation import LAST_PHASE, Operation, Outcome
from zdd_agent.model.record import (
    PHASES,
    Claiming,
    Confirming,
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
    Underway,
    Warming,
    departure,
)

# The states from which an operation can succeed: nothing to do, or all done.
MAY_SUCCEED = (Guarding, Draining, Probing, Warming)


class IllegalStepError(Exception):
    """This cannot happen in this state."""


def ended(record: Record, end: End, now: float) -> Record:
    """The record once its operation is over.

    Args:
        record: with an operation under way.
        end: how it ends.
        now: seconds since the epoch.

    Raises:
        IllegalStepError: no operation is under way, or it cannot succeed in this state.
    """
    one = record.underway
    if one is None:
        raise IllegalStepError("no operation is under way")
    good = end.outcome is Outcome.SUCCEEDED
    if good and not isinstance(record.state, MAY_SUCCEED):
        raise IllegalStepError(f"a {one.request.verb} cannot succeed in {type(record.state).__name__}")
    last = Operation(
        id=one.id,
        request=one.request,
        phase=LAST_PHASE[one.request.verb] if good else PHASES[type(record.state)],
        started_at=one.started_at,
        deadline=one.deadline,
        ended_at=now,
        outcome=end.outcome,
        message=end.message or (end.failure.message if end.failure else ""),
        failure=end.failure,
        changed=not isinstance(record.state, Guarding | Probing),
        cancelled_by=one.cancelled_by,
    )
    rests = _rests(record, one, end, now)
    # A drain that ends in any other way calls the reboot off. A host that is in service needs no rejoin after one.
    called_off = isinstance(rests, InService) or (one.request.reboot and not good)
    reboot = None if called_off else record.reboot
    return slots.rested(replace(record, state=rests, underway=None, last=last, reboot=reboot), now)


def _rests(record: Record, one: Underway, end: End, now: float) -> Resting:
    good = end.outcome is Outcome.SUCCEEDED
    why = f"the last {one.request.verb} ended as {end.outcome}"
    match record.state:
        case Guarding(before):
            return before
        case Claiming():
            return Out(departure(record.state, now), why)
        case Draining(left) if good:
            return Drained(left, end.message, now)
        case GoingBack(before, left) if end.outcome is Outcome.REFUSED:
            whole = {t.key for t in left.targets} >= {t.key for t in record.membership.targets}
            # In Standby it stays out for its group: the next rejoin has to leave it.
            return InService() if whole and not left.standby else back_again(before, now)
        case Confirming() | Draining() | GoingBack():
            return Out(record.state.left, why)
        case Probing() | Warming() if good:
            return InService()
        case Probing(before):
            return before
        case Joining(before) | Warming(before):
            return back_again(before, now, why)
        case InService() | Drained() | Out() as state:  # never with an operation under way
            return state


def back_again(before: Resting, now: float, why: str = "a drain has put it back in part") -> Resting:
    """Where a host rests that was out before and has registered some of its targets again, or may have.

    An earlier proof does not hold any more, and the API may show them late: the floor of the next drain can only count
    from now.
    """
    return before if isinstance(before, InService) else Out(replace(before.left, accepted_at=now), why)
