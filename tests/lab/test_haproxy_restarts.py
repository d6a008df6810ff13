"""Restarts on HAProxy's nodes, under h2load: with the agent no request fails.

All that is done differently fails some. So HAProxy, uvicorn and h2load would show a drain that answers 0 too early.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.drain_rig import ask
from lab.haproxy_rig import h2load, haproxy_lab, needs_haproxy
from rollout import agent
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab

pytestmark = needs_haproxy
LONG = 60.0  # s, of a request that is cut long before
PROFILE = replace(FAST, response_timeout=2 * LONG, deregistration_delay=2 * LONG)


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    with haproxy_lab(profile=PROFILE, hosts=2, seed=4) as lab:
        yield lab


@pytest.fixture
def host(running: ThreadedLab) -> Iterator[Host]:
    """One of two hosts, in service before the test and after it."""
    host = running.lab.hosts[0]
    yield host
    running.run(host.restart_app("v1"))
    running.lab.client("elbv2").register_targets(**_target(running.lab, host))
    running.run(running.lab.wait_until_healthy())


def test_a_rolling_restart_with_the_agent_loses_no_request(running: ThreadedLab) -> None:
    with h2load(running.lab.urls) as seen:
        for host in running.lab.hosts:
            for verb in ("drain", "rejoin"):
                done = agent(host, verb)
                assert done.returncode == 0, done.stderr
                if verb == "drain":
                    running.run(host.restart_app("v2"))
    assert [host.version for host in running.lab.hosts] == ["v2", "v2"]
    assert seen.requests > 100
    assert seen.failed == 0


def test_a_restart_without_the_agent_loses_requests(running: ThreadedLab, host: Host) -> None:
    with h2load(running.lab.urls) as seen:
        running.run(host.restart_app("v3"))
    assert seen.failed > 0


def test_a_restart_when_the_api_says_unused_after_no_delay_loses_requests(running: ThreadedLab, host: Host) -> None:
    elbv2 = running.lab.client("elbv2")
    _set_delay(running.lab, 0.0)
    try:
        with h2load(running.lab.urls) as seen:
            elbv2.deregister_targets(**_target(running.lab, host))
            health = elbv2.describe_target_health(**_target(running.lab, host))["TargetHealthDescriptions"]
            assert [one["TargetHealth"]["State"] for one in health] == ["unused"]
            running.run(host.stop_app())
            time.sleep(PROFILE.alb_lag[1])
    finally:
        _set_delay(running.lab, PROFILE.deregistration_delay)
    assert seen.failed > 0


def test_an_app_that_is_stopped_although_its_drain_has_not_ended_cuts_requests(
    running: ThreadedLab, host: Host
) -> None:
    async def stop_too_early() -> set[str]:
        nodes = [url.removeprefix("http://").partition(":")[0] for url in running.lab.urls]
        asking = [asyncio.create_task(ask(node, f"/sleep?seconds={LONG:g}")) for node in nodes * 4]
        await asyncio.sleep(0.5)
        done = await asyncio.to_thread(agent, host, "drain", "--timeout", "1")
        assert done.returncode == 3, done.stderr
        assert [one for one in asking if one.done()] == []
        await host.stop_app()
        first, others = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        for one in others:
            one.cancel()
        await asyncio.wait(others)
        return {one.result().error for one in first}

    assert "" not in running.run(stop_too_early())


def test_a_drain_whose_floor_is_shorter_than_the_nodes_lag_loses_requests(running: ThreadedLab, host: Host) -> None:
    """Nothing comes until the drain has ended, so that nothing but the floor can hold it up."""
    running.run(host.stop_agent())
    running.run(host.start_agent({"ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION": "0.01"}))
    running.lab.plane.elb.profile = replace(PROFILE, alb_lag=(20.0, 21.0))
    try:
        done = agent(host, "drain", "--until", "idle")
    finally:
        running.lab.plane.elb.profile = PROFILE
        running.run(host.restart_agent())
    assert done.returncode == 0, done.stderr
    running.run(host.stop_app())
    with h2load(running.lab.urls) as seen:
        pass
    assert seen.failed > 0


def _target(lab: Lab, host: Host) -> dict[str, object]:
    return {"TargetGroupArn": lab.front.group, "Targets": [{"Id": host.identity.instance_id, "Port": APP_PORT}]}


def _set_delay(lab: Lab, seconds: float) -> None:
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": f"{seconds:g}"}
    lab.client("elbv2").modify_target_group_attributes(TargetGroupArn=lab.front.group, Attributes=[delay])
