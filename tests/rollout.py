"""What the tests of every deploy tool need: a lab of some hosts, a load over it, and where it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST
from zdd_lab.processes.children import bare_environment
from zdd_lab.threaded import ThreadedLab
from zdd_lab.traffic.records import Record, read_records

TOP = Path(__file__).resolve().parent.parent
PROFILE = replace(FAST, deregistration_delay=10.0)
# So that a plain restart would be seen.
APP = ("--start-seconds", "0.5", "--slow-share", "0.03", "--slow-max", "1")
_BIN = Path(sys.executable).parent


@dataclass
class Seen:
    """What a load saw, once it has ended."""

    records: list[Record] = field(default_factory=list)

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.records if record.failed]

    def versions(self, last_seconds: float = 0.0) -> dict[str, set[str]]:
        """The versions that each host answered with; of the last seconds only, if any are given."""
        since = self.records[-1].started - last_seconds if last_seconds else 0.0
        found: dict[str, set[str]] = {}
        for record in self.records:
            if not record.failed and record.started >= since:
                found.setdefault(record.host, set()).add(record.version)
        return found


@contextmanager
def load(lab: Lab, out: Path, rate: int = 100) -> Iterator[Seen]:
    """A load for the time of the block."""
    words = [
        sys.executable,
        "-m",
        "zdd_lab.traffic.load",
        "--rate",
        str(rate),
        "--out",
        str(out),
        "--until-stdin-closes",
    ]
    for url in lab.urls:
        words += ["--url", url]
    seen = Seen()
    running = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=bare_environment())
    assert running.stdin is not None
    try:
        yield seen
    finally:
        running.stdin.close()
        code = running.wait(60)
    assert code == 0
    seen.records = sorted(read_records(out), key=lambda record: record.started)


def environment(host: Host | None = None) -> dict[str, str]:
    """A deploy tool's: our commands on the path, no AWS key; on a host, with its agent's socket."""
    env = bare_environment() | {"PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}"}
    return env | ({"ZDD_AGENT_SOCKET": str(host.socket)} if host is not None else {})


def agent(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    """`zdd-agent` on a host."""
    return subprocess.run(
        ["zdd-agent", *words], env=environment(host), capture_output=True, text=True, timeout=120, check=False
    )


def posture(host: Host) -> str:
    return str(json.loads(agent(host, "status", "--json").stdout)["posture"])


def set_health(host: Host, code: int) -> None:
    """Let the app on this host answer its health checks so."""
    url = f"http://{host.identity.address}:{host.app_port}/_lab/health"
    request = urllib.request.Request(url, json.dumps({"code": code}).encode(), method="POST")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
        pass


def reset(running: ThreadedLab, version: str = "v1") -> None:
    """Every host in service with this version."""
    running.lab.faults.clear(None)
    for host in running.lab.hosts:
        if host.version != version or _health(host) != 200:
            running.run(host.restart_app(version, running.lab.app_arguments))
    for host in running.lab.hosts:
        agent(host, "watch")
        done = agent(host, "rejoin")
        assert done.returncode == 0, done.stderr
    running.run(running.lab.wait_until_healthy())


def versions(lab: Lab) -> dict[str, str | None]:
    return {host.name: host.version for host in lab.hosts}


def _health(host: Host) -> int:
    url = f"http://{host.identity.address}:{host.app_port}/healthz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            return int(answer.status)
    except OSError:
        return 0


Variables = Mapping[str, Any]
