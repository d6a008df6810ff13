"""Pure: what a drain does before it changes anything: find out whether this host may leave, and what ends the drain."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from zdd_agent.decide import drain_end, earlier_drain, guard, scaling, slots, standby
from zdd_agent.decide.actions import Action, Discover, End, Extend, Look, MakeClaim, Sense, Wait
from zdd_agent.decide.endings import timed_out
from zdd_agent.decide.evidence import API_LAG_SECONDS, Evidence
from zdd_agent.decide.population import healthy_others, not_in_use, registered
from zdd_agent.decide.timing import MARGIN_SECONDS, drain_timeout, give_up_at, longest_floor
from zdd_agent.errors import Kind
from zdd_agent.model.aws import Membership
from zdd_agent.model.operation import Failure, Observation, Outcome
from zdd_agent.model.record import Record, Underway
from zdd_agent.model.service import Rules
from zdd_agent.model.states import Claim, Ending, Guarding


def decide(record: Record, state: Guarding, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    """The next action of a drain that has changed nothing yet.

    Args:
        record: with a drain under way.
        state: of the record.
        one: the drain.
        evidence: what else is known.
        now: seconds since the epoch.
        rules: the settings.
    """
    seen, membership = evidence.seen, record.membership
    if seen is None:
        return Discover()
    if not membership.targets:
        return _nothing(one, membership, evidence, seen, now, rules)
    if not registered(membership, seen):
        found = earlier_drain.taken_up(record, state, one, evidence, now, rules)
        if not isinstance(found, Failure):
            return found
        return _refused(record, one, seen, found, Discover(), now) or End(Outcome.REFUSED, "", found)
    if evidence.place is not None and not one.request.stopping and (failure := scaling.owned(evidence.place.group)):
        return End(Outcome.REFUSED, "", failure)
    if (step := _slot(record, one, evidence, seen, now, rules)) is not None:
        return step
    short = standby.refusal(one.request, evidence.place, state.before, rules)
    failure = short or guard.refusal(membership, seen, rules.min_healthy, one.request.force)
    if failure is not None:
        again = Discover() if short else Look()
        if (waits := _refused(record, one, seen, failure, again, now)) is not None:
            return waits
    return _allowed(record, one, seen, evidence, now, rules, failure)


def _slot(
    record: Record, one: Underway, evidence: Evidence, seen: Observation, now: float, rules: Rules
) -> Action | None:
    """What comes before the guard is asked where slots are shared; None once this host has its slot."""
    if rules.slots is None:
        return None
    step = slots.due(record, one, evidence, now, rules.slots)
    if isinstance(step, Failure):
        return End(Outcome.REFUSED if step.kind == Kind.REFUSED.wire else Outcome.FAILED, "", step)
    if step is None and record.slot is not None and record.slot.since - seen.seen_at > guard.CLAIM_SECONDS:
        return Look()  # it stood in line: the guard must not go by what was true before
    return step


def _refused(
    record: Record, one: Underway, seen: Observation, failure: Failure, again: Discover | Look, now: float
) -> Action | None:
    """Wait and ask again as long as the caller does, then refuse; None for a stop that cannot be prevented."""
    give_up = give_up_at(one)
    if now < give_up and record.leaving is None:
        due = min(seen.look_again_at, give_up)
        return Wait(due, f"refused for now, retrying: {failure.message}") if now < due else again
    return None if one.request.stopping else End(Outcome.REFUSED, "", failure)


def _allowed(
    record: Record,
    one: Underway,
    seen: Observation,
    evidence: Evidence,
    now: float,
    rules: Rules,
    passed_over: Failure | None,
) -> Action:
    membership = record.membership
    by = _trusted_by(record, one, now, rules)
    wanted = one.request.until or rules.until
    ending = drain_end.rely(wanted, membership, evidence.senses, now, looked_at=seen.seen_at, by=by)
    if not isinstance(ending, Ending):
        return _own_time(one, evidence, ending)
    ending = replace(ending, standby=standby.group_to_enter(one.request, evidence.place, record.resting, rules))
    long = ""
    if evidence.place is not None and not ending.standby:  # in Standby the group looks at no health check
        long = scaling.outlasts(evidence.place, membership, ending.until, rules)
    if long and rules.strict and not one.request.stopping:
        return End(Outcome.REFUSED, "", scaling.refused(long))
    if evidence.senses.sampled_at - seen.seen_at > guard.CLAIM_SECONDS:
        return Look()  # the sensor took its time: the guard must not go by what was true before
    if now >= one.deadline and not one.request.stopping:
        return timed_out(one, "nothing is changed")
    return claim(membership, seen, evidence, ending, now, rules, passed_over, long)


def _trusted_by(record: Record, one: Underway, now: float, rules: Rules) -> float:
    """Until when this drain may wait to see the load balancer's health checks."""
    if record.leaving is not None and record.leaving.deadline is not None:
        return now  # who is gone in two minutes has no time for that
    # A time-out that somebody gave is for the whole drain: leave it the time in which new work may come.
    given = one.request.timeout is not None
    return one.deadline - longest_floor(record.membership, rules.floor_seconds) if given else inf


def _own_time(one: Underway, evidence: Evidence, waiting: Sense | Wait) -> Action:
    """Wait for trust, and not at the expense of the look at the other hosts that comes after it."""
    trust = evidence.senses.trust
    if trust is not None and one.request.timeout is None:
        needed = trust.settled_at + MARGIN_SECONDS
        if one.deadline < needed:
            return Extend(needed)
    return waiting


def claim(
    membership: Membership,
    seen: Observation,
    evidence: Evidence,
    ending: Ending,
    now: float,
    rules: Rules,
    passed_over: Failure | None = None,
    warning: str = "",
) -> MakeClaim:
    """The step by which this host leaves.

    Args:
        membership: which targets are this host.
        seen: the look that allows it.
        evidence: what else is known.
        ending: what ends the drain.
        now: seconds since the epoch.
        rules: the settings.
        passed_over: a refusal that this drain passes over.
        warning: what else the operator should know.
    """
    note = "; ".join(filter(None, (drain_end.announced(ending), warning)))
    if passed_over is not None:
        note = f"drains although the guard refuses, since this stop cannot be prevented: {passed_over.message}; {note}"
    return MakeClaim(
        targets=registered(membership, seen),
        spare=not_in_use(membership, seen),
        nodes=drain_end.nodes(evidence.senses, ending),
        claim=Claim(healthy_others(membership, seen), seen.seen_at),
        ending=ending,
        deadline=now + drain_timeout(membership, rules.floor_seconds),
        note=note,
    )


def _nothing(
    one: Underway, membership: Membership, evidence: Evidence, seen: Observation, now: float, rules: Rules
) -> Action:
    """No target group holds this host, says AWS: believed once a look after the API's lag says so too.

    What held it when the drain began may have let it go just now: its nodes may send work until the floor is over.
    """
    since = seen.seen_at if evidence.nothing_since is None else evidence.nothing_since
    agreed = since + API_LAG_SECONDS
    sure = max(agreed, since + longest_floor(membership, rules.floor_seconds))
    if seen.seen_at >= sure:
        return End(Outcome.SUCCEEDED, "nothing to drain: no target group holds this host")
    if one.request.timeout is None and one.deadline < sure:
        return Extend(sure + MARGIN_SECONDS)
    if now >= one.deadline:
        return timed_out(one, "no target group holds this host, by a look that can be late")
    again = min(agreed if seen.seen_at < agreed else sure, one.deadline)
    return Wait(again, "no target group holds this host; looking again") if now < again else Discover()
