"""What Auto Scaling does in the target groups that are attached to a group."""

from collections.abc import Iterable

from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.elb import Elb
from zdd_lab.model.registration import TargetSpec
from zdd_lab.model.target_health import TargetHealth


def register(elb: Elb, group: ScalingGroup, instance_id: str, now: float) -> None:
    """Register an instance, on each target group's own port."""
    if not group.runs("AddToLoadBalancer"):
        return
    for arn in _existing(elb, group.target_groups):
        try:
            elb.register(arn, [TargetSpec(instance_id)], now)
        except AwsError:  # it does not run any more: the group's health check is next
            continue


def deregister(elb: Elb, target_groups: Iterable[str], instance_id: str, now: float) -> None:
    """Deregister an instance, on each target group's own port."""
    for arn in _existing(elb, target_groups):
        elb.deregister(arn, [TargetSpec(instance_id)], now)


def drains(elb: Elb, group: ScalingGroup, instance_id: str, now: float) -> bool:
    """Whether an instance still drains in a target group."""
    return any(
        one.state == "draining"
        for arn in _existing(elb, group.target_groups)
        for one in entries(elb, arn, instance_id, now)
    )


def entries(elb: Elb, target_group: str, instance_id: str, now: float) -> list[TargetHealth]:
    """An instance in a target group, on every port; none when it is not registered."""
    return [one for one in elb.describe(target_group, None, now) if one.key.id == instance_id]


def _existing(elb: Elb, target_groups: Iterable[str]) -> list[str]:
    return [arn for arn in target_groups if arn in elb.topology.groups]
