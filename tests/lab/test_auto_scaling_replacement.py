"""A group of type ELB, and what AWS does not say: whether it replaces a host that is deregistered. Both are played."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from lab.auto_scaling_rig import GROUP, RATE, WATCH, Said, command, group_of, reached, start_agents, state_of, target_of
from lab.drain_rig import load
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab
from zdd_lab.traffic.records import Record

DELAY = 12  # s of deregistration: a deploy whose floor is 5 s is back before that
LONGER = {"ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION": f"{DELAY + 1}"}
PROFILE = replace(FAST, deregistration_delay=float(DELAY), scaling_check_interval=0.5)
# Of four hosts: the first drains for longer than the delay, in mode `watch`; the second is to, in mode `strict`; the
# others are back before that, each with the new release.
SETTINGS = [WATCH | LONGER, WATCH | LONGER | {"ZDD_AGENT_AUTO_SCALING__MODE": "strict"}, WATCH, WATCH]


@dataclass
class Seen:
    replaces: bool
    status: Said
    strict: Said
    back: list[Said]  # drain and rejoin of the third and of the fourth
    versions: list[str | None]  # of the third and of the fourth
    states: list[tuple[str, str]]  # of each host of the beginning, in the group and in the target group
    strict_calls: set[str]
    members: int
    failed: list[Record]
    requests: int


@pytest.fixture(scope="module", params=[True, False], ids=["replaces", "does not replace"])
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    profile = replace(PROFILE, replaces_deregistered=request.param)
    with group_of(4, profile, HealthCheckType="ELB", MinSize=4) as running:
        yield running.run(_all(running))


async def _all(running: ThreadedLab) -> Seen:
    lab = running.lab
    hosts = list(lab.hosts)
    watches, strict, *quick = hosts
    await asyncio.gather(*(start_agents([host], settings) for host, settings in zip(hosts, SETTINGS, strict=True)))
    async with load(lab, RATE) as under:
        status = await command(lab, watches, "status")
        await command(lab, watches, "drain", "--detach")  # its daemon may go with its host
        refused = await command(lab, strict, "drain")
        back = [said for host in quick for said in await _deploy(lab, host)]
        if lab.profile.replaces_deregistered:
            await reached(lambda: state_of(lab, watches) == "gone", "the first host is replaced")
            await reached(lambda: len(lab.hosts) == 4, "its replacement")
        else:
            assert (await command(lab, watches, "drain")).code == 0
            assert (await command(lab, watches, "rejoin")).code == 0
        await lab.wait_until_healthy()
    states = [(state_of(lab, host), target_of(lab, host)) for host in hosts]
    calls = {action for who, action in lab.endpoint.calls if who == strict.name}
    members = len(lab.fleet.account.groups[GROUP].members)
    versions = [host.version for host in quick]
    return Seen(
        lab.profile.replaces_deregistered, status, refused, back, versions, states, calls, members, under.failed(),
        len(under.records()),
    )  # fmt: skip


async def _deploy(lab: Lab, host: Host) -> tuple[Said, Said]:
    drained = await command(lab, host, "drain")
    await host.restart_app("v2")
    return drained, await command(lab, host, "rejoin")


def test_status_says_how_soon_a_drained_host_must_be_back(seen: Seen) -> None:
    assert seen.status.code == 0
    assert f"a drained host must be back within {DELAY} s, or the group may replace it" in seen.status.whole


def test_strict_refuses_a_drain_that_outlasts_the_delay_and_changes_nothing(seen: Seen) -> None:
    assert seen.strict.code == 4
    assert f"may replace a host {DELAY} s after its deregistration" in seen.strict.whole
    assert f"this drain takes at least {DELAY + 1} s" in seen.strict.whole
    assert "DeregisterTargets" not in seen.strict_calls
    assert seen.states[1] == ("InService", "healthy")


def test_a_rolling_deploy_whose_hosts_are_back_before_the_delay_is_over_replaces_nobody(seen: Seen) -> None:
    assert [one.code for one in seen.back] == [0] * 4
    assert seen.versions == ["v2", "v2"]
    assert seen.states[2:] == [("InService", "healthy")] * 2


def test_a_host_that_is_out_for_longer_is_replaced_where_the_group_does_that(seen: Seen) -> None:
    assert seen.states[0] == (("gone", "absent") if seen.replaces else ("InService", "healthy"))
    assert seen.members == 4


def test_no_request_fails_whatever_the_group_does(seen: Seen) -> None:
    assert seen.requests > 10 * RATE
    assert seen.failed == []
