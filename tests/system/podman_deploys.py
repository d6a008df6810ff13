"""Deploys of a podman container under load: `unshare --net --mount python podman_deploys.py TREE`.

Two hosts are behind the lab's load balancer. This network namespace is the first one: there podman publishes the port
of its container `web`. Two releases are rolled, then one drain has no opener. It prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import podman_site

from containers import Container, Engine
from lab.container_rig import INNER_PORT, ContainerHost, containers_lab
from lab.drain_rig import RATE, SETTINGS, Deregistration, Ended, by_proof, load, operate, until_so
from published import Outside, PublishingHost, run
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST

DELAY = FAST.deregistration_delay
FIRST = 11  # the last number of the first host's address
# The lab's app and its Python, which the image has not.
MOUNTED = dict.fromkeys(("/usr", sys.base_prefix, sys.prefix, str(podman_site.AGENT)))


class Here(Container):
    """The network namespace in which this process was started, whichever its threads enter."""

    def __init__(self) -> None:
        self._descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.pid = os.getpid()

    @property
    def path(self) -> str:
        return f"/proc/{self.pid}/fd/{self._descriptor}"

    def kill(self) -> None:
        os.close(self._descriptor)


class ThisHost(PublishingHost):
    """That namespace, on the lab's network. Podman makes the rest."""

    def __init__(self, outside: Outside, address: str, here: Here) -> None:
        self.outside, self.address, self.place, self.containers = outside, address, here, []
        outside.link(address, here.path)
        run(here, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        run(here, "ip", "link", "set", "eth0", "up")


class PodmanHost(ContainerHost):
    """A host whose app is podman's container `web`."""

    def __init__(self, here: Here, outside: Outside, *words: Any) -> None:
        self._here = here
        super().__init__(outside, *words)

    def network(self, outside: Outside) -> PublishingHost:
        return ThisHost(outside, self.identity.address, self._here)

    async def open(self, scale: float) -> None:
        await super().open(scale)
        # Podman's own state files.
        self.engine = Engine(self.folder / "engine")
        self.engine.folder.mkdir()
        (self.engine.folder / "lib").symlink_to("/var/lib")
        (self.engine.folder / "run").symlink_to("/run")

    async def start_app(self, version: str, arguments: Sequence[str] = ()) -> None:
        mounts = [word for folder in MOUNTED for word in ("-v", f"{folder}:{folder}:ro")]
        app = [sys.executable, "-m", "zdd_lab.hosts.app", "--host", "0.0.0.0", "--port", str(INNER_PORT)]  # noqa: S104
        named = ["--name", self.name, "--version", version, *arguments]
        published = ["--name", "web", "-p", f"{APP_PORT}:{INNER_PORT}"]
        await self._podman("run", "-d", "--rm", *published, *mounts, *podman_site.LIMITS, "app:1", *app, *named)
        self.version = version

    async def stop_app(self) -> None:
        await self._podman("rm", "-f", "-t", "0", "web")
        self.version = None

    async def _podman(self, *words: str) -> None:
        argv = ["nsenter", f"--net={self.net.place.path}", *podman_site.PODMAN, *words]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


async def drain(lab: Lab, host: Host) -> tuple[Ended, Deregistration]:
    gone = Deregistration()
    watching = asyncio.create_task(gone.watch(lab, host))
    drained = await operate(lab, host, "drain")
    await watching
    return drained, gone


async def deploys(lab: Lab) -> dict[str, Any]:
    host = lab.hosts[0]
    assert isinstance(host, PodmanHost)
    await host.start_agent(SETTINGS)
    kept: dict[str, Any] = {"ahead": [], "at": []}
    async with load(lab, RATE) as under:
        for version in ("v2", "v3"):
            drained, gone = await drain(lab, host)
            by_proof(drained, gone, gone.deregistered, DELAY)
            kept["ahead"].append(gone.deregistered + DELAY - drained.ended)
            await host.restart_app(version)
            rejoined = await operate(lab, host, "rejoin")
            assert rejoined.outcome == "succeeded", rejoined.whole
            count = len(under.records())
            await until_so(
                lambda count=count, version=version: f"{host.name} {version}" in told(under.records()[count:])
            )
            kept["at"].append(version)
        await host.stop_agent()
        host.opens = False
        host.close_opener()
        await host.start_agent(SETTINGS)
        drained, gone = await drain(lab, host)
        assert drained.outcome == "succeeded", drained.whole
        kept["blind"] = drained.ended - gone.deregistered
    return kept | {"requests": len(under.records()), "failed": [repr(one) for one in under.failed()]}


def told(records: Sequence[Any]) -> set[str]:
    return {f"{one.host} {one.version}" for one in records}


def main() -> None:
    podman_site.prepare(sys.argv[1])
    here = Here()

    def make(outside: Outside, *words: Any) -> ContainerHost:
        identity = words[0]
        first = identity.address.endswith(f".{FIRST}")
        return PodmanHost(here, outside, *words) if first else ContainerHost(outside, *words)

    try:
        with containers_lab(make, profile=FAST, hosts=2) as running:
            print(json.dumps(running.run(deploys(running.lab), 150)), flush=True)
    finally:
        subprocess.run([*podman_site.PODMAN, "rm", "-f", "-t", "0", "-a"], check=False, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
