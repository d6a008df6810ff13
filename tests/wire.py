"""Both ends of a Unix socket for tests: the real transport with a made-up agent behind it, and a raw caller."""

from __future__ import annotations

import json
import select
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from zdd_agent.api.answers import error_response
from zdd_agent.api.http1 import HttpRequest, HttpResponse, Limits
from zdd_agent.api.transport import Transport

# Seconds after which a test that waits for the other end gives up.
PATIENCE = 10.0


@dataclass
class Agent:
    """An agent that is listening."""

    path: str
    transport: Transport


@contextmanager
def agent(handle: Callable[[HttpRequest], HttpResponse], limits: Limits = Limits()) -> Iterator[Agent]:  # noqa: B008  frozen
    folder = tempfile.mkdtemp(prefix="zdd")  # not tmp_path: a socket's path has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(f"{folder}/agent.sock")
            listener.listen(128)
            transport = Transport(listener, handle, error_response, limits)
            transport.start()
            try:
                yield Agent(f"{folder}/agent.sock", transport)
            finally:
                transport.close(PATIENCE)
    finally:
        shutil.rmtree(folder)


@dataclass
class Reply:
    """One answer, as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error; fails when the answer is not in the shape of our errors."""
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"kind", "message", "hint", "value"}
        return dict(self.json["error"])


class Caller:
    """A caller that can misbehave: it sends the bytes that it is told to."""

    def __init__(self, path: str | Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def get(self, path: str = "/", *headers: str) -> Reply:
        self.send("\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *headers, "", "")).encode())
        return self.reply()

    def until(self, mark: bytes) -> bytes:
        """What comes, up to and with these bytes."""
        while mark not in self._received:
            piece = self.socket.recv(4096)
            assert piece, f"hung up after {self._received!r}"
            self._received += piece
        end = self._received.index(mark) + len(mark)
        said, self._received = self._received[:end], self._received[end:]
        return said

    def reply(self, *, has_body: bool = True) -> Reply:
        """The next answer."""
        lines = self.until(b"\r\n\r\n").decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        size = int(headers["content-length"]) if has_body else 0
        while len(self._received) < size:
            piece = self.socket.recv(4096)
            assert piece, f"hung up after {self._received!r}"
            self._received += piece
        body, self._received = self._received[:size], self._received[size:]
        return Reply(int(lines[0].split()[1]), headers, body)

    def wait_for_the_end(self) -> None:
        """Until the other end has let go of the connection altogether."""
        poll = select.poll()
        poll.register(self.socket, 0)  # POLLHUP is always told
        assert poll.poll(PATIENCE * 1000), "still open"

    def ended(self) -> bool:
        """Whether the other end has closed, cleanly and without another byte; waits for it."""
        return not self._received and self.socket.recv(1) == b""


def echo(request: HttpRequest) -> HttpResponse:
    """What an agent of `agent` can answer: the request."""
    said = {"method": request.method, "target": request.target, "body": request.body.decode()}
    return HttpResponse(200, json.dumps(said).encode())
