"""The module's policy is enough for the agent, and no action in it is too many: the lab evaluates it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lab.conftest import SHORT, free_prefix
from terraform.workspace import Workspace, needs_terraform
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT
from zdd_lab.model.iam import Policy, Verdict
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_terraform
ACTIONS = (
    "ec2:DescribeInstances",
    "elasticloadbalancing:DeregisterTargets",
    "elasticloadbalancing:DescribeLoadBalancerAttributes",
    "elasticloadbalancing:DescribeTargetGroupAttributes",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
    "elasticloadbalancing:RegisterTargets",
)
_NLB_PORT = 8090


@dataclass(frozen=True)
class Site:
    """Two hosts with agents, behind an ALB and behind an NLB that balances each zone on its own."""

    running: ThreadedLab
    groups: tuple[str, ...]
    document: dict[str, Any]  # the policy, as the module renders it for these groups

    @property
    def host(self) -> Host:
        return self.running.lab.hosts[0]

    def give(self, document: dict[str, Any]) -> None:
        """The role of the first host has this policy from now on."""
        clients = self.running.lab.endpoint.clients
        key = self.host.identity.access_key
        clients[key] = replace(clients[key], policy=Policy.parse(json.dumps(document)))

    def agent(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "zdd_agent", *argv, "--socket", str(self.host.socket)]
        env = self.running.lab.env(self.host)
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)

    def problems(self) -> list[str]:
        """What doctor finds wrong, each with its hint."""
        findings = json.loads(self.agent("doctor", "--json").stdout)["findings"]
        return [f"{one['said']}; {one['hint']}" for one in findings if not one["ok"]]

    def without(self, action: str) -> dict[str, Any]:
        """The policy less one action."""
        statements = [
            one | {"Action": [name for name in one["Action"] if name != action]} for one in self.document["Statement"]
        ]
        return self.document | {"Statement": statements}


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("module") / "terraform")


@pytest.fixture(scope="module")
def site(module: Workspace) -> Iterator[Site]:
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=4, agents=False, seed=6) as running:
        groups = (running.lab.front.group, _network_group(running))
        document = module.value("jsondecode(local.policy_json)", {"target_group_arns": groups})
        site = Site(running, groups, document)
        site.give(document)
        running.run(site.host.start_agent())
        yield site


def _network_group(running: ThreadedLab) -> str:
    """A group of a Network Load Balancer, without cross-zone balancing, and every host healthy in it."""
    elb, lab = running.lab.client("elbv2"), running.lab
    subnets = list(lab.network.subnets.values())
    balancer = elb.create_load_balancer(Name="flows", Type="network", Subnets=subnets)["LoadBalancers"][0]
    group: str = elb.create_target_group(
        Name="flows",
        Protocol="TCP",
        Port=APP_PORT,
        VpcId=lab.network.vpc,
        TargetType="instance",
        HealthCheckIntervalSeconds=10,
        HealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "3"}
    elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=[delay])
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="TCP", Port=_NLB_PORT, DefaultActions=forward
    )
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": one.identity.instance_id} for one in lab.hosts])
    running.run(_healthy(running, group))
    return group


async def _healthy(running: ThreadedLab, group: str) -> None:
    async with asyncio.timeout(60):
        while any(one["state"] != "healthy" for one in running.lab.control.targets(group)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def test_the_policy_names_these_actions(site: Site) -> None:
    assert sorted(name for one in site.document["Statement"] for name in one["Action"]) == sorted(ACTIONS)


def test_every_call_of_a_deploy_is_allowed_and_every_action_of_the_policy_is_called(site: Site) -> None:
    site.give(site.document)

    for argv in (("doctor",), ("drain",), ("status",), ("rejoin",)):
        done = site.agent(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"

    called = {action for client, action in site.running.lab.endpoint.calls if client == site.host.name}
    assert called == {name.partition(":")[2] for name in ACTIONS}


@pytest.mark.parametrize("action", ACTIONS)
def test_doctor_names_exactly_the_action_that_is_taken_away(site: Site, action: str) -> None:
    site.give(site.document)
    assert site.problems() == []

    site.give(site.without(action))
    problems = site.problems()

    assert problems
    assert [name for name in ACTIONS if any(name in problem for problem in problems)] == [action]


def test_a_group_that_is_not_given_cannot_be_changed(site: Site, module: Workspace) -> None:
    site.give(module.value("jsondecode(local.policy_json)", {"target_group_arns": site.groups[:1]}))

    problems = site.problems()

    assert any("elasticloadbalancing:RegisterTargets" in one and site.groups[1] in one for one in problems)
    assert not any(site.groups[0] in one for one in problems)


def test_another_region_is_not_read(site: Site) -> None:
    policy = Policy.parse(json.dumps(site.document))

    for action in ACTIONS:
        resource = "*" if ":Describe" in action else site.groups[0]
        here = policy.verdict(action, resource, {"aws:RequestedRegion": "us-east-1"})
        assert here is Verdict.ALLOWED, action
        if resource == "*":
            assert policy.verdict(action, "*", {"aws:RequestedRegion": "eu-west-1"}) is Verdict.NOT_ALLOWED, action


@pytest.mark.parametrize(
    ("network", "verdict"),
    [
        ({"aws:SourceVpc": "vpc-1", "aws:VpcSourceIp": "10.0.0.7"}, Verdict.ALLOWED),
        ({"aws:SourceVpc": "vpc-1", "aws:VpcSourceIp": "10.0.0.8"}, Verdict.DENIED),
        ({"aws:SourceVpc": "vpc-2", "aws:VpcSourceIp": "10.0.0.7"}, Verdict.DENIED),
        ({"aws:SourceIp": "198.51.100.7"}, Verdict.DENIED),
    ],
    ids=["on the instance", "on its neighbour", "in another VPC", "from the internet"],
)
def test_credentials_off_the_instance_are_denied_when_asked_for(
    site: Site, module: Workspace, network: dict[str, str], verdict: Verdict
) -> None:
    given = {"target_group_arns": site.groups, "deny_outside_instance": True}
    policy = Policy.parse(module.value("local.policy_json", given))
    issued = {
        "aws:RequestedRegion": "us-east-1",
        "ec2:SourceInstanceARN": "arn:aws:ec2:us-east-1:123456789012:instance/i-1",
        "aws:Ec2InstanceSourceVpc": "vpc-1",
        "aws:Ec2InstanceSourcePrivateIPv4": "10.0.0.7",
    }

    for action in ACTIONS:
        resource = "*" if ":Describe" in action else site.groups[0]
        assert policy.verdict(action, resource, issued | network) is verdict, action
