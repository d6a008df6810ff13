"""Pure: what a drain does next."""

from __future__ import annotations

from math import inf

from zdd_agent.decide import drain_end, guard, guarding, slots, standby
from zdd_agent.decide.actions import (
    Action,
    Confirm,
    Deregister,
    Discover,
    Drop,
    End,
    GoBack,
    Look,
    Register,
    Retry,
    Sense,
    Wait,
)
from zdd_agent.decide.endings import timed_out
from zdd_agent.decide.evidence import API_LAG_SECONDS, SAMPLE_SECONDS, Evidence
from zdd_agent.decide.population import healthy_others, pending, registered, with_other_ports
from zdd_agent.decide.slot_actions import LookAtSlots
from zdd_agent.decide.timing import (
    DISCOVERY_SECONDS,
    MARGIN_SECONDS,
    first_change,
    give_up_at,
    longest_delay,
    longest_floor,
)
from zdd_agent.decide.traffic.quiet import Proof
from zdd_agent.errors import Kind
from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Failure, Outcome
from zdd_agent.model.record import Record, Underway
from zdd_agent.model.service import Rules
from zdd_agent.model.states import Claim, Claiming, Confirming, Draining, Ending, GoingBack, Guarding

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
    gone = seen.missing_groups & {t.group for t in record.membership.targets} if seen is not None else frozenset()
    # Once this host may have left, the ports of a deleted group are watched on: its last requests may be under way.
    if gone and isinstance(state, Guarding):
        return Drop(gone)
    match state:
        case Guarding():
            return guarding.decide(record, state, one, evidence, now, rules)
        case Claiming():
            return _claiming(record, one, evidence, rules, now)
        case Confirming():
            return _confirming(record, state, one, evidence, now, rules)
        case Draining():
            due = _standby(record, state, one, evidence, now, rules)
            return due or _draining(record, state, one, evidence, now, rules)
        case GoingBack():
            return _going_back(record, state, one, evidence, now, rules)
        case _:
            raise TypeError(f"no drain is under way in {type(state).__name__}")


def cancelled(record: Record) -> End:
    """The end of an operation that somebody cancelled."""
    operation = record.operation
    assert operation is not None  # noqa: S101  the caller's promise, and what mypy needs
    message = f"{operation.verb} cancelled by uid {operation.cancelled_by} at {operation.phase}"
    hint = "run `zdd-agent status` to see where the host stands"
    return End(Outcome.CANCELLED, message, Failure(Kind.CANCELLED.wire, message, hint))


def _claiming(record: Record, one: Underway, evidence: Evidence, rules: Rules, now: float) -> Action:
    if evidence.refused is not None:
        error, _ = evidence.refused
        value = None if error.value is None else str(error.value)
        denied = Failure(error.kind.wire, error.message, error.hint, value)
        if one.request.stopping:
            return End(Outcome.FAILED, "", denied)  # out of some groups is better than out of none
        return GoBack(denied, _back_by(record.membership, now))
    seen = evidence.seen
    if seen is None:
        return Look()
    membership = record.membership.without_groups(seen.missing_groups)
    held = slots.still_held(record, one, evidence, now, rules.slots)
    if isinstance(held, LookAtSlots):
        return held
    # Guarded again: after a restart, or a registration by others, the look that allowed this host to leave is too old.
    failure = held or guard.refusal(membership, seen, rules.min_healthy, one.request.force)
    if failure is not None and not one.request.stopping:
        return GoBack(failure, _back_by(membership, now))
    return Deregister(registered(membership, seen), Claim(healthy_others(membership, seen), seen.seen_at))


def _confirming(
    record: Record, state: Confirming, one: Underway, evidence: Evidence, now: float, rules: Rules
) -> Action:
    seen, membership, left = evidence.seen, record.membership, state.left
    settled = left.accepted_at + guard.SETTLE_SECONDS
    # Where work can come for a shorter time than the API may lag, the drain itself is over before that.
    sure = max(settled, left.accepted_at + min(API_LAG_SECONDS, longest_floor(membership, rules.floor_seconds)))
    if seen is None:
        note = "deregistered; looking again whether other hosts left at the same moment"
        look = Look() if now < sure else Discover()
        return _wait(settled, note, state.ending, evidence, now) if now < settled else look
    # The race is about the groups that this host has left, and not about one that the last look has found.
    there = membership.only_groups(frozenset(t.group for t in left.targets) - seen.missing_groups)
    found = guard.race(state.claim, left, there, seen, rules.min_healthy)
    if found.short and not one.request.stopping and Check.MIN_HEALTHY not in one.request.force:
        if found.gives_way:
            failure = guard.refused(found.short, "other hosts left at the same moment")
            return GoBack(failure, _back_by(membership, now))
        again = left.accepted_at + guard.YIELD_SECONDS
        note = "waiting for a host that left at the same moment to go back"
        return Wait(again, note) if now < again else Look()
    # The last look is a discovery: the first one may not have shown a group that this host had joined just before.
    if evidence.found_at >= sure:
        return Confirm()
    return _wait(sure, "deregistered; looking once more", state.ending, evidence, now) if now < sure else Discover()


