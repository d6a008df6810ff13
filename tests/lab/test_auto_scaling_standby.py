"""Standby in an Auto Scaling group of type ELB that replaces deregistered hosts, under load and through kills."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from lab.auto_scaling_rig import (
    GROUP,
    RATE,
    STANDBY,
    Course,
    Said,
    command,
    group_of,
    reached,
    scaling_calls,
    start_agents,
    state_of,
    target_of,
    watched,
)
from lab.drain_rig import load
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.auto_scaling import group_calls
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab
from zdd_lab.traffic.records import Record

DELAY = 14.0  # s of deregistration: longer than the 5 s until Standby is entered
# The group looks at its hosts' health often, and replaces one that is deregistered: that it never must, here.
PROFILE = replace(FAST, deregistration_delay=DELAY, scaling_check_interval=0.5, replaces_deregistered=True)


@dataclass
class Seen:
    """Three hosts of five go to Standby and back, one after another; the daemon is killed meanwhile."""

    plain: Course = field(default_factory=Course)
    asked_at: float = 0.0  # when the plain host's rejoin was asked for
    answers: dict[str, Said] = field(default_factory=dict)
    killed_at: dict[str, str] = field(default_factory=dict)  # where each killed host stood in its group
    states: dict[str, tuple[str, str]] = field(default_factory=dict)  # in the group, and in the target group
    full: Said | None = None
    calls_when_full: list[str] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    requests: int = 0
    members: tuple[set[str], set[str]] = (set(), set())
    calls: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with group_of(5, PROFILE, HealthCheckType="ELB", MinSize=1) as running:
        yield running.run(_all(running))


async def _all(running: ThreadedLab) -> Seen:
    lab, seen = running.lab, Seen()
    plain, draining, entering, joining, full = lab.hosts
    await start_agents(lab.hosts, STANDBY)
    before = _members(lab)
    async with load(lab, RATE) as under:
        await asyncio.gather(
            _plain(lab, plain, seen),
            _killed(lab, draining, seen, "drain", lambda: target_of(lab, draining) == "draining"),
            _killed(lab, entering, seen, "drain", lambda: state_of(lab, entering) == "EnteringStandby"),
            _killed_rejoin(lab, joining, seen),
        )
        group_calls.update(lab.fleet.account, GROUP, {"min_size": 5})
        was = set(lab.endpoint.calls.items())
        seen.full = await command(lab, full, "drain")
        seen.calls_when_full = [
            action for (who, action), _ in set(lab.endpoint.calls.items()) - was if who == full.name
        ]
        seen.states |= {host.name: (state_of(lab, host), target_of(lab, host)) for host in lab.hosts}
    seen.members = before, _members(lab)
    seen.calls = scaling_calls(lab, plain)
    seen.failed, seen.requests = under.failed(), len(under.records())
    return seen


def _members(lab: Lab) -> set[str]:
    return set(lab.fleet.account.groups[GROUP].members)


async def _plain(lab: Lab, host: Host, seen: Seen) -> None:
    async with watched(lab, host) as course:
        seen.answers["drain"] = await command(lab, host, "drain")
        await host.restart_app("v2")
        seen.asked_at = time.time()
        seen.answers["rejoin"] = await command(lab, host, "rejoin")
    seen.plain = course


async def _killed(lab: Lab, host: Host, seen: Seen, verb: str, moment: Any) -> None:
    """Kill the daemon at a moment of a drain; the next one ends it. Then back, as a deploy does."""
    asking = asyncio.create_task(command(lab, host, verb))
    await reached(moment, f"the moment of {host.name}")
    await _kill(lab, host, seen)
    await asking  # the client lost its daemon, or found the next one
    seen.answers[f"{host.name} drain"] = await command(lab, host, "drain")
    await host.restart_app("v2")
    seen.answers[f"{host.name} rejoin"] = await command(lab, host, "rejoin")


async def _killed_rejoin(lab: Lab, host: Host, seen: Seen) -> None:
    seen.answers[f"{host.name} drain"] = await command(lab, host, "drain")
    await host.restart_app("v2")
    asking = asyncio.create_task(command(lab, host, "rejoin"))
    await reached(lambda: scaling_calls(lab, host).get("ExitStandby", 0) > 0, "ExitStandby")
    await _kill(lab, host, seen)
    await asking
    seen.answers[f"{host.name} rejoin"] = await command(lab, host, "rejoin")


async def _kill(lab: Lab, host: Host, seen: Seen) -> None:
    seen.killed_at[host.name] = f"{state_of(lab, host)}, {target_of(lab, host)}"
    await host.signal_agent(signal.SIGKILL)
    await host.start_agent(STANDBY)


def test_the_rolling_deploy_loses_no_request_and_nobody_is_replaced(seen: Seen) -> None:
    assert seen.requests > 10 * RATE
    assert seen.failed == []
    assert seen.members[0] == seen.members[1]


def test_a_host_enters_standby_after_its_second_look_and_is_back_after_the_delay(seen: Seen) -> None:
    assert (seen.answers["drain"].code, seen.answers["rejoin"].code) == (0, 0)
    at = seen.plain.at
    assert list(at)[:4] == ["InService", "EnteringStandby", "Standby", "Pending"]
    assert seen.asked_at < at["Standby"] < at["Pending"]


@pytest.mark.parametrize(("host", "where"), [("h2", "InService, draining"), ("h3", "EnteringStandby, draining")])
def test_a_drain_whose_daemon_is_killed_ends_in_standby_and_comes_back(seen: Seen, host: str, where: str) -> None:
    assert seen.killed_at[host] == where
    assert [seen.answers[f"{host} {verb}"].code for verb in ("drain", "rejoin")] == [0, 0], json.dumps(
        [one.told for one in seen.answers.values()]
    )


def test_a_rejoin_whose_daemon_is_killed_at_its_exit_from_standby_ends_in_service(seen: Seen) -> None:
    assert seen.answers["h4 rejoin"].code == 0
    assert set(seen.states.values()) == {("InService", "healthy")}


def test_a_group_without_room_refuses_with_the_numbers_and_nothing_is_changed(seen: Seen) -> None:
    assert seen.full is not None
    assert seen.full.code == 4
    assert "Standby takes one of 5 desired instances of web, whose minimum is 5" in seen.full.whole
    assert not {"DeregisterTargets", "EnterStandby", "UpdateAutoScalingGroup"}.intersection(seen.calls_when_full)
