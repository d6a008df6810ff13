"""Auto Scaling, asked and answered as AWS's own API model says."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from zdd_agent.adapters.auto_scaling import Ec2AutoScaling
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import LifecycleHook, ScalingGroup, Transition

ARN = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef"
ANSWER = {"AutoScalingGroupName": "web-asg", "LifecycleHookName": "last-drain", "InstanceId": "i-me"}
NOT_ACTIVE = "No active Lifecycle Action found with instance ID i-me"


def stubbed() -> tuple[Ec2AutoScaling, Stubber]:
    made_up = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "made-up"}
    client = boto3.client("autoscaling", region_name="eu-west-1", **made_up)
    stub = Stubber(client)
    stub.activate()
    return Ec2AutoScaling(lambda: client), stub


def described(**more: Any) -> dict[str, Any]:
    return {
        "AutoScalingGroupName": "web-asg",
        "MinSize": 2,
        "MaxSize": 4,
        "DesiredCapacity": 3,
        "DefaultCooldown": 300,
        "AvailabilityZones": ["eu-west-1a"],
        "HealthCheckType": "EC2",
        "CreatedTime": "2026-01-01T00:00:00Z",
        **more,
    }


def test_an_instance_has_a_group_and_a_current_state() -> None:
    scaling, stub = stubbed()
    one = {
        "InstanceId": "i-me",
        "AutoScalingGroupName": "web-asg",
        "AvailabilityZone": "eu-west-1a",
        "LifecycleState": "Terminating:Wait",
        "HealthStatus": "HEALTHY",
        "ProtectedFromScaleIn": False,
    }
    asked = {"InstanceIds": ["i-me"]}
    stub.add_response("describe_auto_scaling_instances", {"AutoScalingInstances": [one]}, asked)
    stub.add_response("describe_auto_scaling_instances", {"AutoScalingInstances": []}, asked)
    assert scaling.instance("i-me") == ("web-asg", "Terminating:Wait")
    assert scaling.instance("i-me") is None


def test_a_group_tells_what_it_goes_by_what_it_registers_with_and_who_owns_it() -> None:
    scaling, stub = stubbed()
    other = ARN.replace("web", "api")
    answer = described(
        HealthCheckType="EC2,ELB",
        TargetGroupARNs=[ARN],
        TrafficSources=[
            {"Identifier": ARN, "Type": "elbv2"},
            {"Identifier": other, "Type": "elbv2"},
            {"Identifier": "classic", "Type": "elb"},
        ],
        Operator={"Principal": "ecs.amazonaws.com"},
        Tags=[{"Key": "AmazonECSManaged", "Value": ""}],
    )
    asked = {"AutoScalingGroupNames": ["web-asg"]}
    stub.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": [answer]}, asked)
    found = scaling.group("web-asg")
    tags = frozenset({"AmazonECSManaged"})
    assert found == ScalingGroup("web-asg", "EC2,ELB", 2, 3, (ARN, other), "ecs.amazonaws.com", tags)
    assert found.uses_balancer_health


def test_a_group_that_is_not_listed_is_asked_for_again() -> None:
    scaling, stub = stubbed()
    stub.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": []})
    with pytest.raises(AgentError, match="cannot find the Auto Scaling group web-asg") as error:
        scaling.group("web-asg")
    assert error.value.transient


def test_only_the_hooks_of_the_transition_are_told() -> None:
    scaling, stub = stubbed()
    hooks = [
        {"LifecycleHookName": "ready", "LifecycleTransition": Transition.LAUNCH.value, "HeartbeatTimeout": 600},
        {"LifecycleHookName": "drain", "LifecycleTransition": Transition.TERMINATION.value, "HeartbeatTimeout": 30},
    ]
    stub.add_response("describe_lifecycle_hooks", {"LifecycleHooks": hooks}, {"AutoScalingGroupName": "web-asg"})
    assert scaling.hooks("web-asg", Transition.TERMINATION) == (LifecycleHook("drain", 30.0),)


def test_a_hook_is_answered_by_the_instances_id_and_always_with_continue() -> None:
    scaling, stub = stubbed()
    stub.add_response("record_lifecycle_action_heartbeat", {}, ANSWER)
    stub.add_response("complete_lifecycle_action", {}, {**ANSWER, "LifecycleActionResult": "CONTINUE"})
    scaling.heartbeat("last-drain", "web-asg", "i-me")
    scaling.complete("last-drain", "web-asg", "i-me")
    stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "kind", "transient"),
    [
        ("ValidationError", Kind.REFUSED, True),
        ("ResourceContention", Kind.REFUSED, True),
        ("AccessDenied", Kind.AWS_DENIED, False),
        ("Throttling", Kind.AWS_UNAVAILABLE, True),
    ],
)
def test_a_hook_that_does_not_wait_is_told_from_a_missing_permission(code: str, kind: Kind, transient: bool) -> None:
    scaling, stub = stubbed()
    for _ in range(3):  # the SDK itself tries a throttled call again
        stub.add_client_error("complete_lifecycle_action", code, NOT_ACTIVE, 400)
    with pytest.raises(AgentError) as error:
        scaling.complete("last-drain", "web-asg", "i-me")
    assert (error.value.kind, error.value.transient) == (kind, transient)


MOVED = {"InstanceIds": ["i-me"], "AutoScalingGroupName": "web-asg"}


def instance(state: str) -> dict[str, Any]:
    one = {
        "InstanceId": "i-me",
        "AutoScalingGroupName": "web-asg",
        "AvailabilityZone": "eu-west-1a",
        "LifecycleState": state,
        "HealthStatus": "HEALTHY",
        "ProtectedFromScaleIn": False,
    }
    return {"AutoScalingInstances": [one]}


def test_standby_takes_one_of_the_desired_instances_and_gives_it_back() -> None:
    scaling, stub = stubbed()
    stub.add_response("enter_standby", {"Activities": []}, {**MOVED, "ShouldDecrementDesiredCapacity": True})
    stub.add_response("exit_standby", {"Activities": []}, MOVED)
    scaling.enter_standby("web-asg", "i-me")
    scaling.exit_standby("web-asg", "i-me")
    stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("call", "state", "done"),
    [
        ("enter_standby", "Standby", True),
        ("enter_standby", "EnteringStandby", True),
        ("enter_standby", "InService", False),
        ("exit_standby", "InService", True),
        ("exit_standby", "Pending", True),
        ("exit_standby", "EnteringStandby", False),
        ("exit_standby", "Terminating:Wait", False),
    ],
)
def test_a_call_that_is_refused_because_it_was_made_before_is_no_refusal(call: str, state: str, done: bool) -> None:
    scaling, stub = stubbed()
    said = "The instance i-me is not in InService."
    stub.add_client_error(call, "ValidationError", said, 400)
    stub.add_response("describe_auto_scaling_instances", instance(state), {"InstanceIds": ["i-me"]})
    if done:
        getattr(scaling, call)("web-asg", "i-me")
    else:
        with pytest.raises(AgentError, match="not in InService") as error:
            getattr(scaling, call)("web-asg", "i-me")
        assert error.value.kind is Kind.REFUSED
    stub.assert_no_pending_responses()
