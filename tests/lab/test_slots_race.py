"""Two hosts, of which one must stay, leave at the same moment: the nodes let go sooner than any second look comes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from lab.slots_rig import command, fleet, start_agents, under_load, until_nobody_holds
from zdd_lab.threaded import ThreadedLab

RUNS = 200 if os.environ.get("ZDD_SOAK") else 3
RATE = 100.0  # requests a second, over both nodes


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    with fleet(2, 1) as running:
        running.run(start_agents(running.lab, running.lab.hosts))
        yield running


def test_only_one_of_two_leaves_and_no_request_fails_in_any_run(running: ThreadedLab) -> None:
    running.run(_race(running), 60.0 * RUNS)


async def _race(running: ThreadedLab) -> None:
    lab = running.lab
    for number in range(RUNS):
        async with under_load(lab, RATE, f"race-{number}") as watched:
            said = await asyncio.gather(*(command(lab, host, "drain") for host in lab.hosts))
            assert sorted(one.code for one in said) == [0, 4], said
            winner = lab.hosts[[one.code for one in said].index(0)]
            back = await command(lab, winner, "rejoin")
            assert back.code == 0, back.text
        assert watched.out.most == 1
        assert watched.load.failed() == []
        await until_nobody_holds(lab)
