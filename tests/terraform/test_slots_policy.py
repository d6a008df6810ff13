"""The module's policy for hosts that take turns: no action in it is too many, and no other service is in reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.conftest import SHORT, free_prefix
from lab.dynamodb_rig import client, create_table
from terraform.test_policy import Site
from terraform.workspace import Workspace, needs_terraform
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_terraform
TABLE = "zdd-agent-slots"  # as the module names it
ACTIONS = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("module") / "terraform")


@pytest.fixture(scope="module")
def site(module: Workspace) -> Iterator[Site]:
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=2, agents=False, seed=8) as running:
        groups = (running.lab.front.group,)
        given = {"target_group_arns": groups, "slots": {"name": "web"}}
        site = Site(running, groups, module.value("jsondecode(local.policy_json)", given))
        create_table(client(running.lab.endpoint_url), TABLE)
        settings = module.value("local.slots_toml", given)
        config = site.host.folder / "config.toml"
        config.write_text(f"{config.read_text('utf-8')}\n{settings}\n", "utf-8")
        site.give(site.document)
        running.run(site.host.start_agent())
        yield site


def forget_the_item(site: Site) -> None:
    key = {"service": {"S": "web"}}
    client(site.running.lab.endpoint_url).delete_item(TableName=TABLE, Key=key)


def test_the_policy_names_these_actions(site: Site) -> None:
    named = {name for one in site.document["Statement"] for name in one["Action"] if name.startswith("dynamodb:")}
    assert named == set(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
def test_doctor_names_exactly_the_action_that_is_taken_away(site: Site, action: str) -> None:
    forget_the_item(site)  # only the first host of a service makes it
    site.give(site.without(action))

    problems = site.problems()

    assert [name for name in ACTIONS if any(name in problem for problem in problems)] == [action]
    site.give(site.document)
    assert site.problems() == []


def test_a_drain_and_a_rejoin_are_allowed_and_use_every_action(site: Site) -> None:
    forget_the_item(site)
    site.give(site.document)

    for argv in (("drain",), ("slots",), ("rejoin",)):
        done = site.agent(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"

    called = {action for client, action in site.running.lab.endpoint.calls if client == site.host.name}
    assert {name.partition(":")[2] for name in ACTIONS} <= called


def test_a_host_whose_role_is_for_another_service_cannot_take_a_slot_of_this_one(site: Site, module: Workspace) -> None:
    given = {"target_group_arns": site.groups, "slots": {"name": "other"}}
    site.give(module.value("jsondecode(local.policy_json)", given))

    done = site.agent("drain")

    assert done.returncode == 6, done.stdout + done.stderr
    assert "dynamodb:GetItem" in done.stderr
