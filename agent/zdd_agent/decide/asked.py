"""Pure: what callers and the daemon's start do to the record. The steps stand in the table of `apply`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from zdd_agent.decide.actions import Attach, Begin, Boot, Cancel, End, Follow, Forget, Identify, Leave
from zdd_agent.decide.endings import IllegalStepError, ended
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Failure, Operation, Outcome, Reboot, Request, Verb
from zdd_agent.model.owner import Owner
from zdd_agent.model.record import Leaving, Record, Underway, Wanted
from zdd_agent.model.states import GoingBack, Guarding, InService, Probing, State

# The fields of states that hold a moment, seconds since the epoch.
_MOMENTS = frozenset({"since", "accepted_at", "at", "started_at", "deadline"})
# What ends a drain, the least demanding first.
_DEMANDS = (Until.IDLE, Until.CLOSED, Until.UNUSED)


def begun(record: Record, _: State, action: Begin, now: float, *__: Any) -> Record:
    """A new operation. A drain ends a rejoin that is under way: out is the safe direction."""
    verb = action.request.verb
    if record.underway is not None:
        if verb is not Verb.DRAIN:
            raise IllegalStepError(f"a {record.underway.request.verb} is under way")
        record = ended(record, _superseded(record, action.request), now)
    before = record.resting
    if isinstance(before, InService):  # what an earlier drain had to wait for besides is over
        record = replace(record, membership=record.membership.only_groups(_holding(record)))
    state = Guarding(before) if verb is Verb.DRAIN else Probing(before)
    wanted = Wanted.OUT if verb is Verb.DRAIN else Wanted.IN
    underway = Underway(action.id, action.request, now, action.deadline)
    # A drain of a stop that cannot be prevented is part of the reboot. Whoever asks for anything else wants that now.
    reboot = _reboot(action) or (record.reboot if action.request.stopping else None)
    return replace(record, wanted=wanted, state=state, underway=underway, reboot=reboot)


def _superseded(record: Record, drain: Request) -> End:
    """How a rejoin ends for which a drain does not wait. Of a host that leaves it is refused, before and after."""
    if record.leaving is not None:
        return refused_rejoin(record.leaving.why)
    message = f"rejoin superseded by a drain of uid {drain.uid}"
    failure = Failure("cancelled", message, "run `zdd-agent rejoin` after the drain to put this host back")
    return End(Outcome.CANCELLED, message, failure)


def _reboot(action: Begin | Attach) -> Reboot | None:
    return Reboot(action.boot_id, action.request.uid) if action.request.reboot else None


def attached(record: Record, state: State, action: Attach, now: float, *_: Any) -> Record:
    """The operation under way, which from now on does what the stricter of its callers wants."""
    one = record.underway
    if one is None or one.request.verb is not action.request.verb:
        raise IllegalStepError(f"no {action.request.verb} is under way")
    mine, other = one.request, action.request
    request = replace(
        mine,
        force=tuple(dict.fromkeys((*mine.force, *other.force))),
        wait=_longest_wait(mine, other, now - one.started_at),
        until=stricter(mine.until, other.until),
        stopping=mine.stopping or other.stopping,
        keep_trying=mine.keep_trying or other.keep_trying,
        reboot=mine.reboot or other.reboot,
    )
    deadline = one.deadline
    if (given := _deadline(one, other, now)) is not None:
        deadline, request = given, replace(request, timeout=given - one.started_at)
    elif mine.timeout is None:  # a derived deadline follows the longer wait
        deadline += request.wait - mine.wait if isinstance(state, Guarding) else 0.0
    # What cannot be prevented needs the drain, whoever has called it off.
    cancelled_by = None if other.stopping else one.cancelled_by
    underway = replace(one, request=request, deadline=deadline, cancelled_by=cancelled_by)
    reboot = _reboot(action) or record.reboot
    return replace(record, underway=underway, state=_stricter_state(state, other), reboot=reboot)


def _deadline(one: Underway, other: Request, now: float) -> float | None:
    """The end of the time that two callers give, seconds: the later one; None where it stays what it is.

    What cannot be prevented comes when its own time is over, whatever anybody else has asked for.
    """
    mine = one.request
    if other.timeout is None:
        return None
    theirs = now + other.timeout
    bounds = mine.stopping and mine.timeout is not None
    if other.stopping:
        return min(one.deadline, theirs) if bounds else theirs
    return None if bounds or mine.timeout is None else max(one.deadline, theirs)


def _longest_wait(mine: Request, other: Request, spent: float) -> float:
    """For how long a refused drain of two callers is retried: as long as the more patient one asks for.

    A stop that cannot be prevented comes at the end of its own wait, however patient the other caller is.
    """
    later = spent + other.wait if other.wait or other.stopping else 0.0
    if mine.stopping and other.stopping:
        return min(mine.wait, later)
    if mine.stopping or other.stopping:
        return mine.wait if mine.stopping else later
    return max(mine.wait, later)


def not_to_be_had(record: Record, request: Request) -> tuple[str, ...]:
    """What a second caller asked for and does not get, as whole sentences.

    Args:
        record: after the second caller has been attached.
        request: what that caller asked for.
    """
    one, ending = record.underway, getattr(record.state, "ending", None)
    said = []
    mine = one.request if one is not None else request
    if request.timeout is not None and (mine.timeout is None or (mine.stopping and not request.stopping)):
        said.append("its time-out is not used: the operation under way has its own deadline")
    if ending is not None and request.until is not None and ending.until is not request.until:
        said.append(f"it does not end by `{request.until}`: the drain under way ends by `{ending.until}`{ending.doubt}")
    return tuple(said)


def stricter(one: Until | None, other: Until | None) -> Until | None:
    """Of two callers' wishes the one that asks for more; None is the settings' choice, and asks for nothing."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=_DEMANDS.index)


