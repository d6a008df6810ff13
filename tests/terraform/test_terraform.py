"""The Terraform module and its examples: well-formed, tested by themselves, and applied to the lab without drift."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lab.conftest import SHORT, free_prefix
from terraform.workspace import MODULE, Workspace, needs_terraform
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_terraform
_HOSTS = {"package": "zdd-agent", "ssh_cidr": "192.0.2.1/32"}
EXAMPLES = {
    "article": _HOSTS | {"listener_port": 8088, "deploy_command": 'deploy "$VERSION"'},
    "auto-scaling": _HOSTS | {"listener_port": 8089},
}
# Of AWS's own policies: what a role has besides the module's.
BESIDE = {"article": {"AmazonSSMManagedInstanceCore"}, "auto-scaling": set[str]()}
_NEEDED = "-var=package=zdd-agent"


@dataclass(frozen=True)
class Life:
    """What was seen of an example from its apply to its end."""

    outputs: dict[str, Any]
    drift: int  # of the plan behind the apply: 0 none, 2 some
    plan: str
    plan_while_out: str  # the article's, with one host out; it must have seen changes
    policies: dict[str, Any]  # of the role in IAM, by name; those of AWS itself without their text
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


@contextmanager
def _hooks_completed(running: ThreadedLab) -> Iterator[None]:
    """What the agent does on each host that its group terminates: here the hosts run none."""
    client, over = running.lab.client("autoscaling"), Event()

    def complete() -> None:
        while not over.wait(1.0):
            for one in client.describe_auto_scaling_instances()["AutoScalingInstances"]:
                if one["LifecycleState"] == "Terminating:Wait":
                    client.complete_lifecycle_action(
                        LifecycleHookName="last-request",
                        AutoScalingGroupName=one["AutoScalingGroupName"],
                        InstanceId=one["InstanceId"],
                        LifecycleActionResult="CONTINUE",
                    )

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(complete)
        try:
            yield
        finally:
            over.set()
        done.result()


def _live(name: str, running: ThreadedLab, folder: Path) -> Life:
    space = Workspace(folder / "terraform", f"examples/{name}", running.lab.settings())
    given: dict[str, Any] = EXAMPLES[name] | ({"vpc_cidr": f"{running.lab.prefix}.0/24"} if name == "article" else {})
    (folder / "terraform" / "examples" / name / "terraform.tfvars.json").write_text(json.dumps(given))
    space.run("apply", "-auto-approve")
    outputs = space.outputs()
    plan = space.run("plan", "-detailed-exitcode", accept=(0, 2))
    elb, iam, ec2 = (running.lab.client(service) for service in ("elbv2", "iam", "ec2"))
    health = elb.describe_target_health(TargetGroupArn=outputs["target_group_arn"])["TargetHealthDescriptions"]
    reservations = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": [f"{name}*"]}])["Reservations"]
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    policies = {
        one["PolicyName"]: None
        if ":iam::aws:" in one["PolicyArn"]
        else iam.get_policy_version(PolicyArn=one["PolicyArn"], VersionId="v1")["PolicyVersion"]["Document"]
        for one in attached
    }
    plan_while_out = ""
    if name == "article":
        elb.deregister_targets(TargetGroupArn=outputs["target_group_arn"], Targets=[health[0]["Target"]])
        plan_while_out = space.run("plan", "-detailed-exitcode", accept=(2,)).stdout
    with _hooks_completed(running):
        space.run("destroy", "-auto-approve")
    groups = [one["TargetGroupName"] for one in elb.describe_target_groups()["TargetGroups"]]
    return Life(
        outputs,
        plan.returncode,
        plan.stdout,
        plan_while_out,
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
def test_an_examples_role_has_the_modules_policy_and_one_of_awss_where_run_command_needs_it(
    name: str, lives: dict[str, Future[Life]]
) -> None:
    life = lives[name].result()

    assert life.policies == {name: json.loads(life.outputs["policy_json"])} | dict.fromkeys(BESIDE[name])
    assert life.outputs["target_group_arn"] in life.outputs["policy_json"]


def test_a_plan_while_a_host_is_out_would_register_it_and_change_nothing_else(lives: dict[str, Future[Life]]) -> None:
    plan = lives["article"].result().plan_while_out

    assert len(re.findall(r"# aws_lb_target_group_attachment\.app\[\d\] (?:will|must) be", plan)) == 1
    assert re.search(r"^Plan: 1 to add, 0 to change, [01] to destroy\.$", plan, re.MULTILINE), plan


def test_the_article_has_two_hosts_in_two_zones_behind_its_target_group(lives: dict[str, Future[Life]]) -> None:
    life = lives["article"].result()

    assert life.targets == sorted((one, 8080) for one in life.outputs["instance_ids"])
    assert len({one["Placement"]["AvailabilityZone"] for one in life.instances}) == len(life.targets) == 2
    assert {one["InstanceType"] for one in life.instances} == {"t4g.nano"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_host_is_found_by_its_service(name: str, lives: dict[str, Future[Life]]) -> None:
    instances = lives[name].result().instances

    assert len(instances) == 2
    assert all({"Key": "Service", "Value": name} in one["Tags"] for one in instances)


def test_the_articles_hosts_have_the_role(lives: dict[str, Future[Life]]) -> None:
    instances = lives["article"].result().instances

    assert all(one["IamInstanceProfile"]["Arn"].endswith(":instance-profile/article") for one in instances)


@pytest.fixture(scope="module", params=EXAMPLES)
def unapplied(
    request: pytest.FixtureRequest, running: ThreadedLab, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """An example in the lab, of which nothing is there."""
    folder = tmp_path_factory.mktemp("unapplied") / "terraform"
    return Workspace(folder, f"examples/{request.param}", running.lab.settings())


def test_an_example_without_a_package_is_refused(unapplied: Workspace) -> None:
    said = unapplied.run("plan", accept=(1,)).stderr

    assert 'The root module input variable "package" is not set' in said


@pytest.mark.parametrize("instance_type", ["t3.nano", "g4dn.xlarge", "t4g"])
def test_a_type_that_is_not_of_the_images_architecture_is_refused(unapplied: Workspace, instance_type: str) -> None:
    said = unapplied.run("plan", _NEEDED, f"-var=instance_type={instance_type}", accept=(1,)).stderr

    assert "instance_type must be a Graviton type" in said


@pytest.mark.parametrize("instance_type", ["hpc7g.4xlarge", "t0g.nano"], ids=["one zone", "none"])
def test_a_type_that_not_two_zones_offer_is_refused(unapplied: Workspace, instance_type: str) -> None:
    said = unapplied.run("plan", _NEEDED, f"-var=instance_type={instance_type}", accept=(1,)).stderr

    assert f"Fewer than two zones of us-east-1 offer {instance_type}" in said


def test_the_article_is_planned_in_zones_that_offer_the_type(running: ThreadedLab, tmp_path: Path) -> None:
    space = Workspace(tmp_path / "terraform", "examples/article", running.lab.settings())

    planned = space.run("plan", _NEEDED, "-var=region=us-west-2", "-var=instance_type=a1.large").stdout

    zones = set(re.findall(r'^ +\+ availability_zone += "(.*)"', planned, re.MULTILINE))
    assert zones == {"us-west-2a", "us-west-2c"}


def test_the_article_with_a_command_is_planned_in_the_default_vpc_and_for_run_command(
    running: ThreadedLab, tmp_path: Path
) -> None:
    space = Workspace(tmp_path / "terraform", "examples/article", running.lab.settings())
    given = ("-var=use_default_vpc=true", "-var=name=elsewhere", "-var=deploy_command=/usr/local/bin/deploy $VERSION")

    planned = space.run("plan", _NEEDED, *given).stdout

    assert "aws_vpc.this" not in planned
    assert "module.zdd_agent.aws_ssm_document.deploy[0] will be created" in planned
    assert "aws_iam_role_policy_attachment.run_command[0] will be created" in planned
    assert "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" in planned
    assert re.search(r"^Plan: \d+ to add, 0 to change, 0 to destroy\.$", planned, re.MULTILINE)


def test_the_readme_names_every_variable_and_every_output() -> None:
    readme = (MODULE / "README.md").read_text()

    for kind, file in (("variable", "variables.tf"), ("output", "outputs.tf")):
        for name in re.findall(rf'^{kind} "(\w+)"', (MODULE / file).read_text(), re.MULTILINE):
            assert re.search(rf"^\| `{name}` \|", readme, re.MULTILINE), f"README.md does not tell of {kind} {name}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_examples_readme_names_what_there_is_and_all_that_is_needed(name: str) -> None:
    folder = MODULE / "examples" / name
    readme, variables = (folder / "README.md").read_text(), (folder / "variables.tf").read_text()
    blocks = dict(re.findall(r'^variable "(\w+)" \{(.*?)^\}', variables, re.MULTILINE | re.DOTALL))
    outputs = set(re.findall(r'^output "(\w+)"', (folder / "outputs.tf").read_text(), re.MULTILINE))
    given = set(re.findall(r"-var (\w+)=", readme))

    assert {one for one, block in blocks.items() if "default " not in block} <= given <= set(blocks)
    assert set(re.findall(r"terraform output (?:-\w+ )?(\w+)", readme)) <= outputs
    assert len(readme.splitlines()) < 40


def test_no_lab_and_no_machine_is_known_to_the_configurations() -> None:
    for file in MODULE.rglob("*.tf*"):
        text = file.read_text()
        assert not re.search(r"127\.\d|localhost|(?<!_)endpoints?\s*[={]|skip_\w+\s*=|access_key|secret_key", text), (
            file
        )
