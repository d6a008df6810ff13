"""Drains under load on a data plane that was not written here: HAProxy's nodes, uvicorn's app, the real agent.

Each drain is followed by SIGKILL for the app. HAProxy never tries a request again, and cuts none before the
deregistration delay is over, which is far longer than a request here. So every request that fails was cut by a drain
that ended too early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.drain_rig import (
    BIN,
    FLOOR,
    Asked,
    Case,
    Deregistration,
    Ended,
    Street,
    leave,
    operate,
    run,
    seen_leaving,
    through,
    until_so,
)
from lab.haproxy_rig import haproxy_lab, needs_haproxy
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST

pytestmark = needs_haproxy
LONG = 5.0  # s, of a request; HAProxy gives up after 20
# HAProxy's `maint` for a deregistered server, and its `drain`: it keeps idle connections and goes on checking.
PATIENT = replace(FAST, response_timeout=20.0)
PROFILES = {
    "maint": PATIENT,
    "drain": replace(PATIENT, closes_idle_on_deregistration=False, checks_while_draining=True),
}


def by_proof(lab: Lab, drained: Ended, gone: Deregistration, until: str) -> None:
    """It ended after every node knew and after the floor, without waiting for the API or for idle connections.

    In `drain` HAProxy can keep an idle connection to a server until the deregistration delay is over. Only `closed` has
    to wait for it.
    """
    assert drained.outcome == "succeeded", drained.whole
    assert drained.ended >= max(gone.last, gone.deregistered + FLOOR - 0.05)
    if until == "closed":
        assert "no connection left" in drained.message
    if until == "idle" or lab.profile.closes_idle_on_deregistration:
        assert "the API would have said `unused` in" in drained.message
        assert drained.ended < gone.deregistered + lab.profile.deregistration_delay - 2


def whole(asked: list[Asked]) -> None:
    """There were requests to this host, and each got its whole answer."""
    assert asked
    assert [one.error for one in asked if one.error] == []


async def nothing_but_the_load(lab: Lab, host: Host, until: str) -> None:
    drained, gone, _ = await seen_leaving(lab, host, until, lambda _: asyncio.sleep(0))
    by_proof(lab, drained, gone, until)


async def long_requests_that_start_until_the_last_moment(lab: Lab, host: Host, until: str) -> None:
    drained, gone, asked = await through(lab, host, until, f"/sleep?seconds={LONG:g}", 0.03)
    whole(asked)
    by_proof(lab, drained, gone, until)


async def answers_that_stream(lab: Lab, host: Host, until: str) -> None:
    drained, gone, asked = await through(lab, host, until, f"/stream?seconds={LONG:g}&step=0.25", 0.1, early=True)
    whole(asked)
    by_proof(lab, drained, gone, until)


async def a_drain_that_was_cancelled(lab: Lab, host: Host, until: str) -> None:
    """The second drain proves as much as a first one: it does not end while a node may still send."""
    gone = Deregistration()
    watching = asyncio.create_task(gone.watch(lab, host))
    first = asyncio.create_task(operate(lab, host, "drain", "--until", until))
    await until_so(lambda: gone.deregistered > 0, 60)
    code, _, said, _ = await run([str(BIN / "zdd-agent"), "cancel"], lab.env(host))
    assert code == 0, said
    assert (await first).outcome == "cancelled"
    second = await leave(lab, host, "--until", until)
    await watching
    by_proof(lab, second, gone, until)


CASES: list[Case] = [
    (nothing_but_the_load, "closed"),
    (nothing_but_the_load, "idle"),
    (long_requests_that_start_until_the_last_moment, "closed"),
    (long_requests_that_start_until_the_last_moment, "idle"),
    (answers_that_stream, "closed"),
    (answers_that_stream, "idle"),
    (a_drain_that_was_cancelled, "idle"),
]


@pytest.fixture(scope="module", params=PROFILES)
def street(request: pytest.FixtureRequest) -> Iterator[Street]:
    with haproxy_lab(profile=PROFILES[request.param], hosts=len(CASES) + 1, agents=False) as running:
        yield Street(running, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_a_drain_loses_no_request_after(street: Street, case: Case) -> None:
    street.kept(case)


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
