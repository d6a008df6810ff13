"""One request over HTTP/2, as a health check makes it: a GET, or a call of a gRPC method.

The connection is assumed to speak HTTP/2 from its first byte (RFC 9113, 3.3 and 3.4): in plain text nothing else is
possible without an HTTP/1.1 request first, and in TLS a peer that does not speak it fails soon enough.

Sources: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html;
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. That ELB sends a message of no bytes with its gRPC
check, and not none, is inferred: it passes with grpc.health.v1.Health/Check, which answers only to a message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2.connection import H2Connection

    from zdd_agent.adapters.timed_socket import TimedSocket

_STREAM = 1
# Not compressed, 0 bytes long.
_EMPTY_MESSAGE = bytes(5)


@dataclass(slots=True)
class Answer:
    """The fields of the head and of the trailers so far. `whole`: the trailers are wanted, too."""

    whole: bool
    fields: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    @property
    def enough(self) -> bool:
        """Whether all that is wanted is there."""
        return self.ended or (bool(self.fields) and not self.whole)


def get(connection: TimedSocket, scheme: str, authority: str, path: str, user_agent: str) -> int:
    """The HTTP code of the answer.

    Raises:
        OSError: from the connection.
        ValueError: the answer is not HTTP/2, or was broken off; the error says how.
    """
    head = _head("GET", scheme, authority, path, user_agent)
    answer = _ask(connection, head, body=None)
    return int(answer.fields[":status"])


def call(connection: TimedSocket, scheme: str, authority: str, path: str, user_agent: str) -> int | None:
    """The gRPC status of the answer; None when it has none, as from a server without gRPC. Raises like `get`."""
    head = [
        *_head("POST", scheme, authority, path, user_agent),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    answer = _ask(connection, head, body=_EMPTY_MESSAGE)
    status = answer.fields.get("grpc-status", "")
    return int(status) if status.isascii() and status.isdecimal() else None


def _head(method: str, scheme: str, authority: str, path: str, user_agent: str) -> list[tuple[str, str]]:
    return [
        (":method", method),
        (":scheme", scheme),
        (":authority", authority),
        (":path", path),
        ("user-agent", user_agent),
    ]


def _ask(connection: TimedSocket, head: list[tuple[str, str]], *, body: bytes | None) -> Answer:
    """The answer: for a request with a body up to its end, for one without as soon as its code is there."""
    # 3 MB that the daemon does without where no target group speaks HTTP/2.
    from h2.config import H2Configuration  # noqa: PLC0415  see above
    from h2.connection import H2Connection  # noqa: PLC0415  see above
    from h2.exceptions import H2Error  # noqa: PLC0415  see above

    protocol = H2Connection(H2Configuration(client_side=True))
    protocol.initiate_connection()
    protocol.send_headers(_STREAM, head, end_stream=body is None)
    if body is not None:
        protocol.send_data(_STREAM, body, end_stream=True)
    answer = Answer(whole=body is not None)
    while not answer.enough:
        connection.send(protocol.data_to_send())
        data = connection.receive()
        if not data:
            raise ValueError("the connection was closed before an answer")
        try:
            events = protocol.receive_data(data)
        except H2Error as error:
            raise ValueError(type(error).__name__) from None
        for event in events:
            _take(protocol, answer, event)
    return answer


def _take(protocol: H2Connection, answer: Answer, event: Any) -> None:
    from h2 import events  # noqa: PLC0415  loaded by now

    match event:
        case events.ResponseReceived() | events.TrailersReceived():
            answer.fields |= {_text(name): _text(value) for name, value in event.headers}
        case events.DataReceived():
            protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        case events.StreamEnded():
            answer.ended = True
        case events.StreamReset() | events.ConnectionTerminated() if not answer.enough:
            raise ValueError(f"the request was refused, error {int(event.error_code or 0)}")


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode("ascii", "replace")
