"""Pure: a drain that finds no target registered, because an earlier drain, or somebody else, has deregistered them."""

from __future__ import annotations

from dataclasses import replace

from zdd_agent.decide import drain_end, standby
from zdd_agent.decide.actions import Action, End, Resume
from zdd_agent.decide.evidence import API_LAG_SECONDS, Evidence, Senses
from zdd_agent.decide.population import draining, pending
from zdd_agent.decide.timing import drain_timeout, first_change
from zdd_agent.model.auto_scaling import IN_SERVICE
from zdd_agent.model.aws import Membership
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Observation, Outcome
from zdd_agent.model.record import Departure, Drained, Ending, Guarding, InService, Record, Underway
from zdd_agent.model.service import Rules


def taken_up(record: Record, state: Guarding, one: Underway, evidence: Evidence, now: float, rules: Rules) -> Action:
    """The next action of a drain that finds no target registered.

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
    wanted = one.request.until or rules.until
    asks_for_more = wanted is Until.UNUSED and bool(pending(membership, seen))
    if isinstance(before, Drained) and not asks_for_more and _still_proved(before, membership, seen, evidence.senses):
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
        ending = replace(ending, standby=standby.group_to_enter(one.request, evidence.place, before, rules))
    return Resume(
        accepted_at=_accepted_at(left, membership, seen, proved=isinstance(before, Drained)),
        nodes=left.nodes or drain_end.nodes(evidence.senses, ending),
        ending=ending,
        deadline=now + drain_timeout(membership, rules.floor_seconds),
        note=drain_end.announced(ending),
    )


def _still_proved(before: Drained, membership: Membership, seen: Observation, senses: Senses) -> bool:
    """Whether the proof of an earlier drain holds: AWS lists nothing any more, or we have watched ever since.

    What still drains may be what others registered and deregistered meanwhile. Then nodes have sent something.
    """
    if not pending(membership, seen):
        return True
    watch = senses.watch
    if watch is None or senses.blind or watch.began_at >= before.at or watch.last_activity >= before.at:
        return False
    return not _late(before.left, membership, seen)


def _late(left: Departure, membership: Membership, seen: Observation) -> bool:
    """Whether a target drains for longer than since our own deregistration: others have deregistered it since."""
    drains = draining(membership, seen)
    return any(seen.seen_at > first_change(membership, (t,), left.accepted_at) + API_LAG_SECONDS for t in drains)


def _accepted_at(left: Departure, membership: Membership, seen: Observation, *, proved: bool) -> float:
    """The latest moment at which the deregistration can have been accepted.

    That of our own one, unless others have put the host back since and taken it out again. They have, where a target
    still drains after its whole delay. Where a drain has ended with proof, nobody has watched since, and they may have.
    """
    again = _late(left, membership, seen) or (proved and bool(draining(membership, seen)))
    return seen.seen_at if again else left.accepted_at
