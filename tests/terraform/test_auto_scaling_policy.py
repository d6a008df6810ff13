"""The module's policy for hosts of an Auto Scaling group: no action in it is too many, and doctor names each one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.conftest import SHORT, free_prefix
from terraform.test_policy import Site
from terraform.workspace import Workspace, needs_terraform
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_terraform
GROUP = "policy"
WATCH = (
    "autoscaling:CompleteLifecycleAction",
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLifecycleHooks",
    "autoscaling:RecordLifecycleActionHeartbeat",
)
STANDBY = ("autoscaling:EnterStandby", "autoscaling:ExitStandby")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("module") / "terraform")


@pytest.fixture(scope="module")
def site(module: Workspace) -> Iterator[Site]:
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=3, agents=False, seed=8) as running:
        groups = (running.lab.front.group,)
        given = {"target_group_arns": groups, "auto_scaling_group_names": [GROUP], "auto_scaling_mode": "standby"}
        site = Site(running, groups, module.value("jsondecode(local.policy_json)", given))
        running.run(running.lab.create_group(GROUP, MinSize=1, MaxSize=4))
        config = site.host.folder / "config.toml"
        config.write_text(config.read_text("utf-8") + '\n[auto_scaling]\nmode = "standby"\n', "utf-8")
        site.give(site.document)
        running.run(site.host.start_agent())
        yield site


def actions(document: dict[str, list[dict[str, list[str]]]]) -> set[str]:
    return {name for one in document["Statement"] for name in one["Action"] if name.startswith("autoscaling:")}


def test_the_policy_of_each_mode_names_these_actions(site: Site, module: Workspace) -> None:
    given = {"target_group_arns": site.groups, "auto_scaling_group_names": [GROUP]}
    assert actions(module.value("jsondecode(local.policy_json)", given)) == set(WATCH)
    assert actions(site.document) == {*WATCH, *STANDBY}


@pytest.mark.parametrize("action", [*WATCH, *STANDBY])
def test_doctor_names_exactly_the_action_that_is_taken_away(site: Site, action: str) -> None:
    site.give(site.document)
    assert site.problems() == []

    site.give(site.without(action))
    problems = site.problems()

    assert [name for name in (*WATCH, *STANDBY) if any(name in problem for problem in problems)] == [action]


def test_a_drain_and_a_rejoin_through_standby_are_allowed(site: Site) -> None:
    site.give(site.document)

    for argv in (("drain",), ("rejoin",)):
        done = site.agent(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"

    called = {action for client, action in site.running.lab.endpoint.calls if client == site.host.name}
    assert {name.partition(":")[2] for name in STANDBY} <= called


def test_another_group_cannot_be_changed(site: Site, module: Workspace) -> None:
    given = {"target_group_arns": site.groups, "auto_scaling_group_names": ["other"], "auto_scaling_mode": "standby"}
    site.give(module.value("jsondecode(local.policy_json)", given))

    problems = site.problems()

    assert any("autoscaling:EnterStandby" in one for one in problems)
