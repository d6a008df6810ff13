"""HTTP/1.1 on one connection: reads a request within limits, writes its answer. h11 parses.

Source: https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import h11

from zdd_agent.api.access import Peer
from zdd_agent.errors import AgentError, Kind

log = logging.getLogger(__name__)

_RECEIVE_BYTES = 4 * 1024
# How often unwanted input is read before the connection is closed all the same.
_LINGER_READS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may take. Sizes in bytes, spans in seconds."""

    head_bytes: int = 8 * 1024  # request line and headers; ours need some 300
    body_bytes: int = 16 * 1024
    head_seconds: float = 5.0  # from the first byte of a request to the end of its headers
    body_seconds: float = 10.0
    idle_seconds: float = 30.0  # a kept-alive connection without a request
    send_seconds: float = 10.0  # a caller that does not read its answer
    linger_seconds: float = 1.0  # a refused caller that goes on sending
    connections: int = 64
    connections_per_user: int = 32


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, read whole. `gone` tells whether the caller has hung up."""

    method: str
    target: str
    body: bytes
    peer: Peer
    gone: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One answer, written whole."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class HttpConnection:
    """One accepted connection. Used by one thread at a time, except for `hang_up`.

    `busy` belongs to the transport: a request is being answered.
    """

    def __init__(self, connected: socket.socket, peer: Peer, limits: Limits) -> None:
        self.peer = peer
        self.busy = False
        self._socket = connected
        self._limits = limits
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._head_only = False

    def read(self) -> HttpRequest | None:
        """The next request, None when the caller has no further one.

        Raises:
            AgentError: USAGE, TOO_LARGE or TOO_SLOW: the last answer of this connection.
            OSError: the connection broke.
        """
        try:
            return self._read()
        except h11.RemoteProtocolError as error:
            kind = Kind.TOO_LARGE if error.error_status_hint == 431 else Kind.USAGE
            raise AgentError(kind, f"cannot read the request: {error}") from None

    def send(self, response: HttpResponse, *, last: bool) -> bool:
        """Write the answer; returns whether the connection can carry another request. Raises OSError.

        Args:
            response: the answer.
            last: no further request will be read.
        """
        protocol = self._protocol
        self._write(response, self._limits.send_seconds, last=last)
        if protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
            return False
        protocol.start_next_cycle()
        return True

    def refuse(self, response: HttpResponse) -> None:
        """Answer without reading, and hang up; never waits."""
        try:
            self._write(response, 0, last=True)
        except OSError as error:
            log.debug("a refused caller of uid %d left first: %s", self.peer.uid, error)
        self._socket.close()

    def close(self) -> None:
        """Close it after reading what the caller still sends: unread bytes would cost it the answer (RFC 9112, 9.6)."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + self._limits.linger_seconds
            for _ in range(_LINGER_READS):
                if not self._receive(deadline):
                    break
        except OSError as error:
            log.debug("connection of uid %d ended: %s", self.peer.uid, error)
        self._socket.close()

    def hang_up(self) -> None:
        """End it at once, from any thread; a thread that reads or writes it finds that it has ended."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("a connection of uid %d was closed already", self.peer.uid)

    def _read(self) -> HttpRequest | None:
        protocol = self._protocol
        self._head_only = False
        if not protocol.trailing_data[0]:
            first = self._receive(time.monotonic() + self._limits.idle_seconds)
            if not first:
                return None
            protocol.receive_data(first)
        head = self._event(time.monotonic() + self._limits.head_seconds)
        if not isinstance(head, h11.Request):
            return None
        self._head_only = head.method == b"HEAD"
        self._check_sizes(head)
        if protocol.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self._socket.sendall(protocol.send(go_on) or b"")
        body = b""
        deadline = time.monotonic() + self._limits.body_seconds
        while isinstance(event := self._event(deadline), h11.Data):
            body += bytes(event.data)
            if len(body) > self._limits.body_bytes:
                raise self._too_large("body", self._limits.body_bytes)
        method, target = head.method.decode("ascii"), head.target.decode("ascii")
        return HttpRequest(method, target, body, self.peer, self._is_gone)

    def _write(self, response: HttpResponse, seconds: float, *, last: bool) -> None:
        protocol = self._protocol
        headers = [
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            ("cache-control", "no-store"),
            *response.headers,
        ]
        if last or protocol.their_state is not h11.DONE:
            headers.append(("connection", "close"))
        data = protocol.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if not self._head_only:  # HEAD: an answer to it has no body
            data += protocol.send(h11.Data(data=response.body)) or b""
        data += protocol.send(h11.EndOfMessage()) or b""
        self._socket.settimeout(seconds)
        self._socket.sendall(data)

    def _check_sizes(self, head: h11.Request) -> None:
        # h11 counts a head only while it is incomplete: one that comes in a single piece would pass.
        size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
        if size > self._limits.head_bytes:
            raise self._too_large("head", self._limits.head_bytes)
        announced = next((int(value) for name, value in head.headers if name == b"content-length"), 0)
        if announced > self._limits.body_bytes:  # before a caller is told to go on with it
            raise self._too_large("body", self._limits.body_bytes)

    @staticmethod
    def _too_large(part: str, limit: int) -> AgentError:
        return AgentError(Kind.TOO_LARGE, f"cannot read the request: its {part} is over {limit} bytes")

    def _event(self, deadline: float) -> object:
        """The next event that h11 reads from the connection. Raises AgentError TOO_SLOW when the rest is late."""
        while True:
            event = self._protocol.next_event()
            if event is not h11.NEED_DATA:
                return event
            received = self._receive(deadline)
            if received is None:
                raise AgentError(Kind.TOO_SLOW, "cannot read the request: it came too slowly")
            self._protocol.receive_data(received)

    def _receive(self, deadline: float) -> bytes | None:
        """Some bytes, b"" at the end of the stream, None when the time (monotonic seconds) is over."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            return None
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            return None

    def _is_gone(self) -> bool:
        """Both directions closed. A caller that only half-closed still waits for its answer."""
        poll = select.poll()
        poll.register(self._socket, select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))
