"""The app on the lab's hosts: a small HTTP server, in its own process, whose answers name the host and the version."""

import argparse
import asyncio
import json
import random
import signal
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvloop

from zdd_lab.http1.connection import Framing, Headers, surface
from zdd_lab.http1.incoming_request import Incoming
from zdd_lab.http1.server import ServerConnection

# s: longer than the load balancer's 60, so that the load balancer closes idle connections and never the app
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html
_KEEP_ALIVE = 75.0
_STREAM_STEP = 0.5  # s between two chunks of /stream
_MAX_SMALL_BODY = 4096  # bytes of a body that are kept; a control request is shorter

Query = dict[str, list[str]]
Route = Callable[[Incoming, Query], Coroutine[Any, Any, None]]


class App:
    """Answers requests for one host and version."""

    def __init__(self, name: str, version: str, slow_share: float, slow_max: float) -> None:
        self._identity: Headers = [(b"X-Host", name.encode()), (b"X-Version", version.encode())]
        self._greeting = json.dumps({"host": name, "version": version}).encode()
        self._slow_share = slow_share
        self._slow_max = slow_max
        self._health_code = 200
        self._running: set[asyncio.Task[None]] = set()
        self._routes: dict[tuple[bytes, str], Route] = {
            (b"GET", "/healthz"): self._healthz,
            (b"POST", "/_lab/health"): self._set_health,
            (b"GET", "/sleep"): self._sleep,
            (b"GET", "/stream"): self._stream,
            (b"POST", "/upload"): self._upload,
            (b"GET", "/half-close"): self._half_close,
        }

    def take(self, incoming: Incoming) -> None:
        """Begin to answer a request."""
        method, url = incoming.head.method, urlsplit(incoming.head.target.decode("latin-1"))
        if url.path == "/" and method in (b"GET", b"HEAD"):
            if random.random() < self._slow_share:
                self._spawn(self._greet_later(incoming, random.uniform(0, self._slow_max)), incoming)
            else:
                self._answer(incoming, 200, self._greeting)
            return
        route = self._routes.get((method, url.path))
        if route is None:
            self._answer(incoming, 404, b'{"error": "no such path"}')
        else:
            self._spawn(self._follow(route, incoming, parse_qs(url.query)), incoming)

    def _spawn(self, work: Coroutine[Any, Any, None], incoming: Incoming) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(surface)
        incoming.on_gone = task.cancel  # type: ignore[assignment]  # what `cancel` returns does not matter

    async def _follow(self, route: Route, incoming: Incoming, query: Query) -> None:
        try:
            await route(incoming, query)
        except ValueError as error:
            self._answer(incoming, 400, json.dumps({"error": str(error)}).encode())

    def _answer(self, incoming: Incoming, status: int, body: bytes) -> None:
        incoming.respond(status, [*self._identity, (b"Content-Type", b"application/json")], body)

    async def _greet_later(self, incoming: Incoming, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._answer(incoming, 200, self._greeting)

    async def _healthz(self, incoming: Incoming, _: Query) -> None:
        self._answer(incoming, self._health_code, b"{}")

    async def _set_health(self, incoming: Incoming, _: Query) -> None:
        body = (await read_body(incoming))[0]
        try:
            self._health_code = int(json.loads(body)["code"])
        except (ValueError, KeyError, TypeError):
            self._answer(incoming, 400, b'{"error": "send {\\"code\\": 200..599}"}')
        else:
            self._answer(incoming, 200, b"{}")

    async def _sleep(self, incoming: Incoming, query: Query) -> None:
        await self._greet_later(incoming, _seconds(query))

    async def _stream(self, incoming: Incoming, query: Query) -> None:
        step = _seconds(query, "step", _STREAM_STEP)
        incoming.start(200, b"OK", [*self._identity, (b"Content-Type", b"text/plain")], Framing.CHUNKED)
        loop = asyncio.get_running_loop()
        end = loop.time() + _seconds(query)
        while (left := end - loop.time()) > 0:
            incoming.send(b"%.3f\n" % left)
            await asyncio.sleep(min(step, left))
        incoming.send(b"end\n")
        incoming.finish()

    async def _upload(self, incoming: Incoming, _: Query) -> None:
        length = (await read_body(incoming))[1]
        self._answer(incoming, 200, json.dumps({"length": length}).encode())

    async def _half_close(self, incoming: Incoming, _: Query) -> None:
        transport = incoming.connection.transport
        self._answer(incoming, 200, self._greeting)
        if transport is not None and not transport.is_closing():
            transport.write_eof()


def _seconds(query: Query, name: str = "seconds", default: float = 1.0) -> float:
    return float(query[name][0]) if name in query else default


async def read_body(incoming: Incoming) -> tuple[bytes, int]:
    """Wait for the whole body. Return its first 4096 bytes (or more) and its length."""
    ended = asyncio.get_running_loop().create_future()
    beginning, length = bytearray(), 0

    def take(part: bytes) -> None:
        nonlocal length
        length += len(part)
        if len(beginning) < _MAX_SMALL_BODY:
            beginning.extend(part)
        if not part and not ended.done():
            ended.set_result(None)

    incoming.stream_body(take)
    await ended
    return bytes(beginning), length


async def serve(app: App, host: str, port: int, start_seconds: float, keep_alive: float) -> None:
    """Start up for `start_seconds`, serve until SIGTERM or SIGINT, then reset every connection, as many apps do."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await asyncio.wait_for(stopped.wait(), start_seconds)
    except TimeoutError:
        connections: set[ServerConnection] = set()
        server = await loop.create_server(
            lambda: ServerConnection(app.take, keep_alive, connections), host, port, backlog=1024
        )
        await stopped.wait()
        server.close()
        for connection in list(connections):
            connection.reset()
        await asyncio.sleep(0)


def main() -> None:
    """Run the app."""
    parser = argparse.ArgumentParser(prog="python -m zdd_lab.hosts.app", description=__doc__)
    parser.add_argument("--host", required=True, help="the address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--name", required=True, help="the value of X-Host")
    parser.add_argument("--version", required=True, help="the value of X-Version")
    parser.add_argument("--slow-share", type=float, default=0.0, help="share of slow requests, 0 to 1")
    parser.add_argument("--slow-max", type=float, default=2.0, help="s that the slowest request takes")
    parser.add_argument("--start-seconds", type=float, default=0.0, help="s, from start to listening")
    parser.add_argument("--keep-alive", type=float, default=_KEEP_ALIVE, help="s that an idle connection is kept")
    options = parser.parse_args()
    app = App(options.name, options.version, options.slow_share, options.slow_max)
    uvloop.run(serve(app, options.host, options.port, options.start_seconds, options.keep_alive))


if __name__ == "__main__":
    main()
