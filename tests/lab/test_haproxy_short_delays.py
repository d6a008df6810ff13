"""A deregistration delay that is shorter than the nodes' lag, or than a request: `unused` comes while work is left.

On HAProxy's nodes and uvicorn's app. The nodes cut nothing, so a request that fails was cut by a drain that ended too
early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.drain_rig import Case, Street, seen_leaving, through
from lab.haproxy_rig import LenientNode, haproxy_lab, needs_haproxy
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST

pytestmark = needs_haproxy
LONG = 12.0  # s, of a request: longer than the floor, and than every delay here
PROFILE = replace(FAST, response_timeout=30.0)


async def nothing_but_the_load(lab: Lab, host: Host, until: str) -> None:
    drained, gone, _ = await seen_leaving(lab, host, until, lambda _: asyncio.sleep(0))
    assert drained.outcome == "succeeded"
    assert drained.ended >= gone.last


async def long_requests(lab: Lab, host: Host, until: str) -> None:
    drained, _, asked = await through(lab, host, until, f"/sleep?seconds={LONG:g}", 0.1, early=True)
    assert asked
    assert [one.error for one in asked if one.error] == []
    assert drained.outcome == "succeeded"


CASES: list[Case] = [
    (nothing_but_the_load, "closed"),
    (nothing_but_the_load, "idle"),
    (long_requests, "closed"),
    (long_requests, "idle"),
]


@pytest.fixture(scope="module", params=[0.0, 8.0], ids=lambda delay: f"{delay:g}s")
def street(request: pytest.FixtureRequest) -> Iterator[Street]:
    profile = replace(PROFILE, deregistration_delay=request.param)
    with haproxy_lab(LenientNode, profile=profile, hosts=len(CASES) + 1, agents=False) as running:
        yield Street(running, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_a_drain_loses_no_request_of(street: Street, case: Case) -> None:
    street.kept(case)


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
