"""Pure: may this host leave now, and why not.

Two hosts that ask at once may both pass. Both then deregister and look again after `SETTLE_SECONDS`; a host stays out
only when such a look finds the floor kept without it. Each of them sees the other, so at most one can find that too
early. As many as the floor asks for go back: those whose claim is later. Claims are ordered by Id, which needs no clock
in common and no word between the hosts. The others wait until these are back; when they are not after `YIELD_SECONDS`
(killed, cancelled, cut off from AWS), they go back themselves. So does a host that deregistered later than
`CLAIM_SECONDS` after the look that let it go, whatever its Id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zdd_agent.model.aws import Floor, Membership, State, Target, TargetGroup, TargetHealth
from zdd_agent.model.operation import Observation, Operation

# Seconds from the look that lets a host go to its deregistration, at the most: two API calls.
CLAIM_SECONDS = 2.0
# Seconds from the deregistration to the second look: above CLAIM_SECONDS, and long enough for the API to show what it
# has accepted (it is eventually consistent; no figure is documented).
SETTLE_SECONDS = 4.0
# Seconds from the deregistration after which a host waits no longer for the one that should go back: that one's own
# deregistration, second look and registration.
YIELD_SECONDS = CLAIM_SECONDS + 2 * SETTLE_SECONDS
_LEFT = frozenset({State.DRAINING, State.UNUSED})


@dataclass(frozen=True, slots=True)
class Shortage:
    """A target group, or a zone of it, that cannot spare this host."""

    group: TargetGroup
    zone: str | None
    healthy: int
    required: int

    def __str__(self) -> str:
        where = f" in {self.zone}" if self.zone else ""
        return f"{self.group.name}{where} has {self.healthy} other healthy, {self.required} must stay"


def shortages(
    membership: Membership,
    seen: Observation,
    floor: Floor,
    rivals: Iterable[Target] = (),
    returning: Iterable[Target] = (),
) -> tuple[Shortage, ...]:
    """The groups and zones that would be, or are, below the floor without this host.

    Args:
        membership: which targets are this host.
        seen: every target of its groups.
        floor: how many must stay.
        rivals: targets that are on their way out but were counted when this host was let go: they count as
            registered, so that a percentage means the same at both looks.
        returning: targets that were healthy a moment ago and have registered themselves again: they count as healthy.
    """
    found = []
    counted = _keys(rivals)
    back = _keys(returning)
    for group in membership.groups:
        own = {(t.id, t.port): t for t in membership.targets if t.group == group.arn}
        others = [h for h in seen.population if h.target.group == group.arn and _key(h.target)[1:] not in own]
        zones = {_zone(t, seen) for t in own.values()} if own and not group.cross_zone else {None}
        for zone in sorted(zones, key=str):
            near = [h for h in others if zone is None or h.target.zone == zone]
            registered = len(own) + sum(h.state not in _LEFT or _key(h.target) in counted for h in near)
            healthy = sum(h.state is State.HEALTHY or _key(h.target) in back for h in near)
            required = floor.of(registered)
            if own and healthy < required:
                found.append(Shortage(group, zone, healthy, required))
    return tuple(found)


def leaving(membership: Membership, seen: Observation) -> Membership:
    """The part of the membership that a load balancer may send work to; only that can leave a gap."""
    arns = {t.group for t in membership.targets if (h := seen.of(t)) is not None and h.state not in _LEFT}
    return membership.without_groups(frozenset(g.arn for g in membership.groups) - arns)


def healthy_others(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The other targets that this host counts on when it leaves."""
    own = _keys(membership.targets)
    return tuple(h.target for h in seen.population if h.state is State.HEALTHY and _key(h.target) not in own)


@dataclass(frozen=True, slots=True)
class Race:
    """What the look behind the deregistration found: `short` is what is missing, `gives_way` who has to mend it."""

    short: tuple[Shortage, ...] = ()
    gives_way: bool = False


def race(operation: Operation, membership: Membership, seen: Observation, floor: Floor) -> Race:
    """Whether this host, having deregistered, may stay out, must wait for another one, or has to return.

    Args:
        operation: the drain, with its claim.
        membership: which targets are this host.
        seen: the look behind the deregistration.
        floor: how many must stay.
    """
    counted_on = _keys(operation.guarded)
    draining = [h.target for h in seen.population if h.state in _LEFT and _key(h.target) in counted_on]
    gone = [t for t in operation.guarded if seen.of(t) is None]
    rivals = [*draining, *gone]
    returning = [h.target for h in seen.population if h.state is State.INITIAL and _key(h.target) in counted_on]
    short = shortages(membership, seen, floor, rivals, returning)
    return Race(short, _is_late(operation, seen) or any(_is_later(s, membership, rivals) for s in short))


def _is_later(shortage: Shortage, membership: Membership, rivals: Iterable[Target]) -> bool:
    """Whether this host is among the last so many claims that the shortage needs back."""
    near = [t for t in rivals if t.group == shortage.group.arn and shortage.zone in (None, t.zone)]
    own = [t for t in membership.targets if t.group == shortage.group.arn]
    claims = sorted(_key(t) for t in (*near, *own))
    back = claims[-(shortage.required - shortage.healthy) :]
    return any(_key(t) in back for t in own) or len(claims) <= len(own)


def _is_late(operation: Operation, seen: Observation) -> bool:
    """Whether this host claimed too late, or has waited long enough for another one."""
    if operation.guarded_at is None or operation.accepted_at is None:
        return True
    claim = operation.accepted_at - operation.guarded_at
    return claim > CLAIM_SECONDS or seen.seen_at >= operation.accepted_at + YIELD_SECONDS


def _zone(target: Target, seen: Observation) -> str | None:
    health: TargetHealth | None = seen.of(target)
    return health.target.zone if health is not None else target.zone


def _key(target: Target) -> tuple[str, str, int]:
    return target.group, target.id, target.port


def _keys(targets: Iterable[Target]) -> frozenset[tuple[str, str, int]]:
    return frozenset(map(_key, targets))
