"""The client side of HTTP/1.1: a connection that carries one request at a time and may be kept."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import httptools

from zdd_lab.http1.connection import Connection, Framing, Headers, ResponseHead, response_framing


class ResponseSink(Protocol):
    """Takes one response as it comes: interim heads, its head, parts of its body; at the end `ended` or `failed`."""

    def response_started(self, head: ResponseHead) -> None: ...
    def response_body(self, part: bytes) -> None: ...
    def response_ended(self) -> None: ...
    def response_failed(self, why: str) -> None: ...


class ClientConnection(Connection):
    """A connection to a server. `on_lost` is called when it ends, for any reason."""

    def __init__(self, on_lost: Callable[["ClientConnection"], None]) -> None:
        super().__init__()
        self.reusable = True  # until the server closes it or says that it will
        self.idle_since = 0.0  # loop time
        self._on_lost = on_lost
        self._sink: ResponseSink | None = None
        self._method = b""
        self._parser = httptools.HttpResponseParser(self)
        self._reset_response()

    def _reset_response(self) -> None:
        self._reason = b""
        self._headers: Headers = []
        self._head: ResponseHead | None = None
        self._interim = False
        self._in_head = True

    def request(self, method: bytes, encoded_head: bytes, sink: ResponseSink) -> None:
        """Send the head of a request. Its body, already framed, goes through `write`."""
        self._method = method
        self._sink = sink
        self._reset_response()
        self.write(encoded_head)

    def abandon(self) -> None:
        """Reset the connection. Its sink is not called any more."""
        self._sink = None
        self.reusable = False
        self.reset()

    def data_received(self, data: bytes) -> None:
        if self._sink is None:  # a server that speaks without a request cannot be trusted with one
            self.reusable = False
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self._fail("failed within")
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("sent what is not HTTP/1.1")

    def eof_received(self) -> bool:
        self.reusable = False
        if self._head is not None and self._head.framing is Framing.UNTIL_CLOSE:
            self._end()
        else:
            self._fail("closed before its answer was complete")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.reusable = False
        self._fail("reset the connection" if exc else "closed before its answer was complete")
        self._on_lost(self)

    def on_message_begin(self) -> None:
        self._reset_response()

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # otherwise a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        status = self._parser.get_status_code()
        head = ResponseHead(status, self._reason, self._headers, response_framing(self._method, status, self._headers))
        self._interim = status < 200
        if self._sink is None:
            return
        if not self._interim:
            self._head = head
            self.reusable = self.reusable and self._parser.should_keep_alive()
        self._sink.response_started(head)
        if self._method == b"HEAD" and not self._interim:
            # The parser waits for a body, which an answer to HEAD lacks: end here, with a new parser.
            self._parser = httptools.HttpResponseParser(self)
            self._end()

    def on_body(self, body: bytes) -> None:
        if self._sink is not None:
            self._sink.response_body(body)

    def on_message_complete(self) -> None:
        if not self._interim:
            self._end()

    def _end(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self.idle_since = asyncio.get_running_loop().time()
            sink.response_ended()

    def _fail(self, why: str) -> None:
        self.reusable = False
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.response_failed(why)
        if self.transport is not None:
            self.transport.abort()
