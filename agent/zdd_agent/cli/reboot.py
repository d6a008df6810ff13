"""The command `reboot`: drain, ask systemd for the reboot; the agent puts the host back. Standard library only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from zdd_agent.cli.output import plain, say
from zdd_agent.errors import EXIT_OK, AgentError, Kind

# Debian's mark that an update requires a reboot: /usr/share/doc/unattended-upgrades. It is gone after the boot.
MARK = Path("/run/reboot-required")
DEBIAN = Path("/etc/debian_version")
# What `needs-restarting -r` says, in each of its versions, where a reboot is required; exit code 1 alone is any error.
_REQUIRED = "Reboot is required"
# Seconds before a host that others work on is asked again.
PAUSE_SECONDS = 5.0


class Machine:
    """This machine: what is asked of it for a reboot."""

    def __init__(self, mark: Path = MARK, debian: Path = DEBIAN) -> None:
        self._mark = mark
        self._debian = debian

    def now(self) -> float:
        """Seconds, of a clock that nobody sets."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Let this much time pass."""
        time.sleep(seconds)

    def is_root(self) -> bool:
        """Whether this user may reboot it."""
        return os.geteuid() == 0

    def needs_reboot(self) -> tuple[bool, str]:
        """Whether an update requires a reboot, and who says so.

        Raises:
            AgentError: FAILED when nothing on this host can tell.
        """
        if self._mark.exists():
            return True, f"{self._mark} exists"
        cannot = "cannot tell whether a reboot is required"
        environ = {**os.environ, "LC_ALL": "C"}
        try:
            asked = subprocess.run(
                ["needs-restarting", "-r"],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            if self._debian.exists():
                return False, f"there is no {self._mark}"
            hint = "install it with `dnf install dnf-utils`, or reboot without --if-required"
            raise AgentError(Kind.FAILED, f"{cannot}: this host has no needs-restarting", hint=hint) from None
        if asked.returncode == 0:
            return False, "as needs-restarting says"
        if asked.returncode == 1 and _REQUIRED in asked.stdout:
            return True, "needs-restarting says so"
        said = " ".join((asked.stderr or asked.stdout).split())[-200:]
        raise AgentError(Kind.FAILED, f"{cannot}: needs-restarting -r ended with {asked.returncode}: {said}")

    def reboot(self) -> str:
        """Ask systemd for the reboot; why it does not come, or an empty text."""
        try:
            asked = subprocess.run(
                ["systemctl", "reboot"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except OSError as error:
            return f"systemctl: {error.strerror}"
        # Its own connection may break while the shutdown that it asked for is under way.
        if asked.returncode == 0 or self._is_stopping():
            return ""
        return f"systemctl reboot ended with {asked.returncode}: {' '.join(asked.stderr.split())[-200:]}"

    def _is_stopping(self) -> bool:
        asked = subprocess.run(["systemctl", "is-system-running"], capture_output=True, text=True, check=False)
        return asked.stdout.strip() == "stopping"


def reboot(arguments: Namespace, machine: Machine, drain: Callable[[float], int], put_back: Callable[[], int]) -> int:
    """Drain this host and reboot it; returns the exit code.

    Args:
        arguments: of the command line.
        machine: this one.
        drain: drains for a reboot; takes for how long a refused drain is retried (seconds), answers the exit code.
        put_back: begins a rejoin, for a reboot that does not come.

    Raises:
        AgentError: FORBIDDEN, and whatever kept the drain from being taken up.
    """
    if not machine.is_root():
        hint = "run it with sudo"
        raise AgentError(Kind.FORBIDDEN, "cannot reboot: only root can, and nothing was drained", hint=hint)
    if arguments.if_required:
        required, why = machine.needs_reboot()
        if not required:
            _print(arguments, False, f"no reboot is required: {why}")
            return EXIT_OK
        print(plain(f"a reboot is required: {why}"), file=sys.stderr)
    if (code := _drain_in_turn(machine, arguments.wait, drain)) != EXIT_OK:
        print("no reboot follows", file=sys.stderr)
        return code
    if not (failure := machine.reboot()):
        _print(arguments, True, "rebooting: the agent puts this host back after the boot")
        return EXIT_OK
    print(plain(f"zdd-agent: cannot reboot: {failure}"), file=sys.stderr)
    if "drained" in arguments.force:  # it may be out for other work: whoever forced this knows
        print("  this host stays out: put it back with `zdd-agent rejoin`", file=sys.stderr)
    else:
        put_back()
    return Kind.FAILED.exit_code


def _print(arguments: Namespace, comes: bool, text: str) -> None:
    say(json.dumps({"reboot": comes, "message": text}) if arguments.json else plain(text))


def _drain_in_turn(machine: Machine, wait: float, drain: Callable[[float], int]) -> int:
    """Drain, once other work on this host is over, for which this waits as long as for a refused drain (seconds)."""
    until = machine.now() + wait
    waiting = False
    while True:
        left = max(until - machine.now(), 0.0)
        try:
            return drain(left)
        except AgentError as error:
            if error.kind is not Kind.BUSY or not left:
                raise
            if not waiting:
                print(plain(f"waiting: {error.message}"), file=sys.stderr)
            waiting = True
        machine.wait(min(PAUSE_SECONDS, left))
