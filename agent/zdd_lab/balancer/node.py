"""The lab's own node of a load balancer: in one zone, on its own address, it forwards requests to targets."""

import asyncio
import time
from collections import Counter, deque
from functools import partial
from typing import TypedDict

from zdd_lab.balancer.forwarding import Forwarding, refuse
from zdd_lab.balancer.node_target import NodeTarget, TargetCounters
from zdd_lab.balancer.routing import Rotation
from zdd_lab.http1.incoming_request import Incoming
from zdd_lab.http1.server import ServerConnection
from zdd_lab.model.target import Backend, HealthReport, NodeHealth, NodeSettings, TargetKey

_BACKLOG = 1024  # connections not yet accepted
_REFUSALS_KEPT = 100


class Refusal(TypedDict):
    """An answer that the node made up or broke off, as in ALB's access log."""

    at: float  # wall time, s
    target: str | None  # its id
    status: int  # 0: broken off after its head; 460: the client left
    why: str


class NodeCounters(TypedDict):
    """What a node has done, as plain values."""

    requests: int
    responses: dict[str, int]  # by class of status, "2xx" to "5xx"; the load balancer's own count too
    elb_502: int
    elb_503: int
    elb_504: int
    client_left: int  # before their answer (460)
    broken: int  # answers cut off after their head
    open_clients: int
    refusals: list[Refusal]  # the last ones
    targets: list[TargetCounters]


class _Listener:
    def __init__(self, group: str) -> None:
        self.group = group
        self.server: asyncio.Server | None = None


class Node:
    """One node. It shares nothing with the nodes of other zones: its health checks and its lag are its own."""

    def __init__(self, name: str, zone: str, address: str, settings: NodeSettings, on_health: HealthReport) -> None:
        self.name = name
        self.zone = zone
        self.address = address
        self._settings = settings
        self._on_health = on_health
        self._listeners: dict[int, _Listener] = {}
        self._targets: dict[TargetKey, NodeTarget] = {}
        self._rotations: dict[str, Rotation] = {}
        self._clients: set[ServerConnection] = set()
        self._count: Counter[str] = Counter()
        self._refusals: deque[Refusal] = deque(maxlen=_REFUSALS_KEPT)
        self._down = False

    async def listen(self, port: int, group: str) -> None:
        """Forward every request on `port` to a target group. Call it again to change the group.

        Raises:
            OSError: the address is taken.
        """
        if port in self._listeners:
            self._listeners[port].group = group
            return
        listener = self._listeners[port] = _Listener(group)
        if self._down:
            return
        try:
            await self._open(port, listener)
        except OSError:
            del self._listeners[port]
            raise

    async def unlisten(self, port: int) -> None:
        """Accept no new connection on `port`. Open ones go on until they are idle."""
        listener = self._listeners.pop(port, None)
        if listener is not None and listener.server is not None:
            listener.server.close()

    async def _open(self, port: int, listener: _Listener) -> None:
        def accept() -> ServerConnection:
            return ServerConnection(
                lambda incoming: self._route(incoming, listener), self._settings.idle_timeout, self._clients
            )

        loop = asyncio.get_running_loop()
        listener.server = await loop.create_server(accept, self.address, port, backlog=_BACKLOG)

    def register(self, backend: Backend) -> None:
        """Learn of a registration: check the target, and route to it once it is healthy."""
        key = backend.key
        known = self._targets.get(key)
        if known is not None and known.backend == backend and not known.deregistered:
            return
        if known is not None and known.backend.address != backend.address:
            self.cut(key)
            known = None
        if known is None:
            known = self._targets[key] = NodeTarget(
                backend, self.address, self._settings, lambda health: self._health_changed(key, health)
            )
        else:
            known.change(backend)
        self._reroute(key.group)
        if not self._down:
            known.start_checks()

    def deregister(self, key: TargetKey) -> None:
        """Learn of a deregistration: send no new request. Those in flight finish."""
        target = self._targets.get(key)
        if target is not None and not target.deregistered:
            target.deregister()
            self._reroute(key.group)

    def cut(self, key: TargetKey) -> None:
        """Learn that a deregistration delay is over: cut what is in flight to the target, and forget it."""
        target = self._targets.pop(key, None)
        if target is not None:
            self._reroute(key.group)
            target.deregister()
            target.cut("the deregistration delay is over")

    def counters(self) -> NodeCounters:
        """What the node has done so far."""
        return {
            "requests": self._count["requests"],
            "responses": {f"{digit}xx": self._count[f"{digit}xx"] for digit in range(2, 6)},
            "elb_502": self._count["elb_502"],
            "elb_503": self._count["elb_503"],
            "elb_504": self._count["elb_504"],
            "client_left": self._count["elb_460"],
            "broken": self._count["broken"],
            "open_clients": len(self._clients),
            "refusals": list(self._refusals),
            "targets": [target.counters() for target in self._targets.values()],
        }

    async def set_down(self, down: bool) -> None:
        """Start or end an outage of the zone: connections are reset, new ones refused, targets not checked."""
        if down == self._down:
            return
        self._down = down
        if not down:
            for port, listener in self._listeners.items():
                await self._open(port, listener)
            for target in self._targets.values():
                target.start_checks()
            return
        await self._close_listeners()
        for connection in list(self._clients):
            connection.reset()
        for target in self._targets.values():
            target.cut("the zone is down")

    async def close(self) -> None:
        """Stop at once, with all connections."""
        await self.set_down(True)
        self._listeners.clear()
        self._targets.clear()
        await asyncio.sleep(0)  # so that the callbacks of the cut connections run

    async def _close_listeners(self) -> None:
        for listener in self._listeners.values():
            if listener.server is not None:
                listener.server.close()
                listener.server = None

    def _health_changed(self, key: TargetKey, health: NodeHealth) -> None:
        self._reroute(key.group)
        self._on_health(self.name, key, health)

    def _reroute(self, group: str) -> None:
        rotation = self._rotations.setdefault(group, Rotation())
        rotation.update([target for key, target in self._targets.items() if key.group == group])

    def _route(self, incoming: Incoming, listener: _Listener) -> None:
        self._count["requests"] += 1
        rotation = self._rotations.get(listener.group)
        target = rotation.next() if rotation is not None else None
        if target is None:
            self._ended(503, "no target", None)
            refuse(incoming, 503)
            return
        ended = partial(self._ended, target=target.backend.key.id)
        Forwarding(incoming, target, self._settings.response_timeout, ended)

    def _ended(self, status: int, why: str, target: str | None) -> None:
        if why:
            self._refusals.append({"at": time.time(), "target": target, "status": status, "why": why})
        if status == 0:
            self._count["broken"] += 1
            return
        self._count[f"{status // 100}xx"] += 1
        if why:
            self._count[f"elb_{status}"] += 1
