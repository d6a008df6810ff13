"""A spot notice finds hosts in service, draining and probing, under load: each is empty before its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import requests

from lab.auto_scaling_rig import RATE, WATCH, Said, command, group_of, reached, start_agents, target_of
from lab.drain_rig import load
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.notices import NoticeKind
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab
from zdd_lab.traffic.records import Record

PROFILE = replace(FAST, deregistration_delay=10.0)
SPOT = WATCH | {"ZDD_AGENT_NOTICES__SPOT": "drain"}


@dataclass
class Seen:
    ended: list[Said]  # what `status` said when each drain had succeeded; then the app was stopped at once
    targets: set[str]
    rejoin: Said  # of the host that was in service
    failed: list[Record]
    requests: int


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with group_of(4, PROFILE) as running:
        yield running.run(_all(running))


async def _all(running: ThreadedLab) -> Seen:
    lab = running.lab
    serving, draining, probing, _ = lab.hosts
    noticed = [serving, draining, probing]
    await start_agents(noticed, SPOT)
    async with load(lab, RATE) as under:
        assert (await command(lab, probing, "drain")).code == 0
        url = f"http://{probing.identity.address}:{probing.app_port}/_lab/health"
        await asyncio.to_thread(requests.post, url, json={"code": 503}, timeout=5)
        await command(lab, probing, "rejoin", "--detach")
        await command(lab, draining, "drain", "--detach")
        await reached(lambda: target_of(lab, draining) == "draining", "a drain is under way")
        for host in noticed:
            lab.fleet.announce(host, NoticeKind.SPOT)
        ended = await asyncio.gather(*(_empty(lab, host) for host in noticed))
        await reached(lambda: all(target_of(lab, host) == "absent" for host in noticed), "all are out", 60)
        rejoin = await command(lab, serving, "rejoin")
    targets = {target_of(lab, host) for host in noticed}
    return Seen(ended, targets, rejoin, under.failed(), len(under.records()))


async def _empty(lab: Lab, host: Host) -> Said:
    """Wait until the host leaves and its last drain has succeeded, and end its app: what is left there is cut."""
    async with asyncio.timeout(60):
        while True:
            said = await command(lab, host, "status")
            if said.told["posture"] == "leaving" and said.told["operation"]["outcome"] == "succeeded":
                await host.stop_app()
                return said
            await asyncio.sleep(0.2)


def test_every_host_is_empty_and_leaving_long_before_its_end(seen: Seen) -> None:
    assert {one.told["posture"] for one in seen.ended} == {"leaving"}
    assert {one.told["operation"]["outcome"] for one in seen.ended} == {"succeeded"}
    assert seen.targets == {"absent"}


def test_no_rejoin_puts_back_a_host_that_ec2_takes(seen: Seen) -> None:
    assert seen.rejoin.code == 4
    assert "this spot instance will terminate" in seen.rejoin.whole


def test_no_request_fails(seen: Seen) -> None:
    assert seen.requests > 5 * RATE
    assert seen.failed == []
