"""Pure: what a rejoin does next."""

from __future__ import annotations

from zdd_agent.decide.actions import Action, Discover, End, Look, Move, Probe, Register, Sample, Wait
from zdd_agent.decide.diagnosis import believed
from zdd_agent.decide.evidence import SAMPLE_SECONDS, Evidence, Senses
from zdd_agent.decide.timing import first_change, until_checked
from zdd_agent.errors import Kind
from zdd_agent.model.aws import Membership, State, Target, group_name
from zdd_agent.model.operation import Check, Failure, Observation, Operation, Outcome, Phase, ProbeResult, Record, Tally

# States of a target that is registered and only needs time. `draining` counts as absent: registering again
# is what brings it back (rule 8 of docs/architecture.md).
_UNDER_WAY = frozenset({State.INITIAL, State.UNHEALTHY, State.UNUSED, State.UNAVAILABLE, State.HEALTHY})


def decide(record: Record, evidence: Evidence, now: float, poll_seconds: float) -> Action:
    """The next action of the rejoin in `record`.

    Args:
        record: what is on disk; its operation is a rejoin under way.
        evidence: what is known besides.
        now: seconds since the epoch.
        poll_seconds: the wait between a registration and the first look.
    """
    operation = record.operation
    membership = record.membership or Membership()
    assert operation is not None  # noqa: S101  the runner's promise, and what mypy needs
    if operation.phase is Phase.PROBING:
        return _probing(record, operation, membership, evidence, now)
    if operation.phase is Phase.REGISTERING:
        return _registering(record, operation, membership, evidence, now)
    return _warming(record, operation, membership, evidence, now, poll_seconds)


def counted(tallies: tuple[Tally, ...], results: tuple[ProbeResult, ...]) -> tuple[Tally, ...]:
    """The tallies with these results: a pass counts on, a failure starts again."""
    passes = {t.target: t.passes for t in tallies}
    new = {r.target: Tally(r.target, passes.get(r.target, 0) + 1 if r.passed else 0, r.said) for r in results}
    return (*(t for t in tallies if t.target not in new), *new.values())


def _probing(record: Record, operation: Operation, membership: Membership, evidence: Evidence, now: float) -> Action:
    known = record.out_since is not None and membership.targets
    if evidence.seen is None and not known:
        return Discover()
    if not membership.targets:
        return _failed(
            Kind.NO_MEMBERSHIP,
            "this host was in no target group, and the settings name none",
            "set `target_groups` in /etc/zdd-agent/config.toml",
        )
    if evidence.seen is not None and not _unhealthy(membership, evidence.seen):
        return End(Outcome.SUCCEEDED, "already in service")
    passes = {tally.target: tally.passes for tally in evidence.tallies}
    failing = tuple(
        t for t in membership.targets if passes.get(t, 0) < membership.group(t.group).health_check.healthy_threshold
    )
    if not failing or Check.PROBE in operation.request.force:
        return Move(Phase.REGISTERING)
    said = "; ".join(f"{t.target}: {t.said}" for t in evidence.tallies if t.target in failing) or "not probed yet"
    if now >= operation.deadline:
        return _timed_out(operation, f"nothing is registered, since the app does not pass its health check: {said}")
    if now < evidence.probe_again_at:
        return Wait(min(evidence.probe_again_at, operation.deadline), f"probing: {said}")
    return Probe(failing)


def _registering(
    record: Record, operation: Operation, membership: Membership, evidence: Evidence, now: float
) -> Action:
    seen = evidence.seen
    if evidence.refused is None:
        return Register(_absent(membership, seen) if seen else membership.targets)
    # Whether AWS takes a target that still drains is not documented for addresses; where not, wait until it is gone.
    if seen is None:
        return Look()
    if drains := _draining(membership, seen):
        said = f"{evidence.refused.message}; waiting until {', '.join(map(str, drains))} has drained"
        if now >= operation.deadline:
            return _timed_out(operation, said)
        # Nothing of this host has begun to drain before that, unless others deregistered it.
        possible = first_change(membership, drains, record.out_since) if record.out_since is not None else 0.0
        due = min(max(seen.look_again_at, possible), operation.deadline)
        return Wait(due, said) if now < due else Look()
    if any(_draining(membership, earlier) for earlier in evidence.earlier):
        return Register(_absent(membership, seen))
    return _failed(Kind.FAILED, evidence.refused.message, evidence.refused.hint)


