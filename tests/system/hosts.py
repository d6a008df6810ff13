"""Hosts with a real systemd as PID 1, each in its own network namespace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
PREFIX = "10.77.0"
BOOT_SECONDS = 60.0
_CGROUPS = Path("/sys/fs/cgroup")
# Words before a command that ends with the tests, even when they are killed.
LEASH = ("setpriv", "--pdeathsig", "TERM")

APP_UNIT = """[Unit]
Description=The app under load
[Service]
Environment=PYTHONPATH=/opt/lab
ExecStart=/usr/bin/python3 -m zdd_lab.hosts.app --host {address} --port 8080 --name {name} \\
  --version v1 --start-seconds 1
[Install]
WantedBy=multi-user.target
"""

# The lab's nodes are ten times as fast as AWS's.
LAB_SETTINGS = """[poll]
interval_seconds = 1.0
jitter_seconds = 0.5
[drain.floor_seconds]
application = 6.0
"""


class Failed(RuntimeError):  # noqa: N818  reads as what happened
    """A command on a host ended with an exit code other than 0."""


def run(*argv: str | Path, check: bool = True, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Host:
    """One booted host: its folder, namespace and PID 1."""

    def __init__(self, tag: str, number: int, layers: list[Path], folder: Path) -> None:
        self.name, self.namespace = f"h{number}", f"{tag}-h{number}"
        self.address = f"{PREFIX}.{(10 if number % 2 else 138) + number}"  # as zdd_lab.aws.resources places instances
        self.root = folder / self.name / "root"
        self._layers, self._folder = layers, folder / self.name
        self._groups = [g / self.namespace for g in (_CGROUPS / "systemd", _CGROUPS / "unified") if g.is_dir()]
        self._groups = self._groups or [_CGROUPS / self.namespace]
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.boot_seconds = 0.0

    def prepare(self) -> None:
        for name in ("root", "upper", "work"):
            (self._folder / name).mkdir(parents=True)
        lower = ":".join(map(str, self._layers))
        options = f"lowerdir={lower},upperdir={self._folder}/upper,workdir={self._folder}/work"
        run("mount", "-t", "overlay", "overlay", "-o", options, self.root)
        self.write("/etc/hostname", f"{self.name}\n")
        self.write("/etc/systemd/system/app.service", APP_UNIT.format(address=self.address, name=self.name))
        self.write("/etc/default/zdd-agent", f"AWS_ENDPOINT_URL=http://{PREFIX}.1:4566\nNO_PROXY=*\n")
        self.write("/etc/zdd-agent/conf.d/00-lab.toml", LAB_SETTINGS)

    def write(self, path: str, text: str) -> None:
        """Put a file on the host; it need not run."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def boot(self) -> None:
        """Start PID 1 and wait until systemd says that the host is up."""
        began = time.monotonic()
        for group in self._groups:
            group.mkdir(exist_ok=True)
        # nspawn makes its groups below the one in which it is started: each host needs its own.
        join = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in self._groups)
        argv = [
            *LEASH, "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=read-only",
            f"--network-namespace-path=/run/netns/{self.namespace}", f"--machine={self.namespace}",
            "--directory", str(self.root), "--link-journal=no", "--resolv-conf=off", "--timezone=off",
        ]  # fmt: skip
        log = (self._folder / "console.log").open("ab")
        self._nspawn = subprocess.Popen(
            ["/bin/sh", "-c", f'{join}; exec "$@"', "sh", *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        until = began + BOOT_SECONDS
        while time.monotonic() < until:
            if self._nspawn.poll() is not None:
                break
            if self._find_leader() and self.sh("systemctl is-system-running", check=False).stdout.strip() in (
                "running",
                "degraded",
            ):
                self.boot_seconds = time.monotonic() - began
                return
            time.sleep(0.2)
        raise Failed(f"{self.name} did not boot: {(self._folder / 'console.log').read_text()[-2000:]}")

    def _find_leader(self) -> bool:
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() in ("systemd", "init"):
                self._leader = int(child)
                return True
        return False

    def argv(self, *words: str) -> list[str]:
        """The words that run a command on the host."""
        return ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", *words]

    def sh(self, script: str, *, check: bool = True, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        return run(*self.argv("/bin/sh", "-c", script), check=check, seconds=seconds)

    def start(self, script: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        return subprocess.Popen(
            self.argv("/bin/sh", "-c", script), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def install(self, deb: Path) -> None:
        shutil.copyfile(deb, self.root / "opt" / deb.name)
        self.sh(f"DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold /opt/{deb.name}")

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.sh("zdd-agent status --json").stdout)
        return said

    def wait(self, posture: str, seconds: float = 60.0) -> None:
        """Until `zdd-agent status` says this."""
        until = time.monotonic() + seconds
        said = ""
        while time.monotonic() < until:
            done = self.sh("zdd-agent status --json", check=False)
            said = done.stdout + done.stderr
            if done.returncode == 0 and json.loads(done.stdout)["posture"] == posture:
                return
            time.sleep(0.2)
        raise Failed(f"{self.name} is not {posture} after {seconds:.0f} s: {said}\n{self.journal()}")

    def journal(self, *words: str) -> str:
        return self.sh(f"journalctl --no-pager -o short-monotonic {' '.join(words)}", check=False).stdout[-6000:]

    def off(self, seconds: float = 60.0) -> int:
        """Wait until the host is off; answers nspawn's exit (133: it wants to be booted again)."""
        assert self._nspawn is not None
        return self._nspawn.wait(seconds)

    def is_off(self) -> bool:
        """Whether it has gone down by itself."""
        return self._nspawn is None or self._nspawn.poll() is not None

    def close(self) -> None:
        if self._nspawn is not None and self._nspawn.poll() is None:
            os.kill(self._leader, signal.SIGRTMIN + 4)  # systemd(1): power off
            try:
                self._nspawn.wait(15)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        run("umount", "-l", self.root, check=False)
        for group in self._groups:
            for inner in sorted(group.rglob("*"), reverse=True):
                if inner.is_dir():
                    inner.rmdir()
            group.rmdir()
