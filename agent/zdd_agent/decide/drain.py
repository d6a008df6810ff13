"""Pure: what a drain does next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zdd_agent.decide import drain_end
from zdd_agent.decide.actions import Action, Confirm, Deregister, Discover, End, Look, Move, Return, Sample, Wait
from zdd_agent.decide.evidence import SAMPLE_SECONDS, Evidence
from zdd_agent.decide.guard import (
    CLAIM_SECONDS,
    SETTLE_SECONDS,
    YIELD_SECONDS,
    Shortage,
    healthy_others,
    leaving,
    race,
    shortages,
)
from zdd_agent.decide.timing import first_change
from zdd_agent.errors import Kind
from zdd_agent.model.aws import BalancerKind, Floor, Membership, State, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Failure, Observation, Operation, Outcome, Phase, Record


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of a drain.

    Args:
        healthy: how many other targets of each group must stay healthy.
        until: what ends a drain, unless the caller says otherwise.
        floor_seconds: for how long new work may come after the deregistration, by the kind of balancer.
        adaptive: go by the nodes' own silence instead, where it tells enough.
        quiet_seconds: how long without a new connection or a byte counts as quiet.
    """

    healthy: Floor
    until: Until
    floor_seconds: Mapping[BalancerKind, float]
    adaptive: bool
    quiet_seconds: float


