"""Health checks that go on while a target drains, which AWS does not say: they neither end a drain nor hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.conftest import free_prefix
from lab.drain_rig import FLOOR, Case, Street, by_proof, seen_leaving
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab

INTERVAL = 5.0  # s, the shortest that the API takes
# Two nodes check within each interval, so that a host is never quiet for a whole one unless checks are told apart.
QUIET = INTERVAL
PROFILE = replace(
    FAST,
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
    """They are known by their rhythm, and hold no drain up."""
    drained, gone, _ = await seen_leaving(lab, host, until, lambda _: asyncio.sleep(0))
    rhythm = gone.deregistered + 3 * INTERVAL  # three checks of each node tell that they are checks
    by_proof(drained, gone, rhythm + QUIET, PROFILE.deregistration_delay)
    checked = [t for node in lab.plane.nodes.values() for t in node.counters()["targets"]]
    assert any(t["id"] == host.identity.instance_id and t["deregistered"] for t in checked)


CASES: list[Case] = [(checks_that_go_on, "closed"), (checks_that_go_on, "idle")]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with ThreadedLab(prefix=free_prefix(), profile=PROFILE, hosts=3, agents=False) as running:
        yield Street(running, CASES, SETTINGS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_a_drain_is_not_held_up_by_checks_that_go_on(street: Street, case: Case) -> None:
    street.kept(case)


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
