"""The agent killed, frozen, restarted and upgraded in the middle of things: nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import Host
from lab_site import Site


def _kill(host: Host, _: Path) -> None:
    host.sh("systemctl kill -s KILL --kill-who=main zdd-agent.service")


def _restart(host: Host, _: Path) -> None:
    host.sh("systemctl restart zdd-agent.service")


def _freeze(host: Host, _: Path) -> None:
    host.sh("systemctl kill -s STOP --kill-who=main zdd-agent.service")


def _upgrade(host: Host, deb: Path) -> None:
    host.install(deb)


@pytest.mark.parametrize("blow", [_kill, _restart, _freeze, _upgrade], ids=["kill", "restart", "freeze", "upgrade"])
@pytest.mark.parametrize("moment", ["drain", "rejoin"])
def test_a_deploy_goes_on_when_the_agent_is_struck_in_the_middle(
    served: Site, deb: Path, blow: Callable[[Host, Path], None], moment: str
) -> None:
    host = served.hosts[0]
    # The watchdog with a shorter time: with the packaged minute this test would take minutes.
    host.write("/etc/systemd/system/zdd-agent.service.d/watchdog.conf", "[Service]\nWatchdogSec=8s\n")
    host.sh("systemctl daemon-reload; systemctl restart zdd-agent.service")
    with served.load() as result:
        if moment == "rejoin":
            host.sh("zdd-agent drain && systemctl restart app.service")
            calling = host.start("zdd-agent rejoin")
        else:
            calling = host.start("zdd-agent drain && systemctl restart app.service && zdd-agent rejoin")
        time.sleep(1.5)
        blow(host, deb)
        said, _ = calling.communicate(timeout=120)
    host.sh("rm -r /etc/systemd/system/zdd-agent.service.d; systemctl daemon-reload; systemctl restart zdd-agent")
    assert calling.returncode == 0, said + host.journal("-u zdd-agent")
    assert host.status()["posture"] == "in_service"
    assert result["failed"] == 0, result


def test_thirty_of_thirty_callers_are_served_across_a_kill(host: Host) -> None:
    script = "for n in $(seq 30); do (zdd-agent status >/dev/null && echo served) & sleep 0.05; done; wait"
    calling = host.start(script)
    time.sleep(0.7)
    _kill(host, Path())
    said, _ = calling.communicate(timeout=60)
    assert said.count("served") == 30, said


def test_no_number_of_crashes_closes_the_socket(host: Host) -> None:
    for _ in range(12):
        host.sh("until systemctl kill -s KILL --kill-who=main zdd-agent.service 2>/dev/null; do sleep 0.05; done")
    assert host.sh("zdd-agent status", check=False).returncode == 0
    assert host.sh("systemctl is-active zdd-agent.socket").stdout.strip() == "active"


@pytest.mark.parametrize("blow", [_kill, _restart], ids=["kill", "restart"])
def test_a_stop_that_drains_ends_well_when_the_agent_is_struck_in_the_middle(
    served: Site, blow: Callable[[Host, Path], None]
) -> None:
    # systemd starts no unit while one that is ordered after it stops: the agent must not wait for the drain's own end.
    host = served.hosts[0]
    host.sh("systemctl enable --now zdd-member@app.service")
    with served.load() as result:
        stopping = host.start("systemctl stop app.service")
        host.wait("draining")
        blow(host, Path())
        host.wait("drained")
        said, _ = stopping.communicate(timeout=60)
        assert stopping.returncode == 0, said
        assert host.sh("systemctl show -P Result zdd-member@app.service").stdout.strip() == "success"
    assert result["failed"] == 0, result
