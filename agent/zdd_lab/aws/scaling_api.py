"""Answers the calls of Auto Scaling from the lab's model."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from zdd_lab.aws import query_protocol, scaling_answers, scaling_settings, wire
from zdd_lab.aws.scaling_settings import Ec2Facts, Given
from zdd_lab.aws.wire import Call
from zdd_lab.model.auto_scaling import group_calls, instance_calls
from zdd_lab.model.auto_scaling.account import AutoScaling
from zdd_lab.model.aws_error import AwsError

SERVICE = "autoscaling"
_NAMESPACE = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
Answered = Given | None


@dataclass(slots=True)
class ScalingApi:
    """Policies, scheduled actions and launch configurations are not here: moto answers them.

    Args:
        changed: called after a change of the model: steps may be due.
    """

    account: AutoScaling
    ec2: Ec2Facts
    changed: Callable[[], None]

    def knows(self, call: Call) -> bool:
        return call.service == SERVICE and call.action in self._ROUTES

    async def answer(self, call: Call) -> bytes:
        """The XML of the answer. Raises AwsError."""
        operation = query_protocol.service(SERVICE).operation_model(call.action)
        shape: Any = operation.input_shape
        given = query_protocol.read(shape, call.params)
        if missing := [name for name in shape.required_members if name not in given]:
            text = f"1 validation error detected: Value null at '{missing[0]}' failed to satisfy constraint"
            raise AwsError("ValidationError", f"{text}: Member must not be null")
        answered = self._ROUTES[call.action](self, given)
        found = await answered if isawaitable(answered) else answered
        if not call.action.startswith("Describe"):
            self.changed()
        result = query_protocol.render(operation.output_shape, found) if found else ""
        return wire.answer(call.action, result, _NAMESPACE)

    def resource(self, call: Call) -> str:
        """The ARN that a permission for the call is for; `*` where there is none."""
        found = self.account.groups.get(call.params.get("AutoScalingGroupName", ""))
        if found is None and (instance := call.params.get("InstanceId")):
            membership = self.account.membership(instance)
            found = membership[0] if membership else None
        return found.arn if found else "*"

    async def _create(self, given: Given) -> Answered:
        zones = await asyncio.to_thread(self.ec2.zones, given)
        source = await asyncio.to_thread(self.ec2.source, given)
        group_calls.create(self.account, scaling_settings.new_group(given, zones, source), time.monotonic())
        return None

    async def _update(self, given: Given) -> Answered:
        group = self.account.group(_name(given))
        moves = "VPCZoneIdentifier" in given or "AvailabilityZones" in given
        zones = await asyncio.to_thread(self.ec2.zones, given) if moves else None
        source = await asyncio.to_thread(self.ec2.source, given)
        group_calls.update(self.account, group.name, scaling_settings.changes(group, given, zones, source))
        return None

    def _delete(self, given: Given) -> Answered:
        group_calls.delete(self.account, _name(given), time.monotonic(), force=given.get("ForceDelete", False))
        return None

    def _describe_groups(self, given: Given) -> Answered:
        wanted = given.get("AutoScalingGroupNames")
        groups = [one for one in self.account.groups.values() if not wanted or one.name in wanted]
        return {"AutoScalingGroups": [scaling_answers.group(one) for one in groups]}

    def _describe_instances(self, given: Given) -> Answered:
        every = [name for group in self.account.groups.values() for name in group.members]
        found = [scaling_answers.instance(self.account, name) for name in given.get("InstanceIds") or every]
        return {"AutoScalingInstances": [one for one in found if one]}

    def _describe_activities(self, given: Given) -> Answered:
        named = given.get("AutoScalingGroupName")
        groups = [self.account.group(named)] if named else self.account.groups.values()
        found = [one for group in groups for one in reversed(group.activities)]
        wanted = given.get("ActivityIds")
        shown = [scaling_answers.activity(one) for one in found if not wanted or one.id in wanted]
        return {"Activities": shown[: given.get("MaxRecords", 100)]}

    def _set_desired(self, given: Given) -> Answered:
        group_calls.set_desired(self.account, _name(given), given["DesiredCapacity"])
        return None

    def _terminate(self, given: Given) -> Answered:
        decrement = given["ShouldDecrementDesiredCapacity"]
        activity = instance_calls.terminate(
            self.account, given.get("InstanceId", ""), time.monotonic(), decrement=decrement
        )
        return {"Activity": scaling_answers.activity(activity)}

    def _enter_standby(self, given: Given) -> Answered:
        decrement = given["ShouldDecrementDesiredCapacity"]
        found = instance_calls.enter_standby(
            self.account, _name(given), given.get("InstanceIds", ()), time.monotonic(), decrement=decrement
        )
        return {"Activities": [scaling_answers.activity(one) for one in found]}

    def _exit_standby(self, given: Given) -> Answered:
        found = instance_calls.exit_standby(self.account, _name(given), given.get("InstanceIds", ()), time.monotonic())
        return {"Activities": [scaling_answers.activity(one) for one in found]}

    def _attach_instances(self, given: Given) -> Answered:
        instance_calls.attach(self.account, _name(given), given.get("InstanceIds", ()), time.monotonic())
        return None

    def _detach_instances(self, given: Given) -> Answered:
        decrement = given["ShouldDecrementDesiredCapacity"]
        found = instance_calls.detach(
            self.account, _name(given), given.get("InstanceIds", ()), time.monotonic(), decrement=decrement
        )
        return {"Activities": [scaling_answers.activity(one) for one in found]}

    def _attach_groups(self, given: Given) -> Answered:
        arns = given.get("TargetGroupARNs") or scaling_settings.traffic_sources(given)
        group_calls.attach_target_groups(self.account, _name(given), arns, time.monotonic())
        return {}

    def _detach_groups(self, given: Given) -> Answered:
        arns = given.get("TargetGroupARNs") or scaling_settings.traffic_sources(given)
        group_calls.detach_target_groups(self.account, _name(given), arns, time.monotonic())
        return {}

    def _describe_target_groups(self, given: Given) -> Answered:
        arns = self.account.group(_name(given)).target_groups
        return {"LoadBalancerTargetGroups": [{"LoadBalancerTargetGroupARN": arn, "State": "InService"} for arn in arns]}

    def _describe_traffic_sources(self, given: Given) -> Answered:
        arns = self.account.group(_name(given)).target_groups
        shown = [{"TrafficSource": arn, "Identifier": arn, "Type": "elbv2", "State": "InService"} for arn in arns]
        return {"TrafficSources": shown}

    def _put_hook(self, given: Given) -> Answered:
        before = self.account.group(_name(given)).hooks.get(given["LifecycleHookName"])
        group_calls.put_hook(self.account, _name(given), scaling_settings.hook(given, before))
        return {}

    def _delete_hook(self, given: Given) -> Answered:
        group_calls.delete_hook(self.account, _name(given), given["LifecycleHookName"])
        return {}

    def _describe_hooks(self, given: Given) -> Answered:
        hooks, wanted = self.account.group(_name(given)).hooks, given.get("LifecycleHookNames")
        found = [one for name, one in hooks.items() if not wanted or name in wanted]
        return {"LifecycleHooks": [scaling_answers.hook(_name(given), one) for one in found]}

    def _complete(self, given: Given) -> Answered:
        instance_calls.complete(
            self.account,
            _name(given),
            given["LifecycleHookName"],
            given["LifecycleActionResult"],
            time.monotonic(),
            **_action(given),
        )
        return {}

    def _heartbeat(self, given: Given) -> Answered:
        hook = given["LifecycleHookName"]
        instance_calls.heartbeat(self.account, _name(given), hook, time.monotonic(), **_action(given))
        return {}

    def _set_health(self, given: Given) -> Answered:
        grace = given.get("ShouldRespectGracePeriod", True)
        instance_calls.set_health(
            self.account, given["InstanceId"], given["HealthStatus"], time.monotonic(), respects_grace=grace
        )
        return None

    def _protect(self, given: Given) -> Answered:
        protected = given["ProtectedFromScaleIn"]
        instance_calls.protect(self.account, _name(given), given["InstanceIds"], protected=protected)
        return {}

    def _suspend(self, given: Given) -> Answered:
        group_calls.suspend(self.account, _name(given), given.get("ScalingProcesses", ()))
        return None

    def _resume(self, given: Given) -> Answered:
        group_calls.resume(self.account, _name(given), given.get("ScalingProcesses", ()))
        return None

    def _start_refresh(self, given: Given) -> Answered:
        preferences = given.get("Preferences", {})
        standby = preferences.get("StandbyInstances", "Wait")
        refresh = group_calls.start_refresh(self.account, _name(given), standby, time.monotonic())
        refresh.preferences = preferences
        return {"InstanceRefreshId": refresh.id}

    def _cancel_refresh(self, given: Given) -> Answered:
        return {"InstanceRefreshId": group_calls.cancel_refresh(self.account, _name(given), time.monotonic()).id}

    def _describe_refreshes(self, given: Given) -> Answered:
        found = reversed(self.account.group(_name(given)).refreshes)
        wanted = given.get("InstanceRefreshIds")
        shown = [scaling_answers.refresh(_name(given), one) for one in found if not wanted or one.id in wanted]
        return {"InstanceRefreshes": shown}

    def _set_tags(self, given: Given) -> Answered:
        for tag in given["Tags"]:
            group = self.account.group_to_change(tag["ResourceId"])
            group.told = {**group.told, "Tags": scaling_settings.with_tags(group, [tag])}
        return None

    def _delete_tags(self, given: Given) -> Answered:
        for tag in given["Tags"]:
            group = self.account.group_to_change(tag["ResourceId"])
            group.told = {**group.told, "Tags": [one for one in group.told["Tags"] if one["Key"] != tag["Key"]]}
        return None

    def _describe_tags(self, given: Given) -> Answered:
        wanted = {one["Name"]: one["Values"] for one in given.get("Filters", ())}
        tags = [one for group in self.account.groups.values() for one in group.told["Tags"]]
        kept = [
            one
            for one in tags
            if one["ResourceId"] in wanted.get("auto-scaling-group", [one["ResourceId"]])
            and one["Key"] in wanted.get("key", [one["Key"]])
        ]
        return {"Tags": kept}

    _ROUTES = {  # noqa: RUF012  # a table, written once
        "AttachInstances": _attach_instances,
        "AttachLoadBalancerTargetGroups": _attach_groups,
        "AttachTrafficSources": _attach_groups,
        "CancelInstanceRefresh": _cancel_refresh,
        "CompleteLifecycleAction": _complete,
        "CreateAutoScalingGroup": _create,
        "CreateOrUpdateTags": _set_tags,
        "DeleteAutoScalingGroup": _delete,
        "DeleteLifecycleHook": _delete_hook,
        "DeleteTags": _delete_tags,
        "DescribeAutoScalingGroups": _describe_groups,
        "DescribeAutoScalingInstances": _describe_instances,
        "DescribeInstanceRefreshes": _describe_refreshes,
        "DescribeLifecycleHooks": _describe_hooks,
        "DescribeLoadBalancerTargetGroups": _describe_target_groups,
        "DescribeScalingActivities": _describe_activities,
        "DescribeTags": _describe_tags,
        "DescribeTrafficSources": _describe_traffic_sources,
        "DetachInstances": _detach_instances,
        "DetachLoadBalancerTargetGroups": _detach_groups,
        "DetachTrafficSources": _detach_groups,
        "EnterStandby": _enter_standby,
        "ExitStandby": _exit_standby,
        "PutLifecycleHook": _put_hook,
        "RecordLifecycleActionHeartbeat": _heartbeat,
        "ResumeProcesses": _resume,
        "SetDesiredCapacity": _set_desired,
        "SetInstanceHealth": _set_health,
        "SetInstanceProtection": _protect,
        "StartInstanceRefresh": _start_refresh,
        "SuspendProcesses": _suspend,
        "TerminateInstanceInAutoScalingGroup": _terminate,
        "UpdateAutoScalingGroup": _update,
    }


def _name(given: Given) -> str:
    return str(given["AutoScalingGroupName"])


def _action(given: Given) -> dict[str, str]:
    return {"instance_id": given.get("InstanceId", ""), "token": given.get("LifecycleActionToken", "")}
