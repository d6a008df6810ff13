"""A request that a server has received, and how it is answered."""

from abc import abstractmethod
from collections.abc import Callable

from zdd_lab.http1.connection import (
    LAST_CHUNK,
    Connection,
    Framing,
    Headers,
    Hold,
    RequestHead,
    as_chunk,
    encode_response,
    header,
)

_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    408: b"Request Timeout",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


class RequestConnection(Connection):
    """The connection of a request, as far as the request needs it."""

    peer = ""  # the client's address
    closing = False  # close after the next answer, and say so in it

    @abstractmethod
    def settle(self) -> None:
        """Turn to the next request if the current one is done."""


class Incoming:
    """A request, and how it is answered."""

    def __init__(self, connection: RequestConnection, head: RequestHead) -> None:
        self.connection = connection
        self.head = head
        self.on_gone: Callable[[], None] | None = None  # called when the client leaves before its answer is complete
        self.body_ended = False
        self.answered = False
        self.started = False
        self._continued = False
        self._sink: Callable[[bytes], None] | None = None
        self._early: list[bytes] = []
        self._chunked = False
        self._close_after = False

    @property
    def finished(self) -> bool:
        """Whether the server may turn to the next request."""
        return self.answered and self.body_ended

    @property
    def close_after(self) -> bool:
        """Whether the connection ends with this answer."""
        return self._close_after

    def stream_body(self, sink: Callable[[bytes], None]) -> None:
        """Pass the body to `sink` in parts as they come, then b"" once for its end."""
        self._sink = sink
        early, self._early = self._early, []
        for part in early:
            sink(part)
        self.connection.release(Hold.BODY)

    def discard_body(self) -> None:
        """Read the rest of the body and drop it."""
        self.stream_body(lambda _: None)

    def body_part(self, part: bytes) -> None:
        """Take a part of the body from the connection. b"" is the end."""
        if not part:
            self.body_ended = True
        if self._sink is not None:
            self._sink(part)
            return
        self._early.append(part)
        if part:
            self.connection.hold(Hold.BODY)

    def interim(self, status: int, reason: bytes, headers: Headers) -> None:
        """Send an interim (1xx) answer."""
        self._continued = True
        self.connection.write(encode_response(status, reason, headers))

    def start(self, status: int, reason: bytes, headers: Headers, framing: Framing) -> None:
        """Send the head of the answer. The body goes through `send` and `finish`.

        `headers` are end-to-end ones, with Content-Length if `framing` is LENGTH. Other bodies are chunked; for an
        HTTP/1.0 client they end with the connection.
        """
        self.started = True
        old = self.head.version == "1.0"
        expects_continue = header(self.head.headers, b"expect") is not None and not self._continued
        self._close_after = not self.head.keep_alive or self.connection.closing
        if not self.body_ended and expects_continue:
            self._close_after = True  # the client need not send the body any more
        if framing in (Framing.CHUNKED, Framing.UNTIL_CLOSE):
            self._chunked = not old
            self._close_after = self._close_after or old
            if self._chunked:
                headers = [*headers, (b"Transfer-Encoding", b"chunked")]
        if self._close_after:
            headers = [*headers, (b"Connection", b"close")]
        elif old:
            headers = [*headers, (b"Connection", b"keep-alive")]
        self.connection.write(encode_response(status, reason, headers))

    def send(self, part: bytes) -> None:
        """Send a part of the answer's body."""
        if part:
            self.connection.write(as_chunk(part) if self._chunked else part)

    def finish(self) -> None:
        """End the answer."""
        if self._chunked:
            self.connection.write(LAST_CHUNK)
        self.answered = True
        if not self.body_ended:
            self.discard_body()
        self.connection.settle()

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        sized: Headers = [*headers, (b"Content-Length", b"%d" % len(body))]
        self.start(status, _REASONS.get(status, b"Unknown"), sized, Framing.LENGTH)
        if self.head.method != b"HEAD":
            self.send(body)
        self.finish()
