"""One GET over HTTP/1.1, as a health check makes it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import socket

    from zdd_agent.adapters.timed_socket import TimedSocket


def status(connection: TimedSocket, authority: str, path: str, user_agent: str) -> int:
    """The HTTP code of the answer.

    Raises:
        OSError: from the connection.
        ValueError: the answer is not HTTP; the error says how.
    """
    import http.client  # noqa: PLC0415  5 MB that the daemon at rest does without

    lines = (f"GET {path} HTTP/1.1", f"Host: {authority}", f"User-Agent: {user_agent}", "Connection: close", "", "")
    connection.send("\r\n".join(lines).encode("latin-1", "replace"))
    response = http.client.HTTPResponse(cast("socket.socket", _Readable(connection)))
    try:
        response.begin()
    except http.client.HTTPException as error:
        raise ValueError(type(error).__name__) from None
    finally:
        response.close()
    return response.status


class _Readable(io.RawIOBase):
    """What HTTPResponse needs of a socket: a file to read from."""

    def __init__(self, connection: TimedSocket) -> None:
        self._connection = connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._connection.receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)
