"""Pure: what a rejoin does next."""

from __future__ import annotations

from zdd_agent.decide import standby
from zdd_agent.decide.actions import (
    Action,
    Discover,
    Drop,
    End,
    ExitStandby,
    Extend,
    Join,
    Launch,
    Look,
    Probe,
    Refresh,
    Register,
    Sense,
    Wait,
)
from zdd_agent.decide.again import WARM_POOL
from zdd_agent.decide.asked import refused_rejoin
from zdd_agent.decide.diagnosis import believed
from zdd_agent.decide.drain import cancelled
from zdd_agent.decide.evidence import API_LAG_SECONDS, SAMPLE_SECONDS, Evidence, Senses
from zdd_agent.decide.population import absent, draining, not_ready
from zdd_agent.decide.timing import first_change, longest_delay, rejoin_timeout, start_timeout, until_checked
from zdd_agent.errors import Kind
from zdd_agent.model.auto_scaling import ScalingPlace
from zdd_agent.model.aws import Membership, State, Target
from zdd_agent.model.operation import Check, Failure, Observation, Outcome
from zdd_agent.model.record import Record, Underway
from zdd_agent.model.service import Rules
from zdd_agent.model.states import InService, Joining, Out, Probing, Warming

# Why, where IMDS says that the group wants this instance gone.
TERMINATING = "Auto Scaling is about to terminate this instance"


