"""The load balancer's nodes keep their idle connections to a deregistered host until the idle timeout.

And what comes after the drain: a rejoin while the API still says `draining`, where AWS takes it and where it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lab.conftest import free_prefix
from lab.drain_rig import BIN, FLOOR, Case, Street, by_proof, elb_calls, operate, run, seen_leaving, until_so
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab

PROFILE = replace(FAST, closes_idle_on_deregistration=False, reregister_draining_ip=False)
DELAY = PROFILE.deregistration_delay
SHORT_DELAY = 10.0  # s, of the group of addresses
OTHER_PORT = 8090  # of the listener before that group


async def kept_connections(lab: Lab, host: Host, until: str) -> None:
    """`closed` ends when they do, and `idle` does not wait for them."""
    drained, gone, _ = await seen_leaving(lab, host, until, lambda _: asyncio.sleep(0))
    asked_last = max(
        target["last_request_at"] or 0.0
        for node in lab.plane.nodes.values()
        for target in node.counters()["targets"]
        if target["id"] == host.identity.instance_id
    )
    kept_until = asked_last + PROFILE.idle_timeout
    if until == "closed":
        assert "no connection left" in drained.message
        assert drained.ended > kept_until - 0.1
        by_proof(drained, gone, kept_until, DELAY)
    else:
        assert "open without" in drained.message
        assert drained.ended < kept_until
        by_proof(drained, gone, gone.deregistered, DELAY)


async def a_rejoin_that_is_accepted_while_the_api_says_draining(lab: Lab, host: Host, until: str) -> None:
    """A drain and a rejoin of one group make seven calls, one for every other group, and the looks that have to agree.

    The search asks those of the VPC, since the settings name none. After the deregistration comes another search, which
    must agree that no other group holds this host; and one look is the last before the drain ends. The agent has run
    for a while: a fresh one first waits for health checks, and the guard then looks once more.
    """
    await run([str(BIN / "zdd-agent"), "status"], lab.env(host))
    await asyncio.sleep(8 * PROFILE.check_interval)
    before = sum(elb_calls(lab, host).values())
    drained = await operate(lab, host, "drain", "--until", until)
    await host.restart_app("v2")
    assert _states(lab, host) == ["draining"]
    rejoined = await operate(lab, host, "rejoin")
    assert (drained.outcome, rejoined.outcome) == ("succeeded", "succeeded")
    assert _states(lab, host) == ["healthy"]
    calls = elb_calls(lab, host)
    assert calls["DeregisterTargets"] == calls["RegisterTargets"] == 1
    groups = len(lab.plane.elb.topology.groups)
    once, to_agree = 7 + groups - 1, (1 + groups) + 1
    assert sum(calls.values()) - before <= once + to_agree, calls


async def a_rejoin_that_is_refused_while_the_api_says_draining(lab: Lab, host: Host, until: str) -> None:
    """It waits, for that group alone: the other one, whose delay is longer, has the host back at once."""
    await asyncio.to_thread(_group_of_addresses, lab, host)
    await until_so(lambda: _states(lab, host) == ["healthy", "healthy"])
    drained = await operate(lab, host, "drain", "--until", until, "--force", "min-healthy")
    await host.restart_app("v2")
    assert _states(lab, host) == ["draining", "draining"]
    rejoined = await operate(lab, host, "rejoin")
    assert (drained.outcome, rejoined.outcome) == ("succeeded", "succeeded")
    assert "is still being deregistered" in rejoined.whole
    assert rejoined.ended < drained.ended + DELAY - 2 * FLOOR
    assert _states(lab, host) == ["healthy", "healthy"]


CASES: list[Case] = [
    (kept_connections, "closed"),
    (kept_connections, "idle"),
    (a_rejoin_that_is_accepted_while_the_api_says_draining, "idle"),
    (a_rejoin_that_is_refused_while_the_api_says_draining, "idle"),
]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with ThreadedLab(prefix=free_prefix(), profile=PROFILE, hosts=len(CASES) + 1, agents=False) as running:
        yield Street(running, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_a_drain_and_what_follows_it_beside(street: Street, case: Case) -> None:
    street.kept(case)


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []


def _states(lab: Lab, host: Host) -> list[str]:
    own = {host.identity.instance_id, host.identity.address}
    return [t["state"] for t in lab.state()["targets"] if t["id"] in own]


def _group_of_addresses(lab: Lab, host: Host) -> str:
    """A group of ip targets that holds this host, on its own listener. Returns its ARN."""
    client: Any = lab.client("elbv2")
    group: str = client.create_target_group(
        Name="by-address",
        Protocol="HTTP",
        Port=APP_PORT,
        VpcId=lab.network.vpc,
        TargetType="ip",
        HealthCheckPath="/healthz",
        HealthCheckIntervalSeconds=5,
    )["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": f"{SHORT_DELAY:g}"}
    client.modify_target_group_attributes(TargetGroupArn=group, Attributes=[delay])
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    client.create_listener(
        LoadBalancerArn=lab.front.load_balancer, Protocol="HTTP", Port=OTHER_PORT, DefaultActions=forward
    )
    client.register_targets(TargetGroupArn=group, Targets=[{"Id": host.identity.address, "Port": APP_PORT}])
    return group
