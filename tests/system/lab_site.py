"""Some hosts with a lab on the bridge between them, and a load through its load balancer.

Every namespace has the site's tag in its name, and nothing outside the namespaces made here is touched.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from hosts import HERE, LEASH, PREFIX, TOP, Failed, Host, run
from netns import inside
from packages import image, layer


@contextmanager
def booted(hosts: int) -> Iterator[Site]:
    """Hosts behind the lab's load balancer; neither the app nor the agent is there yet."""
    # Not below /tmp, which may be a tmpfs without the attributes that an overlay needs.
    folder = Path(tempfile.mkdtemp(prefix="zdd-system-", dir="/var/tmp"))
    try:
        # Several test modules have their hosts at the same time.
        with Site(f"zdd{secrets.token_hex(3)}", folder, [layer(), image()], hosts) as site:
            yield site
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        argv = [
            *LEASH,
            *self.on_bridge(),
            sys.executable,
            str(HERE / "lab_process.py"),
            PREFIX,
            str(self.folder / "lab"),
        ]
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
