"""Hosts with a real systemd as PID 1, each in a network namespace of its own, a lab on the bridge between them.

Everything has one prefix in its name, and nothing outside the namespaces made here is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from netns import inside

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
PREFIX = "10.77.0"
BOOT_SECONDS = 60.0
_CGROUPS = Path("/sys/fs/cgroup")

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
    """A command on a host ended with something else than 0."""


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
        # nspawn makes its groups below the one that it is started in: each host needs one of its own.
        join = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in self._groups)
        argv = [
            "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=read-only",
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
        """The same, not waited for."""
        return subprocess.Popen(
            self.argv("/bin/sh", "-c", script), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def install(self, deb: Path) -> None:
        shutil.copyfile(deb, self.root / "root" / deb.name)
        self.sh(f"DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold /root/{deb.name}")

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


class Site:
    """Some hosts, the lab, and a load through its load balancer: `with Site(tag, folder, layers, hosts=2) as site:`."""

    def __init__(self, tag: str, folder: Path, layers: list[Path], hosts: int) -> None:
        self.tag, self.folder = tag, folder
        self.hosts = [Host(tag, n, layers, folder) for n in range(1, hosts + 1)]
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _build(self) -> None:
        lab = f"{self.tag}-lab"
        self._add(lab)
        ip = ("ip", "-n", lab)
        run(*ip, "link", "add", "br0", "type", "bridge")
        for last in range(1, 6):
            run(*ip, "addr", "add", f"{PREFIX}.{last}/24", "dev", "br0")
        run(*ip, "link", "set", "br0", "up")
        for host in self.hosts:
            self._add(host.namespace)
            run(*ip, "link", "add", host.name, "type", "veth", "peer", "name", "host0", "netns", host.namespace)
            run(*ip, "link", "set", host.name, "master", "br0", "up")
            there = ("ip", "-n", host.namespace)
            run(*there, "addr", "add", f"{host.address}/24", "dev", "host0")
            run(*there, "addr", "add", "169.254.169.254/32", "dev", "lo")
            run(*there, "link", "set", "host0", "up")
        (self.folder / "lab").mkdir()
        argv = [*self.on_bridge(), sys.executable, str(HERE / "lab_process.py"), PREFIX, str(self.folder / "lab")]
        env = {**os.environ, "PYTHONPATH": f"{TOP / 'agent'}:{HERE}"}
        with (self.folder / "lab.log").open("wb") as log:
            lab_process = subprocess.Popen(
                [*argv, *(h.namespace for h in self.hosts)], env=env, stdout=subprocess.PIPE, stderr=log
            )
        self._ends.callback(_end, lab_process)
        assert lab_process.stdout is not None
        if lab_process.stdout.readline() != b"ready\n":
            raise Failed(f"the lab did not start: {(self.folder / 'lab.log').read_text()[-2000:]}")
        for host in self.hosts:
            self._ends.callback(host.close)
            host.prepare()
            host.boot()

    def _add(self, namespace: str) -> None:
        run("ip", "netns", "add", namespace)
        self._ends.callback(run, "ip", "netns", "del", namespace, check=False)
        run("ip", "-n", namespace, "link", "set", "lo", "up")

    def on_bridge(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.tag}-lab"]

    def state(self) -> dict[str, Any]:
        """What the lab's control API says."""

        def ask() -> dict[str, Any]:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://{PREFIX}.1:4567/state", timeout=10) as answer:
                said: dict[str, Any] = json.load(answer)
                return said

        return inside(f"/run/netns/{self.tag}-lab", ask)

    def wait_healthy(self, count: int, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while sum(t["state"] == "healthy" for t in self.state()["targets"]) != count:
            if time.monotonic() > until:
                raise Failed(f"not {count} healthy after {seconds:.0f} s: {self.state()['targets']}")
            time.sleep(0.2)

    @contextmanager
    def load(self, rate: int = 100) -> Iterator[Mapping[str, int]]:
        """A load for the time of the block; afterwards the mapping holds `requests` and `failed`."""
        out = self.folder / f"load-{time.monotonic_ns()}.tsv"
        urls = [word for url in self.state()["urls"] for word in ("--url", url)]
        argv = [*self.on_bridge(), sys.executable, "-m", "zdd_lab.traffic.load", "--rate", str(rate), "--out", str(out)]
        load = subprocess.Popen(
            [*argv, "--until-stdin-closes", *urls],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(TOP / "agent")},
        )
        result: dict[str, int] = {}
        try:
            time.sleep(1)
            yield result
            time.sleep(1)
        finally:
            assert load.stdin is not None
            load.stdin.close()
            if load.wait(60) != 0:
                raise Failed("the load generator failed")
        from zdd_lab.traffic.records import read_records, summarize  # noqa: PLC0415  the lab's, on the path by now

        summary = summarize(list(read_records(out)))
        result.update(requests=summary["requests"], failed=summary["failed"])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
