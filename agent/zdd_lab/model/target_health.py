"""A target's health as DescribeTargetHealth gives it, derived from what the nodes report.

Codes: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
"""

from collections.abc import Collection
from dataclasses import dataclass

from zdd_lab.model.registration import NodeView, Registered
from zdd_lab.model.target import TargetKey
from zdd_lab.model.topology import Group, Topology

State = tuple[str, str | None, str | None]  # state, reason, description

HEALTHY: State = ("healthy", None, None)
NOT_REGISTERED: State = (
    "unused",
    "Target.NotRegistered",
    "Target is not registered to the target group",
)
DEREGISTRATION_IN_PROGRESS: State = (
    "draining",
    "Target.DeregistrationInProgress",
    "Target deregistration is in progress",
)
GROUP_NOT_IN_USE: State = (
    "unused",
    "Target.NotInUse",
    "Target group is not configured to receive traffic from the load balancer",
)
ZONE_NOT_ENABLED: State = (
    "unused",
    "Target.NotInUse",
    "Target is in an Availability Zone that is not enabled for the load balancer",
)
IP_UNUSABLE: State = (
    "unused",
    "Target.IpUnusable",
    "Target IP address is reserved for use by a load balancer",
)
CHECKS_DISABLED: State = (
    "unavailable",
    "Target.HealthCheckDisabled",
    "Health checks are disabled for this target group",
)
REGISTRATION_IN_PROGRESS: State = (
    "initial",
    "Elb.RegistrationInProgress",
    "Target registration is in progress",
)
INITIAL_HEALTH_CHECKING: State = (
    "initial",
    "Elb.InitialHealthChecking",
    "Initial health checks in progress",
)
NO_NODE_ANSWERS: State = ("unavailable", "Elb.InternalError", "Internal error")


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """One entry of DescribeTargetHealth."""

    key: TargetKey
    zone: str | None
    state: str
    reason: str | None
    description: str | None


def current_health(
    target: Registered, topology: Topology, nodes: Collection[str], down: Collection[str], now: float
) -> State:
    """The health of a registered target that does not drain.

    Args:
        nodes: names of those that route to it.
        down: names of those in a zone that is down.
    """
    group = topology.groups[target.key.group]
    if not topology.balancers_of(group.arn):
        return GROUP_NOT_IN_USE
    if not nodes:
        return ZONE_NOT_ENABLED
    instance = topology.instances.get(target.key.id)
    if instance and instance.state in ("stopped", "terminated"):
        return ("unused", "Target.InvalidState", f"Target is in the {instance.state} state")
    views = [target.views.get(name, NodeView()) for name in nodes if name not in down]
    if not views:
        return NO_NODE_ANSWERS
    if not group.check.enabled:
        waiting = any(view.learning for view in views)
        return REGISTRATION_IN_PROGRESS if waiting else CHECKS_DISABLED
    return _aggregate(views, group, topology.kind_of(group.arn), now)


def _aggregate(views: list[NodeView], group: Group, kind: str, now: float) -> State:
    if all(view.learning for view in views):
        return REGISTRATION_IN_PROGRESS
    unhealthy = [view for view in views if not view.learning and view.health and view.health.state == "unhealthy"]
    if unhealthy:
        return _unhealthy(unhealthy[0], group, kind, now)
    if all(not view.learning and view.health and view.health.state == "healthy" for view in views):
        return HEALTHY
    return INITIAL_HEALTH_CHECKING


def _unhealthy(view: NodeView, group: Group, kind: str, now: float) -> State:
    assert view.health is not None  # noqa: S101  # the caller chose it for its health
    reason, description = view.health.reason, view.health.description
    if kind != "network":
        return ("unhealthy", reason, description)
    since = now if view.unhealthy_since is None else view.unhealthy_since
    lasts = group.unhealthy_draining_interval
    # Only ALB and GWLB give ResponseCodeMismatch and Timeout [doc].
    state = "unhealthy.draining" if now < since + lasts else "unhealthy"
    return (state, "Target.FailedHealthChecks", "Health checks failed")
