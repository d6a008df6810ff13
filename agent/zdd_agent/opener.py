"""The one privileged piece: opens sock_diag(7) sockets in the network namespace of a service's container.

It runs as its own process, `zdd-netns.service`, in the host's network namespace, with CAP_SYS_ADMIN and CAP_SYS_PTRACE
and nothing else, and needs only the standard library. A caller names a service, in one packet; which container that is
comes from the settings file, which only root may write. The answer is one packet:

- `found`, with two sockets of the namespace and a pidfd of the process that it was found by (SCM_RIGHTS);
- `none`: the container does not run;
- `refused: WHY`.

Such a socket lists connections, as ss(8) does. It changes nothing: SOCK_DESTROY wants CAP_NET_ADMIN, which the agent
does not have. A number of a process may be used again at any moment: so the pidfd comes first, and then everything is
looked at once more.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import re
import select
import socket
import stat
import struct
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# The service of a host whose settings name none.
HOST = "host"
# Seconds that a caller has to say what it wants, and to take the answer: the next caller waits meanwhile.
PATIENCE_SECONDS = 1.0
_LONGEST_NAME = 255  # bytes of a request
_NETLINK_SOCK_DIAG = 4
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# Docker: `RestrictedNameChars`; podman's `NameRegex` is the same.
_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_UNIT = re.compile(r"[a-zA-Z0-9_.:@\\-]+\.(service|scope)")


class RefusedError(Exception):
    """What is asked for cannot be had."""


@dataclass(frozen=True)
class Places:
    """Where the engines and the kernel keep what is read here."""

    lib: Path = Path("/var/lib")
    run: Path = Path("/run")
    groups: Path = Path("/sys/fs/cgroup")


def main() -> None:
    """`zdd-netns USER SETTINGS`, with the listening socket from systemd: answers that user until it is stopped."""
    _, user, settings = sys.argv
    serve(socket.socket(fileno=3), pwd.getpwnam(user).pw_uid, Path(settings), Places())


def serve(listener: socket.socket, uid: int, settings: Path, places: Places) -> None:
    """Answer the callers of this user, one after another; hang up on all others."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    while True:
        caller, _ = listener.accept()
        with caller:
            try:
                _answer(caller, uid, settings, places, home)
            except OSError as error:  # it has gone, or is slow
                print(f"a caller got no answer: {error}", file=sys.stderr)


def _answer(caller: socket.socket, uid: int, settings: Path, places: Places, home: int) -> None:
    caller.settimeout(PATIENCE_SECONDS)
    _, peer, _ = struct.unpack("iII", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if peer != uid:
        return
    asked = caller.recv(_LONGEST_NAME)
    kept: list[int] = []
    try:
        found = _find(configured(settings, asked), places)
        if found is not None:
            kept.append(found)
            kept[:0] = _sockets(found, home)
    except RefusedError as error:
        caller.send(f"refused: {error}".encode())
    except ProcessLookupError:
        caller.send(b"none")  # it ended meanwhile
    else:
        socket.send_fds(caller, [b"found" if kept else b"none"], kept)
    finally:
        for descriptor in kept:
            os.close(descriptor)


def _sockets(pidfd: int, home: int) -> list[int]:
    """Two sockets of the process's network namespace: one to ask with, one to be told on."""
    _enter(pidfd)
    try:
        if _namespace("self") == os.fstat(home).st_ino:
            raise RefusedError("the container is in the host's own network namespace, which needs no help to look at")
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        return [socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG).detach() for _ in range(2)]
    finally:
        try:
            _enter(home)
        except OSError:
            os._exit(1)  # never serve from a namespace that is not our own; systemd starts this again


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# The settings


def configured(settings: Path, service: bytes) -> tuple[str, str]:
    """How the container of a service is found: ("name" or "unit", which). Raises RefusedError."""
    if service != HOST.encode():
        raise RefusedError("there is no such service")
    table: dict[str, Any] = {}
    _check_owner(settings.parent.stat(), settings.parent)
    extra = settings.parent / "conf.d"
    if extra.exists():
        _check_owner(extra.stat(), extra)
    for file in (settings, *sorted(extra.glob("*.toml"))):
        if file.exists():
            new = _read_settings(file).get("container", {})
            table |= new if isinstance(new, dict) else {}
    given = [(key, table[key]) for key in ("name", "unit") if key in table]
    if len(given) != 1:
        raise RefusedError(f"{settings} has no [container] with either `name` or `unit`")
    key, which = given[0]
    if not isinstance(which, str) or not (_CONTAINER if key == "name" else _UNIT).fullmatch(which):
        raise RefusedError(f"`container.{key}` in {settings} names no container or unit")
    return key, which


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, encoding="utf-8") as opened:  # noqa: PTH123  the file that is looked at is the one that is read
            _check_owner(os.fstat(descriptor), file)
            return tomllib.loads(opened.read())
    except (OSError, ValueError) as error:
        raise RefusedError(f"cannot read {file}: {error}") from None


