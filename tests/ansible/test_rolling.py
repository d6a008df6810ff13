"""The collection's rolling.yml over the lab's hosts, under load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_rig import ROLLING, Ansible, hosts_of, variables
from rollout import load, posture, versions
from zdd_lab.threaded import ThreadedLab


def test_a_release_goes_from_host_to_host_and_no_request_fails(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab, tmp_path: Path
) -> None:
    with load(fleet.lab, tmp_path / "load.tsv") as seen:
        done = ansible.playbook(inventory, ROLLING, variables=variables("v2"))
    assert done.returncode == 0, done.stdout
    assert versions(fleet.lab) == {"h1": "v2", "h2": "v2", "h3": "v2"}
    assert len(seen.records) > 500
    assert seen.failed == []
    assert all(found == {"v1", "v2"} for found in seen.versions().values()), seen.versions()


def test_a_release_that_fails_its_health_check_stops_at_the_first_host_which_stays_out(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab, tmp_path: Path
) -> None:
    with load(fleet.lab, tmp_path / "load.tsv") as seen:
        broken = variables("v2", broken=True, app_url=_app_url(fleet), zdd_rejoin_timeout=5)
        done = ansible.playbook(inventory, ROLLING, variables=broken)
    assert done.returncode != 0
    assert "does not pass its health check" in done.stdout
    assert "This host is drained" in done.stdout
    assert posture(fleet.lab.hosts[0]) == "drained"
    assert versions(fleet.lab) == {"h1": "v2", "h2": "v1", "h3": "v1"}
    assert seen.failed == []
    assert seen.versions() == {"h1": {"v1"}, "h2": {"v1"}, "h3": {"v1"}}, "nobody has met the bad release"


def test_a_release_whose_restart_fails_stops_there_though_it_failed_in_a_handler(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    done = ansible.playbook(inventory, ROLLING, variables=variables("v2", slowly="nonsense"))
    assert done.returncode != 0
    assert "This host is drained" in done.stdout
    assert versions(fleet.lab) == {"h1": "v1", "h2": "v1", "h3": "v1"}
    assert [posture(host) for host in fleet.lab.hosts] == ["drained", "in_service", "in_service"]


def test_a_check_changes_nothing(ansible: Ansible, inventory: Path, fleet: ThreadedLab) -> None:
    done = ansible.playbook(inventory, ROLLING, "--check", "--diff", variables=variables("v2"))
    assert done.returncode == 0, done.stdout
    assert versions(fleet.lab) == {"h1": "v1", "h2": "v1", "h3": "v1"}
    assert [posture(host) for host in fleet.lab.hosts] == ["in_service"] * 3
    assert hosts_of(done, "Drain") == ["h1", "h2", "h3"]


def test_an_agent_that_does_not_answer_stops_the_run_before_the_first_host_leaves(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    last = fleet.lab.hosts[2]
    fleet.run(last.stop_agent())
    try:
        done = ansible.playbook(inventory, ROLLING, variables=variables("v2"))
    finally:
        fleet.run(last.start_agent())
    assert done.returncode != 0
    assert "cannot reach the agent" in done.stdout
    assert "TASK [Drain]" not in done.stdout


def test_an_unreachable_host_stops_the_run_before_the_first_host_leaves(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    hosts = json.loads(inventory.read_text())
    hosts["all"]["hosts"]["h3"] |= {"ansible_connection": "ssh", "ansible_port": 1, "ansible_host": "127.0.0.1"}
    inventory.write_text(json.dumps(hosts))
    done = ansible.playbook(inventory, ROLLING, variables=variables("v2"))
    assert done.returncode != 0
    assert "UNREACHABLE" in done.stdout
    assert "TASK [Drain]" not in done.stdout


DEPLOY: dict[str, Any] = {"name": "Deploy", "ansible.builtin.command": "true"}
TRAPS = {
    # The trap of README.md, and beside it what rolling.yml does.
    "rescue without fail": ([], {"max_fail_percentage": 0}, 0, ["h1", "h2", "h3"]),
    "rescue with fail": ([{"ansible.builtin.fail": {}}], {"max_fail_percentage": 0}, 2, ["h1"]),
}


@pytest.mark.parametrize("name", TRAPS)
def test_the_trap_of_a_rescue_without_fail_is_as_the_documentation_says(
    ansible: Ansible, tmp_path: Path, name: str
) -> None:
    rescue, keywords, code, reached = TRAPS[name]
    block = [DEPLOY | {"ansible.builtin.command": "false"}]
    tasks = [{"block": block, "rescue": [{"ansible.builtin.debug": {"msg": "reported"}}, *rescue]}]
    done = _play(ansible, tmp_path, {"tasks": tasks, "serial": 1, **keywords})
    assert done.returncode == code, done.stdout
    assert hosts_of(done, "Deploy") == reached


def test_with_one_at_a_time_an_unreachable_host_stops_the_run_with_more_it_does_not(
    ansible: Ansible, tmp_path: Path
) -> None:
    # The percentage does not count it, and a rescue never sees it; with `serial: 1` it is the whole batch.
    for serial, reached in ((1, ["h1"]), (2, ["h1", "h2", "h3"])):
        tasks = [{"block": [DEPLOY], "rescue": [{"ansible.builtin.fail": {}}]}]
        done = _play(
            ansible,
            tmp_path,
            {"tasks": tasks, "serial": serial, "max_fail_percentage": 0},
            h1={"ansible_connection": "ssh", "ansible_port": 1, "ansible_host": "127.0.0.1"},
        )
        assert done.returncode != 0
        assert hosts_of(done, "Deploy") == reached


def _play(
    ansible: Ansible, folder: Path, play: dict[str, Any], **special: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {name: local | special.get(name, {"ansible_host": "127.0.0.1"}) for name in ("h1", "h2", "h3")}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, **play}]))
    return ansible.playbook(folder / "hosts.json", folder / "play.yml")


def _app_url(fleet: ThreadedLab) -> str:
    host = fleet.lab.hosts[0]
    return f"http://{host.identity.address}:{host.app_port}"
