"""Pure: what a drain does next."""

from __future__ import annotations

from zdd_agent.decide import drain_end, earlier_drain, guard
from zdd_agent.decide.actions import (
    Action,
    Confirm,
    Deregister,
    Discover,
    Drop,
    End,
    GoBack,
    Look,
    MakeClaim,
    Register,
    Retry,
    Sense,
    Wait,
)
from zdd_agent.decide.evidence import API_LAG_SECONDS, SAMPLE_SECONDS, Evidence
from zdd_agent.decide.population import healthy_others, not_in_use, pending, registered, with_other_ports
from zdd_agent.decide.timing import DISCOVERY_SECONDS, MARGIN_SECONDS, drain_timeout, first_change, longest_floor
from zdd_agent.errors import Kind
from zdd_agent.model.aws import Membership
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Failure, Observation, Outcome
from zdd_agent.model.record import (
    Claim,
    Claiming,
    Confirming,
    Draining,
    Ending,
    GoingBack,
    Guarding,
    Record,
    Underway,
)
from zdd_agent.model.service import Rules

# Seconds for which a look at AWS is fresh enough to end a drain on: others may have registered the host since.
_FRESH_SECONDS = 2.0


def decide(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """The next action of the drain in `record`.

    Args:
        record: what is on disk, with a drain under way.
        evidence: what else is known.
        now: seconds since the epoch.
        rules: the settings.
    """
    one, state, seen = record.underway, record.state, evidence.seen
    assert one is not None  # noqa: S101  the runner's promise, and what mypy needs
    # Another host may count on this one to go back: a cancel comes after that, seconds later.
    if one.cancelled_by is not None and not isinstance(state, Confirming | GoingBack):
        return cancelled(record)
    if seen is not None and (gone := seen.missing_groups & {g.arn for g in record.membership.groups}):
        return Drop(gone)
    match state:
        case Guarding():
            return _guarding(record, state, one, evidence, now, rules)
        case Claiming():
            return _claiming(record, one, evidence, rules, now)
        case Confirming():
            return _confirming(record, state, one, evidence, now, rules)
        case Draining():
            return _draining(record, state, one, evidence, now, rules)
        case GoingBack():
            return _going_back(state, one, evidence, now, rules)
        case _:
            raise TypeError(f"no drain is under way in {type(state).__name__}")


def cancelled(record: Record) -> End:
    """The end of an operation that somebody cancelled."""
    operation = record.operation
    assert operation is not None  # noqa: S101  the caller's promise, and what mypy needs
    message = f"{operation.verb} cancelled by uid {operation.cancelled_by} at {operation.phase}"
    hint = "run `zdd-agent status` to see where the host stands"
    return End(Outcome.CANCELLED, message, Failure(Kind.CANCELLED.wire, message, hint))


def _guarding(record: Record, state: Guarding, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    seen, membership = evidence.seen, record.membership
    if seen is None:
        return Discover()
    if not membership.targets:
        return _nothing(evidence, seen, now)
    if not registered(membership, seen):
        return earlier_drain.taken_up(record, state, one, evidence, now, rules)
    failure = guard.refusal(membership, seen, rules.min_healthy, one.request.force)
    give_up = _give_up(one)
    if failure is not None and now < give_up:
        due = min(seen.look_again_at, give_up)
        return Wait(due, f"refused for now, retrying: {failure.message}") if now < due else Look()
    if failure is not None and not one.request.stopping:
        return End(Outcome.REFUSED, "", failure)
    ending = drain_end.rely(one.request.until or rules.until, membership, evidence.senses, now)
    if not isinstance(ending, Ending):
        return ending
    if evidence.senses.sampled_at - seen.seen_at > guard.CLAIM_SECONDS:
        return Look()  # the sensor took its time: the guard must not go by what was true before
    return _claim(membership, seen, evidence, ending, now, rules, failure)


def _claim(
    membership: Membership,
    seen: Observation,
    evidence: Evidence,
    ending: Ending,
    now: float,
    rules: Rules,
    passed_over: Failure | None = None,
) -> MakeClaim:
    note = drain_end.announced(ending)
    if passed_over is not None:
        note = f"drains although the guard refuses, since this stop cannot be prevented: {passed_over.message}; {note}"
    return MakeClaim(
        targets=registered(membership, seen),
        spare=not_in_use(membership, seen),
        nodes=drain_end.nodes(evidence.senses),
        claim=Claim(healthy_others(membership, seen), seen.seen_at),
        ending=ending,
        deadline=now + drain_timeout(membership, rules.floor_seconds),
        note=note,
    )


def _nothing(evidence: Evidence, seen: Observation, now: float) -> Action:
    """No target group holds this host, says AWS: believed once a look after the API's lag says so too."""
    since = seen.seen_at if evidence.nothing_since is None else evidence.nothing_since
    sure = since + API_LAG_SECONDS
    if seen.seen_at >= sure:
        return End(Outcome.SUCCEEDED, "nothing to drain: no target group holds this host")
    return Wait(sure, "no target group holds this host; looking again") if now < sure else Discover()


def _claiming(record: Record, one: Underway, evidence: Evidence, rules: Rules, now: float) -> Action:
    seen, membership = evidence.seen, record.membership
    if seen is None:
        return Look()
    # Guarded again: after a restart, or a registration by others, the look that allowed this host to leave is too old.
    failure = guard.refusal(membership, seen, rules.min_healthy, one.request.force)
    if failure is not None and not one.request.stopping:
        return GoBack(failure, _back_by(membership, now))
    return Deregister(registered(membership, seen), Claim(healthy_others(membership, seen), seen.seen_at))


def _confirming(
    record: Record, state: Confirming, one: Underway, evidence: Evidence, now: float, rules: Rules
) -> Action:
    seen, membership, left = evidence.seen, record.membership, state.left
    settled = left.accepted_at + guard.SETTLE_SECONDS
    if seen is None:
        note = "deregistered; looking again whether other hosts left at the same moment"
        return _wait(settled, note, state.ending, evidence, now) if now < settled else Look()
    found = guard.race(state.claim, left, membership, seen, rules.min_healthy)
    if found.short and not one.request.stopping and Check.MIN_HEALTHY not in one.request.force:
        if found.gives_way:
            failure = guard.refused(found.short, "other hosts left at the same moment")
            return GoBack(failure, _back_by(membership, now))
        again = left.accepted_at + guard.YIELD_SECONDS
        note = "waiting for a host that left at the same moment to go back"
        return Wait(again, note) if now < again else Look()
    # Where work can come for a shorter time than the API may lag, the drain itself is over before that.
    sure = max(settled, left.accepted_at + min(API_LAG_SECONDS, longest_floor(membership, rules.floor_seconds)))
    if seen.seen_at >= sure:
        return Confirm()
    return _wait(sure, "deregistered; looking once more", state.ending, evidence, now) if now < sure else Look()


def _draining(record: Record, state: Draining, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    seen, membership = evidence.seen, record.membership
    if seen is None:
        return Look()
    if state.ending.until is not Until.UNUSED and evidence.senses.watch is None and not evidence.senses.blind:
        return Sense()  # a daemon that has restarted knows nothing of the connections yet
    membership = with_other_ports(membership, seen)
    left = pending(membership, seen)
    back = registered(membership, seen)
    if evidence.agreed(lambda look: registered(membership, look)):
        return _claim(membership, seen, evidence, state.ending, now, rules)  # others registered the host again
    floor = drain_end.floor_of(state, membership, evidence.senses, rules)
    finding = drain_end.judge(state, membership, evidence.senses, now, rules, told=not back)
    held = drain_end.blocking(state, evidence.senses, now)
    proved = finding is not None and finding.proved
    if proved or (not left and now >= floor and not held):
        if now - evidence.looked_at > _FRESH_SECONDS:
            return Look()
        if finding is not None and finding.proved:
            return End(Outcome.SUCCEEDED, drain_end.verdict(state, membership, left, finding, now))
        return End(Outcome.SUCCEEDED, f"drained {_count(membership)} in {now - one.started_at:.0f} s")
    states = "; ".join(str(seen.of(target) or target) for target in left) or held
    states = states or "the API says `unused`, but the load balancer's nodes may still send new work"
    if now >= one.deadline:
        return _timed_out(one, f"{states}{drain_end.hung(state, evidence.senses, now)}")
    if not left:
        return _wait(one.deadline if now >= floor else min(floor, one.deadline), states, state.ending, evidence, now)
    # A target that reads as registered was registered again by others, or the API lags: there is no delay to wait for.
    possible = 0.0 if back else first_change(membership, left, state.left.accepted_at)
    due = max(seen.look_again_at, possible)
    if now < due:
        note = finding.said if finding is not None else f"{states}{state.ending.doubt}"
        return _wait(min(due, one.deadline), note, state.ending, evidence, now)
    return Look()


def _going_back(state: GoingBack, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    give_up = _give_up(one)
    if evidence.returned_at is not None:
        # Before the API's lag is over a look may not show what has just been registered.
        again = evidence.returned_at + API_LAG_SECONDS
        if again < give_up and one.cancelled_by is None:
            said = f"back in service, retrying: {state.failure.message}"
            return Wait(again, said) if now < again else Retry(give_up + DISCOVERY_SECONDS)
        return End(Outcome.REFUSED, "", state.failure)
    if evidence.refused is not None:
        error, at = evidence.refused
        if now >= one.deadline:
            return _timed_out(one, f"{state.failure.message}; and it cannot go back: {error.message}")
        again = min(at + rules.poll_seconds, one.deadline)
        if now < again:
            return Wait(again, f"cannot go back yet, retrying: {error.message}")
    return Register(state.left.targets)


def _give_up(one: Underway) -> float:
    """When to stop retrying a refused drain: a time-out that somebody gave is for the whole operation."""
    request = one.request
    return one.started_at + (request.wait if request.timeout is None else min(request.wait, request.timeout))


def _timed_out(one: Underway, pending_work: str) -> End:
    message = f"cannot finish the drain in {one.deadline - one.started_at:.0f} s: {pending_work}"
    hint = "run `zdd-agent drain` again to go on waiting, or `zdd-agent rejoin` to go back"
    return End(Outcome.TIMED_OUT, "", Failure(Kind.TIMED_OUT.wire, message, hint))


def _back_by(membership: Membership, now: float) -> float:
    """When a host that goes back gives up: AWS may refuse an address until it has drained."""
    delay = max((group.deregistration_delay for group in membership.groups), default=0.0)
    return now + delay + MARGIN_SECONDS


def _wait(until: float, note: str, ending: Ending, evidence: Evidence, now: float) -> Action:
    """Wait; and where the kernel is relied on, look at the connections four times a second meanwhile."""
    if ending.until is Until.UNUSED or evidence.senses.blind:
        return Wait(until, note)
    next_sample = evidence.senses.sampled_at + SAMPLE_SECONDS
    return Sense() if now >= next_sample else Wait(until, note, min(until, next_sample))


def _count(membership: Membership) -> str:
    groups = {t.group for t in membership.targets}
    return f"{_plural(len(membership.targets), 'target')} of {_plural(len(groups), 'target group')}"


def _plural(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
