"""The server side of HTTP/1.1: requests, pipelined or not, are answered one after the other."""

import asyncio
from collections import deque
from collections.abc import Callable

import httptools

from zdd_lab.http1.connection import Headers, Hold, RequestHead, Watchdog, encode_response
from zdd_lab.http1.incoming_request import Incoming, RequestConnection

_MAX_HEAD = 64 * 1024  # bytes: ALB takes 64 KiB in all, 16 KiB in one line


class ServerConnection(RequestConnection):
    """A client's connection: parses requests and passes them to `on_request`, one after the other."""

    def __init__(
        self,
        on_request: Callable[[Incoming], None],
        idle_timeout: float,
        open_connections: set["ServerConnection"],
    ) -> None:
        super().__init__()
        self._on_request = on_request
        self._idle_timeout = idle_timeout
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._head_bytes: int | None = None  # of the head that is being received, without its first read
        self._receiving: Incoming | None = None
        self._current: Incoming | None = None
        self._queue: deque[Incoming] = deque()
        self._malformed = False
        self._advancing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = (transport.get_extra_info("peername") or ("",))[0]  # None: the client has gone again
        self._watchdog = Watchdog(self._idle_timeout, self._idle)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watchdog.stop()
        self._open.discard(self)
        current, self._current = self._current, None
        self._queue.clear()
        if current is not None and not current.answered and current.on_gone is not None:
            current.on_gone()

    def _idle(self) -> None:
        if self._current is None or self._current.answered:
            self.close()

    def data_received(self, data: bytes) -> None:
        self._watchdog.touch()
        if self._malformed:
            return
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            self.reset()
            raise
        except httptools.HttpParserError:
            self._malformed = True
        if self._head_bytes is not None and self._head_bytes > _MAX_HEAD:
            self._malformed = True
        self._advance()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]  # a server may ignore an upgrade (RFC 9110 section 7.8)
            else:
                return

    def on_message_begin(self) -> None:
        self._target, self._headers, self._head_bytes = b"", [], 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_bytes is not None:  # otherwise a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        parser = self._parser
        version = parser.get_http_version()
        head = RequestHead(parser.get_method(), self._target, self._headers, version, parser.should_keep_alive())
        self._receiving = Incoming(self, head)
        self._queue.append(self._receiving)

    def on_body(self, body: bytes) -> None:
        if self._receiving is not None:
            self._receiving.body_part(body)

    def on_message_complete(self) -> None:
        received, self._receiving = self._receiving, None
        if received is not None:
            received.body_part(b"")

    def settle(self) -> None:
        self._watchdog.touch()
        self._advance()

    def _advance(self) -> None:
        if self._advancing:  # a request that is answered at once comes back here; the loop below goes on
            return
        self._advancing = True
        while True:
            if self._current is not None:
                if self._current.answered and self._current.close_after:
                    self._queue.clear()
                    self.close()
                    break
                if not self._current.finished:
                    break
                self._current = None
            if not self._queue:
                break
            self._current = self._queue.popleft()
            self._on_request(self._current)
        self._advancing = False
        if self._malformed and not self._queue:
            self._refuse()
        if self._queue:
            self.hold(Hold.QUEUE)
        else:
            self.release(Hold.QUEUE)

    def _refuse(self) -> None:
        if self._current is None:
            self.write(encode_response(400, b"Bad Request", [(b"Content-Length", b"0"), (b"Connection", b"close")]))
            self.close()
        elif self._receiving is self._current:
            self.reset()  # its own body is broken
