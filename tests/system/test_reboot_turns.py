"""Three hosts that want to reboot at the same moment: they take turns, and all come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hosts import Host
from lab_site import Site, booted

SETTINGS = "/etc/zdd-agent/conf.d/10-fleet.toml"
# Seconds for three drains, reboots and rejoins, one after another, on a machine that has other work.
PATIENCE_SECONDS = 280.0


@pytest.fixture(scope="module")
def fleet(deb: Path) -> Iterator[Site]:
    """Three hosts in service, with the deb and the app."""
    with booted(hosts=3) as site:
        for host in site.hosts:
            host.install(deb)
            host.sh("systemctl enable --now app.service")
        site.wait_healthy(3)
        yield site


def configure(site: Site, settings: str) -> None:
    for host in site.hosts:
        host.write(SETTINGS, settings)
        host.sh("zdd-agent check-config && systemctl restart zdd-agent.service")
        host.wait("in_service")


@contextmanager
def fewest_healthy(site: Site) -> Iterator[list[int]]:
    """While the block runs, how many targets were healthy: the list holds the smallest number so far."""
    fewest, over = [len(site.hosts)], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            healthy = sum(target["state"] == "healthy" for target in site.state()["targets"])
            fewest[0] = min(fewest[0], healthy)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield fewest
    finally:
        over.set()
        looking.join()


def reboot_all(hosts: list[Host], apart: float = 0.0, seconds: float = PATIENCE_SECONDS) -> None:
    """`zdd-agent reboot` on each; whichever goes down is booted again, as EC2 does. Until all are back.

    Args:
        apart: seconds between the calls.
        seconds: for all of it.
    """
    until = time.monotonic() + seconds
    calls = {}
    for host in hosts:
        calls[host.name] = host.start(f"zdd-agent reboot --wait {seconds:.0f}")
        time.sleep(apart)
    down = list(hosts)
    while down:
        for host in [h for h in down if h.is_off()]:
            assert host.off() == 133, calls[host.name].communicate(timeout=5)[0]
            host.boot()
            down.remove(host)
        assert time.monotonic() < until, [(h.name, h.status(), h.journal("-u zdd-agent")) for h in down]
        time.sleep(0.2)
    for host in hosts:
        host.wait("in_service")
        calls[host.name].communicate(timeout=5)


def test_by_the_guard_alone_hosts_that_do_not_ask_in_the_same_seconds_wait_for_each_other(fleet: Site) -> None:
    configure(fleet, "min_healthy = 2\n")
    with fleet.load() as result:
        reboot_all(fleet.hosts, apart=12.0)
    assert result["failed"] == 0, result
    assert result["requests"] > 1000
