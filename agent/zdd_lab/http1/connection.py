"""What both sides of HTTP/1.1 need: heads of messages, framing of bodies, a connection with flow control."""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

Headers = list[tuple[bytes, bytes]]

LAST_CHUNK = b"0\r\n\r\n"
# RFC 9110 section 7.6.1: for the next hop only. Whoever frames a body sets Transfer-Encoding.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, 0 s: close() sends RST


class Framing(Enum):
    """How the end of a body is known (RFC 9112 section 6.3)."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()


@dataclass(slots=True)
class RequestHead:
    """A request up to its body."""

    method: bytes
    target: bytes
    headers: Headers
    version: str  # "1.0" or "1.1"
    keep_alive: bool

    @property
    def framing(self) -> Framing:
        """How the request's body is framed."""
        return _stated_framing(self.headers) or Framing.NONE


@dataclass(slots=True)
class ResponseHead:
    """A response up to its body. Its `framing` also depends on the method of the request."""

    status: int
    reason: bytes
    headers: Headers
    framing: Framing


def response_framing(method: bytes, status: int, headers: Headers) -> Framing:
    """How the body of a response to `method` is framed."""
    if method == b"HEAD" or status in (204, 304) or status < 200:
        return Framing.NONE
    return _stated_framing(headers) or Framing.UNTIL_CLOSE


def _stated_framing(headers: Headers) -> Framing | None:
    framing = None
    for name, value in headers:
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            framing = Framing.LENGTH
        elif size == 17 and name.lower() == b"transfer-encoding" and value.lower().endswith(b"chunked"):
            return Framing.CHUNKED
    return framing


def header(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of the header `name` (given in lower case)."""
    for found, value in headers:
        if len(found) == len(name) and found.lower() == name:
            return value
    return None


def end_to_end(headers: Headers) -> Headers:
    """Return the headers that a proxy passes on."""
    named = header(headers, b"connection")
    dropped = _HOP_BY_HOP
    if named is not None:
        dropped = dropped.union(token.strip() for token in named.lower().split(b","))
    return [pair for pair in headers if pair[0].lower() not in dropped]


def encode_request(method: bytes, target: bytes, headers: Headers) -> bytes:
    """Return a request's head as it goes over the wire."""
    return _encode(b"%b %b HTTP/1.1" % (method, target), headers)


def encode_response(status: int, reason: bytes, headers: Headers) -> bytes:
    """Return a response's head as it goes over the wire."""
    return _encode(b"HTTP/1.1 %d %b" % (status, reason), headers)


def _encode(first_line: bytes, headers: Headers) -> bytes:
    return b"\r\n".join((first_line, *(b"%b: %b" % pair for pair in headers), b"\r\n"))


def as_chunk(part: bytes) -> bytes:
    """Return a non-empty part of a body as one chunk."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def surface(task: asyncio.Task[None]) -> None:
    """For `add_done_callback` of a task that nobody awaits: let the event loop report its exception."""
    if not task.cancelled():
        task.result()


class Watchdog:
    """Calls `expired` whenever `span` seconds pass without a touch. A touch is cheap: it sets no timer."""

    __slots__ = ("_expired", "_loop", "_span", "_stopped", "_timer", "_touched")

    def __init__(self, span: float, expired: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._span = span
        self._expired = expired
        self._stopped = False
        self._touched = self._loop.time()
        self._timer = self._loop.call_later(span, self._look)

    def touch(self) -> None:
        """Start the span again."""
        self._touched = self._loop.time()

    def stop(self) -> None:
        """Never expire again."""
        self._stopped = True
        self._timer.cancel()

    def _look(self) -> None:
        left = self._touched + self._span - self._loop.time()
        if left <= 0.001:
            left = self._span
            self._touched = self._loop.time()
            self._expired()
        if not self._stopped:
            self._timer = self._loop.call_later(left, self._look)


class Hold(Enum):
    """Why a connection is not read at the moment."""

    QUEUE = auto()  # a pipelined request waits for the one before it
    BODY = auto()  # nobody takes the body yet
    PEER = auto()  # the other side of the proxy takes bytes too slowly


class Connection(asyncio.Protocol):
    """A TCP connection whose reading can be paused, and which tells when its peer takes bytes too slowly."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.on_congestion: Callable[[bool], None] | None = None
        self._congested = False
        self._holds: set[Hold] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.transport = None
        self._holds.clear()
        self._tell(congested=False)

    def pause_writing(self) -> None:
        self._tell(congested=True)

    def resume_writing(self) -> None:
        self._tell(congested=False)

    def _tell(self, *, congested: bool) -> None:
        self._congested = congested
        if self.on_congestion is not None:
            self.on_congestion(congested)

    def couple(self, other: "Connection") -> None:
        """Pause reading from `other` while this connection cannot pass bytes on."""

        def follow(congested: bool) -> None:
            if congested:
                other.hold(Hold.PEER)
            else:
                other.release(Hold.PEER)

        self.on_congestion = follow
        if self._congested:
            other.hold(Hold.PEER)

    def uncouple(self, other: "Connection") -> None:
        """Undo `couple`."""
        self.on_congestion = None
        other.release(Hold.PEER)

    def hold(self, why: Hold) -> None:
        """Pause reading, until every hold is released."""
        if not self._holds and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds.add(why)

    def release(self, why: Hold) -> None:
        """Release one hold."""
        if why not in self._holds:
            return
        self._holds.discard(why)
        if not self._holds and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def write(self, part: bytes) -> None:
        """Write, unless the connection is closed."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(part)

    def close(self) -> None:
        """Close, after everything written has been sent."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Close at once with RST: the peer must not mistake it for a regular end."""
        if self.transport is None:
            return
        raw = self.transport.get_extra_info("socket")
        if raw is not None and not self.transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()
