"""The Terraform module and its examples: well-formed, tested by themselves, and applied to the lab without drift."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import SHORT, free_prefix
from terraform.workspace import MODULE, Workspace, needs_terraform
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_terraform
EXAMPLES = {
    "article": {"listener_port": 8088, "deploy_command": "/usr/local/bin/deploy $VERSION", "ssh_cidr": "192.0.2.1/32"},
    "auto-scaling": {"listener_port": 8089},
}


@dataclass(frozen=True)
class Life:
    """What was seen of an example from its apply to its end."""

    outputs: dict[str, Any]
    drift: int  # of the plan behind the apply: 0 none, 2 some
    plan: str
    policies: dict[str, Any]  # of the role in IAM, by name
    targets: list[tuple[str, int]]
    instances: list[dict[str, Any]]
    left: list[str]  # target groups behind the destroy


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=0, agents=False) as lab:
        yield lab


@pytest.fixture(scope="module", autouse=True)
def lives(running: ThreadedLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Life]]]:
    """Both examples at once, and beside the other tests: most of their time is the provider's waiting."""
    with ThreadPoolExecutor(len(EXAMPLES)) as pool:
        yield {name: pool.submit(_live, name, running, tmp_path_factory.mktemp(name)) for name in EXAMPLES}


def _live(name: str, running: ThreadedLab, folder: Path) -> Life:
    space = Workspace(folder / "terraform", f"examples/{name}", running.lab.settings())
    given = EXAMPLES[name] | ({"vpc_cidr": f"{running.lab.prefix}.0/24"} if name == "article" else {})
    (folder / "terraform" / "examples" / name / "terraform.tfvars.json").write_text(json.dumps(given))
    space.run("apply", "-auto-approve")
    outputs = space.outputs()
    plan = space.run("plan", "-detailed-exitcode", accept=(0, 2))
    elb, iam, ec2 = (running.lab.client(service) for service in ("elbv2", "iam", "ec2"))
    health = elb.describe_target_health(TargetGroupArn=outputs["target_group_arn"])["TargetHealthDescriptions"]
    reservations = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": [f"{name}*"]}])["Reservations"]
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    policies = {
        one["PolicyName"]: iam.get_policy_version(PolicyArn=one["PolicyArn"], VersionId="v1")["PolicyVersion"][
            "Document"
        ]
        for one in attached
    }
    space.run("destroy", "-auto-approve")
    groups = [one["TargetGroupName"] for one in elb.describe_target_groups()["TargetGroups"]]
    return Life(
        outputs,
        plan.returncode,
        plan.stdout,
        policies,
        sorted((one["Target"]["Id"], one["Target"]["Port"]) for one in health),
        [one for reservation in reservations for one in reservation["Instances"]],
        [group for group in groups if group == name],
    )


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("module") / "terraform")


def test_every_file_is_formatted(module: Workspace) -> None:
    module.run("fmt", "-check", "-recursive", "-diff")


@pytest.mark.parametrize("root", [".", *(f"examples/{name}" for name in EXAMPLES)])
def test_every_configuration_is_valid(root: str, tmp_path: Path) -> None:
    Workspace(tmp_path / "terraform", root).run("validate")


def test_the_modules_own_tests_pass_behind_a_mock_provider(module: Workspace) -> None:
    said = module.run("test").stdout

    assert re.search(r"^Success! \d+ passed, 0 failed\.", said, re.MULTILINE), said


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_applied_planned_without_drift_and_destroyed(name: str, lives: dict[str, Future[Life]]) -> None:
    life = lives[name].result()

    assert life.drift == 0, life.plan
    assert life.left == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_examples_role_has_the_modules_policy_and_no_other(name: str, lives: dict[str, Future[Life]]) -> None:
    life = lives[name].result()

    assert life.policies == {name: json.loads(life.outputs["policy_json"])}
    assert life.outputs["target_group_arn"] in life.outputs["policy_json"]


def test_the_article_has_two_hosts_in_two_zones_behind_its_target_group(lives: dict[str, Future[Life]]) -> None:
    life = lives["article"].result()

    assert life.targets == sorted((one, 8080) for one in life.outputs["instance_ids"])
    assert len({one["Placement"]["AvailabilityZone"] for one in life.instances}) == len(life.targets) == 2
    assert {one["InstanceType"] for one in life.instances} == {"t4g.nano"}


def test_the_articles_hosts_have_the_role(lives: dict[str, Future[Life]]) -> None:
    instances = lives["article"].result().instances

    assert all(one["IamInstanceProfile"]["Arn"].endswith(":instance-profile/article") for one in instances)


def test_the_auto_scaling_group_starts_its_hosts(lives: dict[str, Future[Life]]) -> None:
    assert len(lives["auto-scaling"].result().instances) == 2


def test_the_article_can_be_planned_in_the_default_vpc(running: ThreadedLab, tmp_path: Path) -> None:
    space = Workspace(tmp_path / "terraform", "examples/article", running.lab.settings())

    planned = space.run("plan", "-var=use_default_vpc=true", "-var=name=elsewhere").stdout

    assert "aws_vpc.this" not in planned
    assert re.search(r"^Plan: \d+ to add, 0 to change, 0 to destroy\.$", planned, re.MULTILINE)


def test_the_readme_names_every_variable_and_every_output() -> None:
    readme = (MODULE / "README.md").read_text()

    for kind, file in (("variable", "variables.tf"), ("output", "outputs.tf")):
        for name in re.findall(rf'^{kind} "(\w+)"', (MODULE / file).read_text(), re.MULTILINE):
            assert re.search(rf"^\| `{name}` \|", readme, re.MULTILINE), f"README.md does not tell of {kind} {name}"


def test_no_lab_and_no_machine_is_known_to_the_configurations() -> None:
    for file in MODULE.rglob("*.tf*"):
        text = file.read_text()
        assert not re.search(r"127\.\d|localhost|(?<!_)endpoints?\s*[={]|skip_\w+\s*=|access_key|secret_key", text), (
            file
        )
