"""A host that its group terminates: the hook is completed with the last answer, and not a moment before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from lab.auto_scaling_rig import (
    FLOWS_PORT,
    GROUP,
    RATE,
    Course,
    group_of,
    network_group,
    put_hook,
    reached,
    scaling,
    start_agents,
    terminate,
    watched,
)
from lab.drain_rig import Asked, ask, load
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab
from zdd_lab.traffic.records import Record

DELAY = 12  # s of deregistration: longer than the floor, and than the group takes to be noticed
LONG = 27  # s that each flow works: it outlives the delay, as on a Network Load Balancer it may
HOOK = 3600  # s until the group would go on without an answer
PROFILE = replace(FAST, deregistration_delay=float(DELAY), nlb_learn_lag=(0.5, 1.0), nlb_registration_lag=(0.0, 0.5),
                  nlb_deregistration_lag=(0.5, 1.0), response_timeout=60.0, idle_timeout=60.0)  # fmt: skip


@dataclass
class Seen:
    """A host with long requests, and one with none, are terminated side by side."""

    busy: Course
    idle: Course
    long: list[Asked]  # of the busy host
    failed: list[Record]
    requests: int


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with group_of(4, PROFILE) as running:
        flows = network_group(running, DELAY)
        yield running.run(_both(running, flows))


async def _both(running: ThreadedLab, flows: str) -> Seen:
    lab = running.lab
    busy, idle = lab.hosts[:2]  # in different zones, so that the flows of zone a reach the first alone or the third
    await scaling(lab, "attach_load_balancer_target_groups", AutoScalingGroupName=GROUP, TargetGroupARNs=[flows])
    await put_hook(lab, "last-drain", "TERMINATING", HOOK)
    await start_agents(lab.hosts)
    async with load(lab, RATE) as under, watched(lab, busy) as one, watched(lab, idle) as other:
        address = lab.plane.nodes["nlb-a"].address
        asked = [asyncio.create_task(ask(address, f"/sleep?seconds={LONG}", FLOWS_PORT)) for _ in range(8)]
        await asyncio.sleep(0.5)
        await asyncio.gather(terminate(lab, busy), terminate(lab, idle))
        answers = await asyncio.gather(*asked)
        await reached(lambda: "gone" in one.at and "gone" in other.at, f"both are gone: {one.at} {other.at}")
    return Seen(one, other, [a for a in answers if a.host in (busy.name, "")], under.failed(), len(under.records()))


def test_requests_that_outlive_the_deregistration_delay_are_answered_whole(seen: Seen) -> None:
    assert seen.long
    assert [one.error for one in seen.long if one.error] == []


def test_the_hook_is_completed_within_two_seconds_of_the_last_answer(seen: Seen) -> None:
    last = max(one.ended for one in seen.long)
    assert last > seen.busy.at["Terminating:Wait"] + 5
    assert 0 <= seen.busy.at["Terminating:Proceed"] - last <= 2


def test_without_work_the_hook_is_completed_within_two_seconds_of_the_groups_wait(seen: Seen) -> None:
    assert 0 <= seen.idle.at["Terminating:Proceed"] - seen.idle.at["Terminating:Wait"] <= 2


def test_no_request_fails_while_two_of_four_hosts_are_terminated(seen: Seen) -> None:
    assert seen.requests > 10 * RATE
    assert seen.failed == []
