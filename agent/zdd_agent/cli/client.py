"""The caller's side of the socket. Standard library only, and little of it: it is loaded at every command."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from zdd_agent.errors import BY_WIRE, AgentError, Kind

TYPE_CHECKING = False  # typing costs 2 ms at every command; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]
else:
    Json = dict

DEFAULT_SOCKET = "/run/zdd-agent/agent.sock"
# Seconds in which a live agent accepts a connection.
CONNECT_SECONDS = 1.0
# Seconds for an answer: `status` may ask AWS, with its retries, before it answers.
ANSWER_SECONDS = 60.0
# Seconds that one long poll lasts.
POLL_SECONDS = 25.0
# Seconds to wait for an agent that restarts in the middle of an operation: it resumes the operation.
RECONNECT_SECONDS = 30.0
# Seconds before the agent is asked again: after it went away, and after an answer without news.
PAUSE_SECONDS = 0.2
# How often a call is repeated after the agent went away before it answered.
REPEATS = 3


class _HungUpError(AgentError):
    """The agent accepted the call, and went away before it answered."""


class Client:
    """Calls the agent at this socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def call(self, method: str, target: str, body: Json | None = None, extra: float = 0.0) -> Json:
        """One request and its answer.

        Args:
            method: GET or POST.
            target: the path, with its query.
            body: sent as JSON.
            extra: seconds that the answer may take beyond ANSWER_SECONDS, for long polls.

        Raises:
            AgentError: UNREACHABLE, FORBIDDEN, or whatever the agent answered.
        """
        raw = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: zdd-agent\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        status, answer = self._answered(head.encode() + raw, ANSWER_SECONDS + extra)
        error = answer.get("error")
        if status >= 400 and isinstance(error, dict) and "verb" not in answer:
            kind = BY_WIRE.get(error.get("kind", ""), Kind.FAILED)
            said = error.get("message", "the agent gave no reason")
            raise AgentError(kind, said, hint=error.get("hint", ""), value=error.get("value"))
        return answer

    def follow(
        self, operation: Json, progress: Callable[[Json, bool], None], turn: Callable[[], object] = bool
    ) -> Json:
        """Wait until an operation ends, and return it.

        Args:
            operation: as the agent showed it.
            progress: gets each event, and whether it is the last one, which only repeats the operation's message.
            turn: called before each question to the agent, at least every POLL_SECONDS.

        Raises:
            AgentError: UNREACHABLE when the agent went away and did not come back in RECONNECT_SECONDS.
        """
        after = 0
        while True:
            turn()
            operation = self._patiently(f"/v1/operations/{operation['id']}?wait={POLL_SECONDS:.0f}&after={after}")
            for event in operation["events"]:
                after = event["seq"]
                progress(event, operation["outcome"] is not None and event["text"] == operation["message"])
            if operation["outcome"] is not None:
                return operation
            if not operation["events"]:  # an agent that is stopping answers at once, and would be asked over and over
                time.sleep(PAUSE_SECONDS)

    def _patiently(self, target: str) -> Json:
        give_up = None
        while True:
            try:
                return self.call("GET", target, extra=POLL_SECONDS)
            except AgentError as error:
                # Counted from the first failure: before it, a frozen agent may have kept us waiting for a long time.
                give_up = give_up or time.monotonic() + RECONNECT_SECONDS
                if error.kind is not Kind.UNREACHABLE or time.monotonic() > give_up:
                    raise
                time.sleep(PAUSE_SECONDS)

    def _answered(self, request: bytes, seconds: float) -> tuple[int, Json]:
        """Ask again when the agent accepted the call and then went away: it restarts, and repeating a call is safe."""
        for _ in range(REPEATS):
            # systemd keeps the socket: the next connection waits there for the next agent.
            with suppress(_HungUpError):
                return self._exchange(request, seconds)
            time.sleep(PAUSE_SECONDS)
        return self._exchange(request, seconds)

    def _exchange(self, request: bytes, seconds: float) -> tuple[int, Json]:
        received = b""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(CONNECT_SECONDS)
                connection.connect(self._path)
                connection.settimeout(seconds)
                # A refusal comes with a hang-up, perhaps before the request is out: the answer is what counts.
                with suppress(BrokenPipeError):
                    connection.sendall(request)
                with suppress(ConnectionResetError):
                    while chunk := connection.recv(65536):
                        received += chunk
        except PermissionError:
            raise AgentError(
                Kind.FORBIDDEN,
                f"cannot reach the agent: this user may not use {self._path}",
                hint="run it with sudo, or add the user to the group zdd-agent",
            ) from None
        except (TimeoutError, BlockingIOError):  # the second: its queue of callers is full, unix(7)
            raise self._unreachable("it does not answer") from None
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from None
        head, _, body = received.partition(b"\r\n\r\n")
        try:
            status = int(head.split(None, 2)[1])
            answer = json.loads(body)
        except (IndexError, ValueError):
            raise self._unreachable(
                "it hung up in the middle of an answer", AgentError if received else _HungUpError
            ) from None
        if not isinstance(answer, dict):
            raise self._unreachable("something other than zdd-agent answers there")
        return status, answer

    def _unreachable(self, cause: str, error: type[AgentError] = AgentError) -> AgentError:
        return error(
            Kind.UNREACHABLE,
            f"cannot reach the agent at {self._path}: {cause}",
            hint="start it with `sudo systemctl start zdd-agent`, or see `journalctl -u zdd-agent`",
        )
