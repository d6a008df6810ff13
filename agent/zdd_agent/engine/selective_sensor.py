"""The kernel's view of the app's connections without those of some peers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address

from zdd_agent.model.kernel import Connection, EndedConnections, Sample
from zdd_agent.ports import Sensor


class SelectiveSensor:
    """A sensor that leaves out peers: no drain waits for them, and what they do proves nothing.

    Args:
        sensor: that sees them.
        ignored: the networks of these peers.
    """

    def __init__(self, sensor: Sensor, ignored: Collection[IPv4Network | IPv6Network]) -> None:
        self._sensor = sensor
        self._ignored = ignored

    def sample(self, ports: frozenset[int], addresses: frozenset[str]) -> Sample:
        """See `Sensor.sample`."""
        sample = self._sensor.sample(ports, addresses)
        return replace(sample, connections=self._heeded(sample.connections), ended=self._heeded(sample.ended))

    def ended(self, ports: frozenset[int], addresses: frozenset[str]) -> EndedConnections:
        """See `Sensor.ended`."""
        told = self._sensor.ended(ports, addresses)
        return replace(told, connections=self._heeded(told.connections))

    def close(self) -> None:
        """See `Sensor.close`."""
        self._sensor.close()

    def _heeded(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        addresses = {peer: ip_address(peer) for peer in {c.peer for c in connections}}
        ignored = {peer for peer, at in addresses.items() if any(at in network for network in self._ignored)}
        return tuple(c for c in connections if c.peer not in ignored)
