"""Amazon EC2 Auto Scaling through boto3.

Source: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zdd_agent.adapters.aws import Service
from zdd_agent.adapters.limit import Limit
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import LifecycleHook, ScalingGroup, Transition

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef

# What AWS answers when the instance does not wait for the hook: "No active Lifecycle Action found with instance ID …".
# A hook that does not exist is answered alike.
_NOT_NOW = ("ValidationError", "ResourceContention", "ResourceContentionFault")


class Ec2AutoScaling:
    """The calls that the agent makes, and no others."""

    def __init__(self, client: Callable[[], AutoScalingClient], limit: Limit | None = None) -> None:
        self._client = client
        self._service = Service("autoscaling", limit or Limit())

    def instance(self, instance_id: str) -> tuple[str, str] | None:
        """The instance's group and its current lifecycle state; None for an instance that is in no group."""

        def ask() -> tuple[str, str] | None:
            answer = self._client().describe_auto_scaling_instances(InstanceIds=[instance_id])
            found = answer["AutoScalingInstances"]
            return (found[0]["AutoScalingGroupName"], found[0]["LifecycleState"]) if found else None

        return self._service.call("DescribeAutoScalingInstances", ask)

    def group(self, name: str) -> ScalingGroup:
        """The group of this name. Raises AgentError FAILED, transient, where AWS does not list it."""

        def ask() -> ScalingGroup | None:
            answer = self._client().describe_auto_scaling_groups(AutoScalingGroupNames=[name])
            return next(map(_group, answer["AutoScalingGroups"]), None)

        found = self._service.call("DescribeAutoScalingGroups", ask)
        if found is None:
            raise AgentError(Kind.FAILED, f"cannot find the Auto Scaling group {name}", transient=True)
        return found

    def hooks(self, group: str, transition: Transition) -> tuple[LifecycleHook, ...]:
        """The lifecycle hooks of the group for this transition."""

        def ask() -> tuple[LifecycleHook, ...]:
            answer = self._client().describe_lifecycle_hooks(AutoScalingGroupName=group)
            return tuple(
                LifecycleHook(one["LifecycleHookName"], float(one.get("HeartbeatTimeout", 3600)))
                for one in answer["LifecycleHooks"]
                if one["LifecycleTransition"] == transition
            )

        return self._service.call("DescribeLifecycleHooks", ask)

    def heartbeat(self, hook: str, group: str, instance_id: str) -> None:
        """Start the hook's time-out anew. Raises REFUSED, transient, unless the instance waits for it."""
        self._answer("RecordLifecycleActionHeartbeat", "record_lifecycle_action_heartbeat", hook, group, instance_id)

    def complete(self, hook: str, group: str, instance_id: str) -> None:
        """Let the group go on. Raises REFUSED, transient, unless the instance waits for the hook."""
        self._answer(
            "CompleteLifecycleAction",
            "complete_lifecycle_action",
            hook,
            group,
            instance_id,
            LifecycleActionResult="CONTINUE",
        )

    def enter_standby(self, group: str, instance_id: str) -> None:
        """Put it into Standby with one desired instance less. Safe to repeat. Raises REFUSED where AWS refuses it."""

        def ask() -> None:
            self._client().enter_standby(
                InstanceIds=[instance_id], AutoScalingGroupName=group, ShouldDecrementDesiredCapacity=True
            )

        self._move("EnterStandby", ask, instance_id, ("Standby", "EnteringStandby"))

    def exit_standby(self, group: str, instance_id: str) -> None:
        """Take it out of Standby. Safe to repeat. Raises REFUSED, transient, as long as it is not in Standby yet."""

        def ask() -> None:
            self._client().exit_standby(InstanceIds=[instance_id], AutoScalingGroupName=group)

        self._move("ExitStandby", ask, instance_id, ("InService", "Pending"))

    def _move(self, operation: str, ask: Callable[[], None], instance_id: str, there: tuple[str, ...]) -> None:
        try:
            self._service.call(operation, ask, changes=True)
        except AgentError as error:
            if error.value not in _NOT_NOW:
                raise
            # AWS refuses a call that is repeated, too: then the instance is where it should be.
            found = self.instance(instance_id)
            if found is None or found[1] not in there:
                raise AgentError(Kind.REFUSED, error.message, transient=True) from None

    def _answer(self, operation: str, method: str, hook: str, group: str, instance_id: str, **more: str) -> None:
        def ask() -> None:
            # The instance's ID does instead of the token that a message about the hook carries.
            getattr(self._client(), method)(
                LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=instance_id, **more
            )

        try:
            self._service.call(operation, ask, changes=True)
        except AgentError as error:
            if error.value not in _NOT_NOW:
                raise
            hint = "the hook's state begins after the group's deregistration delay; check the hook's name if it lasts"
            raise AgentError(Kind.REFUSED, error.message, hint=hint, transient=True) from None


def _group(item: AutoScalingGroupTypeDef) -> ScalingGroup:
    sources = [one["Identifier"] for one in item.get("TrafficSources", ()) if one.get("Type", "elbv2") == "elbv2"]
    return ScalingGroup(
        name=item["AutoScalingGroupName"],
        health_check=item.get("HealthCheckType", "EC2"),
        minimum=item.get("MinSize", 0),
        desired=item.get("DesiredCapacity", 0),
        target_groups=tuple(dict.fromkeys((*item.get("TargetGroupARNs", ()), *sources))),
        operator=item.get("Operator", {}).get("Principal", ""),
        tags=frozenset(tag["Key"] for tag in item.get("Tags", ())),
    )
