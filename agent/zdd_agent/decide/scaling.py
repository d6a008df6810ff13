"""Pure: what the Auto Scaling group of a host means for its drain."""

from __future__ import annotations

from zdd_agent.decide.timing import longest_delay, longest_floor
from zdd_agent.errors import Kind
from zdd_agent.model.auto_scaling import ScalingGroup, ScalingPlace
from zdd_agent.model.aws import Membership
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Failure
from zdd_agent.model.service import Rules

_ECS_TAG = "AmazonECSManaged"
_EKS_TAGS = ("eks:cluster-name", "eks:nodegroup-name", "kubernetes.io/cluster/")
_ECS = "aws ecs update-container-instances-state --cluster CLUSTER --container-instances ID --status DRAINING"
_EKS = "kubectl drain NODE --ignore-daemonsets --delete-emptydir-data"


def owned(group: ScalingGroup) -> Failure | None:
    """Why this agent keeps away from the hosts of this group: another service puts them in and takes them out."""
    if _ECS_TAG in group.tags:
        return _owned(group, "Amazon ECS", f"run `{_ECS}`")
    if any(tag.startswith(_EKS_TAGS) for tag in group.tags):
        return _owned(group, "Kubernetes", f"run `{_EKS}`")
    if group.operator:
        return _owned(group, group.operator, f"take this host out with the service that manages it: {group.operator}")
    return None


def replaced_after(place: ScalingPlace, membership: Membership) -> float | None:
    """Seconds after a deregistration from which the group may replace the host; None where it does not.

    Once the delay is over the target is `unused`, and "can be terminated and replaced":
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/attach-load-balancer-asg.html
    """
    if not place.group.uses_balancer_health or not membership.groups:
        return None
    return min(group.deregistration_delay for group in membership.groups)


def outlasts(place: ScalingPlace, membership: Membership, until: Until, rules: Rules) -> str:
    """Why a drain that ends by `until` is not over before the group may replace the host; empty where it can be."""
    delay = replaced_after(place, membership)
    if delay is None:
        return ""
    floor = longest_floor(membership, rules.floor_seconds)
    least = max(floor, longest_delay(membership)) if until is Until.UNUSED else floor
    if least < delay:
        return ""
    return (
        f"the Auto Scaling group {place.group.name} checks the load balancer's health (ELB) and may replace a host "
        f"{delay:.0f} s after its deregistration, and this drain takes at least {least:.0f} s"
    )


def refused(cause: str) -> Failure:
    """The refusal of a drain that outlasts the delay, in mode `strict`."""
    hint = "set the group's health check type to EC2, or raise the deregistration delay, or drain until `closed`"
    return Failure(Kind.REFUSED.wire, f"cannot drain: {cause}", hint)


def described(place: ScalingPlace, membership: Membership, *, standby: bool) -> str:
    """Where the host stands and whether a drain is safe, for people; `standby`: a drain enters Standby."""
    group = place.group
    said = f"{group.name}: {place.state}, health check {group.health_check}, minimum {group.minimum}"
    if (failure := owned(group)) is not None:
        return f"{said}; {failure.message}"
    if standby:
        return f"{said}; a drain enters Standby, which takes at least {longest_delay(membership):.0f} s"
    delay = replaced_after(place, membership)
    if delay is None:
        safe = "a drain is safe: the group does not look at target health"
        return f"{said}; {safe}" if not group.uses_balancer_health else said
    return f"{said}; a drained host must be back within {delay:.0f} s, or the group may replace it"


def _owned(group: ScalingGroup, owner: str, hint: str) -> Failure:
    return Failure(Kind.REFUSED.wire, f"cannot drain: {owner} owns the hosts of the group {group.name}", hint)
