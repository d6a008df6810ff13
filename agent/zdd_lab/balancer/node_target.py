"""A target as one node sees it: its health, its connections, its requests in flight."""

import time
from collections.abc import Callable
from typing import Protocol, TypedDict

from zdd_lab.balancer.connection_pool import Pool
from zdd_lab.balancer.health_checks import INITIAL, Checker
from zdd_lab.model.target import Backend, NodeHealth, NodeSettings


class TargetCounters(TypedDict):
    """What a node has done with one target, as plain values."""

    group: str
    id: str
    port: int
    state: str
    deregistered: bool
    requests: int
    in_flight: int
    last_request_at: float | None  # wall time, s
    open_connections: int


class InFlight(Protocol):
    """A request in flight to a target."""

    def cut(self, why: str) -> None: ...


class NodeTarget:
    """A target, from the node's `register` to its `cut`."""

    def __init__(
        self,
        backend: Backend,
        source: str,
        settings: NodeSettings,
        on_health: Callable[[NodeHealth], None],
    ) -> None:
        self.backend = backend
        self.deregistered = False
        self.in_flight: set[InFlight] = set()
        self.healthy_since: float | None = None  # wall time, s
        self.pool = Pool(backend.address, backend.key.port, source, settings.idle_timeout)
        self._source = source
        self._settings = settings
        self._on_health = on_health
        self._requests = 0
        self._last_request_at: float | None = None
        self._checker = self._new_checker()

    def _new_checker(self, health: NodeHealth = INITIAL) -> Checker:
        return Checker(
            self.backend,
            self._source,
            one_is_enough=self._settings.one_check_is_enough,
            report=self._health_reported,
            health=health,
        )

    @property
    def health(self) -> NodeHealth:
        """What this node thinks of the target."""
        return self._checker.health

    def _health_reported(self, health: NodeHealth) -> None:
        if health.state != "healthy":
            self.healthy_since = None
        elif self.healthy_since is None:
            self.healthy_since = time.time()
        self._on_health(health)

    def start_checks(self) -> None:
        """Start health checks, unless it is deregistered and such targets are not checked."""
        if not self.deregistered or self._settings.checks_while_draining:
            self._checker.start()

    def stop_checks(self) -> None:
        """Stop health checks. The health stays as it is."""
        self._checker.stop()

    def change(self, backend: Backend) -> None:
        """Take new settings. A deregistered target must pass its health checks before it gets requests again."""
        self._checker.stop()
        self.backend = backend
        if self.deregistered:
            self.deregistered = False
            self.healthy_since = None
            self._checker = self._new_checker()
        else:
            self._checker = self._new_checker(self.health)

    def deregister(self) -> None:
        """Get no new request. Those in flight go on."""
        self.deregistered = True
        if not self._settings.checks_while_draining:
            self._checker.stop()
        if self._settings.closes_idle_on_deregistration:
            self.pool.close_idle()

    @property
    def keeps_connections(self) -> bool:
        """Whether a connection is kept after its answer."""
        return not (self.deregistered and self._settings.closes_idle_on_deregistration)

    def request_begins(self, request: InFlight) -> None:
        """Count a request that is sent to it."""
        self.in_flight.add(request)
        self._requests += 1
        self._last_request_at = time.time()

    def cut(self, why: str) -> None:
        """Cut what is in flight and close every connection."""
        self.stop_checks()
        for request in list(self.in_flight):
            request.cut(why)
        self.pool.close_idle()

    def counters(self) -> TargetCounters:
        """Its counters, as plain values."""
        key = self.backend.key
        return {
            "group": key.group,
            "id": key.id,
            "port": key.port,
            "state": self.health.state,
            "deregistered": self.deregistered,
            "requests": self._requests,
            "in_flight": len(self.in_flight),
            "last_request_at": self._last_request_at,
            "open_connections": self.pool.open_connections,
        }
