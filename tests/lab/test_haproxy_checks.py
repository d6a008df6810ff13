"""HAProxy's own health checks at true length, which go on while a target drains, are known and hold no drain up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.drain_rig import CHECK_INTERVAL, CHECKED_PROFILE, CHECKED_SETTINGS, Case, Street, by_proof, seen_leaving
from lab.haproxy_rig import haproxy_lab, needs_haproxy
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab

pytestmark = needs_haproxy
PROFILE = replace(CHECKED_PROFILE, closes_idle_on_deregistration=False)


async def checks_that_go_on(lab: Lab, host: Host, until: str) -> None:
    """They are known by their rhythm, after three of each node."""
    drained, gone, _ = await seen_leaving(lab, host, until, lambda _: asyncio.sleep(0))
    by_proof(drained, gone, gone.deregistered + 3 * CHECK_INTERVAL + CHECK_INTERVAL, PROFILE.deregistration_delay)


CASES: list[Case] = [(checks_that_go_on, "idle")]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with haproxy_lab(profile=PROFILE, hosts=2, agents=False) as running:
        yield Street(running, CASES, CHECKED_SETTINGS)


def test_a_drain_is_not_held_up_by_haproxys_checks(street: Street) -> None:
    street.kept(CASES[0])


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
