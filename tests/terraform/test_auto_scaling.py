"""Terraform's resources of Auto Scaling on the lab, on hosts with agents: applied, planned, changed, destroyed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.auto_scaling_rig import WATCH, scaling_calls
from lab.conftest import SHORT, free_prefix
from lab.drain_rig import BIN, run
from terraform.workspace import Workspace, needs_terraform
from zdd_lab.hosts.host import Host
from zdd_lab.processes import children
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_terraform
MAIN = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "subnet_ids" { type = list(string) }
variable "target_group" { type = string }
variable "most" { type = number }

resource "aws_launch_template" "app" {
  name          = "app"
  image_id      = "ami-12c6146b"
  instance_type = "t4g.nano"
}

resource "aws_autoscaling_group" "app" {
  name                      = "app"
  min_size                  = 1
  desired_capacity          = 2
  max_size                  = var.most
  vpc_zone_identifier       = var.subnet_ids
  health_check_type         = "ELB"
  health_check_grace_period = 120
  capacity_rebalance        = true
  protect_from_scale_in     = false
  suspended_processes       = ["AZRebalance"]

  # No host can pass before the attachment below, and Terraform makes that after the group: do not wait here.
  wait_for_capacity_timeout = "0"

  # Nobody but the agents answers them: without that the apply and the destroy would take 900 s.
  initial_lifecycle_hook {
    name                 = "ready"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = 900
    default_result       = "ABANDON"
  }
  initial_lifecycle_hook {
    name                 = "last-request"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    heartbeat_timeout    = 900
    default_result       = "CONTINUE"
  }

  launch_template {
    id      = aws_launch_template.app.id
    version = aws_launch_template.app.latest_version
  }

  instance_refresh {
    strategy = "Rolling"
    preferences { standby_instances = "Wait" }
  }

  tag {
    key                 = "Service"
    value               = "app"
    propagate_at_launch = true
  }
}

resource "aws_autoscaling_attachment" "app" {
  autoscaling_group_name = aws_autoscaling_group.app.name
  lb_target_group_arn    = var.target_group
}

resource "aws_autoscaling_lifecycle_hook" "end" {
  name                   = "end"
  autoscaling_group_name = aws_autoscaling_group.app.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = 900
  default_result         = "CONTINUE"
}
"""


SETTINGS = WATCH | {"ZDD_AGENT_AUTO_SCALING__TERMINATION_HOOK": "last-request"}  # `end` is another program's


class Launched(Host):
    """A host whose agent starts as the module's user data starts it, with zdd-member@ enabled."""

    async def start_agent(self, extra_env: Mapping[str, str] | None = None) -> None:
        await super().start_agent(SETTINGS | dict(extra_env or {}))
        await run([str(BIN / "zdd-agent"), "rejoin", "--detach"], children.bare_environment() | self.settings())


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=0, make_host=Launched) as lab:
        yield lab


def test_a_group_is_applied_and_destroyed_with_hooks_that_only_the_agents_answer_and_planned_without_drift(
    running: ThreadedLab, tmp_path: Path
) -> None:
    lab = running.lab
    space = Workspace(tmp_path / "terraform", "own", lab.settings(), MAIN)
    subnets = ",".join(f'"{one}"' for one in lab.network.subnets.values())
    given = (f"-var=subnet_ids=[{subnets}]", f"-var=target_group={lab.front.group}")

    def group() -> dict[str, Any] | None:
        found = lab.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        return dict(found[0]) if found else None

    def in_service() -> bool:
        made = group()
        return made is not None and [one["LifecycleState"] for one in made["Instances"]] == ["InService"] * 2

    space.run("apply", "-auto-approve", *given, "-var=most=3")
    until = time.monotonic() + 60
    while not in_service():
        assert time.monotonic() < until, group()
        time.sleep(0.2)
    made = group()
    assert made is not None
    assert (made["MaxSize"], made["HealthCheckType"], made["TargetGroupARNs"]) == (3, "ELB", [lab.front.group])
    hosts = list(lab.hosts)
    assert len(hosts) == 2
    launched = {host.name: scaling_calls(lab, host).get("CompleteLifecycleAction", 0) for host in hosts}
    assert min(launched.values()) >= 1
    running.run(lab.wait_until_healthy())
    assert {one["id"] for one in lab.control.targets(lab.front.group)} == {
        one["InstanceId"] for one in made["Instances"]
    }

    plan = space.run("plan", "-detailed-exitcode", *given, "-var=most=3", accept=(0, 2))
    assert plan.returncode == 0, plan.stdout

    space.run("apply", "-auto-approve", *given, "-var=most=4")
    changed = group()
    assert changed is not None
    assert (changed["MaxSize"], changed["Instances"]) == (4, made["Instances"])

    space.run("destroy", "-auto-approve", *given, "-var=most=4")
    assert group() is None
    assert lab.hosts == []
    ended = {host.name: scaling_calls(lab, host)["CompleteLifecycleAction"] for host in hosts}
    assert all(ended[name] > launched[name] for name in ended)
