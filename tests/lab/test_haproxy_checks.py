"""HAProxy's own health checks at true length, which go on while a target drains, are known and hold no drain up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.drain_rig import FLOOR, Case, Street, by_proof, seen_leaving
from lab.haproxy_rig import haproxy_lab, needs_haproxy
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST

pytestmark = needs_haproxy
INTERVAL = 5.0  # s, the shortest that the API takes
# Two nodes check within each interval, so that a host is never quiet for a whole one unless checks are told apart.
QUIET = INTERVAL
PROFILE = replace(
    FAST,
    closes_idle_on_deregistration=False,
    checks_while_draining=True,
    check_interval=INTERVAL,
    check_timeout=2.0,
    check_scale=1.0,
    deregistration_delay=60.0,
)
SETTINGS = {
    "ZDD_AGENT_DRAIN__QUIET_SECONDS": f"{QUIET:g}",
    "ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION": f"{FLOOR:g}",
    "ZDD_AGENT_POLL__INTERVAL_SECONDS": "1",
}


async def checks_that_go_on(lab: Lab, host: Host, until: str) -> None:
    """They are known by their rhythm, after three of each node."""
    drained, gone, _ = await seen_leaving(lab, host, until, lambda _: asyncio.sleep(0))
    by_proof(drained, gone, gone.deregistered + 3 * INTERVAL + QUIET, PROFILE.deregistration_delay)


CASES: list[Case] = [(checks_that_go_on, "idle")]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with haproxy_lab(profile=PROFILE, hosts=2, agents=False) as running:
        yield Street(running, CASES, SETTINGS)


def test_a_drain_is_not_held_up_by_haproxys_checks(street: Street) -> None:
    street.kept(CASES[0])


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