def decide(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """The next action of the rejoin in `record`.

    Args:
        record: what is on disk, with a rejoin under way.
        evidence: what else is known.
        now: seconds since the epoch.
        rules: the settings.
    """
    one, state, seen = record.underway, record.state, evidence.seen
    assert one is not None  # noqa: S101  the runner's promise, and what mypy needs
    if one.cancelled_by is not None:
        return cancelled(record)
    if record.leaving is not None:
        return refused_rejoin(record.leaving.why)
    if evidence.terminating:
        return refused_rejoin(TERMINATING)
    if seen is not None and (gone := seen.missing_groups & {g.arn for g in record.membership.groups}):
        return Drop(gone)
    match state:
        case Probing():
            return _probing(record, state, one, evidence, now)
        case Joining():
            return _joining(record, state, one, evidence, now, rules)
        case Warming():
            return _warming(record, state, one, evidence, now, rules)
        case _:
            raise TypeError(f"no rejoin is under way in {type(state).__name__}")


def _probing(record: Record, state: Probing, one: Underway, evidence: Evidence, now: float) -> Action:
    membership = record.membership
    if (finds := _finding(state, membership, evidence)) is not None:
        return finds
    place = evidence.place
    if place is not None and place.is_warmed and (evidence.returned_at is not None or not place.enters_pool):
        return _warmed(place)
    if not membership.targets:
        return _nowhere(one, evidence, now)
    parked = standby.group_of(state.before)
    if evidence.seen is not None and not not_ready(membership, evidence.seen) and not parked:
        return End(Outcome.SUCCEEDED, "already in service")
    passes = {tally.target: tally.passes for tally in evidence.tallies}
    failing = tuple(
        t for t in membership.targets if passes.get(t, 0) < membership.group(t.group).health_check.healthy_threshold
    )
    if not failing or Check.PROBE in one.request.force:
        if place is not None and place.is_warmed:
            return Launch()  # into the pool, where no load balancer sends it anything
        launching = place is not None and place.is_launching
        first = longest_delay(membership) if parked else 0.0
        return Join(now + first + rejoin_timeout(membership), launching)
    if one.request.timeout is None and one.deadline < (by := one.started_at + start_timeout(membership)):
        return Extend(by)
    said = "; ".join(f"{t.target}: {t.said}" for t in evidence.tallies if t.target in failing) or "not probed yet"
    if now >= one.deadline:
        return _not_started(state, one, failing, said)
    if now < evidence.probe_again_at:
        return Wait(min(evidence.probe_again_at, one.deadline), f"probing: {said}")
    return Probe(failing)


def _finding(state: Probing, membership: Membership, evidence: Evidence) -> Discover | Refresh | None:
    """What a drain took out is what comes back; without that, what AWS and the settings say."""
    if not evidence.refreshed and membership.targets and not isinstance(state.before, InService):
        return Refresh()
    return Discover() if not evidence.refreshed or (not membership.targets and evidence.seen is None) else None


def _nowhere(one: Underway, evidence: Evidence, now: float) -> Action:
    assert evidence.seen is not None  # noqa: S101  found first, see `_finding`
    # One look that does not list this host can be late: believed once a look after the API's lag says so too.
    sure = (evidence.nothing_since or now) + API_LAG_SECONDS
    if evidence.seen.seen_at < sure and now < one.deadline:
        again = min(sure, one.deadline)
        return Wait(again, "no target group holds this host; looking again") if now < sure else Discover()
    return _failed(
        Kind.NO_MEMBERSHIP,
        "no target group is known for this host: it was in none, or its groups do not exist any more",
        "set `target_groups` in the settings",
    )


def _joining(record: Record, state: Joining, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    seen, membership = evidence.seen, record.membership
    if not evidence.refreshed:  # after a restart, or once more
        return Refresh()
    if state.launching:
        return Launch()
    if parked := standby.group_of(state.before):
        return _leaving_standby(parked, one, evidence, now, rules)
    if evidence.refused is None:
        return Register(absent(membership, seen) if seen else membership.targets)
    # Whether AWS takes a target that still drains is not documented for addresses; where not, wait until it is gone.
    error, at = evidence.refused
    if seen is None:
        return Look()
    if drains := draining(membership, seen):
        return _until_drained(state, membership, drains, one, evidence, seen, now)
    if any(draining(membership, earlier) for earlier in evidence.looks[1:]):
        return Register(absent(membership, seen))
    # A look can be late, and the last moment of the delay can have been in between: refused twice, apart by the lag.
    if seen.seen_at < (sure := at + API_LAG_SECONDS) and now < one.deadline:
        again = min(sure, one.deadline)
        return Wait(again, f"{error.message}; looking again") if now < again else Look()
    if at - evidence.refused_since < API_LAG_SECONDS and now < one.deadline:
        return Register(absent(membership, seen))
    return _failed(Kind.FAILED, error.message, error.hint)


def _leaving_standby(group: str, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    if evidence.refused is None:
        return ExitStandby(group)
    error, at = evidence.refused
    if now >= one.deadline:
        return _timed_out(one, error.message)
    again = min(at + rules.poll_seconds, one.deadline)
    return Wait(again, f"{error.message}; trying again") if now < again else ExitStandby(group)


def _until_drained(
    state: Joining,
    membership: Membership,
    drains: tuple[Target, ...],
    one: Underway,
    evidence: Evidence,
    seen: Observation,
    now: float,
) -> Action:
    assert evidence.refused is not None  # noqa: S101  what mypy needs
    error, at = evidence.refused
    said = f"{error.message}; waiting until {', '.join(map(str, drains))} has drained"
    delay = longest_delay(membership)
    if one.request.timeout is None and one.deadline < (by := at + delay + rejoin_timeout(membership)):
        return Extend(by)
    if now >= one.deadline:
        return _timed_out(one, said)
    # Nothing of this host has begun to drain before it left, unless others deregistered it.
    left = None if isinstance(state.before, InService) else state.before.left
    possible = first_change(membership, drains, left.since) if left is not None else 0.0
    due = min(max(seen.look_again_at, possible), one.deadline)
    return Wait(due, said) if now < due else Look()


def _warming(record: Record, state: Warming, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    seen, membership = evidence.seen, record.membership
    if seen is None:
        return _first_look(state, one, membership, evidence.senses, now, rules)
    if not membership.targets:
        return _failed(Kind.TARGET_GROUP_NOT_FOUND, "its target groups do not exist any more", "see `zdd-agent status`")
    pending = not_ready(membership, seen)
    # A drain that ended with proof has waited for longer than that.
    sure = state.before.left.accepted_at + API_LAG_SECONDS if isinstance(state.before, Out) else float("-inf")
    if not pending and seen.seen_at < sure:
        return _once_more(one, sure, now)
    if not pending:
        spent = now - one.started_at
        return End(Outcome.SUCCEEDED, f"rejoined: {len(membership.targets)} healthy in {spent:.0f} s")
    if not seen.probes and _needs_probe(pending, seen):
        return Probe(pending)
    if causes := tuple(c for c in believed(membership, evidence.looks) if c.target in pending):
        said = "; ".join(f"{c.target}: {c.message}" for c in causes)
        return _failed(Kind.FAILED, said, "; ".join(dict.fromkeys(c.hint for c in causes)))
    said = "; ".join(_say(t, seen) for t in pending)
    if now >= one.deadline:
        return _timed_out(one, said)
    if now < seen.look_again_at:
        return Wait(min(seen.look_again_at, one.deadline), said)
    # One look that does not list a target can be stale: registering again is for what two looks agree on.
    if evidence.agreed(lambda look: absent(membership, look)):
        return Join(one.deadline)
    return Look()


def _once_more(one: Underway, sure: float, now: float) -> Action:
    """Every target reads `healthy`, but that can be of before the deregistration, until this moment."""
    said = "healthy, if that is not of before the deregistration; looking again"
    if now >= one.deadline:
        return _timed_out(one, said)
    return Wait(min(sure, one.deadline), said) if now < sure else Look()


def _first_look(
    state: Warming, one: Underway, membership: Membership, senses: Senses, now: float, rules: Rules
) -> Action:
    """Look when every node that checked before has come again: its first check makes the target healthy there."""
    if not state.called:
        return Look()  # every target was registered already: there is no moment to wait from
    nodes = () if isinstance(state.before, InService) else state.before.left.nodes
    if not nodes or senses.blind:
        first = min(state.accepted_at + rules.poll_seconds, one.deadline)
        return Wait(first, "registered") if now < first else Look()
    heard = senses.watch.heard if senses.watch is not None else {}
    back = {peer for (peer, _), at in heard.items() if at >= state.accepted_at}
    if senses.trust is not None:  # it also knows who checks a port of its own
        back |= senses.trust.heard.since(state.accepted_at)
    latest = min(state.accepted_at + until_checked(membership), one.deadline)
    if now >= latest or back.issuperset(nodes):
        return Look()
    again = senses.sampled_at + SAMPLE_SECONDS
    return Sense() if now >= again else Wait(latest, "registered; waiting for the health checks", min(again, latest))


def _failed(kind: Kind, cause: str, hint: str) -> End:
    return End(Outcome.FAILED, "", Failure(kind.wire, f"cannot rejoin: {cause}", hint))


def _warmed(place: ScalingPlace) -> End:
    message = f"cannot rejoin: this instance stands in the warm pool of {place.group.name} ({place.state})"
    hint = "nothing is to be done: the group registers it when it takes it out of the pool"
    return End(Outcome.REFUSED, "", Failure(Kind.REFUSED.wire, message, hint, WARM_POOL))


def _not_started(state: Probing, one: Underway, failing: tuple[Target, ...], said: str) -> End:
    stale = " or ".join(f"`zdd-agent forget '{target}'`" for target in failing)
    # What is registered would be found again at once.
    first = "`zdd-agent drain`, then " if isinstance(state.before, InService) else ""
    hint = f"fix the app, then `zdd-agent rejoin` again; where the app has left that port for good: {first}{stale}"
    said = f"nothing is registered, since the app does not pass its health check: {said}"
    return _timed_out(one, said, hint)


def _timed_out(one: Underway, pending: str, hint: str = "") -> End:
    message = f"cannot finish the rejoin in {one.deadline - one.started_at:.0f} s: {pending}"
    hint = hint or "run `zdd-agent status`, fix the app, then `zdd-agent rejoin` again"
    return End(Outcome.TIMED_OUT, "", Failure(Kind.TIMED_OUT.wire, message, hint))


def _needs_probe(pending: tuple[Target, ...], seen: Observation) -> bool:
    return any((health := seen.of(t)) is not None and health.state is State.UNHEALTHY for t in pending)


def _say(target: Target, seen: Observation) -> str:
    probe = next((p for p in seen.probes if p.target == target), None)
    answered = f", the app here says: {probe.said}" if probe is not None else ""
    return f"{seen.of(target) or f'{target} is not registered'}{answered}"
