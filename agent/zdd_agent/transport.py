"""HTTP/1.1 on a Unix socket: reads requests within limits, knows who sends them, writes answers.

One thread a connection, and no more connections than the limits say. h11 parses.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import h11

from zdd_agent.access import Peer
from zdd_agent.errors import AgentError, Kind

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 8 * 1024  # request line and headers; ours need some 300
MAX_BODY_BYTES = 16 * 1024
HEAD_SECONDS = 5.0  # from the first byte of a request to the end of its headers
BODY_SECONDS = 10.0
IDLE_SECONDS = 30.0  # a kept-alive connection without a request
SEND_SECONDS = 10.0  # a reader that takes no answer
MAX_CONNECTIONS = 64
MAX_CONNECTIONS_PER_USER = 32
_SO_PEERGROUPS = 59  # <asm-generic/socket.h>; Python does not name it
_UCRED = struct.Struct("iII")  # pid, uid, gid; as unsigned, since (uid_t) -1 is a number too


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read whole. `gone` tells whether the caller has hung up."""

    method: str
    target: str
    body: bytes
    peer: Peer
    gone: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, written whole."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(eq=False, slots=True)
class _Connection:
    socket: socket.socket
    peer: Peer
    protocol: h11.Connection = field(
        default_factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    )
    busy: bool = False  # a request is being answered: never evicted


