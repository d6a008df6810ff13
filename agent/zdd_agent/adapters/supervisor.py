"""systemd, told over NOTIFY_SOCKET; without one every call does nothing.

Source: sd_notify(3).
"""

from __future__ import annotations

import logging

from systemd.daemon import notify

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


def _tell(state: str) -> None:
    try:
        notify(state)
    except OSError as error:  # an operation under way matters more than who watches it
        log.warning("cannot tell systemd: %s", error)