def _check_owner(found: os.stat_result, path: Path) -> None:
    if found.st_uid != 0 or found.st_mode & _OTHERS_WRITE:
        raise RefusedError(f"{path} belongs to somebody other than root, or others may write it")


# The process


def _find(how: tuple[str, str], places: Places) -> int | None:
    """A pidfd of the process whose network namespace is the container's; None where it does not run."""
    return _by_name(how[1], places) if how[0] == "name" else _by_unit(how[1], places)


def _by_name(name: str, places: Places) -> int | None:
    ids = {*_podman_ids(name, places), *_docker_ids(name, places)}
    if len(ids) > 1:
        raise RefusedError(f"more than one container has the name {name}")
    for one in ids:
        for pid, started in _runtime_states(one, places):
            if not started:
                raise RefusedError("the container's runtime does not say when it started: it is too old")
            if (found := _hold(pid, partial(_began, pid, started))) is not None:
                return found
    return None


def _podman_ids(name: str, places: Places) -> Iterator[str]:
    """From containers/storage: `volatile-containers.json` holds those of `--rm`; below /run with a transient store."""
    for top in (places.lib, places.run):
        for file in top.glob("containers/storage/*-containers/*containers.json"):
            yield from (one["id"] for one in _json(file) or () if name in (one.get("names") or ()))


def _docker_ids(name: str, places: Places) -> Iterator[str]:
    for file in places.lib.glob("docker/containers/*/config.v2.json"):
        config = _json(file) or {}
        if config.get("Name") == f"/{name}":
            yield config["ID"]


def _runtime_states(container: str, places: Places) -> Iterator[tuple[int, int]]:
    """The first process of a container, with the moment of its start in clock ticks, by what started it."""
    if not container.isalnum():
        raise RefusedError("the engine's files name no container")
    for top in ("crun", "runc", "docker/runtime-*/moby"):
        for file in places.run.glob(f"{top}/{container}/state.json"):
            runc = _json(file) or {}
            yield int(runc.get("init_process_pid", 0)), int(runc.get("init_process_start", 0))
        for file in places.run.glob(f"{top}/{container}/status"):
            crun = _json(file) or {}
            yield int(crun.get("pid", 0)), int(crun.get("process-start-time", 0))


def _by_unit(unit: str, places: Places) -> int | None:
    """The oldest of the unit's processes that are not in the host's network namespace: they must all be in one."""
    away: dict[int, list[int]] = {}
    processes = set()
    host = _namespace("self")
    for group in _groups_of(unit, places):
        for folder, _, _ in os.walk(group):
            for pid in _processes(Path(folder)):
                processes.add(pid)
                if (namespace := _namespace(pid)) not in (host, 0):
                    away.setdefault(namespace, []).append(pid)
    if len(away) > 1:
        raise RefusedError(f"the processes of {unit} are in several network namespaces: give the container's `name`")
    if processes and not away:
        raise RefusedError(f"{unit} has no process in a network namespace of its own: give the container's `name`")
    for namespace, pids in away.items():
        for pid in sorted(pids, key=_started):
            if (found := _hold(pid, partial(_is_in, pid, unit, namespace))) is not None:
                return found
    return None


def _groups_of(unit: str, places: Places) -> Iterator[Path]:
    """The cgroups of this unit. A unit is in a slice, and slices are in slices: systemd.slice(5)."""
    tops = [places.groups / "systemd" if (places.groups / "systemd").is_dir() else places.groups]
    while tops:
        top = tops.pop()
        if (top / unit).is_dir():
            yield top / unit
        tops += [inner for inner in top.glob("*.slice") if inner.is_dir()]


def _processes(group: Path) -> list[int]:
    with contextlib.suppress(OSError):  # the group has gone meanwhile
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    return []


def _hold(pid: int, is_the_one: Callable[[], bool]) -> int | None:
    """A pidfd of the process of this number if it is the one: asked when the pidfd is there, and still alive after."""
    if pid <= 0:
        return None
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if is_the_one() and not select.select([held], [], [], 0)[0]:
        return held
    os.close(held)
    return None


def _began(pid: int, moment: int) -> bool:
    return _started(pid) == moment


def _started(pid: int) -> int:
    """In clock ticks after the boot, proc(5); 0 when there is no such process."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0


def _namespace(pid: int | str) -> int:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    return 0


def _is_in(pid: int, unit: str, namespace: int) -> bool:
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return _namespace(pid) == namespace and any(unit in line.split(":", 2)[2].split("/") for line in lines)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RefusedError(f"cannot read {file}: {error}") from None


if __name__ == "__main__":
    main()
