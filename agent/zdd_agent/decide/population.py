"""Pure: how this host's targets, and those of the other hosts, stand in one look at AWS."""

from __future__ import annotations

from collections.abc import Iterable

from zdd_agent.model.aws import Membership, State, Target, TargetHealth, TargetKey
from zdd_agent.model.operation import Observation

# States of a target that is registered and only needs time. `draining` counts as absent: registering it again is what
# brings it back. `unhealthy.draining` is registered: an NLB lets the connections of an unhealthy target end.
_REGISTERED = frozenset(State) - {State.DRAINING}


def keys(targets: Iterable[Target]) -> frozenset[TargetKey]:
    """What names these targets."""
    return frozenset(target.key for target in targets)


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


def draining(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets on their way out."""
    return tuple(t for t in membership.targets if (h := seen.of(t)) is not None and h.state is State.DRAINING)


def with_other_ports(membership: Membership, seen: Observation) -> Membership:
    """The membership with every port on which this host is registered now in its groups: others may have added one."""
    groups, ids, known = (
        {g.arn for g in membership.groups},
        {t.id for t in membership.targets},
        keys(membership.targets),
    )
    more = (h.target for h in seen.population if h.target.group in groups and h.target.id in ids and _is_registered(h))
    return membership.joined(Membership((), tuple(t for t in more if t.key not in known)))


def absent(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that a registration would change: unknown to their group, or on their way out."""
    return tuple(t for t in membership.targets if not _is_registered(seen.of(t)))


def not_ready(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that are not back in service.

    One that is not in use need not be `healthy`: nobody checks it. That is so where it was not in use when this host
    left, and in a group that is on no load balancer.
    """
    spare = keys(membership.spare)
    return tuple(t for t in membership.targets if not _is_back(t, seen.of(t), membership, spare))


def not_in_use(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The targets that are registered where no load balancer sends work."""
    return tuple(t for t in membership.targets if _is_not_in_use(seen.of(t)))


def healthy_others(membership: Membership, seen: Observation) -> tuple[Target, ...]:
    """The other targets that this host counts on when it leaves."""
    own = keys(membership.targets)
    return tuple(h.target for h in seen.population if serves(h) and h.target.key not in own)


def serves(health: TargetHealth) -> bool:
    """Whether a load balancer sends this target new work. Under a zonal shift it does not, even if it is healthy."""
    return health.state is State.HEALTHY and not health.shifted


def _gone(target: Target, seen: Observation) -> bool:
    health = seen.of(target)
    if target.group in seen.missing_groups or health is None:
        return True
    return health.state is State.UNUSED and health.reason in ("", "Target.NotRegistered")


def _is_registered(health: TargetHealth | None) -> bool:
    return health is not None and health.state in _REGISTERED and health.reason != "Target.NotRegistered"


def _is_not_in_use(health: TargetHealth | None) -> bool:
    return health is not None and health.state is State.UNUSED and health.reason == "Target.NotInUse"


def _is_back(target: Target, health: TargetHealth | None, membership: Membership, spare: frozenset[TargetKey]) -> bool:
    if health is not None and health.state is State.HEALTHY:
        return True
    unbalanced = not membership.group(target.group).balancers
    return _is_not_in_use(health) and (unbalanced or target.key in spare)
