"""Forwards one request through a node to a target. It is never tried again."""

import asyncio
import secrets
import time
from collections.abc import Callable

from zdd_lab.balancer.node_target import NodeTarget
from zdd_lab.http1.client import ClientConnection
from zdd_lab.http1.connection import (
    LAST_CHUNK,
    Framing,
    Headers,
    ResponseHead,
    Watchdog,
    as_chunk,
    encode_request,
    end_to_end,
    surface,
)
from zdd_lab.http1.incoming_request import Incoming

_TITLES = {
    408: "408 Request Timeout",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}


def refuse(incoming: Incoming, status: int) -> None:
    """Answer with an error page of the load balancer, worded as ALB's."""
    title = _TITLES[status]
    if status == 408:
        incoming.connection.closing = True  # the rest of its body will not come
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n"
        f"<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    incoming.respond(status, [(b"Server", b"awselb/2.0"), (b"Content-Type", b"text/html")], page.encode())


def forwarded_headers(headers: Headers, client: str, framing: Framing) -> Headers:
    """Return the headers that a target gets: the client's, and those that ALB adds."""
    sent: Headers = []
    chain, trace = client.encode(), b""
    for name, value in end_to_end(headers):
        lower = name.lower()
        if lower == b"x-forwarded-for":
            chain = value + b", " + chain
        elif lower == b"x-amzn-trace-id":
            trace = value
        elif lower not in (b"x-forwarded-proto", b"x-forwarded-port"):
            sent.append((name, value))
    own = f"{int(time.time()):08x}-{secrets.token_hex(12)}"
    traced = f"Self=1-{own};".encode() + trace if trace else f"Root=1-{own}".encode()
    sent += [(b"X-Forwarded-For", chain), (b"X-Forwarded-Proto", b"http"), (b"X-Amzn-Trace-Id", traced)]
    if framing is Framing.CHUNKED:
        sent.append((b"Transfer-Encoding", b"chunked"))
    return sent


class Forwarding:
    """A request on its way to a target and back.

    `on_end` is called once, with the status that the client got and why the load balancer made it up. The reason is
    empty for the target's own status. 460: the client left first. 0: the answer broke off after its head.
    """

    def __init__(
        self,
        incoming: Incoming,
        target: NodeTarget,
        response_timeout: float,
        on_end: Callable[[int, str], None],
    ) -> None:
        self._incoming = incoming
        self._target = target
        self._on_end = on_end
        self._connection: ClientConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._framing = incoming.head.framing
        self._status = 0
        self._ended = False
        incoming.on_gone = self._client_left
        target.request_begins(self)
        self._watchdog = Watchdog(response_timeout, self._timed_out)
        idle = target.pool.take()
        if idle is not None:
            self._send(idle)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(surface)

    async def _connect(self) -> None:
        try:
            connection = await self._target.pool.open()
        except TimeoutError:
            self._break(504, "no connection in time")
        except OSError as error:
            self._break(502, f"no connection: {error.strerror}")
        else:
            if self._ended:
                connection.close()
            else:
                self._send(connection)

    def _send(self, connection: ClientConnection) -> None:
        self._connection = connection
        head, client = self._incoming.head, self._incoming.connection
        connection.couple(client)
        client.couple(connection)
        headers = forwarded_headers(head.headers, client.peer, self._framing)
        connection.request(head.method, encode_request(head.method, head.target, headers), self)
        self._incoming.stream_body(self._send_body)

    def _send_body(self, part: bytes) -> None:
        self._watchdog.touch()
        if self._connection is None or self._ended:
            return
        if self._framing is Framing.CHUNKED:
            self._connection.write(as_chunk(part) if part else LAST_CHUNK)
        elif part:
            self._connection.write(part)

    def response_started(self, head: ResponseHead) -> None:
        self._watchdog.touch()
        if head.status < 200:
            self._incoming.interim(head.status, head.reason, end_to_end(head.headers))
            return
        self._status = head.status
        self._incoming.start(head.status, head.reason, end_to_end(head.headers), head.framing)

    def response_body(self, part: bytes) -> None:
        self._watchdog.touch()
        self._incoming.send(part)

    def response_ended(self) -> None:
        connection = self._connection
        if not self._end(self._status, "") or connection is None:
            return
        complete = self._incoming.body_ended  # otherwise the rest of the body looks like a new request
        self._target.pool.give_back(connection, keep=complete and self._target.keeps_connections)
        self._incoming.finish()

    def response_failed(self, why: str) -> None:
        self._break(502, why)

    def cut(self, why: str) -> None:
        """End it: the target's deregistration delay is over, or its zone is down."""
        self._break(502, why)

    def _timed_out(self) -> None:
        if self._incoming.body_ended:
            self._break(504, "no answer in time")
        else:
            self._break(408, "no whole request in time")

    def _break(self, status: int, why: str) -> None:
        connection, started = self._connection, self._incoming.started
        if not self._end(0 if started else status, why):
            return
        if connection is not None:
            connection.abandon()
        if started:
            self._incoming.connection.reset()
        else:
            refuse(self._incoming, status)

    def _client_left(self) -> None:
        connection = self._connection
        if self._end(460, "the client left") and connection is not None:
            connection.abandon()

    def _end(self, status: int, why: str) -> bool:
        if self._ended:
            return False
        self._ended = True
        self._watchdog.stop()
        self._incoming.on_gone = None
        self._target.in_flight.discard(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.uncouple(self._incoming.connection)
            self._incoming.connection.uncouple(connection)
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
        self._on_end(status, why)
        return True
