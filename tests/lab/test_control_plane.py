"""The control plane where Terraform and the agent look closely, and moto alone would mislead them."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from zdd_lab.aws import wire
from zdd_lab.aws.topology_reader import CLIENT_CONFIG, REGION
from zdd_lab.model.iam import Policy
from zdd_lab.threaded import ThreadedLab

_PORT = 8088  # of a listener of this file's own


@pytest.fixture
def elb(running: ThreadedLab) -> Any:
    return running.lab.client("elbv2")


@pytest.fixture
def limited(running: ThreadedLab) -> Iterator[Any]:
    """The first host's client, with a role that may read target health and nothing else."""
    host, clients = running.lab.hosts[0], running.lab.endpoint.clients
    key, before = host.identity.access_key, clients[host.identity.access_key]
    statement = '{"Effect": "Allow", "Action": "elasticloadbalancing:DescribeTargetHealth", "Resource": "*"}'
    clients[key] = replace(before, policy=Policy.parse(f'{{"Statement": {statement}}}'))
    session = boto3.session.Session(key, "made-up", region_name=REGION)
    yield session.client("elbv2", endpoint_url=running.lab.endpoint_url, config=CLIENT_CONFIG)
    clients[key] = before


@pytest.mark.parametrize(("kind", "part"), [("application", "app"), ("network", "net")])
def test_the_arn_of_a_load_balancer_names_its_kind(running: ThreadedLab, elb: Any, kind: str, part: str) -> None:
    subnets = list(running.lab.network.subnets.values())

    made = elb.create_load_balancer(Name=f"kind-{part}", Type=kind, Subnets=subnets)["LoadBalancers"][0]

    assert f":loadbalancer/{part}/kind-{part}/" in made["LoadBalancerArn"]
    assert elb.describe_load_balancers(LoadBalancerArns=[made["LoadBalancerArn"]])["LoadBalancers"]
    elb.delete_load_balancer(LoadBalancerArn=made["LoadBalancerArn"])


def test_a_rule_for_every_path_carries_the_traffic(running: ThreadedLab, elb: Any) -> None:
    nothing = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
    front = running.lab.front
    listener = elb.create_listener(
        LoadBalancerArn=front.load_balancer, Protocol="HTTP", Port=_PORT, DefaultActions=[nothing]
    )["Listeners"][0]["ListenerArn"]
    elb.create_rule(
        ListenerArn=listener,
        Priority=100,
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}],
        Actions=[{"Type": "forward", "TargetGroupArn": front.group}],
    )
    url = running.lab.urls[0].replace(":8080", f":{_PORT}")

    until = time.monotonic() + 10
    while (answer := requests.get(url, timeout=5)).status_code != 200:
        assert time.monotonic() < until, answer
        time.sleep(0.1)

    elb.delete_listener(ListenerArn=listener)


def test_a_rule_that_names_a_security_group_keeps_its_description(running: ThreadedLab) -> None:
    ec2 = running.lab.client("ec2")
    group = ec2.create_security_group(GroupName="told", Description="told", VpcId=running.lab.network.vpc)["GroupId"]
    pair = {"GroupId": group, "Description": "from its like"}
    permission = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [pair]}

    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])

    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])["SecurityGroupRules"]
    assert "from its like" in {one.get("Description") for one in rules}


def test_the_image_that_the_public_parameter_names_is_there(running: ThreadedLab) -> None:
    name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
    image = running.lab.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]

    (found,) = running.lab.client("ec2").describe_images(ImageIds=[image])["Images"]

    assert found["Architecture"] == "arm64"


def test_a_host_with_a_policy_may_do_what_it_allows_and_nothing_else(running: ThreadedLab, limited: Any) -> None:
    group, host = running.lab.front.group, running.lab.hosts[0]
    action = "elasticloadbalancing:DeregisterTargets"
    assert limited.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]

    with pytest.raises(ClientError) as refused:
        limited.deregister_targets(TargetGroupArn=group, Targets=[{"Id": host.identity.instance_id}])

    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    assert refused.value.response["Error"]["Message"] == (
        f"User: {host.identity.role_arn} is not authorized to perform: {action} on resource: {group} "
        f"because no identity-based policy allows the {action} action"
    )


def test_a_host_is_told_the_interval_at_which_a_scaled_lab_checks_it_in_whole_seconds() -> None:
    told = b"<member><HealthCheckIntervalSeconds>%d</HealthCheckIntervalSeconds></member>"
    assert wire.checks_as_measured(told % 30, 0.1) == told % 3
    assert wire.checks_as_measured(told % 5, 0.1) == told % 1
    assert wire.checks_as_measured(told % 30, 1.0) == told % 30
