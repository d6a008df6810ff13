"""Pure: how long things take at AWS, from the target groups' own settings."""

from __future__ import annotations

from collections.abc import Mapping

from zdd_agent.model.aws import BalancerKind, Membership, Target, TargetGroup
from zdd_agent.model.record import Underway

# Seconds from a registration to the balancer's first health check. ALB: "up to 30 seconds",
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
# NLB: 120-300 s reported by many (aws-load-balancer-controller issue 1834 and others); GWLB like NLB.
FIRST_CHECK_SECONDS = {
    BalancerKind.APPLICATION: 30.0,
    BalancerKind.NETWORK: 300.0,
    BalancerKind.GATEWAY: 300.0,
}
# Seconds added to every derived timeout: slow API calls, a retry, a poll that just missed the change.
MARGIN_SECONDS = 60.0
# Seconds that finding the membership may take before the derived timeout is known.
DISCOVERY_SECONDS = 120.0
# Seconds that the app may take to start, besides what its health check takes: a rejoin begins when its process was
# started.
START_SECONDS = 120.0
# Seconds after the deregistration delay before the first poll: the API's clock and ours differ a little.
_CLOCK_SECONDS = 1.0


def longest_floor(membership: Membership, floor_seconds: Mapping[BalancerKind, float]) -> float:
    """Seconds after a deregistration in which new work may come; none for groups that are on no load balancer."""
    return max((floor_seconds[g.kind] for g in membership.groups if g.balancers), default=0.0)


def is_soon_forgotten(membership: Membership, floor_seconds: Mapping[BalancerKind, float]) -> bool:
    """Whether AWS may show nothing of a deregistration any more while work can still come."""
    return any(g.balancers and g.deregistration_delay < floor_seconds[g.kind] for g in membership.groups)


def longest_delay(membership: Membership) -> float:
    """Seconds that AWS takes to let go of all targets that are deregistered at the same moment."""
    return max((group.deregistration_delay for group in membership.groups), default=0.0)


def drain_timeout(membership: Membership, floor_seconds: Mapping[BalancerKind, float]) -> float:
    """Seconds from the deregistration after which a drain should have ended: the longest delay, or floor; a margin."""
    return max(longest_delay(membership), longest_floor(membership, floor_seconds)) + MARGIN_SECONDS


def until_checked(membership: Membership) -> float:
    """Seconds after a registration by which every node should have checked every target once."""
    return max(FIRST_CHECK_SECONDS[g.kind] + g.health_check.interval for g in membership.groups)


def start_timeout(membership: Membership) -> float:
    """Seconds in which the app should pass as many probes as its group's health check asks for."""
    checks = (g.health_check for g in membership.groups)
    return START_SECONDS + max(((c.interval + c.timeout) * c.healthy_threshold for c in checks), default=0.0)


def rejoin_timeout(membership: Membership) -> float:
    """Seconds from the registration after which every target should be healthy: the lag, the checks, and a margin."""
    return max((_until_healthy(g) for g in membership.groups), default=0.0) + MARGIN_SECONDS


def _until_healthy(group: TargetGroup) -> float:
    check = group.health_check
    return FIRST_CHECK_SECONDS[group.kind] + (check.interval + check.timeout) * check.healthy_threshold


def first_change(membership: Membership, pending: tuple[Target, ...], accepted_at: float) -> float:
    """The moment before which no pending target can leave `draining`.

    With nothing in flight the API still shows `draining` until the whole deregistration delay has passed:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
    """
    shortest = min(membership.group(target.group).deregistration_delay for target in pending)
    return accepted_at + shortest + _CLOCK_SECONDS


def give_up_at(one: Underway) -> float:
    """When to stop retrying a refused drain: a time-out that somebody gave is for the whole operation."""
    request = one.request
    return one.started_at + (request.wait if request.timeout is None else min(request.wait, request.timeout))
