"""Terraform's resources of Auto Scaling on the lab: applied, planned without drift, changed, destroyed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import SHORT, free_prefix
from terraform.workspace import Workspace, needs_terraform
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


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=0, agents=False) as lab:
        yield lab


def test_a_group_with_a_hook_is_applied_planned_without_drift_changed_in_place_and_destroyed(
    running: ThreadedLab, tmp_path: Path
) -> None:
    lab = running.lab
    space = Workspace(tmp_path / "terraform", "own", lab.settings(), MAIN)
    subnets = ",".join(f'"{one}"' for one in lab.network.subnets.values())
    given = (f"-var=subnet_ids=[{subnets}]", f"-var=target_group={lab.front.group}")

    def group() -> dict[str, Any] | None:
        found = lab.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        return dict(found[0]) if found else None

    space.run("apply", "-auto-approve", *given, "-var=most=3")
    made = group()
    assert made is not None
    assert [one["LifecycleState"] for one in made["Instances"]] == ["InService"] * 2
    assert (made["MaxSize"], made["HealthCheckType"], made["TargetGroupARNs"]) == (3, "ELB", [lab.front.group])
    assert len(lab.hosts) == 2
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
