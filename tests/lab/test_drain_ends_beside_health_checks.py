"""Health checks that go on while a target drains, which AWS does not say: they neither end a drain nor hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from lab.conftest import free_prefix
from lab.drain_rig import CHECK_INTERVAL, CHECKED_PROFILE, CHECKED_SETTINGS, Case, Street, by_proof, seen_leaving
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.threaded import ThreadedLab


async def checks_that_go_on(lab: Lab, host: Host, until: str) -> None:
    """They are known by their rhythm, and hold no drain up."""
    drained, gone, _ = await seen_leaving(lab, host, until, lambda _: asyncio.sleep(0))
    rhythm = gone.deregistered + 3 * CHECK_INTERVAL  # three checks of each node tell that they are checks
    by_proof(drained, gone, rhythm + CHECK_INTERVAL, CHECKED_PROFILE.deregistration_delay)
    checked = [t for node in lab.plane.nodes.values() for t in node.counters()["targets"]]
    assert any(t["id"] == host.identity.instance_id and t["deregistered"] for t in checked)


CASES: list[Case] = [(checks_that_go_on, "closed"), (checks_that_go_on, "idle")]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with ThreadedLab(prefix=free_prefix(), profile=CHECKED_PROFILE, hosts=3, agents=False) as running:
        yield Street(running, CASES, CHECKED_SETTINGS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_a_drain_is_not_held_up_by_checks_that_go_on(street: Street, case: Case) -> None:
    street.kept(case)


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
