"""One request of the load, and the connections to the address that it is sent to."""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from zdd_lab.http1.client import ClientConnection
from zdd_lab.http1.connection import ResponseHead, encode_request, header, surface
from zdd_lab.traffic.records import Record

REQUEST_TIMEOUT = 10.0  # s, from the intended start
# s: close a connection that is idle for longer than this, well before the load balancer does (60 s, or 6 s on the
# fast profile): a request on a connection that is being closed would fail
_IDLE_LIMIT = 3.0


class Origin:
    """One address under load, and the connections to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname or ""
        self.port = parts.port or 80
        self.idle: list[ClientConnection] = []
        self.open = 0
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [(b"Host", parts.netloc.encode()), (b"User-Agent", b"zdd-lab-load")]
        self.request = encode_request(b"GET", path.encode(), headers)

    def take(self, now: float) -> ClientConnection | None:
        """Return a usable idle connection, or None."""
        while self.idle and self.idle[0].idle_since < now - _IDLE_LIMIT:
            self.idle.pop(0).close()
        while self.idle:
            connection = self.idle.pop()
            if connection.reusable and connection.transport is not None:
                return connection
        return None

    async def connect(self) -> ClientConnection:
        """Open one more connection. Raises OSError."""
        self.open += 1
        connection = ClientConnection(self._lost)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: connection, self.address, self.port)
        except BaseException:
            if connection.transport is None:
                self.open -= 1
            raise
        return connection

    def _lost(self, connection: ClientConnection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)


class LoadRequest:
    """One request, from its intended start to its record."""

    def __init__(self, origin: Origin, started: float, finished: Callable[["LoadRequest", Record], None]) -> None:
        self._origin = origin
        self._started = started  # epoch, s
        self._finished = finished
        self._connection: ClientConnection | None = None
        self._head: ResponseHead | None = None
        loop = asyncio.get_running_loop()
        left = max(0.0, started + REQUEST_TIMEOUT - time.time())
        self._timer = loop.call_later(left, self._give_up, f"no answer in {REQUEST_TIMEOUT:.0f} s")
        self._connecting: asyncio.Task[None] | None = None

    def begin(self, connections: int) -> None:
        """Send it on an idle connection or a new one. With `connections` already open, it fails at once."""
        idle = self._origin.take(asyncio.get_running_loop().time())
        if idle is not None:
            self._send(idle)
        elif self._origin.open >= connections:
            self._give_up(f"all {connections} connections are busy")
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(surface)

    async def _connect(self) -> None:
        try:
            connection = await self._origin.connect()
        except OSError as error:
            self._give_up(f"cannot connect: {error.strerror or error}")
        else:
            self._send(connection)

    def _send(self, connection: ClientConnection) -> None:
        self._connection = connection
        connection.request(b"GET", self._origin.request, self)

    def response_started(self, head: ResponseHead) -> None:
        if head.status >= 200:
            self._head = head

    def response_body(self, part: bytes) -> None:
        pass

    def response_ended(self) -> None:
        connection = self._connection
        if connection is not None and connection.reusable:
            self._origin.idle.append(connection)
        elif connection is not None:
            connection.close()
        self._record("-")

    def response_failed(self, why: str) -> None:
        self._record(why)

    def _give_up(self, why: str) -> None:
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abandon()
        self._record(why)

    def _record(self, error: str) -> None:
        self._timer.cancel()
        status, host, version = 0, "-", "-"
        if self._head is not None:
            status = self._head.status
            host = (header(self._head.headers, b"x-host") or b"-").decode("latin-1")
            version = (header(self._head.headers, b"x-version") or b"-").decode("latin-1")
        latency = (time.time() - self._started) * 1000
        self._finished(self, Record(self._started, latency, status, host, version, error))
