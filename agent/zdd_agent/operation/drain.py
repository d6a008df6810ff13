"""Pure: what a drain does next."""

from __future__ import annotations

from zdd_agent.errors import Kind
from zdd_agent.model import Failure, Membership, Observation, Outcome, Phase, Record, State, Target
from zdd_agent.operation.actions import Action, Deregister, Discover, End, Look, Move, Wait
from zdd_agent.operation.timing import first_change


def decide(record: Record, seen: Observation | None, now: float) -> Action:
    """The next action of the drain in `record`.

    Args:
        record: what is on disk; its operation is a drain under way.
        seen: what AWS said last, None when it was not asked since the last change or restart.
        now: seconds since the epoch.
    """
    operation = record.operation
    membership = record.membership or Membership()
    assert operation is not None  # noqa: S101  the runner's promise, and what mypy needs
    if operation.phase is Phase.GUARDING:
        return _guarding(membership, seen)
    if operation.phase is Phase.DEREGISTERING:
        return Deregister(_registered(membership, seen) if seen else membership.targets)
    return _draining(record, membership, seen, now)


def _guarding(membership: Membership, seen: Observation | None) -> Action:
    if seen is None:
        return Discover()
    if not membership.targets:
        return End(Outcome.SUCCEEDED, "nothing to drain: no target group holds this host")
    if not _pending(membership, seen):
        return End(Outcome.SUCCEEDED, "already drained")
    return Move(Phase.DEREGISTERING)


def _draining(record: Record, membership: Membership, seen: Observation | None, now: float) -> Action:
    operation = record.operation
    assert operation is not None  # noqa: S101  as above
    if seen is None:
        return Look()
    pending = _pending(membership, seen)
    if not pending:
        return End(Outcome.SUCCEEDED, f"drained {_count(membership)} in {now - operation.started_at:.0f} s")
    if now >= operation.deadline:
        left = "; ".join(_say(target, seen) for target in pending)
        return End(
            Outcome.TIMED_OUT,
            "",
            Failure(
                Kind.TIMED_OUT.wire,
                f"cannot finish the drain in {operation.deadline - operation.started_at:.0f} s: {left}",
                "run `zdd-agent drain` again to go on waiting, or `zdd-agent rejoin` to go back",
            ),
        )
    # A target that reads as registered was registered again behind our back, or the API lags: not the delay counts.
    back = _registered(membership, seen)
    possible = 0.0
    if not back and operation.accepted_at is not None:
        possible = first_change(membership, pending, operation.accepted_at)
    due = max(seen.look_again_at, possible)
    if now < due:
        return Wait(min(due, operation.deadline), "; ".join(_say(target, seen) for target in pending))
    return Move(Phase.DEREGISTERING) if back else Look()


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


def _say(target: Target, seen: Observation) -> str:
    return str(seen.of(target) or target)


def _count(membership: Membership) -> str:
    groups = {t.group for t in membership.targets}
    targets = len(membership.targets)
    return (
        f"{targets} target{'s' if targets != 1 else ''} of {len(groups)} target group{'s' if len(groups) != 1 else ''}"
    )