def _standby(
    record: Record, state: Draining, one: Underway, evidence: Evidence, now: float, rules: Rules
) -> Action | None:
    due = standby.due(state, one, evidence, rules)
    return GoBack(due, _back_by(record.membership, now)) if isinstance(due, Failure) else due


def _draining(record: Record, state: Draining, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    seen, membership = evidence.seen, record.membership
    if seen is None:
        return Look()
    membership = with_other_ports(membership, seen)
    left = pending(membership, seen)
    back = registered(membership, seen)
    if evidence.agreed(lambda look: registered(membership, look)):
        return guarding.claim(membership, seen, evidence, state.ending, now, rules)  # others registered the host again
    if not left and drain_end.must_look(state, evidence.senses, now):
        return Sense()
    floor = drain_end.floor_of(state, membership, rules)
    finding = drain_end.judge(state, membership, evidence.senses, now, rules, told=not back)
    held = drain_end.blocking(state, membership, evidence.senses, now)
    last_chance = record.leaving is not None and bool(state.ending.doubt) and not evidence.senses.blind
    looks_on = last_chance and not left and now >= floor
    sample_at = evidence.senses.sampled_at + SAMPLE_SECONDS
    if looks_on and now >= sample_at:
        return Sense()
    held = held or (drain_end.at_work(state, evidence.senses, now) if looks_on else "")
    proved = finding is not None and finding.proved
    if proved or (not left and now >= floor and not held):
        return _over(state, membership, left, one, evidence, finding, now)
    states = "; ".join(str(seen.of(target) or target) for target in left) or held
    states = states or "the API says `unused`, but the load balancer's nodes may still send new work"
    if now >= one.deadline:
        hung = "" if states == held else drain_end.hung(state, evidence.senses, now)
        return timed_out(one, f"{states}{hung}")
    if looks_on:
        return Wait(one.deadline, states, min(sample_at, one.deadline))
    if not left:
        return _wait(one.deadline if now >= floor else min(floor, one.deadline), states, state.ending, evidence, now)
    # A target that reads as registered was registered again by others, or the API lags: there is no delay to wait for.
    possible = 0.0 if back else first_change(membership, left, state.left.accepted_at)
    due = max(seen.look_again_at, possible)
    if now < due:
        note = finding.said if finding is not None else f"{states}{state.ending.doubt}"
        return _wait(min(due, one.deadline), note, state.ending, evidence, now)
    return Look()


def _over(
    state: Draining,
    membership: Membership,
    left: tuple[Target, ...],
    one: Underway,
    evidence: Evidence,
    finding: Proof | None,
    now: float,
) -> Action:
    if now - evidence.looked_at > _FRESH_SECONDS:
        return Look()
    if finding is not None and finding.proved:
        return End(Outcome.SUCCEEDED, drain_end.verdict(state, membership, left, finding, now))
    unproved = drain_end.unproved(state, membership, evidence.senses, now)
    return End(Outcome.SUCCEEDED, f"drained {_count(membership)} in {now - one.started_at:.0f} s{unproved}")


def _going_back(
    record: Record, state: GoingBack, one: Underway, evidence: Evidence, now: float, rules: Rules
) -> Action:
    if record.leaving is not None and evidence.returned_at is None:
        # A host that will be gone must not come back. The agent begins another drain, which goes on from here.
        message = f"cannot go back: {record.leaving.why}"
        return End(Outcome.FAILED, "", Failure(Kind.FAILED.wire, message, "this host drains for good"))
    give_up = give_up_at(one)
    if evidence.returned_at is not None or not state.left.targets:
        # Until AWS shows this, an answer may be older than the lost race: whoever asks next would leave once more.
        shown_at = (evidence.returned_at or -inf) + API_LAG_SECONDS
        if now < shown_at and one.cancelled_by is None:
            return Wait(shown_at, f"registered again, waiting until AWS shows it: {state.failure.message}")
        refused = state.failure.kind == Kind.REFUSED.wire
        if ((refused and now < give_up) or one.request.stopping or state.again) and one.cancelled_by is None:
            return Retry(max(give_up, now) + DISCOVERY_SECONDS)
        return End(Outcome.REFUSED if refused else Outcome.FAILED, "", state.failure, back=True)
    if evidence.refused is not None:
        error, at = evidence.refused
        if now >= one.deadline:
            return timed_out(one, f"{state.failure.message}; and it cannot go back: {error.message}")
        again = min(at + rules.poll_seconds, one.deadline)
        if now < again:
            return Wait(again, f"cannot go back yet, retrying: {error.message}")
    return Register(state.left.targets)


def _back_by(membership: Membership, now: float) -> float:
    """When a host that goes back gives up: AWS may refuse an address until it has drained."""
    return now + longest_delay(membership) + MARGIN_SECONDS


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