def _warming(
    record: Record, operation: Operation, membership: Membership, evidence: Evidence, now: float, poll_seconds: float
) -> Action:
    seen = evidence.seen
    if seen is None:
        return _first_look(record, operation, membership, evidence.senses, now, poll_seconds)
    if gone := sorted(group_name(arn) for arn in seen.missing_groups):
        return _failed(
            Kind.TARGET_GROUP_NOT_FOUND,
            f"target group {', '.join(gone)} does not exist any more",
            "run `zdd-agent drain` to forget it, then `zdd-agent rejoin`",
        )
    pending = _unhealthy(membership, seen)
    if not pending:
        spent = now - operation.started_at
        return End(Outcome.SUCCEEDED, f"rejoined: {len(membership.targets)} healthy in {spent:.0f} s")
    if not seen.probes and _needs_probe(pending, seen):
        return Probe(pending)
    if causes := believed(membership, (seen, *evidence.earlier)):
        said = "; ".join(f"{c.target}: {c.message}" for c in causes)
        return _failed(Kind.FAILED, said, "; ".join(dict.fromkeys(c.hint for c in causes)))
    said = "; ".join(_say(t, seen) for t in pending)
    if now >= operation.deadline:
        return _timed_out(operation, said)
    if now < seen.look_again_at:
        return Wait(min(seen.look_again_at, operation.deadline), said)
    return Move(Phase.REGISTERING) if _absent(membership, seen) else Look()


def _first_look(
    record: Record, operation: Operation, membership: Membership, senses: Senses, now: float, poll_seconds: float
) -> Action:
    """Look when every node that sent work before has come again: its first check makes the target healthy there."""
    accepted_at = operation.accepted_at
    if accepted_at is None:
        return Look()  # every target was registered already: no moment to wait from
    if not record.nodes or senses.blind:
        first = min(accepted_at + poll_seconds, operation.deadline)
        return Wait(first, "registered") if now < first else Look()
    heard = senses.watch.heard if senses.watch is not None else {}
    back = {peer for (peer, _), at in heard.items() if at >= accepted_at}
    latest = min(accepted_at + until_checked(membership), operation.deadline)
    if now >= latest or back.issuperset(record.nodes):
        return Look()
    again = senses.sampled_at + SAMPLE_SECONDS
    return Sample() if now >= again else Wait(latest, "registered; waiting for the health checks", min(again, latest))


def _draining(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    return tuple(t for t in membership.targets if (h := seen.of(t)) is not None and h.state is State.DRAINING)


def _failed(kind: Kind, cause: str, hint: str) -> End:
    return End(Outcome.FAILED, "", Failure(kind.wire, f"cannot rejoin: {cause}", hint))


def _timed_out(operation: Operation, pending: str) -> End:
    span = operation.deadline - operation.started_at
    return End(
        Outcome.TIMED_OUT,
        "",
        Failure(
            Kind.TIMED_OUT.wire,
            f"cannot finish the rejoin in {span:.0f} s: {pending}",
            "run `zdd-agent status`, mend the app, then `zdd-agent rejoin` again",
        ),
    )


def _needs_probe(pending: tuple[Target, ...], seen: Observation) -> bool:
    return any((health := seen.of(t)) is not None and health.state is State.UNHEALTHY for t in pending)


def _absent(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that must be registered: unknown to the group, or on their way out."""
    return tuple(t for t in membership.targets if not _is_registered(t, seen))


def _is_registered(target: Target, seen: Observation) -> bool:
    health = seen.of(target)
    return health is not None and health.state in _UNDER_WAY and health.reason != "Target.NotRegistered"


def _unhealthy(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    return tuple(t for t in membership.targets if (health := seen.of(t)) is None or health.state is not State.HEALTHY)


def _say(target: Target, seen: Observation) -> str:
    probe = next((p for p in seen.probes if p.target == target), None)
    answered = f", the app here says: {probe.said}" if probe is not None else ""
    return f"{seen.of(target) or f'{target} is not registered'}{answered}"
