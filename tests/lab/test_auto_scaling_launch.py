"""A scale-in in the middle of a deploy, and a launch that waits for its app, under load."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import requests

from lab.auto_scaling_rig import (
    GROUP,
    RATE,
    WATCH,
    Said,
    command,
    group_of,
    put_hook,
    reached,
    scaling,
    scaling_calls,
    start_agents,
    state_of,
    target_of,
    terminate,
)
from lab.drain_rig import BIN, load, run
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab
from zdd_lab.traffic.records import Record

PROFILE = replace(FAST, deregistration_delay=10.0)


@dataclass
class Seen:
    deployed: tuple[int, str]  # exit code and errors of `run --` on the second host
    refused: Said  # a rejoin of the first, which is being terminated
    ended: str  # where the first stands after all
    broken: Said  # the start-up rejoin of the launched host while its app fails
    broken_at: tuple[str, str]  # where it stands then, in the group and in the target group
    broken_calls: int  # of CompleteLifecycleAction and RegisterTargets
    passing: Said
    passing_at: tuple[str, str]
    registered: int  # calls of RegisterTargets by the agent of the launched host
    failed: list[Record]
    requests: int


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with group_of(4, PROFILE) as running:
        yield running.run(_all(running))


async def _all(running: ThreadedLab) -> Seen:
    lab = running.lab
    first, second = lab.hosts[:2]
    await put_hook(lab, "last-drain", "TERMINATING", 3600)
    await start_agents(lab.hosts)
    async with load(lab, RATE) as under:
        deploying = asyncio.create_task(_deploy(lab, second))
        await reached(lambda: target_of(lab, second) == "draining", "the deploy drains")
        await terminate(lab, first)
        refused = await command(lab, first, "rejoin")
        deployed = await deploying
        await reached(lambda: state_of(lab, first) == "gone", "the first host has ended")
        await put_hook(lab, "ready", "LAUNCHING", 3600)
        await scaling(lab, "set_desired_capacity", AutoScalingGroupName=GROUP, DesiredCapacity=4)
        await reached(lambda: len(lab.hosts) == 4 and lab.hosts[3].app_pid is not None, "the launch")
        launched = lab.hosts[3]
        await reached(lambda: state_of(lab, launched) == "Pending:Wait", "the launch hook")
        await _health(launched, 503)
        await launched.start_agent(WATCH)
        broken = await command(lab, launched, "rejoin", "--timeout", "6")
        broken_at = state_of(lab, launched), target_of(lab, launched)
        calls = _changes(lab, launched) + scaling_calls(lab, launched).get("CompleteLifecycleAction", 0)
        await _health(launched, 200)
        passing = await command(lab, launched, "rejoin")
        passing_at = state_of(lab, launched), target_of(lab, launched)
    return Seen(
        deployed, refused, state_of(lab, first), broken, broken_at, calls, passing, passing_at,
        _changes(lab, launched), under.failed(), len(under.records()),
    )  # fmt: skip


async def _deploy(lab: Lab, host: Host) -> tuple[int, str]:
    code, out, errors, _ = await run([str(BIN / "zdd-agent"), "run", "--", "true"], lab.env(host))
    return code, out + errors


async def _health(host: Host, code: int) -> None:
    url = f"http://{host.identity.address}:{host.app_port}/_lab/health"
    await reached(lambda: host.app_pid is not None, "its app")
    for _ in range(50):
        try:
            await asyncio.to_thread(requests.post, url, json={"code": code}, timeout=5)
        except requests.ConnectionError:  # it does not listen yet
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError(f"{host.name}: its app does not listen")


def _changes(lab: Lab, host: Host) -> int:
    return lab.endpoint.calls[host.name, "RegisterTargets"]


def test_a_scale_in_does_not_disturb_the_deploy_of_another_host(seen: Seen) -> None:
    assert seen.deployed[0] == 0, seen.deployed[1]
    assert seen.ended == "gone"


def test_a_rejoin_by_the_deploy_tool_of_a_host_that_is_being_terminated_is_refused(seen: Seen) -> None:
    assert seen.refused.code == 4
    assert "cannot rejoin: Auto Scaling is about to terminate this instance" in seen.refused.whole


def test_an_app_that_does_not_pass_keeps_the_launch_waiting_and_out_of_the_target_group(seen: Seen) -> None:
    assert seen.broken.code == 3
    assert "answered 503" in seen.broken.whole
    assert seen.broken_at == ("Pending:Wait", "absent")
    assert seen.broken_calls == 0


def test_a_launch_is_in_service_once_its_app_passes_and_the_group_alone_registers_it(seen: Seen) -> None:
    assert seen.passing.code == 0
    assert seen.passing_at == ("InService", "healthy")
    assert seen.registered == 0


def test_no_request_fails_meanwhile(seen: Seen) -> None:
    assert seen.requests > 10 * RATE
    assert seen.failed == []
