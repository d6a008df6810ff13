"""Real clients work on the lab: the `aws` command for every call that the agent makes, and boto3."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from zdd_lab.hosts.host import Host
from zdd_lab.threaded import ThreadedLab

AWS = Path(sys.executable).with_name("aws")


def aws(running: ThreadedLab, *arguments: str, host: Host | None = None) -> Any:
    """What the real command prints, as JSON; on a host, with its role's keys from its instance metadata."""
    env = running.lab.env(host)
    done = subprocess.run([AWS, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout or "{}")


def until(wanted: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


def health(running: ThreadedLab, host: Host) -> dict[str, str]:
    """DescribeTargetHealth of one host on port 8080, asked by the aws command on that host."""
    target = f"Id={host.identity.instance_id},Port=8080"
    arguments = ("elbv2", "describe-target-health", "--target-group-arn", running.lab.front.group)
    told = aws(running, *arguments, "--targets", target, host=host)["TargetHealthDescriptions"]
    found: dict[str, str] = told[0]["TargetHealth"]
    return found


def test_aws_describe_target_groups(running: ThreadedLab):
    (group,) = aws(running, "elbv2", "describe-target-groups", host=running.lab.hosts[0])["TargetGroups"]
    assert (group["TargetGroupArn"], group["Port"]) == (running.lab.front.group, 8080)
    assert group["VpcId"] == running.lab.network.vpc
    assert group["LoadBalancerArns"] == [running.lab.front.load_balancer]


def test_aws_describe_target_groups_by_name(running: ThreadedLab):
    told = aws(running, "elbv2", "describe-target-groups", "--names", "web")
    assert len(told["TargetGroups"]) == 1
    with pytest.raises(AssertionError, match="TargetGroupNotFound"):
        aws(running, "elbv2", "describe-target-groups", "--names", "nothing")


def test_aws_describe_target_group_attributes(running: ThreadedLab):
    arguments = ("elbv2", "describe-target-group-attributes", "--target-group-arn", running.lab.front.group)
    attributes = aws(running, *arguments)["Attributes"]
    assert {"Key": "deregistration_delay.timeout_seconds", "Value": "3"} in attributes


def test_aws_describe_load_balancers(running: ThreadedLab):
    (balancer,) = aws(running, "elbv2", "describe-load-balancers")["LoadBalancers"]
    assert balancer["Type"] == "application"
    assert {zone["ZoneName"] for zone in balancer["AvailabilityZones"]} == {"us-east-1a", "us-east-1b"}


def test_aws_describe_target_health_lists_every_target_with_its_port_and_check_port(running: ThreadedLab):
    arguments = ("elbv2", "describe-target-health", "--target-group-arn", running.lab.front.group)
    running.run(running.lab.wait_until_healthy())
    told = aws(running, *arguments)["TargetHealthDescriptions"]
    assert {one["Target"]["Id"] for one in told} == {host.identity.instance_id for host in running.lab.hosts}
    assert {(one["Target"]["Port"], one["HealthCheckPort"]) for one in told} == {(8080, "8080")}


def test_aws_of_an_unknown_group_says_target_group_not_found(running: ThreadedLab):
    arn = running.lab.front.group.rpartition("/")[0] + "/0000000000000000"
    with pytest.raises(AssertionError, match="TargetGroupNotFound"):
        aws(running, "elbv2", "describe-target-health", "--target-group-arn", arn)


def test_aws_knows_the_host_by_the_keys_of_its_instance_metadata(running: ThreadedLab):
    host = running.lab.hosts[0]
    told = aws(running, "sts", "get-caller-identity", host=host)
    assert told["Arn"].endswith(f":assumed-role/zdd-host/{host.identity.instance_id}")
    assert host.imds.v1_requests == 0


def test_aws_deregister_targets_and_register_targets_with_the_port(running: ThreadedLab):
    host = running.lab.hosts[1]
    target = f"Id={host.identity.instance_id},Port=8080"
    group = ("--target-group-arn", running.lab.front.group)
    running.run(running.lab.wait_until_healthy())

    aws(running, "elbv2", "deregister-targets", *group, "--targets", target, host=host)
    assert health(running, host)["State"] == "draining"
    until(lambda: health(running, host)["State"] == "unused")
    assert health(running, host)["Reason"] == "Target.NotRegistered"
    for url in running.lab.urls:  # one zone after the other has let it go by now
        assert {requests.get(url, timeout=5).json()["host"] for _ in range(6)} == {"h1"}

    aws(running, "elbv2", "register-targets", *group, "--targets", target, host=host)
    assert health(running, host)["State"] == "initial"
    until(lambda: health(running, host)["State"] == "healthy")
    assert set(health(running, host)) == {"State"}
    for url in running.lab.urls:
        assert {requests.get(url, timeout=5).json()["host"] for _ in range(6)} == {"h1", "h2"}


def test_aws_deregister_targets_without_the_port_succeeds_and_does_nothing(running: ThreadedLab):
    host = running.lab.hosts[0]
    client = running.lab.client("elbv2")
    group = client.create_target_group(Name="other-port", Protocol="HTTP", Port=80, VpcId=running.lab.network.vpc)[
        "TargetGroups"
    ][0]["TargetGroupArn"]
    client.register_targets(TargetGroupArn=group, Targets=[{"Id": host.identity.instance_id, "Port": 8080}])
    named = ("--target-group-arn", group, "--targets", f"Id={host.identity.instance_id}")
    aws(running, "elbv2", "deregister-targets", *named)
    (entry,) = client.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert entry["Target"]["Port"] == 8080
    assert entry["TargetHealth"]["Reason"] == "Target.NotInUse"
    told = aws(running, "elbv2", "describe-target-health", *named)["TargetHealthDescriptions"]
    assert told[0]["TargetHealth"]["Reason"] == "Target.NotRegistered"
    client.delete_target_group(TargetGroupArn=group)


def test_boto3_creates_a_group_of_ip_targets_and_its_listener_carries_traffic(running: ThreadedLab):
    lab = running.lab
    address, client = lab.hosts[0].identity.address, lab.client("elbv2")
    group = client.create_target_group(
        Name="by-address",
        Protocol="HTTP",
        Port=8080,
        VpcId=lab.network.vpc,
        TargetType="ip",
        HealthCheckPath="/healthz",
        HealthCheckIntervalSeconds=5,
    )["TargetGroups"][0]["TargetGroupArn"]
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    listener = client.create_listener(
        LoadBalancerArn=lab.front.load_balancer, Protocol="HTTP", Port=8090, DefaultActions=forward
    )["Listeners"][0]["ListenerArn"]
    client.register_targets(TargetGroupArn=group, Targets=[{"Id": address, "Port": 8080}])

    def state() -> str:
        told = client.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        found: str = told[0]["TargetHealth"]["State"]
        return found

    until(lambda: state() == "healthy")
    assert requests.get(f"http://{lab.prefix}.2:8090/", timeout=5).json()["host"] == "h1"
    client.delete_listener(ListenerArn=listener)
    assert state() == "unused"
    client.delete_target_group(TargetGroupArn=group)
    with pytest.raises(ClientError, match="TargetGroupNotFound"):
        state()


def test_boto3_creates_a_network_load_balancer_with_nodes_of_its_own(running: ThreadedLab):
    lab, client = running.lab, running.lab.client("elbv2")
    subnets = list(lab.network.subnets.values())
    balancer = client.create_load_balancer(Name="net", Type="network", Subnets=subnets)["LoadBalancers"][0]
    group = client.create_target_group(
        Name="tcp",
        Protocol="TCP",
        Port=8080,
        VpcId=lab.network.vpc,
        HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=5,
        HealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]
    listener = client.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Protocol="TCP",
        Port=8080,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )["Listeners"][0]["ListenerArn"]
    target = {"Id": lab.hosts[0].identity.instance_id, "Port": 8080}  # in zone a
    client.register_targets(TargetGroupArn=group, Targets=[target])

    def state() -> str:
        told = client.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        found: str = told[0]["TargetHealth"]["State"]
        return found

    assert state() == "initial"
    until(lambda: state() == "healthy")
    assert requests.get(f"http://{lab.prefix}.4:8080/", timeout=5).json()["host"] == "h1"
    assert requests.get(f"http://{lab.prefix}.5:8080/", timeout=5).status_code == 503  # zone b has no target
    client.delete_listener(ListenerArn=listener)
    client.delete_target_group(TargetGroupArn=group)


def test_boto3_sees_a_stopped_instance_as_invalid_state(running: ThreadedLab):
    lab = running.lab
    ec2, elb = lab.client("ec2"), lab.client("elbv2")
    subnet = lab.network.subnets["a"]
    instance = ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]["InstanceId"]
    target = {"Id": instance, "Port": 8080}
    elb.register_targets(TargetGroupArn=lab.front.group, Targets=[target])
    ec2.stop_instances(InstanceIds=[instance])
    told = elb.describe_target_health(TargetGroupArn=lab.front.group, Targets=[target])
    assert told["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"] == "Target.InvalidState"
    elb.deregister_targets(TargetGroupArn=lab.front.group, Targets=[target])
    with pytest.raises(ClientError, match="not in a running state"):
        elb.register_targets(TargetGroupArn=lab.front.group, Targets=[target])


