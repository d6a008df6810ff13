"""What the kernel tells: samples during an operation; and while the host is in service the health checks that come."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import inf

from zdd_agent.decide.evidence import Senses
from zdd_agent.decide.traffic.nodes import checked_port, long_pause, pause
from zdd_agent.decide.traffic.trust import Trust
from zdd_agent.errors import AgentError
from zdd_agent.model.aws import Membership
from zdd_agent.model.kernel import Sample
from zdd_agent.ports import Clock, Metadata, Sensor

log = logging.getLogger(__name__)

# Seconds before a sensor that failed between operations is asked again.
_RETRY_SECONDS = 5.0
# Connections that may end between two readings; with more, the next one comes sooner: the kernel keeps about 330.
_MANY_ENDED = 80


class Sampler:
    """Asks the sensor. For the loop's thread alone, except for `trust`.

    Args:
        sensor: the kernel.
        metadata: who this host is.
        clock: the time.
        listens: look for health checks while no operation needs them.
        quiet_seconds: how long without a byte counts as quiet.
    """

    def __init__(
        self,
        sensor: Sensor,
        metadata: Metadata,
        clock: Clock,
        *,
        listens: bool,
        quiet_seconds: float,
    ) -> None:
        self._sensor = sensor
        self._metadata = metadata
        self._clock = clock
        self._quiet_seconds = quiet_seconds
        self._trust: Trust | None = None
        self._listen_at = -inf
        self._listens = listens

    @property
    def trust(self) -> Trust | None:
        """What the sensor has seen of this host's traffic so far; None before it was asked. For any thread."""
        return self._trust

    def sense(self, senses: Senses, membership: Membership) -> Senses:
        """What is known after one more sample. A sensor that fails is believed no more in this operation.

        Raises:
            AgentError: METADATA_UNAVAILABLE, transient: nobody knows yet which addresses are this host's.
        """
        scope = self._scope(membership)  # who this host is may not be known yet: that passes, and blinds nobody
        try:
            sample = self._sample(membership, *scope)
        except AgentError as error:
            return replace(senses, blind=error.message)
        return senses.after(sample, membership, self._quiet_seconds)

    def judged(self, senses: Senses) -> Senses:
        """With the trust of now: to be asked while the host is not out, since the checks may end after that."""
        return replace(senses, trust=self._trust)

    def listen(self, membership: Membership) -> float:
        """Read which connections have ended, when that is due; answers how long to wait for the next time (seconds).

        This is how health checks are seen without a sample: each of them ends its connection.
        """
        if not self._listens or not membership.targets:
            return inf
        now = self._clock.now()
        if now < self._listen_at:
            return self._listen_at - now
        known = self._known(membership, now)
        if known.blind:
            self._trust, self._listen_at = known, now + _RETRY_SECONDS
            return _RETRY_SECONDS
        try:
            told = self._sensor.ended(*self._scope(membership))
        except AgentError as error:
            log.debug("no health checks are seen: %s", error)
            self._listen_at = now + _RETRY_SECONDS
            return _RETRY_SECONDS
        many = told.lost or len(told.connections) > _MANY_ENDED
        self._heard(known.after(told.at, told.connections), many=many)
        return self._listen_at - now

    def registered(self) -> None:
        """This host was registered just now: the load balancer's nodes begin to check it."""
        if self._trust is not None:
            self._trust = self._trust.registered(self._clock.now())

    def rest(self) -> None:
        """Stop watching."""
        self._sensor.close()

    def _sample(self, membership: Membership, ports: frozenset[int], addresses: frozenset[str]) -> Sample:
        """One sample of the ports of the membership. Those that only its health checks ask count for trust alone."""
        sample = self._sensor.sample(ports, addresses)
        self._heard(self._known(membership, sample.at).sampled(sample), many=False)
        own = frozenset(t.port for t in membership.targets)
        return sample if own == ports else sample.on(own)

    def _known(self, membership: Membership, now: float) -> Trust:
        fresh = Trust.begin(now, membership)
        return self._trust if self._trust is not None and self._trust.same_as(fresh) else fresh

    def _heard(self, trust: Trust, *, many: bool) -> None:
        intervals = [check.interval for port in trust.heard.checks.values() for check in port]
        shortest = 0.0 if many or not intervals else min(intervals)
        wait = pause(shortest) if trust.doubt(trust.heard.at) else long_pause(shortest)
        self._trust, self._listen_at = trust, trust.heard.at + wait

    def _scope(self, membership: Membership) -> tuple[frozenset[int], frozenset[str]]:
        """The ports of the app and of its health checks, and the addresses at which a load balancer reaches them."""
        addresses = {t.id for t in membership.targets if membership.group(t.group).target_type == "ip"}
        asked = {checked_port(membership.group(t.group), t) for t in membership.targets}
        return (
            frozenset(asked.union(t.port for t in membership.targets)),
            # However old: a sample must not wait for the metadata service, nor fail with it.
            frozenset({*addresses, *self._metadata.identity(inf).addresses}),
        )
