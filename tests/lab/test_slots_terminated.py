"""A host that is terminated while it is out holds its slot for nobody: whoever waits asks EC2, and gives it back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from lab.slots_rig import command, fleet, holders, start_agents
from zdd_lab.threaded import ThreadedLab


@pytest.fixture
def running() -> Iterator[ThreadedLab]:
    with fleet(3, 1) as running:
        running.run(start_agents(running.lab, running.lab.hosts))
        yield running


def test_whoever_waits_gives_back_the_slot_of_a_host_that_ec2_has_terminated(running: ThreadedLab) -> None:
    async def promise() -> None:
        lab = running.lab
        gone, other, _ = lab.hosts
        assert (await command(lab, gone, "drain")).code == 0
        await gone.signal_agent(signal.SIGKILL)

        refused = await command(lab, other, "drain", "--wait", "3")
        assert refused.code == 4, refused.text
        assert await holders(lab) == {gone.name}

        ec2 = lab.client("ec2")
        await asyncio.to_thread(ec2.terminate_instances, InstanceIds=[gone.identity.instance_id])
        drained = await command(lab, other, "drain", "--wait", "60")
        assert drained.code == 0, drained.text
        assert await holders(lab) == {other.name}
        assert gone.identity.instance_id in (other.folder / "agent.log").read_text("utf-8")

    running.run(promise(), 200)