def test_boto3_over_the_budget_is_throttled_and_the_rest_of_the_fleet_with_it(running: ThreadedLab):
    lab = running.lab
    config = Config(retries={"total_max_attempts": 1})
    session = boto3.session.Session("AKIAONEOFMANY0000000", "made-up", region_name="eu-west-1")  # its own budget
    one = session.client("elbv2", endpoint_url=lab.endpoint_url, config=config)
    targets = [{"Id": lab.hosts[0].identity.instance_id, "Port": 1}]  # not registered: succeeds
    codes = set()
    for _ in range(100):
        try:
            one.deregister_targets(TargetGroupArn=lab.front.group, Targets=targets)
        except ClientError as error:
            codes.add((error.response["Error"]["Code"], error.response["Error"]["Message"]))
    assert codes == {("Throttling", "Rate exceeded")}
    assert lab.state()["throttled"]["AKIAONEOFMANY0000000"]["DeregisterTargets"] > 10


@pytest.mark.parametrize("service", ["iam", "autoscaling", "dynamodb"])
def test_boto3_reaches_the_other_services(running: ThreadedLab, service: str):
    calls = {"iam": "list_roles", "autoscaling": "describe_auto_scaling_groups", "dynamodb": "list_tables"}
    told = getattr(running.lab.client(service), calls[service])()
    assert told["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_boto3_sees_one_reserved_address_as_ip_unusable(running: ThreadedLab):
    lab, client = running.lab, running.lab.client("elbv2")
    group = client.create_target_group(
        Name="reserved", Protocol="HTTP", Port=80, VpcId=lab.network.vpc, TargetType="ip"
    )["TargetGroups"][0]["TargetGroupArn"]
    client.register_targets(TargetGroupArn=group, Targets=[{"Id": f"{lab.prefix}.2", "Port": 80}])
    (entry,) = client.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert entry["TargetHealth"]["Reason"] == "Target.IpUnusable"
    client.delete_target_group(TargetGroupArn=group)


def test_boto3_finds_administrative_override_and_on_request_anomaly_detection_beside_an_entry(
    running: ThreadedLab,
):
    group, client = running.lab.front.group, running.lab.client("elbv2")
    plain = client.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"][0]
    assert plain["AdministrativeOverride"]["State"] == "no_override"
    assert "AnomalyDetection" not in plain
    full = client.describe_target_health(TargetGroupArn=group, Include=["AnomalyDetection"])
    assert full["TargetHealthDescriptions"][0]["AnomalyDetection"]["Result"] == "normal"


def test_a_host_that_may_deregister_itself_may_deregister_its_siblings(running: ThreadedLab):
    one, other = running.lab.hosts
    client, group = running.lab.client("elbv2"), running.lab.front.group
    target = {"Id": other.identity.instance_id, "Port": 8081}
    client.register_targets(TargetGroupArn=group, Targets=[target])
    named = ("--target-group-arn", group, "--targets", f"Id={target['Id']},Port=8081")
    aws(running, "elbv2", "deregister-targets", *named, host=one)
    told = client.describe_target_health(TargetGroupArn=group, Targets=[target])
    assert told["TargetHealthDescriptions"][0]["TargetHealth"]["State"] == "draining"


def test_a_call_that_is_not_signed_is_refused(running: ThreadedLab):
    reply = requests.post(running.lab.endpoint_url, data={"Action": "DescribeTargetGroups"}, timeout=5)
    assert reply.status_code >= 400
    assert "MissingAuthenticationToken" in reply.text
