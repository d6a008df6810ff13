"""Real clients of Auto Scaling work on the lab: the `aws` command and boto3, with hosts that come and go."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from lab.conftest import SHORT, free_prefix
from lab.test_real_clients import aws
from zdd_lab.hosts.host import Host
from zdd_lab.model.iam import Policy
from zdd_lab.threaded import ThreadedLab

GROUP = "web"


@pytest.fixture(scope="module")
def fleet() -> Iterator[ThreadedLab]:
    """Two hosts in an Auto Scaling group `web` of 1 to 4, a deregistration delay of 3 s, no agents."""
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, agents=False, seed=5) as lab:
        lab.run(lab.lab.create_group(GROUP, MinSize=1, MaxSize=4))
        yield lab


def until(wanted: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


def group(fleet: ThreadedLab) -> dict[str, Any]:
    named = ("--auto-scaling-group-names", GROUP)
    (found,) = aws(fleet, "autoscaling", "describe-auto-scaling-groups", *named)["AutoScalingGroups"]
    assert isinstance(found, dict)
    return found


def state(fleet: ThreadedLab, host: Host) -> str | None:
    """DescribeAutoScalingInstances, asked by boto3."""
    told = fleet.lab.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[host.identity.instance_id])
    return next((str(one["LifecycleState"]) for one in told["AutoScalingInstances"]), None)


def metadata(host: Host, path: str) -> str | None:
    """A path of the host's instance metadata, or None for 404."""
    url = f"{host.imds_url}/latest"
    asked = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = requests.put(f"{url}/api/token", headers=asked, timeout=5).text
    reply = requests.get(f"{url}/meta-data/{path}", headers={"X-aws-ec2-metadata-token": token}, timeout=5)
    return reply.text if reply.status_code == 200 else None


def targets(fleet: ThreadedLab) -> dict[str, str]:
    told = fleet.lab.client("elbv2").describe_target_health(TargetGroupArn=fleet.lab.front.group)
    return {one["Target"]["Id"]: one["TargetHealth"]["State"] for one in told["TargetHealthDescriptions"]}


def test_aws_describes_the_group_with_its_instances_and_target_groups(fleet: ThreadedLab):
    found = group(fleet)
    assert (found["MinSize"], found["DesiredCapacity"], found["MaxSize"]) == (1, 2, 4)
    assert found["TargetGroupARNs"] == [fleet.lab.front.group]
    assert {one["InstanceId"] for one in found["Instances"]} == {host.identity.instance_id for host in fleet.lab.hosts}
    assert {one["LifecycleState"] for one in found["Instances"]} == {"InService"}
    assert found["AutoScalingGroupARN"].endswith(f":autoScalingGroupName/{GROUP}")


def test_a_hosts_metadata_says_that_it_is_in_a_group(fleet: ThreadedLab):
    assert {metadata(host, "autoscaling/target-lifecycle-state") for host in fleet.lab.hosts} == {"InService"}


@pytest.mark.parametrize(
    ("kind", "path", "key"),
    [("rebalance", "events/recommendations/rebalance", "noticeTime"), ("spot", "spot/instance-action", "time")],
)
def test_a_notice_is_in_the_metadata_of_its_host_alone(fleet: ThreadedLab, kind: str, path: str, key: str):
    lab, (one, other) = fleet.lab, fleet.lab.hosts
    assert metadata(one, path) is None
    told = requests.post(f"{lab.control_url}/hosts/1/notices", json={"kind": kind, "seconds": 3600}, timeout=5)
    assert told.status_code == 200
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", json.loads(metadata(one, path) or "{}")[key])
    assert metadata(other, path) is None
    refused = requests.post(f"{lab.control_url}/hosts/1/notices", json={"kind": "nothing"}, timeout=5)
    assert (refused.status_code, "accepted are spot, rebalance, maintenance" in refused.text) == (400, True)


def test_aws_of_a_group_that_a_service_operates_is_denied(fleet: ThreadedLab):
    operated = {"Operator": {"Principal": "ecs-managed-instances.amazonaws.com"}}
    fleet.run(fleet.lab.create_group("operated", attach=False, MinSize=0, MaxSize=1, **operated))
    with pytest.raises(AssertionError, match="AccessDenied"):
        aws(fleet, "autoscaling", "set-desired-capacity", "--auto-scaling-group-name", "operated",
            "--desired-capacity", "1")  # fmt: skip


