"""The kernel's view of an app whose port is published from a container: of the host and of the container, as one.

DNAT leads past the host's own sockets: an outside connection is only in the container's network namespace, with its
peer's address and the container's port. A proxy (docker-proxy) has the outside's connection on the host, and one more
to the container from an address of the host. So both are sampled, and in the container only peers outside count.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address

from zdd_agent.adapters import sock_diag
from zdd_agent.adapters.namespace_opener import Opened
from zdd_agent.adapters.sensor import KernelSensor
from zdd_agent.errors import AgentError
from zdd_agent.model.kernel import Connection, EndedConnections, Sample

# Seconds between two questions which container it is. One that takes another's place is found after this, and quiet is
# counted from then on.
_ASK_SECONDS = 1.0
# Peers whose place is remembered, at the most.
_MAX_PEERS = 4096
_DISCARD = 9  # a port, RFC 863; nothing is sent to it


class _Inside:
    """One network namespace of a container, as long as a process of the container lives."""

    def __init__(self, opened: Opened, port: int, now: Callable[[], float]) -> None:
        self.opened = opened
        self._ports = frozenset({port})
        sockets = iter(opened.sockets)
        self._kernel = KernelSensor(now, make=lambda: _next(sockets))
        self._open: tuple[Connection, ...] = ()

    def sample(self) -> Sample:
        sample = self._kernel.sample(self._ports, None)
        self._open = sample.connections
        return sample

    def ended(self) -> EndedConnections:
        return self._kernel.ended(self._ports, None)

    def last(self) -> tuple[Connection, ...]:
        """What ended with the container: what the kernel reported, and what was open."""
        try:
            told = self.ended().connections
        except AgentError:
            told = ()
        known = {connection.cookie for connection in told}
        return (*told, *(connection for connection in self._open if connection.cookie not in known))

    def close(self) -> None:
        self._kernel.close()
        self.opened.close()


def _next(sockets: Iterable[socket.socket]) -> socket.socket:
    for one in sockets:
        return one
    raise OSError("the container's namespace was let go of")


class ContainerSensor:
    """A sensor that looks into this host's container as well. Not for several threads.

    A namespace that was found is looked at until its process has ended, or until `close`: a container that another one
    takes the place of may still have requests to answer.

    Args:
        host: sees the host's own sockets.
        opens: the container's namespace as of now, see `NamespaceOpener.open`.
        port: the host's port that is published.
        container_port: where that leads to in the container.
        now: the agent's clock, seconds.
    """

    def __init__(
        self,
        host: KernelSensor,
        opens: Callable[[], Opened | None],
        *,
        port: int,
        container_port: int,
        now: Callable[[], float],
    ) -> None:
        self._host = host
        self._opens = opens
        self._port = port
        self._container_port = container_port
        self._now = now
        self._found: list[_Inside] = []
        self._asked_at = float("-inf")
        self._own: frozenset[str] = frozenset()
        self._is_outside: dict[str, bool] = {}

    def sample(self, ports: frozenset[int], addresses: frozenset[str]) -> Sample:
        """See `Sensor.sample`."""
        sample = self._host.sample(ports, addresses)
        if self._port not in ports:
            return sample
        try:
            gone, changed = self._look(addresses)
            parts = [inside.sample() for inside in self._found]
        except AgentError:
            self.close()
            raise
        listens = any(self._container_port in part.listening for part in parts)
        return Sample(
            max([sample.at, *(part.at for part in parts)]),
            sample.listening | ({self._port} if listens else set()),
            (*sample.connections, *self._counted(c for part in parts for c in part.connections)),
            (*sample.ended, *self._counted(gone), *self._counted(c for part in parts for c in part.ended)),
            sample.lost or changed or any(part.lost for part in parts),
        )

    def ended(self, ports: frozenset[int], addresses: frozenset[str]) -> EndedConnections:
        """See `Sensor.ended`."""
        told = self._host.ended(ports, addresses)
        if self._port not in ports:
            return told
        try:
            gone, changed = self._look(addresses)
            parts = [inside.ended() for inside in self._found]
        except AgentError:
            self.close()
            raise
        inside = self._counted((*gone, *(c for part in parts for c in part.connections)))
        lost = told.lost or changed or any(part.lost for part in parts)
        return EndedConnections(self._now(), (*told.connections, *inside), lost)

    def close(self) -> None:
        """See `Sensor.close`. No namespace is kept alive from here."""
        self._host.close()
        for inside in self._found:
            inside.close()
        self._found = []
        self._asked_at = float("-inf")

    def _look(self, addresses: frozenset[str]) -> tuple[tuple[Connection, ...], bool]:
        """Find the container afresh where that is due: what ended with one that is gone, and whether one is."""
        if addresses != self._own or len(self._is_outside) > _MAX_PEERS:
            self._own, self._is_outside = addresses, {}
        over = [inside for inside in self._found if inside.opened.over()]
        # While none is there, the next one must not go unseen for a moment.
        if self._found and not over and self._now() - self._asked_at < _ASK_SECONDS:
            return (), False
        opened = self._opens()
        self._asked_at = self._now()
        self._found = [inside for inside in self._found if inside not in over]
        if opened is not None:
            if any(inside.opened.namespace == opened.namespace for inside in self._found):
                opened.close()
            else:
                self._found.append(_Inside(opened, self._container_port, self._now))
        gone: list[Connection] = []
        for inside in over:
            # Another process of the container may still be in there: then what is open goes on.
            if opened is None or opened.namespace != inside.opened.namespace:
                gone += inside.last()
            inside.close()
        return tuple(gone), bool(over)

    def _counted(self, connections: Iterable[Connection]) -> Iterable[Connection]:
        """Those with the outside, at the host's port."""
        for one in connections:
            if one.peer not in self._is_outside:
                self._is_outside[one.peer] = is_outside(one.peer, self._own)
            if self._is_outside[one.peer] and one.peer != one.address:
                yield one if one.port == self._port else replace(one, port=self._port)


def is_outside(peer: str, addresses: frozenset[str]) -> bool:
    """Whether a peer in a container's namespace is outside this host.

    The host speaks to the outside from the addresses that EC2 gave it. To its own addresses, those of its bridges too,
    and to its other containers, it speaks from others: so ask the routing table. Nothing is sent.

    Args:
        peer: an address.
        addresses: of this host, as EC2 knows them.
    """
    if ip_address(peer).is_link_local:
        return False
    own = frozenset(map(sock_diag.packed, addresses))
    if sock_diag.packed(peer) in own:
        return False
    with socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer, _DISCARD))
        except OSError:
            return True  # no way to it: nothing of this host
        return sock_diag.packed(probe.getsockname()[0]) in own
