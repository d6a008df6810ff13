"""Tells the systemd unit that called a command what the command waits for, and that it needs more time.

Standard library only. Source: sd_notify(3). systemd listens when the unit has NotifyAccess=exec or all.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

# Seconds, from now, that the unit gets. Asked for again at every turn of a wait. A turn lasts 25 s; while the agent is
# away it can last 85 s for the answer and 30 s for the agent's return.
EXTENSION_SECONDS = 150


class Unit:
    """Writes to NOTIFY_SOCKET. Without one, every call does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")

    def wait(self, status: str = "") -> None:
        """Extend the unit's time-out for its start or stop, and show what the command waits for."""
        if not self._address:
            return
        state = f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}"
        if status:
            state += f"\nSTATUS={status}"
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        # The operation goes on whether or not anybody listens.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.sendto(os.fsencode(state), os.fsencode(name))
