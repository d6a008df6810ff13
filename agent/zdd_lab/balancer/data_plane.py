"""Drives the nodes from the model: each learns of a listener, a registration or a deregistration when it is due."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from zdd_lab.aws.topology_reader import TopologyReader
from zdd_lab.model.elb import Elb
from zdd_lab.model.registration import within_reach
from zdd_lab.model.schedule import Command
from zdd_lab.model.target import Backend, HealthReport, NodeHealth, NodeSettings, TargetKey
from zdd_lab.model.topology import NodePlace


class BalancerNode(Protocol):
    """What the data plane tells a node, whoever wrote it. The node reports health to a `HealthReport`."""

    name: str
    zone: str

    async def listen(self, port: int, group: str) -> None: ...
    async def unlisten(self, port: int) -> None: ...
    def register(self, backend: Backend) -> None: ...
    def deregister(self, key: TargetKey) -> None: ...
    def cut(self, key: TargetKey) -> None: ...
    async def set_down(self, down: bool) -> None: ...
    async def close(self) -> None: ...
    def counters(self) -> Mapping[str, Any]: ...


# From name, zone, address, settings and where to report health.
MakeNode = Callable[[str, str, str, NodeSettings, HealthReport], BalancerNode]


class DataPlane:
    """All nodes, and the one task that gives them what the model schedules."""

    def __init__(self, elb: Elb, reader: TopologyReader, addresses: Mapping[str, str], make_node: MakeNode) -> None:
        self.elb = elb
        self.nodes: dict[str, BalancerNode] = {}
        for name, place in elb.nodes.items():
            settings = elb.profile.node_settings(place.kind)
            self.nodes[name] = make_node(name, place.zone, addresses[name], settings, self._on_health)
        self._network = next(iter(addresses.values())).rpartition(".")[0] + "."
        self._reader = reader
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()
        self._ports: dict[str, set[int]] = {name: set() for name in self.nodes}
        self._driver: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._driver = asyncio.get_running_loop().create_task(self._drive())

    async def close(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
        for node in self.nodes.values():
            await node.close()

    async def refresh(self) -> None:
        """Read the topology again, and adapt the model and the listeners."""
        async with self._reading:
            topology = await asyncio.to_thread(self._reader.read)
            self.elb.configure(topology, time.monotonic())
            for name, node in self.nodes.items():
                await self._listen(node, self.elb.nodes[name])
        self.wake()

    def wake(self) -> None:
        """Look at the schedule again: something may be due sooner."""
        self._wake.set()

    async def set_zones_down(self, zones: Iterable[str]) -> None:
        """Take down the nodes of these zones (by their last letter: a, b), and bring up all others."""
        letters = frozenset(zones)
        down = frozenset(name for name, node in self.nodes.items() if node.zone[-1] in letters)
        self.elb.down = down
        for name, node in self.nodes.items():
            await node.set_down(name in down)

    async def _listen(self, node: BalancerNode, place: NodePlace) -> None:
        wanted: dict[int, str] = {}
        for listener in self.elb.topology.listeners:
            balancer = self.elb.topology.load_balancers[listener.load_balancer]
            if balancer.kind == place.kind and place.zone in balancer.zones and listener.default_group:
                wanted[listener.port] = listener.default_group
        for port in self._ports[node.name] - set(wanted):
            await node.unlisten(port)
        for port, group in wanted.items():
            await node.listen(port, group)
        self._ports[node.name] = set(wanted)

    def _on_health(self, node: str, key: TargetKey, health: NodeHealth) -> None:
        self.elb.health_reported(node, key, health, time.monotonic())

    async def _drive(self) -> None:
        while True:
            self._wake.clear()
            for command in self.elb.due(time.monotonic()):
                self._give(command)
            due = self.elb.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _give(self, command: Command) -> None:
        node = self.nodes[command.node]
        if command.action == "deregister":
            node.deregister(command.key)
        elif command.action == "cut":
            node.cut(command.key)
        elif (backend := self.elb.backend(command.key)) and self._is_ours(backend.address):
            node.register(backend)

    def _is_ours(self, address: str) -> bool:
        """Whether an address is on loopback or in the lab's network: nothing may be sent to any other."""
        return within_reach(address) or address.startswith(self._network)
