"""Child processes that die with the lab, however the lab ends. Linux only."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Runs in the child, then becomes the program under the same pid. A preexec function could set the signal too, but
# it runs Python between fork and exec, which can deadlock in a process that has threads.
_SET_DEATH_SIGNAL = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG, prctl(2)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def dies_with_parent(argv: Sequence[str]) -> list[str]:
    """The argument list that starts a program which dies with this process. `argv[0]` must be a path."""
    return [sys.executable, "-I", "-S", "-c", _SET_DEATH_SIGNAL, str(os.getpid()), *argv]


class ChildStartError(RuntimeError):
    """A child process did not start. The text says which, and where its log is."""


def spawn(argv: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program with exactly this environment. Its stdout and stderr are appended to `log`.

    Call it from a thread that outlives the child: the kernel kills the child when that thread ends.
    """
    with log.open("ab") as out:
        return subprocess.Popen(
            dies_with_parent(argv),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def stop(child: subprocess.Popen[bytes] | None, patience: float = 3.0) -> None:
    """End a child: SIGTERM, then SIGKILL after `patience` s. Blocks until it is gone."""
    if child is None or child.poll() is not None:
        return
    child.send_signal(signal.SIGCONT)  # a stopped process does not see SIGTERM
    child.terminate()
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def bare_environment() -> dict[str, str]:
    """This environment without settings of AWS and the agent, without credential files and proxies."""
    ours = ("AWS_", "ZDD_", "BOTO_", "MOTO_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(ours) and not name.upper().endswith("_PROXY")
    }
    package_folder = str(Path(__file__).resolve().parents[2])
    search = [package_folder, *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **kept,
        "NO_PROXY": "*",  # everything is on loopback
        "PYTHONPATH": os.pathsep.join(search),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
