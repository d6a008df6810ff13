"""Auto Scaling's model in the words of its API: what the Describe calls answer."""

import time
from typing import Any

from zdd_lab.model.auto_scaling.account import AutoScaling
from zdd_lab.model.auto_scaling.activity import Activity
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.instance_refresh import InstanceRefresh
from zdd_lab.model.auto_scaling.lifecycle_hook import LifecycleHook
from zdd_lab.model.auto_scaling.member import Member

Shown = dict[str, Any]


def group(one: ScalingGroup) -> Shown:
    """An entry of DescribeAutoScalingGroups."""
    return {
        **one.told,
        **one.launches_from,
        "AutoScalingGroupName": one.name,
        "AutoScalingGroupARN": one.arn,
        "MinSize": one.min_size,
        "MaxSize": one.max_size,
        "DesiredCapacity": one.desired,
        "AvailabilityZones": list(one.zones),
        "LoadBalancerNames": [],
        "TargetGroupARNs": list(one.target_groups),
        "TrafficSources": [{"Identifier": arn, "Type": "elbv2"} for arn in one.target_groups],
        "HealthCheckType": one.health_check_type,
        "HealthCheckGracePeriod": int(one.grace),
        "Instances": [_instance(member) for member in one.members.values()],
        "CreatedTime": _wall(one.created),
        "SuspendedProcesses": [_suspended(name) for name in sorted(one.suspended)],
        "EnabledMetrics": [],
        "Status": "Delete in progress" if one.deleting else None,
        "NewInstancesProtectedFromScaleIn": one.protects_new,
        "CapacityRebalance": one.capacity_rebalance,
        "InstanceLifecyclePolicy": _retention() if one.retains_on_abandon else None,
        "Operator": {"Principal": one.operator} if one.operator else None,
    }


def instance(account: AutoScaling, instance_id: str) -> Shown | None:
    """An entry of DescribeAutoScalingInstances, or None for one in no group."""
    found = account.membership(instance_id)
    if found is None:
        return None
    of, member = found
    return {
        **_instance(member),
        "AutoScalingGroupName": of.name,
        "HealthStatus": member.health.upper(),  # so this call spells it, and the other does not
    }


def hook(of: str, one: LifecycleHook) -> Shown:
    return {
        **one.told,
        "LifecycleHookName": one.name,
        "AutoScalingGroupName": of,
        "LifecycleTransition": one.transition,
        "HeartbeatTimeout": int(one.heartbeat_timeout),
        "GlobalTimeout": int(one.global_timeout),
        "DefaultResult": one.default_result,
    }


def activity(one: Activity) -> Shown:
    began = _wall(one.started)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))
    return {
        "ActivityId": one.id,
        "AutoScalingGroupName": one.group,
        "Description": one.description,
        "Cause": f"At {when} {one.cause}",
        "StartTime": began,
        "EndTime": None if one.ended is None else _wall(one.ended),
        "StatusCode": one.status,
        "Progress": one.progress,
        "Details": "{}",
    }


def refresh(of: str, one: InstanceRefresh) -> Shown:
    return {
        "InstanceRefreshId": one.id,
        "AutoScalingGroupName": of,
        "Status": one.status,
        "StatusReason": one.reason,
        "StartTime": _wall(one.started),
        "EndTime": None if one.ended is None else _wall(one.ended),
        "PercentageComplete": one.percentage,
        "InstancesToUpdate": len(one.old),
        "Preferences": {**one.preferences, "StandbyInstances": one.standby},
    }


def _instance(member: Member) -> Shown:
    return {
        "InstanceId": member.instance_id,
        "InstanceType": member.instance_type,
        "AvailabilityZone": member.zone,
        "LifecycleState": str(member.state),
        "HealthStatus": member.health,
        "ProtectedFromScaleIn": member.protected,
        "LaunchTemplate": member.launched_from.get("LaunchTemplate"),
        "LaunchConfigurationName": member.launched_from.get("LaunchConfigurationName"),
    }


def _retention() -> Shown:
    return {"RetentionTriggers": {"TerminateHookAbandon": "retain"}}


def _suspended(process: str) -> Shown:
    return {"ProcessName": process, "SuspensionReason": "User suspended"}


def _wall(moment: float) -> float:
    """Wall time in s of a moment of the model, whose clock is the monotonic one."""
    return moment + time.time() - time.monotonic()
