"""Hosts that take turns, with real agents under load: what the tests of slots on the lab stand on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lab.conftest import free_prefix
from lab.drain_rig import BIN, Load, load, run, until_so
from lab.dynamodb_rig import client, create_table
from rollout import set_health
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab

TABLE = "zdd-agent-slots"
SERVICE = "web"
LETS_GO = 1.0  # s until a node stops sending to a host that was deregistered: sooner than any second look
# The floor is longer than that, and the API's word comes later than a drain's own proof.
PROFILE = replace(FAST, alb_lag=(LETS_GO, LETS_GO), deregistration_delay=30.0)
SETTINGS = {"ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION": "3"}
_LOOK = 0.02  # s between two looks at the nodes' counters


@contextmanager
def fleet(hosts: int, limit: int | str, seed: int = 5, **settings: str) -> Iterator[ThreadedLab]:
    """A lab whose hosts take turns by a table in its DynamoDB; every host in service with `v1`, no agent started.

    Args:
        hosts: how many.
        limit: `[slots] limit`.
        seed: of the lab's lags.
        settings: further lines of each agent's [slots].
    """
    with ThreadedLab(prefix=free_prefix(), profile=PROFILE, hosts=hosts, agents=False, seed=seed) as running:
        create_table(client(running.lab.endpoint_url), TABLE)
        lines = {"table": TABLE, "name": SERVICE, "limit": limit} | settings
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        for host in running.lab.hosts:
            config = host.folder / "config.toml"
            config.write_text(f"{config.read_text('utf-8')}\n[slots]\n{text}", "utf-8")
        yield running


async def start_agents(lab: Lab, hosts: list[Host], more: Mapping[str, str] | None = None) -> None:
    """A few at a time: a start takes a second of a core."""
    gate = asyncio.Semaphore(3)

    async def start(host: Host) -> None:
        async with gate:
            await host.start_agent(SETTINGS | dict(more or {}))

    await asyncio.gather(*(start(host) for host in hosts))


def table(lab: Lab) -> dict[str, Any]:
    """Holders and waiters of the service, by the name of their host. Blocks: not in the lab's thread."""
    read = client(lab.endpoint_url).get_item(TableName=TABLE, Key={"service": {"S": SERVICE}}, ConsistentRead=True)
    names = {host.identity.instance_id: host.name for host in lab.hosts}
    item = read.get("Item", {})
    return {
        kind: {names.get(one, one): entry["M"] for one, entry in item.get(kind, {"M": {}})["M"].items()}
        for kind in ("holders", "waiters")
    }


async def holders(lab: Lab) -> set[str]:
    """Names of the hosts that hold a slot."""
    return set((await asyncio.to_thread(table, lab))["holders"])


async def until_nobody_holds(lab: Lab, seconds: float = 30.0) -> None:
    """Wait until every slot is given back.

    Raises:
        TimeoutError: one is not.
    """
    async with asyncio.timeout(seconds):
        while await holders(lab):  # noqa: ASYNC110  a table has no event
            await asyncio.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended."""

    code: int
    text: str  # both outputs
    seconds: float


async def command(lab: Lab, host: Host, *words: str) -> Said:
    """`zdd-agent WORDS` on a host."""
    began = time.monotonic()
    code, out, err, _ = await run([str(BIN / "zdd-agent"), *words], lab.env(host))
    return Said(code, f"{out}\n{err}", time.monotonic() - began)


async def deploy(lab: Lab, host: Host, version: str, *, wait: float = 0.0, broken: bool = False) -> list[Said]:
    """What a deploy tool does on one host: drain, restart, rejoin; it stops at what fails.

    Args:
        version: of the app from now on.
        wait: `--wait` of the drain, s.
        broken: the version does not pass its health check, and the rejoin gives up soon.
    """
    drained = await command(lab, host, "drain", *(("--wait", f"{wait:g}") if wait else ()))
    if drained.code != 0:
        return [drained]
    await host.restart_app(version, lab.app_arguments)
    if broken:
        await asyncio.to_thread(set_health, host, 500)
    return [drained, await command(lab, host, "rejoin", *(("--timeout", "5") if broken else ()))]


@dataclass
class Out:
    """Who is out, by the nodes' own counters: from when the first node has let a host go until all send to it again.

    A host that a node finds unhealthy, because this machine is busy, has not left.

    Args:
        most: how many at one moment, at most.
        now: who, and for which node.
    """

    most: int = 0
    now: set[tuple[str, str]] = field(default_factory=set)

    def look(self, lab: Lab) -> None:
        names = {host.identity.instance_id: host.name for host in lab.hosts}
        for node in (name for name in lab.plane.nodes if not name.startswith("nlb")):
            targets = {one["id"]: one for one in lab.plane.nodes[node].counters()["targets"]}
            for instance, name in names.items():
                found = targets.get(instance)
                if found is None or found["deregistered"]:
                    self.now.add((name, node))
                elif found["state"] == "healthy":
                    self.now.discard((name, node))
        self.most = max(self.most, len({name for name, _ in self.now}))

    async def watch(self, lab: Lab) -> None:
        while True:
            self.look(lab)
            await asyncio.sleep(_LOOK)


@dataclass
class Watched:
    """A load and the nodes, while something goes on."""

    load: Load
    out: Out = field(default_factory=Out)


@asynccontextmanager
async def under_load(lab: Lab, rate: float, name: str = "load") -> AsyncIterator[Watched]:
    """A load over both nodes, and a look at them every few milliseconds."""
    async with load(lab, rate, name) as kept:
        await until_so(lambda: bool(kept.records()))
        watched = Watched(kept)
        watching = asyncio.create_task(watched.out.watch(lab))
        try:
            yield watched
        finally:
            watching.cancel()
