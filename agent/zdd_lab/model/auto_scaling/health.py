"""The health check of a group: who is replaced.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-health-checks.html
"""

from zdd_lab.model.auto_scaling import registrations
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.lifecycle import Lifecycle
from zdd_lab.model.auto_scaling.member import Member


def check(life: Lifecycle, group: ScalingGroup, interval: float, now: float, *, replaces_deregistered: bool) -> None:
    """Look at every instance in service once per `interval` s, and replace the unhealthy ones."""
    if group.checked_at is not None and now - group.checked_at < interval:
        return
    group.checked_at = now
    for member in group.in_service:
        why = _ill(life, group, member, now, replaces_deregistered=replaces_deregistered)
        if why and group.runs("HealthCheck"):
            member.health = "Unhealthy"
    replace_unhealthy(life, group, now)


def replace_unhealthy(life: Lifecycle, group: ScalingGroup, now: float) -> None:
    """Terminate every instance in service that is marked as unhealthy. What is missing is launched anew."""
    if not group.runs("ReplaceUnhealthy") or not group.runs("Terminate"):
        return
    for member in group.in_service:
        if member.health != "Healthy":
            cause = "an instance was taken out of service in response to a health check that it failed."
            life.terminate(group, member, cause, now)


def in_grace(group: ScalingGroup, member: Member, now: float) -> bool:
    return member.in_service_at is None or now < member.in_service_at + group.grace


def _ill(life: Lifecycle, group: ScalingGroup, member: Member, now: float, *, replaces_deregistered: bool) -> bool:
    instance = life.elb.topology.instances.get(member.instance_id)
    if instance is None or instance.state != "running":
        return True
    if "ELB" not in group.health_check_type or in_grace(group, member, now):
        return False
    for arn in group.target_groups:
        if arn not in life.elb.topology.groups:
            continue
        entries = registrations.entries(life.elb, arn, member.instance_id, now)
        if any(one.state == "unhealthy" for one in entries):
            return True
        # [open]: "can be terminated and replaced" once it is `unused`. While it drains it never is.
        if not entries and replaces_deregistered:
            return True
    return False
