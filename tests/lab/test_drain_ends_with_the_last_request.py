"""A drain ends when the last request does: real agents, real connections, at a tenth of ALB's length.

Moments are compared with each other, never with a stopwatch: `soon` is far from what waiting for the API would take.
Each drain is followed by the app's end at once, so a request that was still in flight would be cut, and seen.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.conftest import free_prefix
from lab.drain_rig import (
    FLOOR,
    QUIET,
    Asked,
    Case,
    Deregistration,
    Street,
    by_proof,
    listens_now,
    seen_leaving,
    through,
    until_so,
)
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST
from zdd_lab.processes import children
from zdd_lab.threaded import ThreadedLab

DELAY = FAST.deregistration_delay
# A node gives up long after the longest request here, also where both have to wait for a processor.
PROFILE = replace(FAST, response_timeout=20.0)


async def requests_that_start_until_the_last_moment(lab: Lab, host: Host, until: str) -> None:
    """And outlast the floor."""
    drained, gone, asked = await through(lab, host, until, "/sleep?seconds=5", 0.03)
    assert [one.error for one in asked if one.error] == []
    latest, answered = max(one.began for one in asked), max(one.ended for one in asked)
    assert latest > gone.deregistered
    assert answered > gone.deregistered + FLOOR
    by_proof(drained, gone, answered, DELAY)


async def an_answer_that_streams(lab: Lab, host: Host, until: str) -> None:
    """Under `closed` it may pause for longer than `quiet_seconds`; under `idle` it must not, as the settings say."""
    step = 3 * QUIET if until == "closed" else QUIET / 2
    drained, gone, asked = await through(lab, host, until, f"/stream?seconds=5&step={step}", 0.1, early=True)
    assert asked
    assert [one.error for one in asked if one.error] == []
    by_proof(drained, gone, max(one.ended for one in asked), DELAY)


async def a_client_that_uploads_slowly(lab: Lab, host: Host, until: str) -> None:
    """Whose pauses are longer than what counts as quiet."""

    async def uploads(_: Deregistration) -> list[Asked]:
        return await asyncio.gather(*(_upload(url, parts=6, every=2 * QUIET) for url in lab.urls * 15))

    drained, gone, asked = await seen_leaving(lab, host, until, uploads)
    assert [one.error for one in asked if one.error] == []
    mine = [one.ended for one in asked if one.host == host.name]
    assert mine
    by_proof(drained, gone, max(mine), DELAY)


async def _upload(url: str, parts: int, every: float) -> Asked:
    """A body that trickles."""
    address = url.removeprefix("http://").partition(":")[0]
    reader, writer = await asyncio.open_connection(address, APP_PORT)
    asked = Asked(time.time())
    head = f"POST /upload HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {parts}\r\n\r\n"
    writer.write(head.encode())
    for _ in range(parts):
        await asyncio.sleep(every)
        writer.write(b"x")
    answer = await reader.read()
    writer.close()
    asked.ended = time.time()
    asked.error = "" if answer.endswith(b'{"length": %d}' % parts) else repr(answer)
    asked.host = answer.partition(b"X-Host: ")[2].partition(b"\r\n")[0].decode()
    return asked


async def pipelined_requests(lab: Lab, host: Host, until: str) -> None:
    """By a client that the load balancer's node lets pipeline, and by one that speaks to the app itself."""
    node = lab.urls[0].removeprefix("http://").partition(":")[0]
    app, outside = host.identity.address, f"{lab.prefix}.66"

    async def asking(_: Deregistration) -> list[float]:
        return await asyncio.gather(_pipelined(node, None), _pipelined(app, outside))

    drained, gone, (_, direct) = await seen_leaving(lab, host, until, asking)
    assert direct > gone.deregistered + FLOOR
    by_proof(drained, gone, direct, DELAY)


async def _pipelined(address: str, source: str | None) -> float:
    """Seven requests at once on one connection; answers when the last answer came."""
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(address, APP_PORT, local_addr=local)
    writer.write(b"GET /sleep?seconds=1 HTTP/1.1\r\nHost: test\r\n\r\n" * 7)
    for _ in range(7):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
    ended = time.time()
    writer.close()
    return ended


async def an_app_that_half_closes(lab: Lab, host: Host, until: str) -> None:
    """It holds `closed` up until its peer closes too, and `idle` not at all."""
    drained, gone, closed = await seen_leaving(lab, host, until, lambda _: _half_closed(lab, host))
    assert drained.ended > closed if until == "closed" else drained.ended < closed
    by_proof(drained, gone, closed if until == "closed" else gone.deregistered, DELAY)


async def _half_closed(lab: Lab, host: Host) -> float:
    """A peer that keeps its side open for long after the app has closed its own; answers when it closes."""
    reader, writer = await asyncio.open_connection(host.identity.address, APP_PORT, local_addr=(f"{lab.prefix}.66", 0))
    writer.write(b"GET /half-close HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    await asyncio.sleep(2 * FLOOR)
    closed = time.time()
    writer.close()
    return closed


async def an_app_on_an_ipv6_socket(lab: Lab, host: Host, until: str) -> None:
    """As Java, Node.js and Go listen: on `::`, where the kernel shows IPv4 peers as mapped addresses."""
    drained, gone, asked = await through(lab, host, until, "/sleep?seconds=5", 0.1, early=True)
    assert asked
    assert [one.error for one in asked if one.error] == []
    by_proof(drained, gone, max(one.ended for one in asked), DELAY)


async def _start_mapped_app(lab: Lab, host: Host) -> None:
    """In place of the host's own app."""
    await host.stop_app()
    address, log = host.identity.address, host.folder / "app.log"
    argv = [sys.executable, "-c", _MAPPED_APP, address, str(APP_PORT), host.name]
    host._app = children.spawn(argv, children.bare_environment(), log)
    await until_so(lambda: listens_now(address, APP_PORT))
    await asyncio.sleep(2 * lab.profile.check_interval)  # in which the nodes may have missed it
    await lab.wait_until_healthy()


_MAPPED_APP = """
import asyncio, socket, sys
from zdd_lab.hosts.app import App
from zdd_lab.http1.server import ServerConnection

async def main(address, port, name):
    app, connections = App(name, "v1", 0.0, 0.0), set()
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::ffff:" + address, int(port)))
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: ServerConnection(app.take, 75.0, connections), sock=listener)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


CASES: list[Case] = [
    (requests_that_start_until_the_last_moment, "closed"),
    (requests_that_start_until_the_last_moment, "idle"),
    (an_answer_that_streams, "closed"),
    (an_answer_that_streams, "idle"),
    (a_client_that_uploads_slowly, "closed"),
    (a_client_that_uploads_slowly, "idle"),
    (pipelined_requests, "closed"),
    (an_app_that_half_closes, "closed"),
    (an_app_that_half_closes, "idle"),
    (an_app_on_an_ipv6_socket, "closed"),
]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with ThreadedLab(prefix=free_prefix(), profile=PROFILE, hosts=len(CASES) + 1, agents=False) as running:
        running.run(_start_mapped_app(running.lab, running.lab.hosts[-1]))
        yield Street(running, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_a_drain_waits_for_the_last_of(street: Street, case: Case) -> None:
    street.kept(case)


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
