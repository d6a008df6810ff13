"""Containers without an engine: processes in network namespaces, and the files that an engine would keep of them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zdd_agent.opener import HOST, PATIENCE_SECONDS

NOBODY = 65534
AGENT_FOLDER = Path(__file__).parents[1] / "agent"
# What zdd-netns.service leaves a process of root.
CONFINED = ("setpriv", "--no-new-privs", "--bounding-set=-all,+sys_admin,+sys_ptrace")
_OPENER = (
    "import socket, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from zdd_agent import opener;"
    "folder = Path(sys.argv[4]);"
    "opener.serve(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]), Path(sys.argv[5]),"
    " opener.Places(lib=folder / 'lib', run=folder / 'run'))"
)


def missing() -> str:
    """Why this machine cannot have containers of this kind; empty when it can."""
    tools = ("unshare", "nsenter", "ip", "setpriv")
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in tools):
        return f"needs root and {', '.join(tools)}"
    made = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
    return "" if made.returncode == 0 else "needs a kernel that lets root make network namespaces"


def started(pid: int) -> int:
    """The moment of a process's start, in clock ticks: proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


class Container:
    """A process that lives in a network namespace of its own; `argv` runs once its loopback is up."""

    def __init__(self, argv: Sequence[str] = ("sleep", "600")) -> None:
        script = 'ip link set lo up && echo up && exec "$@"'
        words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", script, "sh", *argv]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"up\n"
        self.pid = self._process.pid

    @property
    def path(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Engine:
    """The state files of Docker and podman, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def podman(self, name: str, pid: int, *, started_at: int | None = None, file: str = "containers.json") -> None:
        container = secrets.token_hex(32)
        self._write(f"lib/containers/storage/overlay-containers/{file}", [{"id": container, "names": [name]}])
        moment = started(pid) if started_at is None else started_at
        self._write(f"run/crun/{container}/status", {"pid": pid, "process-start-time": moment})

    def docker(self, name: str, pid: int) -> None:
        container = secrets.token_hex(32)
        self._write(f"lib/docker/containers/{container}/config.v2.json", {"ID": container, "Name": f"/{name}"})
        state = {"init_process_pid": pid, "init_process_start": started(pid)}
        self._write(f"run/docker/runtime-runc/moby/{container}/state.json", state)

    def forget(self) -> None:
        """As after `rm` of every container."""
        shutil.rmtree(self.folder / "lib")
        shutil.rmtree(self.folder / "run")

    def _write(self, path: str, what: object) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".new").write_text(json.dumps(what))
        file.with_suffix(".new").replace(file)


@contextmanager
def opener(
    path: Path, engine: Engine, settings: Path, uid: int = 0, host: str = "/proc/self/ns/net"
) -> Iterator[subprocess.Popen[bytes]]:
    """The opener with the privileges of its unit, at this socket, for this user, in the host's network namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(128)
        os.chown(path, uid, uid)
        number = listener.fileno()
        words = [number, uid, engine.folder, settings]
        process = subprocess.Popen(
            [
                "nsenter",
                f"--net={host}",
                *CONFINED,
                sys.executable,
                "-ISc",
                _OPENER,
                str(AGENT_FOLDER),
                *map(str, words),
            ],
            pass_fds=(number,),
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def ask(path: Path, service: str = HOST) -> tuple[bytes, list[int]]:
    """What the opener answers, with the descriptors, which are the caller's to close."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(10 * PATIENCE_SECONDS)
        caller.connect(str(path))
        caller.send(service.encode())
        said, given, _, _ = socket.recv_fds(caller, 4096, 8)
        return said, given


def eventually(path: Path, answer: bytes, seconds: float = 10.0) -> None:
    """Ask until the answer is this."""
    until = time.monotonic() + seconds
    while (said := ask(path))[0] != answer:
        for number in said[1]:
            os.close(number)
        assert time.monotonic() < until, said[0]
        time.sleep(0.05)
    for number in said[1]:
        os.close(number)
