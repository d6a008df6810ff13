"""Samples of the kernel, during an operation and after a drain."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from zdd_agent.decide.evidence import Senses
from zdd_agent.errors import AgentError
from zdd_agent.model.aws import Membership
from zdd_agent.ports import Metadata, Sensor


class Sampler:
    """Asks the sensor. For the loop's thread alone.

    Args:
        quiet_seconds: how long without a byte counts as quiet.
    """

    def __init__(self, sensor: Sensor, metadata: Metadata, *, quiet_seconds: float) -> None:
        self._sensor = sensor
        self._metadata = metadata
        self._quiet_seconds = quiet_seconds

    def sense(self, senses: Senses, membership: Membership) -> Senses:
        """What is known after one more sample. A sensor that fails is believed no more in this operation."""
        try:
            ports, addresses = self._scope(membership)
            sample = self._sensor.sample(ports, addresses)
        except AgentError as error:
            return replace(senses, blind=error.message)
        return senses.after(sample, membership, self._quiet_seconds)

    def rest(self) -> None:
        """Stop watching."""
        self._sensor.close()

    def _scope(self, membership: Membership) -> tuple[frozenset[int], frozenset[str]]:
        """The app's ports, and this host's own addresses at which a load balancer reaches it."""
        addresses = {t.id for t in membership.targets if membership.group(t.group).target_type == "ip"}
        return (
            frozenset(t.port for t in membership.targets),
            # However old: a sample must not wait for the metadata service, nor fail with it.
            frozenset({*addresses, *self._metadata.identity(inf).addresses}),
        )