def peer_of(connection: socket.socket) -> Peer:
    """Who connected, from the kernel, as of the connect(2). Linux: unix(7)."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    size = 4 * 1024
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size)
    except OSError:  # ERANGE: more groups than fit; then only the primary one counts, which grants less
        raw = b""
    groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return Peer(pid, uid, frozenset({gid, *groups}))


class Transport:
    """Serves a listening Unix socket until `close`.

    Args:
        listener: bound and listening.
        handle: answers a request; an AgentError it raises becomes the error answer.
        render: turns an AgentError into an answer.
    """

    def __init__(
        self,
        listener: socket.socket,
        handle: Callable[[Request], Response],
        render: Callable[[AgentError], Response],
    ) -> None:
        self._listener = listener
        self._handle = handle
        self._render = render
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []  # oldest first
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Stop accepting, and give answers under way so long to leave."""
        self._ending.set()
        if self._thread.is_alive():
            self._poke()
            self._thread.join(seconds)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._lock:
                busy = [c for c in self._connections if c.busy]
            if not busy:
                break
            time.sleep(0.01)
        with self._lock:
            for connection in self._connections:
                _hang_up(connection.socket)

    def _poke(self) -> None:
        # close(2) does not wake accept(2), and shutdown(2) would end a socket that systemd keeps for the next start.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as poke:
            poke.settimeout(1)
            try:
                poke.connect(self._listener.getsockname())
            except OSError:
                self._listener.close()

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                accepted, _ = self._listener.accept()
            except OSError as error:
                if self._ending.is_set():
                    return
                log.warning("cannot accept a connection: %s", error)
                time.sleep(0.1)  # out of descriptors: without a pause this would spin
                continue
            if self._ending.is_set():
                accepted.close()
                return
            try:
                connection = _Connection(accepted, peer_of(accepted))
            except OSError:
                accepted.close()
                continue
            if self._admit(connection):
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            else:
                self._refuse(connection)

    def _admit(self, new: _Connection) -> bool:
        """Make room when it is full, at the cost of the oldest connection that asks for nothing."""
        with self._lock:
            own = [c for c in self._connections if c.peer.uid == new.peer.uid]
            crowd = None
            if len(own) >= MAX_CONNECTIONS_PER_USER:
                crowd = own
            elif len(self._connections) >= MAX_CONNECTIONS:
                crowd = self._connections
            if crowd is not None:
                idle = next((c for c in crowd if not c.busy), None)
                if idle is None:
                    return False
                _hang_up(idle.socket)
                self._connections.remove(idle)
            self._connections.append(new)
            return True

    def _refuse(self, connection: _Connection) -> None:
        error = AgentError(
            Kind.TOO_MANY_CONNECTIONS, "cannot serve: too many connections", hint="close some and try again"
        )
        connection.socket.settimeout(0)  # a refusal must not make the accepting thread wait
        try:
            self._send(connection, self._render(error))
        except OSError:
            pass
        finally:
            connection.socket.close()

    def _serve(self, connection: _Connection) -> None:
        try:
            while self._exchange(connection):
                connection.protocol.start_next_cycle()
        except (OSError, h11.LocalProtocolError) as error:
            log.debug("connection of uid %d ended: %s", connection.peer.uid, error)
        finally:
            with self._lock:
                if connection in self._connections:
                    self._connections.remove(connection)
            connection.socket.close()

    def _exchange(self, connection: _Connection) -> bool:
        """One request and its answer; answers whether the connection may carry another."""
        try:
            request = self._read(connection)
            if request is None:
                return False
            with self._lock:
                connection.busy = True
            response = self._answer(request)
        except h11.RemoteProtocolError as error:
            kind = Kind.TOO_LARGE if error.error_status_hint == 431 else Kind.USAGE
            response = self._render(AgentError(kind, f"cannot read the request: {error}"))
        except AgentError as error:
            response = self._render(error)
        connection.socket.settimeout(SEND_SECONDS)
        self._send(connection, response)
        with self._lock:
            connection.busy = False
        protocol = connection.protocol
        return protocol.our_state is h11.DONE and protocol.their_state is h11.DONE and not self._ending.is_set()

    def _answer(self, request: Request) -> Response:
        try:
            return self._handle(request)
        except AgentError as error:
            return self._render(error)
        except Exception:  # a defect in one answer must not take the daemon down
            log.exception("a defect of zdd-agent in %s %s", request.method, request.target)
            return self._render(AgentError(Kind.FAILED, "cannot answer: a defect, see the log"))

    def _read(self, connection: _Connection) -> Request | None:
        """The next request, None when the caller has no other."""
        protocol = connection.protocol
        if not protocol.trailing_data[0]:
            first = _receive(connection.socket, time.monotonic() + IDLE_SECONDS)
            if not first:
                return None
            protocol.receive_data(first)
        head = self._event(connection, time.monotonic() + HEAD_SECONDS)
        if not isinstance(head, h11.Request):
            return None
        if protocol.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            connection.socket.sendall(protocol.send(go_on) or b"")
        body = b""
        deadline = time.monotonic() + BODY_SECONDS
        while isinstance(event := self._event(connection, deadline), h11.Data):
            body += bytes(event.data)
            if len(body) > MAX_BODY_BYTES:
                raise AgentError(Kind.TOO_LARGE, f"cannot read the request: over {MAX_BODY_BYTES} bytes")
        if not isinstance(event, h11.EndOfMessage):
            return None
        return Request(
            head.method.decode("ascii"),
            head.target.decode("ascii", "replace"),
            body,
            connection.peer,
            lambda: _is_gone(connection.socket),
        )

    def _event(self, connection: _Connection, deadline: float) -> object:
        """What h11 makes of what comes. Raises AgentError TOO_SLOW when the rest is not there in time."""
        while True:
            event = connection.protocol.next_event()
            if event is not h11.NEED_DATA:
                return event
            received = _receive(connection.socket, deadline)
            if received is None:
                raise AgentError(Kind.TOO_SLOW, "cannot read the request: it came too slowly")
            connection.protocol.receive_data(received)

    def _send(self, connection: _Connection, response: Response) -> None:
        protocol = connection.protocol
        if protocol.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            ("cache-control", "no-store"),
            *response.headers,
        ]
        if protocol.their_state is not h11.DONE or self._ending.is_set():
            headers.append(("connection", "close"))
        data = protocol.send(h11.Response(status_code=response.status, headers=headers)) or b""
        data += protocol.send(h11.Data(data=response.body)) or b""
        data += protocol.send(h11.EndOfMessage()) or b""
        connection.socket.sendall(data)


def _receive(connection: socket.socket, deadline: float) -> bytes | None:
    """Some bytes, b"" at the end of the stream, None when the time (monotonic seconds) is over."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        return None
    connection.settimeout(seconds)
    try:
        return connection.recv(16 * 1024)
    except TimeoutError:
        return None


def _is_gone(connection: socket.socket) -> bool:
    """Both directions closed. A caller that only half-closed still waits for its answer."""
    poll = select.poll()
    poll.register(connection, select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("a connection was closed already")
