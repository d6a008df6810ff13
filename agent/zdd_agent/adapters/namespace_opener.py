"""Asks the opener (`zdd_agent.opener`) for sockets in the network namespace of this host's container."""

from __future__ import annotations

import os
import select
import socket
from dataclasses import dataclass
from pathlib import Path

from zdd_agent.errors import AgentError, Kind

# The name of its socket, beside the agent's own.
SOCKET_NAME = "netns.sock"
# Seconds: the opener answers in milliseconds; it may have to be started first.
_PATIENCE_SECONDS = 3.0
_SERVICE = b"host"
_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>, since Linux 5.14
_DESCRIPTORS = 3


@dataclass(frozen=True)
class Opened:
    """A container's network namespace, which lives for as long as this is open, whatever becomes of the container.

    Args:
        namespace: names the namespace for as long as the host runs.
        sockets: two sockets of sock_diag(7) in there.
        process: a pidfd of the process that it was found by.
    """

    namespace: int
    sockets: tuple[socket.socket, socket.socket]
    process: int

    def over(self) -> bool:
        """Whether the process has ended."""
        return bool(select.select([self.process], [], [], 0)[0])

    def close(self) -> None:
        """Let go of the namespace."""
        for one in self.sockets:
            one.close()
        os.close(self.process)


class NamespaceOpener:
    """The opener that listens at this path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> Opened | None:
        """The container's namespace as of now; None while it does not run.

        Raises:
            AgentError: FAILED, transient: the opener does not answer, or refuses.
        """
        try:
            said, given = self._ask()
        except OSError as error:
            raise AgentError(
                Kind.FAILED,
                f"cannot look into the container: {self._path}: {error.strerror or error}",
                hint="systemctl enable --now zdd-netns.socket",
                transient=True,
            ) from None
        if said == "found" and len(given) == _DESCRIPTORS:
            asked, told = (socket.socket(fileno=number) for number in given[:2])
            return Opened(_namespace(asked), (asked, told), given[2])
        for number in given:
            os.close(number)
        if said == "none":
            return None
        why = said.removeprefix("refused: ") or "it hung up"
        raise AgentError(
            Kind.FAILED,
            f"cannot look into the container: {why}",
            hint="see [container] in the settings",
            transient=True,
        )

    def check(self) -> str:
        """What the opener answers, for the doctor. Raises as `open` does, and when the container does not run."""
        opened = self.open()
        if opened is None:
            raise AgentError(Kind.FAILED, "the container of [container] does not run", hint="start it, or fix its name")
        opened.close()
        return "the opener finds the container, and its connections can be looked at"

    def _ask(self) -> tuple[str, list[int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
            caller.settimeout(_PATIENCE_SECONDS)
            caller.connect(str(self._path))
            caller.send(_SERVICE)
            said, given, _, _ = socket.recv_fds(caller, 4096, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
            return said.decode("utf-8", "replace"), given


def _namespace(inside: socket.socket) -> int:
    return int.from_bytes(inside.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
