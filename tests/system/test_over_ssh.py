"""Ansible over real ssh, on hosts with a real systemd, under load."""

from __future__ import annotations

import pytest
from fleet import ROLE, ROLLING, Fleet, fleet, served

from ansible_rig import ansible, ansible_bin, cut

__all__ = ["ansible", "ansible_bin", "fleet", "served"]


def test_the_role_installs_configures_enables_and_its_doctor_is_content(fleet: Fleet) -> None:
    for host in fleet.hosts:
        assert host.sh("systemctl is-enabled zdd-agent.socket zdd-agent.service").returncode == 0
        assert "interval_seconds" in host.sh("cat /etc/zdd-agent/conf.d/ansible.toml").stdout
    assert fleet.installed.count("a drain would work here") == 3


def test_the_role_changes_nothing_the_second_time(fleet: Fleet) -> None:
    code, said = fleet.play(fleet.install)
    assert code == 0, said
    assert said.count("changed=0") == 3, said


def test_a_setting_that_is_wrong_never_gets_in_place(fleet: Fleet) -> None:
    before = fleet.hosts[0].sh("cat /etc/zdd-agent/conf.d/ansible.toml").stdout
    code, said = fleet.play(fleet.install, zdd_agent_settings={"min_healty": 1})
    assert code != 0
    assert "min_healthy" in said, "the nearest name"
    assert fleet.hosts[0].sh("cat /etc/zdd-agent/conf.d/ansible.toml").stdout == before


def test_a_release_goes_from_host_to_host_over_ssh_and_no_request_fails(served: Fleet) -> None:
    with served.site.load() as result:
        code, said = served.roll("v2")
    assert code == 0, said
    assert served.versions() == ["v2"] * 3
    assert result["failed"] == 0, result
    assert result["requests"] > 1000


def test_a_release_that_fails_its_health_check_stops_at_the_first_host_which_stays_out(served: Fleet) -> None:
    with served.site.load() as result:
        code, said = served.roll("v2", broken=True, zdd_rejoin_timeout=5)
    assert code != 0
    assert "does not pass its health check" in said
    assert served.postures() == ["drained", "in_service", "in_service"]
    assert served.versions() == ["v2", "v1", "v1"]
    assert result["failed"] == 0, result


@pytest.mark.parametrize("moment", ["draining", "restart"])
def test_a_connection_that_is_cut_in_the_middle_loses_nothing_and_the_next_run_heals_it(
    served: Fleet, moment: str
) -> None:
    second = served.hosts[1]
    with served.site.load() as result:
        play = served.start(ROLLING, zdd_deploy_role=ROLE, version="v2", slowly=3)
        second.wait("drained" if moment == "restart" else moment, 120)
        cut(play)  # Ansible and its ssh: what was under way on the host loses its connection
        code, said = served.roll("v2")
    assert code == 0, said
    assert served.versions() == ["v2"] * 3
    assert served.postures() == ["in_service"] * 3
    assert result["failed"] == 0, result
