"""An app on loopback that speaks HTTP/2 alone, in plain text or in TLS, for tests that need a real one."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError


@dataclass
class H2App:
    """What it was asked. `trailers` make the answer one of gRPC."""

    port: int
    code: int = 200
    trailers: Sequence[tuple[str, str]] = ()
    asked: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    alpn: list[str | None] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        """Answers every request of one connection. HTTP/1.1 is a breach of the protocol, and ends it."""
        if isinstance(connection, ssl.SSLSocket):
            self.alpn.append(connection.selected_alpn_protocol())
        protocol = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        protocol.initiate_connection()
        body = b""
        while True:
            connection.sendall(protocol.data_to_send())
            if not (data := connection.recv(65536)):
                return
            for event in protocol.receive_data(data):
                match event:
                    case RequestReceived():
                        self.asked.append(dict(event.headers))
                    case DataReceived():
                        body += event.data
                    case StreamEnded():
                        self.bodies.append(body)
                        head = [(":status", str(self.code))]
                        protocol.send_headers(event.stream_id, head, end_stream=not self.trailers)
                        if self.trailers:
                            protocol.send_headers(event.stream_id, list(self.trailers), end_stream=True)


@contextmanager
def h2_app(
    address: str, code: int = 200, trailers: Sequence[tuple[str, str]] = (), tls: ssl.SSLContext | None = None
) -> Iterator[H2App]:
    """Such an app, on a free port of this address."""
    with socket.create_server((address, 0)) as listener:
        app = H2App(listener.getsockname()[1], code, trailers)

        def accept() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    connection, _ = listener.accept()
                    with (
                        suppress(OSError, ProtocolError),
                        tls.wrap_socket(connection, server_side=True) if tls else connection as peer,
                    ):
                        app.serve(peer)

        threading.Thread(target=accept, daemon=True).start()
        yield app
        listener.shutdown(socket.SHUT_RDWR)
