"""zdd-member@, and the hooks in the app's own unit: a start never waits for the rejoin, and every stop drains."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hosts import TOP, Host
from lab_site import Site

APP = "/etc/systemd/system/app.service"
MEMBER = "/etc/systemd/system/zdd-member@app.service.d/test.conf"
# Seconds after which the app listens: a rejoin is under way for longer than any step of a test takes.
SLOW = 25


@contextmanager
def slow_app(host: Host) -> Iterator[None]:
    """From its next start on, the app listens only after SLOW seconds."""
    host.sh(f"sed -i 's/--start-seconds 1$/--start-seconds {SLOW}/' {APP} && systemctl daemon-reload")
    try:
        yield
    finally:
        host.sh(f"sed -i 's/--start-seconds {SLOW}$/--start-seconds 1/' {APP} && systemctl daemon-reload")


@pytest.fixture
def member(host: Host) -> Iterator[Host]:
    """The host, with zdd-member@app enabled."""
    host.sh("systemctl enable --now zdd-member@app.service")
    yield host
    host.sh(f"rm -f {MEMBER}; systemctl daemon-reload")


def configure(host: Host, text: str) -> None:
    """A drop-in for zdd-member@app."""
    host.write(MEMBER, f"[Service]\n{text}\n")
    host.sh("systemctl daemon-reload")


def operation(host: Host) -> tuple[str, str | None]:
    """The last operation: what it is, and how it ended."""
    said = host.status()["operation"]
    return said["verb"], said["outcome"]


def state(site: Site, host: Host) -> str | None:
    """The target's health as AWS shows it."""
    own = next(h["instance_id"] for h in site.state()["hosts"] if h["name"] == host.name)
    return next((t["state"] for t in site.state()["targets"] if t["id"] == own), None)


def drained_before_the_app_stopped(host: Host) -> bool:
    """Whether the app's last stop came after the end of the drain that it began with."""
    log = host.sh("journalctl --no-pager -o cat").stdout.splitlines()
    stopped = max(n for n, line in enumerate(log) if line.startswith("Stopped app.service"))
    stopping = max(n for n, line in enumerate(log[:stopped]) if "stop of app.service" in line)
    return any("drained" in line for line in log[stopping:stopped])


def test_a_start_does_not_wait_for_the_rejoin_which_goes_on_by_itself(member: Host) -> None:
    with slow_app(member):
        began = time.monotonic()
        member.sh("systemctl restart app.service && systemctl start zdd-member@app.service")
        assert member.sh("systemctl is-active zdd-member@app.service").stdout.strip() == "active"
        assert operation(member) == ("rejoin", None)
        assert time.monotonic() - began < SLOW
        member.wait("in_service")


def test_a_stop_while_the_rejoin_is_under_way_drains_and_the_app_comes_back(served: Site, member: Host) -> None:
    with slow_app(member):
        member.sh("systemctl restart app.service && systemctl start zdd-member@app.service")
        assert operation(member) == ("rejoin", None)
        member.sh("systemctl stop app.service")
        assert operation(member) == ("drain", "succeeded")
        assert drained_before_the_app_stopped(member)
        assert state(served, member) != "healthy"
    with served.load() as result:
        member.sh("systemctl start app.service")
        member.wait("in_service")
    assert result["failed"] == 0, result


def test_a_rejoin_that_failed_is_tried_again_without_anybody_asking_and_the_next_restart_drains(
    served: Site, member: Host
) -> None:
    configure(member, 'Environment="ZDD_REJOIN=--timeout 3"')
    with slow_app(member):
        member.sh("systemctl restart app.service && systemctl start zdd-member@app.service")
        time.sleep(10)
        failed = "journalctl --no-pager -u zdd-agent.service ZDD_VERB=rejoin ZDD_OUTCOME=timed_out -o cat"
        assert member.sh(failed).stdout != ""
        assert member.sh("systemctl is-active zdd-member@app.service").stdout.strip() == "active"
        member.wait("in_service", 90)
    with served.load() as result:
        member.sh("systemctl restart app.service")
        member.wait("in_service")
    assert drained_before_the_app_stopped(member)
    assert result["failed"] == 0, result


