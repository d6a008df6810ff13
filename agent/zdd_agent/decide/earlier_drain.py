"""Pure: a drain that finds no target registered, because an earlier drain, or somebody else, has deregistered them."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from zdd_agent.decide import drain_end, standby
from zdd_agent.decide.actions import Action, Discover, End, Resume, Sense, Wait
from zdd_agent.decide.endings import timed_out
from zdd_agent.decide.evidence import API_LAG_SECONDS, Evidence, Senses
from zdd_agent.decide.population import draining, pending
from zdd_agent.decide.timing import drain_timeout, first_change, is_soon_forgotten
from zdd_agent.model.auto_scaling import IN_SERVICE
from zdd_agent.model.aws import Membership
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Failure, Observation, Outcome, Verb
from zdd_agent.model.record import Record, Underway
from zdd_agent.model.service import Rules
from zdd_agent.model.states import Departure, Drained, Ending, Guarding, InService, Out


def taken_up(
    record: Record, state: Guarding, one: Underway, evidence: Evidence, now: float, rules: Rules
) -> Action | Failure:
    """The next action of a drain that finds no target registered; or why it is refused for now.

    Args:
        record: with a drain under way.
        state: of the record.
        one: the drain.
        evidence: with a look at AWS.
        now: seconds since the epoch.
        rules: the settings.
    """
    seen, membership, before = evidence.seen, record.membership, state.before
    assert seen is not None  # noqa: S101  what mypy needs
    fresh = one.started_at - _ended_at(record, before) < API_LAG_SECONDS
    if not isinstance(before, InService) and (again := _looks_again(before, one, seen, now, fresh=fresh)):
        return again
    wanted = one.request.until or rules.until
    forgotten = not fresh and is_soon_forgotten(membership, rules.floor_seconds)
    if isinstance(before, Drained) and not (wanted is Until.UNUSED and pending(membership, seen)):
        senses = evidence.senses
        if senses.watch is not None and not senses.blind and senses.sampled_at < seen.seen_at:
            return Sense()
        if _still_proved(before, membership, seen, senses, forgotten=forgotten):
            return End(Outcome.SUCCEEDED, "already drained")
    left = Departure(now, seen.seen_at) if isinstance(before, InService) else before.left
    # A host that is out is not checked any more: a sensor that is not trusted yet would wait for checks in vain.
    ending = drain_end.rely(
        wanted,
        membership,
        evidence.senses,
        now,
        looked_at=now,
        left_at=left.accepted_at,
        seen_before=bool(left.nodes),
    )
    if not isinstance(ending, Ending):
        return ending
    if evidence.place is not None and evidence.place.state == IN_SERVICE:
        if (short := standby.refusal(one.request, evidence.place, before, rules)) is not None:
            return short
        ending = replace(ending, standby=standby.group_to_enter(one.request, evidence.place, before, rules))
    return Resume(
        accepted_at=seen.seen_at if _starts_anew(before, left, membership, seen, forgotten) else left.accepted_at,
        nodes=left.nodes or drain_end.nodes(evidence.senses, ending),
        ending=ending,
        deadline=now + drain_timeout(membership, rules.floor_seconds),
        note=drain_end.announced(ending),
    )


def _ended_at(record: Record, before: Drained | Out | InService) -> float:
    """When the drain ended that has taken this host out, seconds; long ago where nobody knows."""
    if isinstance(before, Drained):
        return before.at
    last = record.last
    return last.ended_at or -inf if last is not None and last.verb is Verb.DRAIN else -inf


def _looks_again(before: Drained | Out, one: Underway, seen: Observation, now: float, *, fresh: bool) -> Action | None:
    """Look once more after the API's lag: others may have registered this host just now. None when that is done.

    A drain that asks right after the end of another one gets the answer of that one, which is no older than any look.
    """
    sure = one.started_at + API_LAG_SECONDS
    if seen.seen_at >= sure or (fresh and isinstance(before, Drained)):
        return None
    said = "no target of this host is registered"
    if now >= one.deadline:
        return timed_out(one, f"{said}, by a look that can be late")
    again = min(sure, one.deadline)
    return Wait(again, f"{said}; looking again") if now < again else Discover()


def _still_proved(
    before: Drained, membership: Membership, seen: Observation, senses: Senses, *, forgotten: bool
) -> bool:
    """Whether the proof of an earlier drain holds: AWS would show it if not, or we have watched ever since.

    What still drains may be what others registered and deregistered meanwhile. Then nodes have sent something. With a
    delay that is shorter than the floor (`forgotten`) AWS need not show that at all. Then nodes have checked the app.
    """
    drains = bool(pending(membership, seen))
    if not drains and not forgotten:
        return True
    watch = senses.watch
    if watch is None or senses.blind or watch.began_at >= before.at or watch.last_activity >= before.at:
        return False
    if not before.left.nodes:  # the sensor was not trusted
        return False
    if forgotten and (watch.checked_at >= before.at or _checked_since(senses, before.at)):
        return False
    return not _late(before.left, membership, seen)


def _checked_since(senses: Senses, moment: float) -> bool:
    return senses.trust is not None and bool(senses.trust.heard.since(moment))


def _starts_anew(
    before: Drained | Out | InService, left: Departure, membership: Membership, seen: Observation, forgotten: bool
) -> bool:
    """Whether the floor starts now: others have put the host back since and taken it out again, or may have.

    They have, where a target still drains after its whole delay. They may have, where nobody has watched: after a
    drain that has ended with proof, and where AWS need not show it.
    """
    return _late(left, membership, seen) or isinstance(before, Drained) or forgotten


def _late(left: Departure, membership: Membership, seen: Observation) -> bool:
    """Whether a target drains for longer than since our own deregistration: others have deregistered it since."""
    drains = draining(membership, seen)
    return any(seen.seen_at > first_change(membership, (t,), left.accepted_at) + API_LAG_SECONDS for t in drains)
