"""A rollout that was cut off or that failed, and the next one, which begins with the host that is out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_rig import ROLLING, Ansible, cut, hosts_of, until_phase, variables
from rollout import load, posture, versions
from zdd_lab.hosts.host import Host
from zdd_lab.threaded import ThreadedLab


@pytest.mark.parametrize("moment", ["draining", "deploy", "warming"])
def test_a_control_machine_that_dies_loses_no_request_and_the_next_run_heals_it(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab, tmp_path: Path, moment: str
) -> None:
    _, second, _ = fleet.lab.hosts
    with load(fleet.lab, tmp_path / "load.tsv") as seen:
        # The second host, so that the next run has the choice to begin with the wrong one.
        play = ansible.start(inventory, ROLLING, variables=variables("v2", slowly=3))
        until_phase(second, "draining" if moment == "deploy" else moment)
        if moment == "deploy":
            _until_drained(second)
        cut(play)
        again = ansible.playbook(inventory, ROLLING, variables=variables("v2"))
    assert again.returncode == 0, again.stdout
    assert again.stdout.index("ok: [h1]") < again.stdout.rindex("TASK [Drain]")
    assert versions(fleet.lab) == {"h1": "v2", "h2": "v2", "h3": "v2"}
    assert [posture(host) for host in fleet.lab.hosts] == ["in_service"] * 3
    assert seen.failed == []


def test_with_two_hosts_the_one_that_was_left_out_goes_first_or_the_guard_would_refuse_the_other(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    hosts = fleet.lab.hosts
    for host in hosts[1:]:
        fleet.run(host.restart_app("v2"))
    given = variables("v3")
    left_out = ansible.playbook(inventory, ROLLING, "--limit", "h3", variables=given | {"slowly": "nonsense"})
    assert left_out.returncode != 0
    done = ansible.playbook(inventory, ROLLING, variables=given)
    assert done.returncode == 0, done.stdout
    assert hosts_of(done, "Drain") == ["h3", "h1", "h2"]


def _until_drained(host: Host) -> None:
    while posture(host) != "drained":
        time.sleep(0.1)
