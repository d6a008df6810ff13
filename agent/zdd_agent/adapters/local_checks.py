"""The doctor's checks of this machine: the socket, the state file, the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from zdd_agent.adapters.store import FileStore
from zdd_agent.errors import AgentError, Kind

# Bytes that must be free for the state file: some hundred times its size.
FREE_BYTES = 1_000_000
_OPEN_TO_ALL = 0o007


def socket_mode(path: Path) -> str:
    """The socket's mode and owner. Raises AgentError when everybody may connect, or it is gone."""
    try:
        found = path.stat()
    except OSError as error:
        raise AgentError(Kind.FAILED, f"cannot look at {path}: {error.strerror}", hint="restart zdd-agent") from None
    mode = stat.S_IMODE(found.st_mode)
    if mode & _OPEN_TO_ALL:
        raise AgentError(Kind.FAILED, f"{path} is open to everybody (mode {mode:04o})", hint=f"chmod 0660 {path}")
    return f"{path} has mode {mode:04o}, uid {found.st_uid}, gid {found.st_gid}"


def state_folder(store: FileStore, folder: Path) -> str:
    """The state file can be written. Raises AgentError STORE."""
    if notices := store.notices():
        raise AgentError(
            Kind.STORE, notices[0], hint="compare `zdd-agent status` with that file, then restart zdd-agent"
        )
    store.try_write()
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < FREE_BYTES:
        raise AgentError(Kind.STORE, f"{folder} is nearly full", hint="free some space")
    return f"{folder} can be written, {free.f_bavail * free.f_frsize / 1e6:.0f} MB free"
