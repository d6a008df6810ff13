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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import boto3
from hosts import HERE, LEASH, PREFIX, TOP, Failed, Host, run
from netns import inside
from packages import image, layer

from zdd_lab.aws.topology_reader import CLIENT_CONFIG, MADE_UP_SECRET, REGION
from zdd_lab.lab import ENDPOINT_PORT, PERSON_KEY

T = TypeVar("T")


@contextmanager
def booted(hosts: int, spares: int = 0) -> Iterator[Site]:
    """Hosts behind the lab's load balancer; neither the app nor the agent is there yet. Spares are not booted."""
    # Not below /tmp, which may be a tmpfs without the attributes that an overlay needs.
    folder = Path(tempfile.mkdtemp(prefix="zdd-system-", dir="/var/tmp"))
    try:
        # Several test modules have their hosts at the same time.
        with Site(f"zdd{secrets.token_hex(3)}", folder, [layer(), image()], hosts, spares) as site:
            yield site
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Site:
    """Some hosts, the lab, and a load through its load balancer: `with Site(tag, folder, layers, hosts=2) as site:`."""

    def __init__(self, tag: str, folder: Path, layers: list[Path], hosts: int, spares: int) -> None:
        self.tag, self.folder = tag, folder
        every = [Host(tag, n, layers, folder) for n in range(1, hosts + spares + 1)]
        # The next instances that an Auto Scaling group launches.
        self.hosts, self.spares = every[:hosts], every[hosts:]
        self._clients: dict[str, Any] = {}
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
        for host in (*self.hosts, *self.spares):
            self._add(host.namespace)
            run(*ip, "link", "add", host.name, "type", "veth", "peer", "name", "host0", "netns", host.namespace)
            run(*ip, "link", "set", host.name, "master", "br0", "up")
            there = ("ip", "-n", host.namespace)
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
            str(len(self.hosts)),
        ]
        env = {**os.environ, "PYTHONPATH": f"{TOP / 'agent'}:{HERE}"}
        with (self.folder / "lab.log").open("wb") as log:
            lab_process = subprocess.Popen(
                [*argv, *(h.namespace for h in (*self.hosts, *self.spares))],
                env=env,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._ends.callback(_end, lab_process)
        assert lab_process.stdout is not None
        if lab_process.stdout.readline() != b"ready\n":
            raise Failed(f"the lab did not start: {(self.folder / 'lab.log').read_text()[-2000:]}")
        for host in self.hosts:
            self._boot(host)

    def _boot(self, host: Host) -> None:
        run("ip", "-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "host0")
        self._ends.callback(host.close)
        host.prepare()
        host.boot()

    def launched(self) -> Host:
        """The next spare, booted as the instance that Auto Scaling has launched; waits for the launch."""
        host = self.spares.pop(0)
        found = self.until(lambda: self._instance(host.name), f"the launch of {host.name}")
        host.address = found["address"]
        self._boot(host)
        self.hosts.append(host)
        return host

    def _instance(self, name: str) -> dict[str, Any] | None:
        return next((one for one in self.state()["hosts"] if one["name"] == name), None)

    def instance_id(self, host: Host) -> str:
        """Of a host that EC2 has not taken yet."""
        found = self._instance(host.name)
        assert found is not None, host.name
        return str(found["instance_id"])

    def client(self, service: str) -> Any:
        """A boto3 client with a person's keys. Call it with `inside`."""
        if service not in self._clients:
            url, words = f"http://{PREFIX}.1:{ENDPOINT_PORT}", {"region_name": REGION, "config": CLIENT_CONFIG}
            session = boto3.session.Session(PERSON_KEY, MADE_UP_SECRET)
            self._clients[service] = session.client(service, endpoint_url=url, **words)
        return self._clients[service]

    def aws(self, service: str, method: str, **words: Any) -> Any:
        """A person's call to AWS, by boto3's name of the method."""
        return self.inside(lambda: getattr(self.client(service), method)(**words))

    def control(self, path: str, body: dict[str, Any]) -> None:
        """A POST to the lab's control API."""
        self._ask(path, json.dumps(body).encode())

    def inside(self, call: Callable[[], T]) -> T:
        """What `call` returns beside the load balancer."""
        return inside(f"/run/netns/{self.tag}-lab", call)

    def until(self, found: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
        """Wait until it finds something, and answer that."""
        end = time.monotonic() + seconds
        while not (answer := found()):
            if time.monotonic() > end:
                raise Failed(f"not in {seconds:.0f} s: {what}: {json.dumps(self.state())}")
            time.sleep(0.1)
        return answer

    def _add(self, namespace: str) -> None:
        run("ip", "netns", "add", namespace)
        self._ends.callback(run, "ip", "netns", "del", namespace, check=False)
        run("ip", "-n", namespace, "link", "set", "lo", "up")

    def on_bridge(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.tag}-lab"]

    def state(self) -> dict[str, Any]:
        """What the lab's control API says."""
        return self._ask("/state")

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://{PREFIX}.1:4567{path}", body, timeout=10) as answer:
                said: dict[str, Any] = json.load(answer)
                return said

        return self.inside(ask)

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
