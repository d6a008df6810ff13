"""A TCP connection that ends at one moment, however slowly its peer sends: a socket's own timeout starts again with
every piece."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence


class TimedSocket:
    """A connection from and to one of this host's own addresses. Every call raises OSError.

    Args:
        address: of this host, IPv4 or IPv6.
        port: where the app listens.
        seconds: from now until TimeoutError, whatever is under way.
    """

    def __init__(self, address: str, port: int, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._socket = socket.create_connection((address, port), self._left(), (address, 0))

    def encrypt(self, protocols: Sequence[str]) -> None:
        """Switch to TLS without checking the certificate, as ELB does. `protocols` are the names for ALPN."""
        import ssl  # noqa: PLC0415  3 MB that the daemon at rest does without

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols(list(protocols))
        self._socket.settimeout(self._left())
        self._socket = context.wrap_socket(self._socket)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.settimeout(self._left())
        self._socket.sendall(data)

    def receive(self, most: int = 65_536) -> bytes:
        """What comes next; nothing when the peer has closed."""
        self._socket.settimeout(self._left())
        return self._socket.recv(most)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _left(self) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:  # a timeout of 0 would mean: do not block
            raise TimeoutError
        return left
