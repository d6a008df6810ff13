"""Twelve hosts are all told to deploy at once: a quarter of them is out at a time, and a bad release stops there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.slots_rig import Said, Watched, deploy, fleet, holders, start_agents, under_load
from zdd_lab.lab import Lab
from zdd_lab.threaded import ThreadedLab

HOSTS, LIMIT, AT_ONCE, WAVES = 12, "25%", 3, 4
RATE = 30.0  # requests a second, over both nodes
# How many hosts deploy one after another, which is what the time of all at once is compared with.
SERIAL = HOSTS if os.environ.get("ZDD_SOAK") else 2
_ENOUGH = 600.0  # s
# A host is out for about 20 s, which is short for AWS. The 5 to 7.5 s between two looks of a waiter are not scaled.
LONG = {"ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION": "16"}


@dataclass(frozen=True)
class Rollout:
    """Hosts that deployed, and what was seen meanwhile."""

    said: list[list[Said]]
    seconds: float
    watched: Watched


@dataclass(frozen=True)
class Story:
    """What happened in one lab, in this order."""

    serial: Rollout  # v2 on some hosts, one after another
    parallel: Rollout  # v3 on all hosts at once
    bad: Rollout  # a broken v4 on all hosts at once
    held: set[str]  # who holds a slot in the end
    versions: list[str | None]  # in the end


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with fleet(HOSTS, LIMIT) as running:
        yield running.run(_tell(running), 3 * _ENOUGH)


async def _tell(running: ThreadedLab) -> Story:
    lab = running.lab
    await start_agents(lab, lab.hosts, LONG)
    async with under_load(lab, RATE, "serial") as watched:
        began = time.monotonic()
        serial = [await deploy(lab, host, "v2") for host in lab.hosts[:SERIAL]]
        one_by_one = Rollout(serial, time.monotonic() - began, watched)
    at_once = await _all_at_once(lab, "v3", _ENOUGH)
    bad = await _all_at_once(lab, "v4", 15, broken=True)
    return Story(one_by_one, at_once, bad, await holders(lab), [host.version for host in lab.hosts])


async def _all_at_once(lab: Lab, version: str, wait: float, *, broken: bool = False) -> Rollout:
    async with under_load(lab, RATE, version) as watched:
        began = time.monotonic()
        said = await asyncio.gather(*(deploy(lab, host, version, wait=wait, broken=broken) for host in lab.hosts))
        return Rollout(said, time.monotonic() - began, watched)


def test_every_host_deploys_and_no_request_fails(story: Story) -> None:
    for rollout in (story.serial, story.parallel):
        assert [one.code for said in rollout.said for one in said] == [0, 0] * len(rollout.said), rollout.said
        assert rollout.watched.load.failed() == []


def test_at_most_a_quarter_is_out_at_any_moment_and_that_many_are(story: Story) -> None:
    assert story.serial.watched.out.most == 1
    assert story.parallel.watched.out.most == AT_ONCE


def test_all_at_once_takes_little_longer_than_its_waves_of_one_host(story: Story) -> None:
    one_host = story.serial.seconds / len(story.serial.said)

    assert story.parallel.seconds <= 1.3 * WAVES * one_host, (
        f"{story.parallel.seconds:.1f} s, one host {one_host:.1f} s"
    )


def test_a_bad_release_stops_after_a_quarter_and_all_others_serve(story: Story) -> None:
    codes = sorted([one.code for one in said] for said in story.bad.said)

    assert codes[:AT_ONCE] == [[0, 3]] * AT_ONCE, codes
    assert codes[AT_ONCE:] == [[4]] * (HOSTS - AT_ONCE), codes
    assert sorted(story.versions, key=str) == ["v3"] * (HOSTS - AT_ONCE) + ["v4"] * AT_ONCE
    assert len(story.held) == AT_ONCE
    assert story.bad.watched.out.most == AT_ONCE
    assert story.bad.watched.load.failed() == []
    assert {record.version for record in story.bad.watched.load.records()} == {"v3"}