def cancelled(record: Record, _: State, action: Cancel, *__: Any) -> Record:
    """The operation under way, asked to stop."""
    if record.underway is None:
        raise IllegalStepError("no operation is under way")
    return replace(record, underway=replace(record.underway, cancelled_by=action.uid))


def forgotten(record: Record, _: State, action: Forget, *__: Any) -> Record:
    """The membership without one target."""
    target = next((t for t in record.membership.targets if t.key == action.target), None)
    if target is None:
        raise IllegalStepError("the membership has no such target")
    return replace(record, membership=record.membership.without_target(target))


def booted(record: Record, _: State, action: Boot, now: float, *__: Any) -> Record:
    """The record as a daemon takes it up that has just started.

    An operation of an earlier boot is over: whoever asked for it is gone. A drain leaves the host out, so that the
    rejoin at the start of the host works; a rejoin goes on from its beginning. An owner stays as it is: only
    `identified` knows whether this boot is the owner's.
    """
    record = _not_of_the_future(record, now)
    known, boot_id = record.owner.boot_id, action.boot_id
    rebooted = bool(known and boot_id and known != boot_id)
    if not record.owner.instance_id:
        record = replace(record, owner=Owner("", boot_id or known))
    if rebooted:
        record = replace(record, leaving=None)
    one = record.underway
    if one is None or not rebooted:
        return record
    if one.request.verb is Verb.DRAIN:
        message = "drain cancelled: the host restarted in the middle of it"
        hint = "run `zdd-agent rejoin` to put this host back"
        over = ended(record, End(Outcome.CANCELLED, message, Failure("cancelled", message, hint)), now)
        return over if isinstance(over.state, InService) else replace(over, reboot=record.reboot)
    before = ended(record, End(Outcome.CANCELLED, ""), now).resting
    underway = replace(one, deadline=max(one.deadline, action.deadline), cancelled_by=None)
    return replace(record, state=Probing(before), underway=underway)


def identified(record: Record, _: State, action: Identify, *__: Any) -> Record:
    """The record of this instance; a fresh one where it is another instance's."""
    owner = Owner(action.instance_id, action.boot_id or record.owner.boot_id)
    if is_ours(record, action):
        return replace(record, owner=owner)
    fresh = Record(owner)
    one = record.underway
    if one is None or one.id != action.asked_here:
        return fresh
    state = Guarding(InService()) if one.request.verb is Verb.DRAIN else Probing(InService())
    return replace(fresh, wanted=record.wanted, state=state, underway=one)


