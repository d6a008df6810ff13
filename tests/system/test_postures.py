"""The posture as a file that systemd's path units can watch, on a host as it is installed."""

from __future__ import annotations

import time

from hosts import Host

LOG = "/run/acted"


def shown(host: Host, posture: str) -> None:
    """Until this is the one posture that is shown: the loop looks every 5 s at the latest."""
    until = time.monotonic() + 15
    while (found := host.sh("ls /run/zdd-agent/posture/host").stdout.split()) != [posture]:
        assert time.monotonic() < until, found
        time.sleep(0.2)


def acted(host: Host) -> list[str]:
    return host.sh(f"cat {LOG} 2>/dev/null || true").stdout.split()


def test_a_path_unit_acts_once_when_a_posture_begins_and_exactly_one_file_exists(host: Host) -> None:
    shown(host, "in_service")
    for posture in ("draining", "drained", "in_service"):
        program = f"/etc/zdd-agent/on-{posture}"
        host.sh(f"printf '#!/bin/sh\\necho {posture} >>{LOG}\\n' >{program}; chmod 755 {program}")
        host.sh(f"systemctl start zdd-on@{posture}.path")
    host.sh("zdd-agent drain --until unused")
    host.wait("drained")
    host.sh("systemctl restart zdd-agent.service")
    host.wait("drained")
    shown(host, "drained")
    host.sh("zdd-agent rejoin")
    host.wait("in_service")
    until = time.monotonic() + 20
    while len(acted(host)) < 3 and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(2)
    assert acted(host) == ["draining", "drained", "in_service"]
    host.sh("systemctl stop 'zdd-on@*.path'; rm -f /etc/zdd-agent/on-*")


def test_a_posture_without_a_program_does_nothing_and_fails_nothing(host: Host) -> None:
    host.sh("systemctl start zdd-on@draining.path")
    host.sh("zdd-agent drain && zdd-agent rejoin")
    host.wait("in_service")
    assert host.sh("systemctl is-failed zdd-on@draining.service", check=False).stdout.strip() != "failed"
    host.sh("systemctl stop zdd-on@draining.path")
