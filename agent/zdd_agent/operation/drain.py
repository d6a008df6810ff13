"""Pure: what a drain does next."""

from __future__ import annotations

from zdd_agent.errors import Kind
from zdd_agent.model import Check, Evidence, Failure, Observation, Operation, Outcome, Phase, Record
from zdd_agent.operation.actions import Action, Confirm, Deregister, Discover, End, Look, Move, Return, Wait
from zdd_agent.operation.guard import SETTLE_SECONDS, Shortage, healthy_others, leaving, must_go_back, shortages
from zdd_agent.operation.timing import first_change
from zdd_agent.targets import Floor, Membership, State, Target


def decide(record: Record, evidence: Evidence, now: float, floor: Floor) -> Action:
    """The next action of the drain in `record`.

    Args:
        record: what is on disk; its operation is a drain under way.
        evidence: what is known besides.
        now: seconds since the epoch.
        floor: how many targets of each group must stay healthy.
    """
    operation = record.operation
    membership = record.membership or Membership()
    seen = evidence.seen
    assert operation is not None  # noqa: S101  the runner's promise, and what mypy needs
    if operation.phase is Phase.GUARDING:
        return _guarding(operation, membership, seen, now, floor)
    if seen is None:
        return _second_look(operation, now)
    if operation.phase is Phase.DEREGISTERING:
        return _deregistering(operation, membership, seen, floor)
    if not operation.confirmed:
        back = () if Check.MIN_HEALTHY in operation.request.force else must_go_back(operation, membership, seen, floor)
        return Return(membership.targets, _refusal(back, "other hosts left at the same moment")) if back else Confirm()
    return _draining(operation, membership, seen, now)


def _guarding(
    operation: Operation, membership: Membership, seen: Observation | None, now: float, floor: Floor
) -> Action:
    if seen is None:
        return Discover()
    if not membership.targets:
        return End(Outcome.SUCCEEDED, "nothing to drain: no target group holds this host")
    if not _pending(membership, seen):
        return End(Outcome.SUCCEEDED, "already drained")
    refused = refusal(membership, seen, floor, operation.request.force)
    if refused is None:
        return Move(Phase.DEREGISTERING)
    give_up = min(operation.started_at + operation.request.wait, operation.deadline)
    if now >= give_up:
        return End(Outcome.REFUSED, "", refused)
    if now < seen.look_again_at:
        return Wait(min(seen.look_again_at, give_up), f"waiting to be let go: {refused.message}")
    return Look()


def _second_look(operation: Operation, now: float) -> Action:
    if operation.phase is Phase.DRAINING and not operation.confirmed and operation.accepted_at is not None:
        settled = operation.accepted_at + SETTLE_SECONDS
        if now < settled:
            return Wait(settled, "deregistered; looking again whether other hosts left at the same moment")
    return Look()


def _deregistering(operation: Operation, membership: Membership, seen: Observation, floor: Floor) -> Action:
    # Guarded again: after a restart, or a registration behind our back, the look that let this host go is too old.
    refused = refusal(membership, seen, floor, operation.request.force)
    if refused is not None:
        return Return(membership.targets, refused)
    return Deregister(_registered(membership, seen), healthy_others(membership, seen), seen.seen_at)


def _draining(operation: Operation, membership: Membership, seen: Observation, now: float) -> Action:
    pending = _pending(membership, seen)
    if not pending:
        return End(Outcome.SUCCEEDED, f"drained {_count(membership)} in {now - operation.started_at:.0f} s")
    said = "; ".join(str(seen.of(target) or target) for target in pending)
    if now >= operation.deadline:
        return End(
            Outcome.TIMED_OUT,
            "",
            Failure(
                Kind.TIMED_OUT.wire,
                f"cannot finish the drain in {operation.deadline - operation.started_at:.0f} s: {said}",
                "run `zdd-agent drain` again to go on waiting, or `zdd-agent rejoin` to go back",
            ),
        )
    # A target that reads as registered was registered again behind our back, or the API lags: no delay to wait for.
    back = _registered(membership, seen)
    possible = 0.0
    if not back and operation.accepted_at is not None:
        possible = first_change(membership, pending, operation.accepted_at)
    due = max(seen.look_again_at, possible)
    if now < due:
        return Wait(min(due, operation.deadline), said)
    return Move(Phase.DEREGISTERING) if back else Look()


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


def _pending(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that a load balancer may still send work, or that still finish some."""
    return tuple(t for t in membership.targets if not _gone(t, seen))


def _gone(target: Target, seen: Observation) -> bool:
    health = seen.of(target)
    if target.group in seen.missing_groups or health is None:
        return True
    return health.state is State.UNUSED and health.reason in ("", "Target.NotRegistered")


def _registered(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that a deregistration would change, those on no listener included: they may get one."""
    return tuple(
        t
        for t in _pending(membership, seen)
        if (health := seen.of(t)) is not None and health.state is not State.DRAINING
    )


def _count(membership: Membership) -> str:
    groups = {t.group for t in membership.targets}
    targets = len(membership.targets)
    return (
        f"{targets} target{'s' if targets != 1 else ''} of {len(groups)} target group{'s' if len(groups) != 1 else ''}"
    )
