"""Samples of the kernel: during an operation, and before one where the adaptive floor wants a past to go by."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import inf

from zdd_agent.decide.evidence import Senses
from zdd_agent.decide.traffic import health_checks
from zdd_agent.decide.traffic.silence import History
from zdd_agent.errors import AgentError
from zdd_agent.model.aws import Membership
from zdd_agent.ports import Metadata, Sensor

log = logging.getLogger(__name__)


class Sampler:
    """Asks the sensor. For the loop's thread alone.

    Args:
        adaptive: keep the nodes' history while no operation is under way.
        quiet_seconds: how long without a byte counts as quiet.
    """

    def __init__(self, sensor: Sensor, metadata: Metadata, *, adaptive: bool, quiet_seconds: float) -> None:
        self._sensor = sensor
        self._metadata = metadata
        self._quiet_seconds = quiet_seconds
        self._history: History | None = None
        self._history_of: Membership | None = None
        self.adaptive = adaptive

    def sense(self, senses: Senses, membership: Membership) -> Senses:
        """What is known after one more sample. A sensor that fails is believed no more in this operation."""
        try:
            ports, addresses = self._scope(membership)
            sample = self._sensor.sample(ports, addresses)
        except AgentError as error:
            return replace(senses, blind=error.message)
        if self._history is not None and self._history_of == membership:
            self._history = self._history.after(sample)
        return senses.after(sample, membership, self._quiet_seconds)

    def demands(self, senses: Senses, membership: Membership) -> Senses:
        """With how long each node must be silent, from what was seen so far: to be asked before the deregistration."""
        if self._history is None or self._history_of != membership:
            return senses
        return replace(senses, demands=self._history.demands(health_checks.schedules(membership)))

    def idle(self, membership: Membership) -> None:
        """One sample for the history, between operations; a failure ends it until the next."""
        try:
            ports, addresses = self._scope(membership)
            sample = self._sensor.sample(ports, addresses)
        except AgentError as error:
            log.debug("no history of the nodes: %s", error)
            self._history = None
            return
        known = self._history if self._history_of == membership else None
        self._history = History.begin(sample) if known is None else known.after(sample)
        self._history_of = membership

    def rest(self) -> None:
        """Nobody watches now. The history ends: what it tells is the time right before a drain."""
        self._sensor.close()
        self._history = None

    def _scope(self, membership: Membership) -> tuple[frozenset[int], frozenset[str]]:
        """The app's ports, and this host's own addresses at which a load balancer reaches it."""
        addresses = {t.id for t in membership.targets if membership.group(t.group).target_type == "ip"}
        return (
            frozenset(t.port for t in membership.targets),
            # However old: a sample must not wait for the metadata service, nor fail with it.
            frozenset({*addresses, *self._metadata.identity(inf).addresses}),
        )
