"""Pure: what a rejoin does next."""

from __future__ import annotations

from zdd_agent.errors import Kind
from zdd_agent.model import (
    Failure,
    Membership,
    Observation,
    Operation,
    Outcome,
    Phase,
    Record,
    State,
    Target,
    group_name,
)
from zdd_agent.operation.actions import Action, Discover, End, Look, Move, Register, Wait

# States of a target that is registered and only needs time. `draining` counts as absent: registering again
# is what brings it back (rule 8 of docs/architecture.md).
_UNDER_WAY = frozenset({State.INITIAL, State.UNHEALTHY, State.UNUSED, State.UNAVAILABLE, State.HEALTHY})


def decide(record: Record, seen: Observation | None, now: float, poll_seconds: float) -> Action:
    """The next action of the rejoin in `record`.

    Args:
        record: what is on disk; its operation is a rejoin under way.
        seen: what AWS said last, None when it was not asked since the last change or restart.
        now: seconds since the epoch.
        poll_seconds: the wait between a registration and the first look.
    """
    operation = record.operation
    membership = record.membership or Membership()
    assert operation is not None  # noqa: S101  the runner's promise, and what mypy needs
    if operation.phase is Phase.PROBING:
        return _probing(record, membership, seen)
    if operation.phase is Phase.REGISTERING:
        return Register(_absent(membership, seen) if seen else membership.targets)
    return _warming(operation, membership, seen, now, poll_seconds)


def _probing(record: Record, membership: Membership, seen: Observation | None) -> Action:
    known = record.out_since is not None and membership.targets
    if seen is None:
        return Move(Phase.REGISTERING) if known else Discover()
    if not membership.targets:
        return End(
            Outcome.FAILED,
            "",
            Failure(
                Kind.NO_MEMBERSHIP.wire,
                "cannot rejoin: this host was in no target group, and the settings name none",
                "set `target_groups` in /etc/zdd-agent/config.toml",
            ),
        )
    if not _unhealthy(membership, seen):
        return End(Outcome.SUCCEEDED, "already in service")
    return Move(Phase.REGISTERING)


def _warming(
    operation: Operation, membership: Membership, seen: Observation | None, now: float, poll_seconds: float
) -> Action:
    if seen is None:
        first = (operation.accepted_at or now) + poll_seconds
        return Look() if now >= min(first, operation.deadline) else Wait(min(first, operation.deadline), "registered")
    if gone := sorted(group_name(arn) for arn in seen.missing_groups):
        return End(
            Outcome.FAILED,
            "",
            Failure(
                Kind.TARGET_GROUP_NOT_FOUND.wire,
                f"cannot rejoin: target group {', '.join(gone)} does not exist any more",
                "run `zdd-agent drain` to forget it, then `zdd-agent rejoin`",
            ),
        )
    pending = _unhealthy(membership, seen)
    if not pending:
        spent = now - operation.started_at
        return End(Outcome.SUCCEEDED, f"rejoined: {len(membership.targets)} healthy in {spent:.0f} s")
    said = "; ".join(str(seen.of(t) or f"{t} is not registered") for t in pending)
    if now >= operation.deadline:
        return End(
            Outcome.TIMED_OUT,
            "",
            Failure(
                Kind.TIMED_OUT.wire,
                f"cannot finish the rejoin in {operation.deadline - operation.started_at:.0f} s: {said}",
                "run `zdd-agent status`, mend the app, then `zdd-agent rejoin` again",
            ),
        )
    if now < seen.look_again_at:
        return Wait(min(seen.look_again_at, operation.deadline), said)
    return Move(Phase.REGISTERING) if _absent(membership, seen) else Look()


def _absent(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that must be registered: unknown to the group, or on their way out."""
    return tuple(t for t in membership.targets if not _is_registered(t, seen))


def _is_registered(target: Target, seen: Observation) -> bool:
    health = seen.of(target)
    return health is not None and health.state in _UNDER_WAY and health.reason != "Target.NotRegistered"


def _unhealthy(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    return tuple(t for t in membership.targets if (health := seen.of(t)) is None or health.state is not State.HEALTHY)