def test_aws_takes_a_host_to_standby_and_back(fleet: ThreadedLab):
    host = fleet.lab.hosts[0]
    named = ("--auto-scaling-group-name", GROUP, "--instance-ids", host.identity.instance_id)
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "20"}  # longer than three calls take anywhere
    fleet.lab.client("elbv2").modify_target_group_attributes(TargetGroupArn=fleet.lab.front.group, Attributes=[delay])
    told = aws(fleet, "autoscaling", "enter-standby", *named, "--should-decrement-desired-capacity", host=host)
    assert "was moved to standby in response to a user request" in told["Activities"][0]["Cause"]
    assert state(fleet, host) == "EnteringStandby"
    assert targets(fleet)[host.identity.instance_id] == "draining"
    assert metadata(host, "autoscaling/target-lifecycle-state") == "Standby"
    with pytest.raises(AssertionError, match=r"ValidationError.*is not in Standby"):
        aws(fleet, "autoscaling", "exit-standby", *named)
    until(lambda: state(fleet, host) == "Standby")
    aws(fleet, "autoscaling", "exit-standby", *named)
    until(lambda: state(fleet, host) == "InService")
    until(lambda: targets(fleet)[host.identity.instance_id] == "healthy")
    delay["Value"] = str(int(SHORT.deregistration_delay))
    fleet.lab.client("elbv2").modify_target_group_attributes(TargetGroupArn=fleet.lab.front.group, Attributes=[delay])


def test_boto3_is_refused_standby_at_the_minimum(fleet: ThreadedLab):
    client, instance = fleet.lab.client("autoscaling"), fleet.lab.hosts[0].identity.instance_id
    client.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=2)
    with pytest.raises(ClientError, match="min-size=2, max-size=4, and desired-size=2") as refused:
        client.enter_standby(InstanceIds=[instance], AutoScalingGroupName=GROUP, ShouldDecrementDesiredCapacity=True)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    client.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=1)


def test_a_scale_out_launches_a_host_that_waits_for_its_hook_and_serves(fleet: ThreadedLab):
    hook = ("--auto-scaling-group-name", GROUP, "--lifecycle-hook-name", "launch")
    transition = ("--lifecycle-transition", "autoscaling:EC2_INSTANCE_LAUNCHING")
    aws(fleet, "autoscaling", "put-lifecycle-hook", *hook, *transition, "--heartbeat-timeout", "300")
    (shown,) = aws(fleet, "autoscaling", "describe-lifecycle-hooks", *hook[:2])["LifecycleHooks"]
    assert (shown["GlobalTimeout"], shown["DefaultResult"]) == (30_000, "ABANDON")
    desired = ("--auto-scaling-group-name", GROUP, "--desired-capacity", "3")
    aws(fleet, "autoscaling", "set-desired-capacity", *desired)
    until(lambda: len(fleet.lab.hosts) == 3 and state(fleet, fleet.lab.hosts[2]) == "Pending:Wait")
    host = fleet.lab.hosts[2]
    instance = host.identity.instance_id
    assert metadata(host, "autoscaling/target-lifecycle-state") == "InService"
    assert instance not in targets(fleet)
    by = (*hook, "--instance-id", instance)
    aws(fleet, "autoscaling", "record-lifecycle-action-heartbeat", *by, host=host)
    aws(fleet, "autoscaling", "complete-lifecycle-action", *by, "--lifecycle-action-result", "CONTINUE", host=host)
    until(lambda: targets(fleet).get(instance) == "healthy")
    tags = fleet.lab.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["Tags"]
    assert {"Key": "aws:autoscaling:groupName", "Value": GROUP} in tags


def test_a_termination_drains_waits_for_its_hook_and_ends_the_host(fleet: ThreadedLab):
    client = fleet.lab.client("autoscaling")
    client.put_lifecycle_hook(
        AutoScalingGroupName=GROUP,
        LifecycleHookName="end",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=300,
    )
    host, before = fleet.lab.hosts[-1], len(fleet.lab.hosts)
    instance = host.identity.instance_id
    by = {"AutoScalingGroupName": GROUP, "LifecycleHookName": "end", "InstanceId": instance}
    told = aws(
        fleet, "autoscaling", "terminate-instance-in-auto-scaling-group",
        "--instance-id", instance, "--should-decrement-desired-capacity",
    )  # fmt: skip
    assert told["Activity"]["StatusCode"] == "WaitingForELBConnectionDraining"
    assert metadata(host, "autoscaling/target-lifecycle-state") == "Terminated"
    with pytest.raises(ClientError, match=f"No active Lifecycle Action found with instance ID {instance}"):
        client.complete_lifecycle_action(LifecycleActionResult="CONTINUE", **by)
    until(lambda: state(fleet, host) == "Terminating:Wait")
    assert instance not in targets(fleet)
    assert host.app_pid
    client.complete_lifecycle_action(LifecycleActionResult="CONTINUE", **by)
    until(lambda: state(fleet, host) is None)
    assert host.app_pid is None
    assert len(fleet.lab.hosts) == before - 1
    ended = fleet.lab.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert ended["State"]["Name"] == "terminated"
    activities = aws(fleet, "autoscaling", "describe-scaling-activities", "--auto-scaling-group-name", GROUP)
    assert activities["Activities"][0]["StatusCode"] == "Successful"


