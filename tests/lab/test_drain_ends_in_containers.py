"""The app is in a container with a published port: a drain ends as early as anywhere, where the opener is enabled.

Each host has a network namespace, its container one more, and DNAT leads from one to the other.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from containers import Container, missing
from lab.container_rig import INNER_PORT, ContainerHost, containers_lab
from lab.drain_rig import Case, Deregistration, Street, ask, by_proof, leave, operate, seen_leaving, until_so
from lab.test_drain_ends_with_the_last_request import (
    DELAY,
    a_client_that_uploads_slowly,
    an_answer_that_streams,
    requests_that_start_until_the_last_moment,
)
from published import BRIDGE, inside
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST

_WHY = missing() or ("" if shutil.which("nft") else "needs nft")
pytestmark = pytest.mark.skipif(bool(_WHY), reason=f"run as root: {_WHY}")

PROFILE = replace(FAST, response_timeout=20.0)


async def a_container_that_is_killed(lab: Lab, host: Host, until: str) -> None:
    """Its connections end with it: a drain does not wait for a request that nobody answers any more."""
    assert isinstance(host, ContainerHost)

    async def killing(gone: Deregistration) -> float:
        asking = asyncio.create_task(ask(host.identity.address, "/sleep?seconds=60"))
        await until_so(lambda: gone.over, 60)
        await asyncio.sleep(6)  # longer than the floor: it holds the drain
        assert host.container is not None
        await asyncio.to_thread(host.container.kill)
        killed = time.time()
        assert (await asking).error
        return killed

    drained, gone, killed = await seen_leaving(lab, host, until, killing, early=True)
    assert drained.ended > killed
    by_proof(drained, gone, killed, DELAY)


async def a_container_that_replaces_another(lab: Lab, host: Host, until: str) -> None:
    """A deploy, and the next one: each drain finds the container that is there by then."""
    assert isinstance(host, ContainerHost)
    for version in ("v2", "v3"):
        gone = Deregistration()
        watching = asyncio.create_task(gone.watch(lab, host))
        drained = await operate(lab, host, "drain", "--until", until)
        await watching
        by_proof(drained, gone, gone.deregistered, DELAY)
        await host.restart_app(version)
        rejoined = await operate(lab, host, "rejoin")
        assert rejoined.outcome == "succeeded"


async def no_opener(lab: Lab, host: Host, until: str) -> None:
    """The agent cannot look into the container: then the API alone ends the drain."""
    gone = Deregistration()
    watching = asyncio.create_task(gone.watch(lab, host))
    drained = await leave(lab, host, "--until", until)
    await watching
    assert drained.outcome == "succeeded"
    assert "cannot look into the container" in drained.whole
    assert drained.ended - gone.deregistered > DELAY - 0.05


async def a_monitor_on_the_host(lab: Lab, host: Host, until: str) -> None:
    """It asks the container in the rhythm of health checks, whose own way leads elsewhere: that proves nothing."""
    assert isinstance(host, ContainerHost)
    web = host.container
    assert web is not None
    last = host.net.containers.index(web) + 2
    await host.start_app("v1")  # the port leads to this one from now on
    assert host.container is not None
    host.engine.forget()
    host.engine.podman("web", web.pid)
    over = asyncio.Event()

    async def probing() -> None:
        while not over.is_set():
            await asyncio.to_thread(_probe, host.net.place, last)
            await asyncio.sleep(PROFILE.check_interval * PROFILE.check_scale)

    probes = asyncio.create_task(probing())
    gone = Deregistration()
    watching = asyncio.create_task(gone.watch(lab, host))
    drained = await leave(lab, host, "--until", until)
    await watching
    over.set()
    await probes
    assert drained.outcome == "succeeded"
    assert f"no health check of the load balancer was seen on port {APP_PORT}" in drained.whole
    assert drained.ended - gone.deregistered > DELAY - 0.05


def _probe(place: Container, last: int) -> None:
    def asked() -> bytes:
        with socket.create_connection((f"{BRIDGE}.{last}", INNER_PORT), 5.0) as made:
            made.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return made.recv(1000)

    assert inside(place, asked).startswith(b"HTTP/1.1 200")


CASES: list[Case] = [
    (requests_that_start_until_the_last_moment, "closed"),
    (requests_that_start_until_the_last_moment, "idle"),
    (an_answer_that_streams, "idle"),
    (a_client_that_uploads_slowly, "closed"),
    (a_container_that_is_killed, "closed"),
    (a_container_that_replaces_another, "closed"),
    (a_monitor_on_the_host, "closed"),
    (no_opener, "closed"),
]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with containers_lab(profile=PROFILE, hosts=len(CASES) + 1) as running:
        last = running.lab.hosts[-1]
        assert isinstance(last, ContainerHost)
        last.opens = False
        yield Street(running, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_a_drain_of_a_container_knows_of(street: Street, case: Case) -> None:
    street.kept(case)


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
