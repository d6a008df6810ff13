"""Three hosts that take turns: one is out at a time, whatever happens to the one that is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from lab.slots_rig import Said, command, deploy, fleet, holders, start_agents, under_load, until_nobody_holds
from rollout import set_health
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.faults import Fault, FaultKind
from zdd_lab.threaded import ThreadedLab

RATE = 40.0  # requests a second, over both nodes


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    with fleet(3, 1) as running:
        running.run(start_agents(running.lab, running.lab.hosts))
        yield running


@pytest.fixture
def lab(running: ThreadedLab) -> Iterator[Lab]:
    """Every host in service, nobody in the table."""
    yield running.lab
    running.lab.faults.clear()
    running.run(_back(running.lab))


async def _back(lab: Lab) -> None:
    for host in lab.hosts:
        await asyncio.to_thread(set_health, host, 200)
    for said in await asyncio.gather(*(command(lab, host, "rejoin") for host in lab.hosts)):
        assert said.code == 0, said.text
    await lab.wait_until_healthy()
    await until_nobody_holds(lab)


def run(running: ThreadedLab, promise: Coroutine[Any, Any, None]) -> None:
    running.run(promise, 240)


def codes(said: list[Said]) -> list[int]:
    return sorted(one.code for one in said)


def test_of_two_that_leave_at_once_one_is_refused_and_no_request_fails(running: ThreadedLab, lab: Lab) -> None:
    async def promise() -> None:
        one, other, _ = lab.hosts
        async with under_load(lab, RATE) as watched:
            said = await asyncio.gather(*(command(lab, host, "drain") for host in (one, other)))
            assert codes(list(said)) == [0, 4], said
            (held,) = await holders(lab)
            winner = one if held == one.name else other
            assert winner is (one if said[0].code == 0 else other)
            assert (await command(lab, winner, "rejoin")).code == 0
            assert await holders(lab) == set()
        assert watched.out.most == 1
        assert watched.load.failed() == []

    run(running, promise())


def test_three_that_deploy_at_once_take_turns(running: ThreadedLab, lab: Lab) -> None:
    async def promise() -> None:
        async with under_load(lab, RATE) as watched:
            ended = await asyncio.gather(*(deploy(lab, host, "v2", wait=120) for host in lab.hosts))
        for said in ended:
            assert [one.code for one in said] == [0, 0], said
        assert {host.version for host in lab.hosts} == {"v2"}
        assert watched.out.most == 1
        assert watched.load.failed() == []

    run(running, promise())


def test_whoever_waits_is_told_who_is_before_it(running: ThreadedLab, lab: Lab) -> None:
    async def promise() -> None:
        one, other, _ = lab.hosts
        assert (await command(lab, one, "drain")).code == 0
        said = await command(lab, other, "drain", "--wait", "5")
        assert said.code == 4, said.text
        assert one.identity.instance_id in said.text
        shown = await command(lab, other, "slots")
        assert shown.code == 0, shown.text
        assert one.identity.instance_id in shown.text

    run(running, promise())


async def _fail_a_release(lab: Lab, host: Host) -> None:
    """The host is out, and its app does not pass."""
    assert (await command(lab, host, "drain")).code == 0
    await asyncio.to_thread(set_health, host, 500)
    said = await command(lab, host, "rejoin", "--timeout", "5")
    assert said.code in (1, 3), said.text


def test_a_host_whose_release_failed_keeps_its_slot_and_nobody_else_leaves(running: ThreadedLab, lab: Lab) -> None:
    async def promise() -> None:
        bad, *others = lab.hosts
        async with under_load(lab, RATE) as watched:
            await _fail_a_release(lab, bad)
            said = await asyncio.gather(*(command(lab, host, "drain", "--wait", "3") for host in others))
            assert codes(list(said)) == [4, 4], said
            assert await holders(lab) == {bad.name}
        assert watched.out.most == 1
        assert watched.load.failed() == []

    run(running, promise())


def test_a_person_gives_back_the_slot_of_a_host_that_lives_only_by_force(running: ThreadedLab, lab: Lab) -> None:
    async def promise() -> None:
        bad, person, _ = lab.hosts
        instance = bad.identity.instance_id
        await _fail_a_release(lab, bad)
        release = ("slots", "release", instance, "--reason", "it is gone")
        refused = await command(lab, person, *release)
        assert refused.code == 4, refused.text
        assert await holders(lab) == {bad.name}
        done = await command(lab, person, *release, "--force", "alive")
        assert done.code == 0, done.text
        assert instance in done.text

    run(running, promise())


def test_out_of_reach_a_drain_is_refused_and_a_rejoin_goes_through(running: ThreadedLab, lab: Lab) -> None:
    async def promise() -> None:
        one, other, _ = lab.hosts
        assert (await command(lab, one, "drain")).code == 0
        fault = lab.faults.add(Fault(FaultKind.TIMEOUT_BEFORE_EFFECT, service="dynamodb", seconds=0.2))

        refused = await command(lab, other, "drain")
        assert refused.code == 4, refused.text
        assert "slot" in refused.text
        rejoined = await command(lab, one, "rejoin")
        assert rejoined.code == 0, rejoined.text
        assert "slot" in (await command(lab, one, "status")).text

        lab.faults.clear(fault.id)
        await until_nobody_holds(lab, 90)  # given back in the background

    run(running, promise())