def test_a_group_of_its_own_launches_from_a_launch_template_and_is_deleted(fleet: ThreadedLab):
    lab, scaling, ec2 = fleet.lab, fleet.lab.client("autoscaling"), fleet.lab.client("ec2")
    before = list(lab.hosts)
    ec2.create_launch_template(
        LaunchTemplateName="app", LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "t4g.nano"}
    )
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="own",
        LaunchTemplate={"LaunchTemplateName": "app", "Version": "$Latest"},
        MinSize=1,
        MaxSize=1,
        VPCZoneIdentifier=lab.network.subnets["b"],
        TargetGroupARNs=[lab.front.group],
        Tags=[{"Key": "Service", "Value": "own", "PropagateAtLaunch": True}],
    )

    def members() -> list[dict[str, Any]]:
        (found,) = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["own"])["AutoScalingGroups"]
        return list(found["Instances"])

    until(lambda: [one["LifecycleState"] for one in members()] == ["InService"])
    (one,) = members()
    assert (one["AvailabilityZone"], one["InstanceType"]) == ("us-east-1b", "t4g.nano")
    (made,) = [host for host in lab.hosts if host not in before]
    found = ec2.describe_instances(Filters=[{"Name": "tag:Service", "Values": ["own"]}])["Reservations"]
    assert found[0]["Instances"][0]["InstanceId"] == made.identity.instance_id == one["InstanceId"]
    with pytest.raises(ClientError, match="ResourceInUse"):
        scaling.delete_auto_scaling_group(AutoScalingGroupName="own")
    scaling.delete_auto_scaling_group(AutoScalingGroupName="own", ForceDelete=True)
    until(lambda: not scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["own"])["AutoScalingGroups"])
    assert made not in lab.hosts


def test_aws_of_an_unknown_group_is_refused(fleet: ThreadedLab):
    with pytest.raises(AssertionError, match=r"ValidationError.*name not found"):
        aws(fleet, "autoscaling", "suspend-processes", "--auto-scaling-group-name", "nothing")


def test_aws_suspends_and_resumes_processes(fleet: ThreadedLab):
    named = ("--auto-scaling-group-name", GROUP, "--scaling-processes", "AZRebalance", "Launch")
    aws(fleet, "autoscaling", "suspend-processes", *named)
    assert [one["ProcessName"] for one in group(fleet)["SuspendedProcesses"]] == ["AZRebalance", "Launch"]
    aws(fleet, "autoscaling", "resume-processes", *named)
    assert group(fleet)["SuspendedProcesses"] == []


def test_aws_starts_and_cancels_an_instance_refresh(fleet: ThreadedLab):
    named = ("--auto-scaling-group-name", GROUP)
    started = aws(fleet, "autoscaling", "start-instance-refresh", *named)["InstanceRefreshId"]
    aws(fleet, "autoscaling", "cancel-instance-refresh", *named)
    (shown,) = aws(fleet, "autoscaling", "describe-instance-refreshes", *named)["InstanceRefreshes"]
    assert (shown["InstanceRefreshId"], shown["Status"]) == (started, "Cancelled")


def test_a_change_is_allowed_for_the_arn_of_the_group_and_a_describe_only_for_all(fleet: ThreadedLab):
    host, arn = fleet.lab.hosts[0], group(fleet)["AutoScalingGroupARN"]
    clients, key = fleet.lab.endpoint.clients, host.identity.access_key
    statement = {"Effect": "Allow", "Action": "autoscaling:*", "Resource": arn}
    before = clients[key]
    clients[key] = replace(before, policy=Policy.parse(json.dumps({"Statement": [statement]})))
    named = ("--auto-scaling-group-name", GROUP, "--instance-ids", host.identity.instance_id)
    with pytest.raises(AssertionError, match="is not in Standby"):  # allowed, and refused by Auto Scaling
        aws(fleet, "autoscaling", "exit-standby", *named, host=host)
    with pytest.raises(AssertionError, match=r"AccessDenied.*DescribeAutoScalingInstances on resource: \*"):
        aws(fleet, "autoscaling", "describe-auto-scaling-instances", host=host)
    statement["Resource"] = f"{arn}-other"
    clients[key] = replace(before, policy=Policy.parse(json.dumps({"Statement": [statement]})))
    with pytest.raises(AssertionError, match=r"AccessDenied.*ExitStandby on resource: arn:aws:autoscaling:"):
        aws(fleet, "autoscaling", "exit-standby", *named, host=host)
    clients[key] = before
