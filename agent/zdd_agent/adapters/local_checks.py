"""Checks of this machine, for the doctor and for `check-config`: the socket, the state file, the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from zdd_agent.adapters.store import FileStore
from zdd_agent.errors import AgentError, Kind
from zdd_agent.settings import DEFAULT_STATE_DIRECTORY

# Bytes that must be free for the state file: some hundred times its size.
FREE_BYTES = 1_000_000
# Where an installed unit is: systemd.unit(5).
UNIT_FOLDERS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
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


def check_state_directory(folder: Path, unit_folders: Sequence[Path] = UNIT_FOLDERS) -> None:
    """Find out whether `serve`, run by this user, could use the folder; changes nothing in it, and takes no lock.

    The default folder may be missing where the service is installed: its StateDirectory= makes it.

    Args:
        folder: the setting `state_directory`.
        unit_folders: where systemd looks for the service.

    Raises:
        AgentError: CONFIGURATION.
    """
    installed = any((units / "zdd-agent.service").exists() for units in unit_folders)
    if installed and folder == DEFAULT_STATE_DIRECTORY and not folder.exists():
        return
    try:
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
    except OSError as error:
        denied = isinstance(error, PermissionError)
        raise AgentError(
            Kind.CONFIGURATION,
            f"cannot use {folder}: {error.strerror or error}",
            hint="make it writable for the agent, and run this as root or as the agent's user"
            if denied
            else "create the folder, writable for the agent, or set `state_directory`",
            value="state_directory",
        ) from None


def boot_id(environ: Mapping[str, str]) -> str:
    """The ID of this boot of the host; empty when it cannot be found out.

    The unit hands it in, since `ProcSubset=pid` hides it in /proc. Source: random(4), systemd.unit(5).
    """
    if given := environ.get("ZDD_AGENT_BOOT_ID"):
        return given.replace("-", "")
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")
    except OSError:
        return ""
