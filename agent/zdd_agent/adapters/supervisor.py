"""Tells systemd over NOTIFY_SOCKET how the daemon is, and takes the socket that systemd holds for it.

Sources: sd_notify(3), sd_listen_fds(3). Without systemd every call does nothing.
"""

from __future__ import annotations

import logging
import socket

from systemd.daemon import is_socket_unix, listen_fds, notify

from zdd_agent.errors import AgentError, Kind

log = logging.getLogger(__name__)


class Systemd:
    """Tells systemd that the daemon is ready, alive, or on its way out."""

    def __init__(self) -> None:
        self._ready = False

    def alive(self, status: str) -> None:
        """Feed the watchdog and show the status; the first call says READY."""
        state = f"WATCHDOG=1\nSTATUS={status}"
        _tell(state if self._ready else f"READY=1\n{state}")
        self._ready = True

    def stopping(self) -> None:
        """The daemon is on its way out."""
        _tell("STOPPING=1\nSTATUS=stopping")


def passed_listener() -> socket.socket | None:
    """The socket that systemd holds and passes on; None when it passes none.

    Raises:
        AgentError: CONFIGURATION, when what it passed is not one listening Unix socket.
    """
    passed = listen_fds(unset_environment=True)
    if not passed:
        return None
    if len(passed) > 1 or not is_socket_unix(passed[0], socket.SOCK_STREAM, 1):
        raise AgentError(
            Kind.CONFIGURATION,
            f"cannot listen: systemd must pass exactly one listening Unix socket, and passed {len(passed)} descriptors",
            hint="compare `systemctl cat zdd-agent.socket` with the zdd-agent.socket of the package",
            value="socket",
        )
    return socket.socket(fileno=passed[0])


def _tell(state: str) -> None:
    try:
        notify(state)
    except OSError as error:  # an operation under way matters more than who watches it
        log.warning("cannot tell systemd: %s", error)