def test_a_refused_drain_is_retried_for_its_wait_and_then_drains_all_the_same_and_says_so(
    served: Site, member: Host
) -> None:
    configure(member, 'Environment="ZDD_DRAIN=--wait 5"')
    served.hosts[1].sh("zdd-agent drain")
    began = time.monotonic()
    member.sh("systemctl stop app.service")
    assert time.monotonic() - began > 5
    assert drained_before_the_app_stopped(member)
    assert "although the guard refuses" in member.journal("-u zdd-member@app.service")
    served.hosts[1].sh("zdd-agent rejoin")
    member.sh("systemctl start app.service")
    member.wait("in_service")


def test_a_refused_drain_ends_in_a_drain_as_soon_as_others_are_back(served: Site, member: Host) -> None:
    second = served.hosts[1]
    second.sh("zdd-agent drain")
    with served.load() as result:
        stopping = member.start("systemctl stop app.service")
        time.sleep(3)
        assert state(served, member) == "healthy", "its wait is a minute"
        second.sh("zdd-agent rejoin")
        said, _ = stopping.communicate(timeout=90)
        assert stopping.returncode == 0, said
        assert drained_before_the_app_stopped(member)
    assert result["failed"] == 0, result
    member.sh("systemctl start app.service")
    member.wait("in_service")


def test_a_stop_drains_though_the_agent_was_away_when_the_unit_started(served: Site, member: Host) -> None:
    # systemd skips ExecStop= of a unit whose start has not ended. The watchdog's minute would make this a long test.
    member.write("/etc/systemd/system/zdd-agent.service.d/test.conf", "[Service]\nWatchdogSec=8s\n")
    member.sh("systemctl daemon-reload; systemctl restart zdd-agent.service; systemctl stop zdd-member@app.service")
    member.sh("zdd-agent rejoin; systemctl kill -s STOP --kill-who=main zdd-agent.service")
    with served.load() as result:
        member.sh("systemctl start --no-block zdd-member@app.service")
        time.sleep(1)
        assert member.sh("systemctl is-active zdd-member@app.service", check=False).stdout.strip() == "activating"
        member.sh("systemctl stop app.service")
    member.sh("rm -r /etc/systemd/system/zdd-agent.service.d; systemctl daemon-reload; systemctl start app.service")
    assert drained_before_the_app_stopped(member)
    assert result["failed"] == 0, f"{result}\n{member.journal()}"
    member.wait("in_service")


def test_the_hooks_in_a_unit_of_ones_own_rejoin_and_drain_and_lose_nothing(served: Site, host: Host) -> None:
    folder = f"{APP}.d"
    host.write(f"{folder}/zdd-agent.conf", (TOP / "systemd" / "hooks.conf").read_text())
    host.sh("systemctl daemon-reload")
    try:
        with served.load() as result:
            host.sh("systemctl restart app.service")
            host.wait("in_service")
            with slow_app(host):
                began = time.monotonic()
                host.sh("systemctl restart app.service")
                assert host.sh("systemctl is-active app.service").stdout.strip() == "active"
                assert operation(host) == ("rejoin", None)
                host.sh("systemctl stop app.service")
                assert time.monotonic() - began < SLOW
                assert operation(host) == ("drain", "succeeded")
                assert drained_before_the_app_stopped(host)
            host.sh("systemctl start app.service")
            host.wait("in_service")
        assert result["failed"] == 0, result
    finally:
        host.sh(f"rm -r {folder}; systemctl daemon-reload")


def test_a_power_off_whose_drain_is_refused_drains_all_the_same(served: Site, member: Host) -> None:
    configure(member, 'Environment="ZDD_DRAIN=--wait 5"')
    served.hosts[1].sh("zdd-agent drain")
    member.sh("systemctl poweroff", check=False)
    assert member.off() == 0
    assert state(served, member) != "healthy", json.dumps(served.state()["targets"])
    served.hosts[1].sh("zdd-agent rejoin")
    member.boot()
    member.wait("in_service")