def decide(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """The next action of the drain in `record`.

    Args:
        record: what is on disk; its operation is a drain under way.
        evidence: what is known besides.
        now: seconds since the epoch.
        rules: the settings.
    """
    operation = record.operation
    membership = record.membership or Membership()
    seen = evidence.seen
    assert operation is not None  # noqa: S101  the runner's promise, and what mypy needs
    if operation.phase is Phase.GUARDING:
        return _guarding(record, operation, membership, evidence, now, rules)
    if seen is None:
        return _second_look(operation, evidence, now)
    if operation.phase is Phase.DEREGISTERING:
        return _deregistering(operation, membership, seen, rules.healthy)
    if not operation.confirmed:
        return _confirming(operation, membership, seen, now, rules.healthy)
    return _draining(operation, membership, evidence, seen, now, rules)


def _guarding(
    record: Record, operation: Operation, membership: Membership, evidence: Evidence, now: float, rules: Rules
) -> Action:
    seen = evidence.seen
    if seen is None:
        return Discover()
    if not membership.targets:
        return End(Outcome.SUCCEEDED, "nothing to drain: no target group holds this host")
    if not pending(membership, seen) or (record.settled and not registered(membership, seen)):
        return End(Outcome.SUCCEEDED, "already drained")
    if operation.until is None:
        return drain_end.rely(operation.request.until or rules.until, membership, evidence.senses, now)
    if operation.relied_at is not None and operation.relied_at - seen.seen_at > CLAIM_SECONDS:
        return Look()  # the sensor took its time: the guard must not go by what was true before
    refused = refusal(membership, seen, rules.healthy, operation.request.force)
    if refused is None:
        return Move(Phase.DEREGISTERING)
    give_up = min(operation.started_at + operation.request.wait, operation.deadline)
    if now >= give_up:
        return End(Outcome.REFUSED, "", refused)
    if now < seen.look_again_at:
        return Wait(min(seen.look_again_at, give_up), f"waiting to be let go: {refused.message}")
    return Look()


def _second_look(operation: Operation, evidence: Evidence, now: float) -> Action:
    if operation.phase is Phase.DRAINING and not operation.confirmed and operation.accepted_at is not None:
        settled = operation.accepted_at + SETTLE_SECONDS
        if now < settled:
            note = "deregistered; looking again whether other hosts left at the same moment"
            return _wait(settled, note, operation, evidence, now)
    return Look()


def _confirming(operation: Operation, membership: Membership, seen: Observation, now: float, floor: Floor) -> Action:
    found = race(operation, membership, seen, floor)
    if Check.MIN_HEALTHY in operation.request.force or not found.short:
        return Confirm()
    if found.gives_way:
        return Return(membership.targets, _refusal(found.short, "other hosts left at the same moment"))
    again = (operation.accepted_at or now) + YIELD_SECONDS
    return Wait(again, "waiting for a host that left at the same moment to go back") if now < again else Look()


def _deregistering(operation: Operation, membership: Membership, seen: Observation, floor: Floor) -> Action:
    # Guarded again: after a restart, or a registration behind our back, the look that let this host go is too old.
    refused = refusal(membership, seen, floor, operation.request.force)
    if refused is not None:
        return Return(membership.targets, refused)
    return Deregister(registered(membership, seen), healthy_others(membership, seen), seen.seen_at)


def _draining(
    operation: Operation, membership: Membership, evidence: Evidence, seen: Observation, now: float, rules: Rules
) -> Action:
    left = pending(membership, seen)
    floor = drain_end.floor_of(operation, membership, evidence.senses, rules)
    if not left and now >= floor:
        return End(Outcome.SUCCEEDED, f"drained {_count(membership)} in {now - operation.started_at:.0f} s")
    back = registered(membership, seen)
    states = "; ".join(str(seen.of(target) or target) for target in left)
    states = states or "the API says `unused`, but the load balancer's nodes may still send new work"
    finding = drain_end.judge(operation, membership, evidence.senses, now, rules, told=not back)
    if finding is not None and finding.proved:
        return End(Outcome.SUCCEEDED, drain_end.verdict(operation, membership, left, finding, now))
    if now >= operation.deadline:
        hung = drain_end.hung(operation, evidence.senses, now)
        return End(
            Outcome.TIMED_OUT,
            "",
            Failure(
                Kind.TIMED_OUT.wire,
                f"cannot finish the drain in {operation.deadline - operation.started_at:.0f} s: {states}{hung}",
                "run `zdd-agent drain` again to go on waiting, or `zdd-agent rejoin` to go back",
            ),
        )
    if not left:
        return _wait(min(floor, operation.deadline), states, operation, evidence, now)
    # A target that reads as registered was registered again behind our back, or the API lags: no delay to wait for.
    possible = 0.0
    if not back and operation.accepted_at is not None:
        possible = first_change(membership, left, operation.accepted_at)
    due = max(seen.look_again_at, possible)
    if now < due:
        note = finding.said if finding is not None else f"{states}{operation.doubt}"
        return _wait(min(due, operation.deadline), note, operation, evidence, now)
    return Move(Phase.DEREGISTERING) if back else Look()


def _wait(until: float, note: str, operation: Operation, evidence: Evidence, now: float) -> Action:
    """Wait; and where the kernel is relied on, look at the connections four times a second meanwhile."""
    if operation.until in (None, Until.UNUSED) or evidence.senses.blind:
        return Wait(until, note)
    next_sample = evidence.senses.sampled_at + SAMPLE_SECONDS
    return Sample() if now >= next_sample else Wait(until, note, min(until, next_sample))


def refusal(membership: Membership, seen: Observation, floor: Floor, force: tuple[Check, ...]) -> Failure | None:
    """Why the guard keeps this host in; None when it may leave."""
    short = () if Check.MIN_HEALTHY in force else shortages(leaving(membership, seen), seen, floor)
    return _refusal(short, "this host is needed") if short else None


def _refusal(short: tuple[Shortage, ...], why: str) -> Failure:
    return Failure(
        Kind.REFUSED.wire,
        f"cannot drain: {why}: {'; '.join(map(str, short))}",
        "retry later or with --wait SECONDS, lower `min_healthy`, or skip this check with --force min-healthy",
        ", ".join(s.group.name for s in short),
    )


def pending(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that a load balancer may still send work, or that still finish some."""
    return tuple(t for t in membership.targets if not _gone(t, seen))


def registered(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that a deregistration would change, those on no listener included: they may get one."""
    return tuple(
        t
        for t in pending(membership, seen)
        if (health := seen.of(t)) is not None and health.state is not State.DRAINING
    )


def _gone(target: Target, seen: Observation) -> bool:
    health = seen.of(target)
    if target.group in seen.missing_groups or health is None:
        return True
    return health.state is State.UNUSED and health.reason in ("", "Target.NotRegistered")


def _count(membership: Membership) -> str:
    groups = {t.group for t in membership.targets}
    targets = len(membership.targets)
    return (
        f"{targets} target{'s' if targets != 1 else ''} of {len(groups)} target group{'s' if len(groups) != 1 else ''}"
    )