def leaves(record: Record, _: State, action: Leave, *__: Any) -> Record:
    """The record of a host that will be gone soon. What was said first stays; only an earlier end counts more."""
    known = record.leaving
    if known is None:
        earlier = record.last.id if record.last is not None else ""
        return replace(record, leaving=Leaving(action.why, earlier, action.deadline))
    if action.deadline is None or (known.deadline is not None and known.deadline <= action.deadline):
        return record
    return replace(record, leaving=replace(known, why=action.why, deadline=action.deadline))


def stays(record: Record, *_: Any) -> Record:
    """The record of a host that has outlived its end."""
    return replace(record, leaving=None)


def follows(record: Record, _: State, action: Follow, *__: Any) -> Record:
    """The record of a host that follows the advice of these notices."""
    return replace(record, heeded=action.notices)


def no_rejoin(leaving: Leaving) -> AgentError:
    """Why a host that will be gone soon is not put back."""
    hint = "deploy to the instance that replaces it; a host that stays can be put back after a reboot"
    return AgentError(Kind.REFUSED, f"cannot rejoin: {leaving.why}", hint=hint)


def refused_rejoin(why: str) -> End:
    """How a rejoin under way ends once it is known that this host will be gone soon."""
    hint = "deploy to the instance that replaces it"
    return End(Outcome.REFUSED, "", Failure(Kind.REFUSED.wire, f"cannot rejoin: {why}", hint))


def busy(cannot: str, current: Operation) -> AgentError:
    """Why something must wait for the operation under way."""
    said = f"{cannot}: a {current.verb} is under way ({current.phase})"
    hint = "wait for it with `zdd-agent watch`, or stop it with `zdd-agent cancel`"
    return AgentError(Kind.BUSY, said, hint=hint, value=current.id)


def is_ours(record: Record, action: Identify) -> bool:
    """Whether a record is this instance's. One without an owner is, where its targets name this instance."""
    if record.owner.instance_id:
        return record.owner.instance_id == action.instance_id
    own = {action.instance_id, *action.addresses}
    targets = record.membership.targets
    return not targets or any(target.id in own for target in targets)


def _holding(record: Record) -> frozenset[str]:
    return frozenset(target.group for target in record.membership.targets)


def _stricter_state(state: Any, other: Request) -> Any:
    """A drain that is past its guard and ends on less than the other caller wants asks for more from now on."""
    if isinstance(state, GoingBack):
        return replace(state, again=state.again or Check.MIN_HEALTHY in other.force)
    ending, until = getattr(state, "ending", None), other.until
    if ending is None or until is None:
        return state
    wanted = stricter(ending.until, until)
    # `unused` needs no sensor. What a sensor that is not trusted cannot prove, nobody gets by asking again.
    return replace(state, ending=replace(ending, until=wanted, doubt="")) if wanted is not ending.until else state


def _not_of_the_future(record: Record, now: float) -> Record:
    """The record brought back to now, where the clock was set back since it was written.

    What waits for a moment would wait that much longer.
    """
    ahead = max((moment for name, moment in _moments(record) if name != "deadline"), default=now) - now
    return record if ahead <= 0 else _shifted(record, -ahead)


def _moments(value: Any) -> list[tuple[str, float]]:
    found = []
    for one in fields(value):
        inner = getattr(value, one.name)
        if one.name in _MOMENTS and isinstance(inner, float):
            found.append((one.name, inner))
        elif one.name in _MOVES and is_dataclass(inner):
            found += _moments(inner)
    return found


def _shifted(value: Any, seconds: float) -> Any:
    changed: dict[str, Any] = {}
    for one in fields(value):
        inner = getattr(value, one.name)
        if one.name in _MOMENTS and isinstance(inner, float):
            changed[one.name] = inner + seconds
        elif one.name in _MOVES and is_dataclass(inner):
            changed[one.name] = _shifted(inner, seconds)
    return replace(value, **changed)


# Where moments stand that decisions compare with now; the last operation is history.
_MOVES = frozenset({"state", "underway", "left", "before", "claim", "leaving", "slot"})
