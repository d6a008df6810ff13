"""The module's table of slots: applied to the lab, planned without drift, protected, and destroyed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from lab.conftest import SHORT, free_prefix
from terraform.workspace import Workspace, needs_terraform
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_terraform
TABLE = "shop-slots"
MAIN = """
variable "target_group" { type = string }
variable "topic" { type = string }
variable "protected" { type = bool }

provider "aws" {
  region = "us-east-1"
}

module "zdd_agent" {
  source = "../"

  name              = "shop"
  target_group_arns = [var.target_group]
  slots = {
    limit               = "25%"
    deletion_protection = var.protected
    alarm               = { actions = [var.topic] }
  }
}

output "table_arn" {
  value = module.zdd_agent.slots_table_arn
}
"""


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=0, agents=False) as lab:
        yield lab


def test_the_table_is_applied_planned_without_drift_protected_and_destroyed(
    running: ThreadedLab, tmp_path: Path
) -> None:
    lab = running.lab
    space = Workspace(tmp_path / "terraform", "own", lab.settings(), MAIN)
    topic = "arn:aws:sns:us-east-1:123456789012:people"
    given = (f"-var=target_group={lab.front.group}", f"-var=topic={topic}")
    dynamodb, cloudwatch = lab.client("dynamodb"), lab.client("cloudwatch")

    space.run("apply", "-auto-approve", *given, "-var=protected=true")
    plan = space.run("plan", "-detailed-exitcode", *given, "-var=protected=true", accept=(0, 2))
    assert plan.returncode == 0, plan.stdout

    table = dynamodb.describe_table(TableName=TABLE)["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=TABLE)["ContinuousBackupsDescription"]
    assert table["KeySchema"] == [{"AttributeName": "service", "KeyType": "HASH"}]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSEDescription"]["Status"] == "ENABLED"
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert space.outputs() == {"table_arn": table["TableArn"]}
    (alarm,) = cloudwatch.describe_alarms()["MetricAlarms"]
    assert (alarm["AlarmActions"], alarm["Dimensions"]) == ([topic], [{"Name": "TableName", "Value": TABLE}])

    with pytest.raises(ClientError, match="DeletionProtection"):
        dynamodb.delete_table(TableName=TABLE)
    space.run("apply", "-auto-approve", *given, "-var=protected=false")
    space.run("destroy", "-auto-approve", *given, "-var=protected=false")
    assert dynamodb.list_tables()["TableNames"] == []
