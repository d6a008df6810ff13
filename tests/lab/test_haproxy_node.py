"""HAProxy as the lab's data plane: what it thinks of targets is their health, and it learns of changes after a lag."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from lab.drain_rig import ask
from lab.haproxy_rig import haproxy_lab, needs_haproxy
from rollout import set_health
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_haproxy
DELAY = 6.0  # s, of the deregistration
# Checks as often as the API allows, and a short lag before nodes can learn. A busy machine misses some checks.
PROFILE = replace(
    FAST,
    alb_registration_lag=(0.0, 0.2),
    check_interval=0.5,
    check_timeout=0.4,
    unhealthy_threshold=5,
    deregistration_delay=DELAY,
    response_timeout=30.0,
)


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    with haproxy_lab(profile=PROFILE, agents=False, seed=3) as lab:
        yield lab


@pytest.fixture
def host(running: ThreadedLab) -> Iterator[Host]:
    """A host of two, in service before the test and after it."""
    yield running.lab.hosts[0]
    set_health(running.lab.hosts[0], 200)
    register(running, running.lab.hosts[0])
    running.run(running.lab.wait_until_healthy())


def register(running: ThreadedLab, host: Host) -> None:
    target = [{"Id": host.identity.instance_id, "Port": APP_PORT}]
    running.lab.client("elbv2").register_targets(TargetGroupArn=running.lab.front.group, Targets=target)


def deregister(running: ThreadedLab, host: Host) -> float:
    target = [{"Id": host.identity.instance_id, "Port": APP_PORT}]
    running.lab.client("elbv2").deregister_targets(TargetGroupArn=running.lab.front.group, Targets=target)
    return time.monotonic()


def target(running: ThreadedLab, host: Host) -> dict[str, Any]:
    own = host.identity.instance_id
    return next(one for one in running.lab.control.targets(running.lab.front.group) if one["id"] == own)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not come to that"
        time.sleep(0.02)


def answered_by(running: ThreadedLab, count: int = 4) -> list[set[str]]:
    """Who answers the next requests to each node; nobody is an empty name."""
    addresses = [url.removeprefix("http://").partition(":")[0] for url in running.lab.urls]
    return [{running.run(ask(address, "/")).host for _ in range(count)} for address in addresses]


def test_each_node_sends_requests_to_every_healthy_target(running: ThreadedLab, host: Host) -> None:
    assert answered_by(running) == [{"h1", "h2"}, {"h1", "h2"}]


def test_the_targets_health_is_what_haproxys_own_checks_say(running: ThreadedLab, host: Host) -> None:
    set_health(host, 503)
    wait_for(lambda: target(running, host)["state"] == "unhealthy")
    assert target(running, host)["reason"] == "Target.ResponseCodeMismatch"
    wait_for(lambda: answered_by(running) == [{"h2"}, {"h2"}])
    set_health(host, 200)
    wait_for(lambda: target(running, host)["state"] == "healthy")
    wait_for(lambda: answered_by(running) == [{"h1", "h2"}, {"h1", "h2"}])


def test_a_target_whose_app_is_gone_is_unhealthy(running: ThreadedLab, host: Host) -> None:
    running.run(host.stop_app())
    wait_for(lambda: target(running, host)["state"] == "unhealthy")
    assert target(running, host)["reason"] == "Target.FailedHealthChecks"
    running.run(host.start_app("v1"))


def test_a_deregistered_target_gets_requests_until_each_node_knows_and_none_afterwards(
    running: ThreadedLab, host: Host
) -> None:
    since = deregister(running, host)
    assert target(running, host)["state"] == "draining"
    assert any("h1" in hosts for hosts in answered_by(running))
    wait_for(lambda: answered_by(running) == [{"h2"}, {"h2"}])
    assert answered_by(running) == [{"h2"}, {"h2"}]
    assert time.monotonic() - since >= PROFILE.alb_lag[0]
    assert target(running, host)["state"] == "draining", "the delay is not over yet"


def test_a_request_in_flight_to_a_deregistered_target_is_answered(running: ThreadedLab, host: Host) -> None:
    asking = [slow_request(running, DELAY - 1.5) for _ in range(4)]
    time.sleep(0.3)
    deregister(running, host)
    assert [one.wait(20) for one in asking] == [0] * 4
    assert target(running, host)["state"] == "draining", "the delay is not over yet"


def test_a_request_that_outlives_the_deregistration_delay_is_cut_at_its_end(running: ThreadedLab, host: Host) -> None:
    asking = [slow_request(running, 2 * DELAY) for _ in range(4)]
    time.sleep(0.3)
    since = deregister(running, host)
    wait_for(lambda: any(one.poll() for one in asking))
    assert time.monotonic() - since >= DELAY
    codes = [one.wait(20) for one in asking]
    assert codes.count(0) == 2, "the other host got as many, and answers them"


def slow_request(running: ThreadedLab, seconds: float) -> subprocess.Popen[bytes]:
    """To the node of the first zone."""
    words = ["curl", "-sf", "--max-time", "20", f"{running.lab.urls[0]}/sleep?seconds={seconds:g}"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL)


def test_a_target_that_is_registered_again_gets_no_request_before_it_has_passed_its_checks(
    running: ThreadedLab, host: Host
) -> None:
    deregister(running, host)
    wait_for(lambda: answered_by(running) == [{"h2"}, {"h2"}])
    set_health(host, 503)
    register(running, host)
    wait_for(lambda: target(running, host)["state"] == "unhealthy")
    assert answered_by(running) == [{"h2"}, {"h2"}]
    set_health(host, 200)
    wait_for(lambda: answered_by(running) == [{"h1", "h2"}, {"h1", "h2"}])


def test_a_node_of_a_zone_that_is_down_answers_nothing_and_comes_back(running: ThreadedLab, host: Host) -> None:
    running.lab.faults.clear()
    running.run(running.lab.plane.set_zones_down({"a"}))
    assert answered_by(running) == [{""}, {"h1", "h2"}]
    running.run(running.lab.plane.set_zones_down(()))
    wait_for(lambda: answered_by(running) == [{"h1", "h2"}, {"h1", "h2"}])


def test_apps_see_each_node_at_its_own_address_on_connections_that_are_used_again(
    running: ThreadedLab, host: Host
) -> None:
    answered_by(running, 20)
    open_now = subprocess.run(
        ["ss", "-Htn", "state", "established", "src", f"{host.identity.address}:{APP_PORT}"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    peers = [line.split()[-1].rpartition(":")[0] for line in open_now if line]
    assert set(peers) <= {f"{running.lab.prefix}.2", f"{running.lab.prefix}.3"}
    assert 1 <= len(peers) <= 8, "20 requests to each node came over a few connections"
