"""Pure: whether the sensor can be believed when it says that nothing comes.

It sees nothing of an app in another network namespace, behind a proxy in the kernel (DNAT, IPVS), or over UDP; that
looks just like a quiet host. So it must have seen the load balancer's own health checks first. A connection of anybody
else proves nothing: with Docker's DNAT, one from this host's other containers is seen, and the load balancer's are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from zdd_agent.decide.traffic.nodes import Nodes, checked_port, checks
from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Connection, Sample

# Protocols of target groups that are carried by TCP alone:
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html
_TCP = frozenset({"HTTP", "HTTPS", "TCP", "TLS"})
# Those that send things of their own, session tickets for one, between a request and its answer (RFC 8446, 4.6.1).
_ENCRYPTED = frozenset({"HTTPS", "TLS"})
# Intervals of the health check: how long a drain waits to see two checks of one node, and after how long without a
# check a node is not one any more.
_WAITED_INTERVALS, _STALE_INTERVALS = 3, 2
# Seconds of the shortest interval that AWS takes: a faster lab gets the same time.
_SHORTEST_INTERVAL = 5.0


@dataclass(frozen=True, slots=True)
class Trust:
    """What the sensor has seen of this host's traffic while the host was in service. Moments are seconds.

    Args:
        began_at: since when there has been something to see.
        ports: the ports of the membership, each with the ports that its health checks ask.
        blind: why the sensor cannot see this traffic whatever comes; empty when it may.
        heard: the load balancer's nodes.
        listening: the ports that had a listener in the last sample; None before the first.
        met: when each node was last seen on a port of the membership that it does not check.
    """

    began_at: float
    ports: Mapping[int, frozenset[int]]
    blind: str
    heard: Nodes
    listening: frozenset[int] | None
    met: Mapping[tuple[str, int], float]

    @classmethod
    def begin(cls, at: float, membership: Membership) -> Trust:
        """Begin to look for the traffic of this membership at this moment."""
        return cls(at, _ports(membership), blindness(membership), Nodes(checks(membership), at), None, {})

    def same_as(self, other: Trust) -> bool:
        """Whether both look for the same traffic."""
        return (self.ports, self.blind, self.heard.checks) == (other.ports, other.blind, other.heard.checks)

    def after(self, at: float, ended: Iterable[Connection]) -> Trust:
        """What is known after one more reading of the connections that have ended."""
        gap = at - self.heard.at > _STALE_INTERVALS * self._longest
        heard = self.heard.after(at, ended)
        return replace(self, began_at=at if gap else self.began_at, heard=heard, met=self._met_by(heard, at, ended))

    def sampled(self, sample: Sample) -> Trust:
        """What is known after one more sample."""
        known = self.after(sample.at, sample.ended)
        met = known._met_by(known.heard, sample.at, sample.connections)  # noqa: SLF001  one of our own
        return replace(known, met=met, listening=sample.listening)

    def registered(self, at: float) -> Trust:
        """The nodes check a target anew from its registration on."""
        return replace(self, began_at=at)

    @property
    def nodes(self) -> frozenset[str]:
        """The addresses of all known nodes of the load balancer, of those that check no more too."""
        return frozenset(peer for peer, _ in self.heard.known)

    @property
    def candidates(self) -> frozenset[str]:
        """The addresses of peers that have made one connection which may be a health check."""
        return self.heard.since(-inf)

    def checking(self, now: float) -> frozenset[str]:
        """The addresses of the nodes that check this host at this moment (seconds)."""
        return frozenset(peer for peer, _ in self._fresh(now))

    def doubt(self, now: float) -> str:
        """Why the sensor is not to be believed, as half a sentence; empty when it is.

        Args:
            now: seconds; for a host that is out the moment at which it left, since nobody need check it any more.
        """
        if self.blind:
            return self.blind
        fresh = self._fresh(now)
        seconds = f"in {min(max(now - self.began_at, 0.0), _STALE_INTERVALS * self._longest):.0f} s"
        for port in filter(self._is_deaf, sorted(self.ports)):
            return f"nothing listens on port {port} in the agent's network namespace"
        for port, asked in sorted(self.ports.items()):
            checking = {peer for peer, checked in fresh if checked in asked}
            if not checking:
                where = " or ".join(map(str, sorted(asked)))
                return f"no health check of the load balancer was seen on port {where} {seconds}"
            if port not in asked and not any(self._met(peer, port, now) for peer in checking):
                return f"no node of the load balancer was seen on port {port} {seconds}"
        return ""

    @property
    def settled_at(self) -> float:
        """The moment after which waiting for trust is in vain."""
        if self.blind or any(map(self._is_deaf, self.ports)):
            return self.began_at
        return self.began_at + _WAITED_INTERVALS * self._longest

    def knows_all(self, moment: float) -> bool:
        """Whether every node can have been seen by this moment (seconds): the first one is enough to be trusted."""
        return moment >= self.began_at + _WAITED_INTERVALS * self._longest

    @property
    def _longest(self) -> float:
        intervals = (check.interval for port in self.heard.checks.values() for check in port)
        return max((_SHORTEST_INTERVAL, *intervals))

    def _is_deaf(self, port: int) -> bool:
        return self.listening is not None and port not in self.listening

    def _fresh(self, now: float) -> frozenset[tuple[str, int]]:
        stale = _STALE_INTERVALS * self._longest
        return frozenset(node for node, at in self.heard.known.items() if now - at <= stale)

    def _met(self, peer: str, port: int, now: float) -> bool:
        return now - self.met.get((peer, port), float("-inf")) <= _STALE_INTERVALS * self._longest

    def _met_by(self, heard: Nodes, at: float, connections: Iterable[Connection]) -> Mapping[tuple[str, int], float]:
        apart = {port for port, asked in self.ports.items() if port not in asked}
        if not apart:
            return self.met
        known = {peer for peer, _ in heard.known}
        met = {(c.peer, c.port): at for c in connections if c.port in apart and c.peer in known}
        return {one: moment for one, moment in self.met.items() if one[0] in known} | met


def blindness(membership: Membership) -> str:
    """Why no sensor can see all traffic of this membership, as half a sentence; empty when it may."""
    if not membership.targets:
        return "no target group holds this host"
    return next((why for target in membership.targets if (why := _unseen(membership, target))), "")


def doubt_of_idle(membership: Membership) -> str:
    """Why `idle` cannot be proved for these target groups, as half a sentence; empty when it can.

    In TLS, data that leaves after a request need not be its answer. In HTTP/2 and gRPC it may be another request's.
    A TCP group passes on whatever its clients speak, either of these included.
    """
    for group in membership.groups:
        if group.version != "HTTP1":
            return f"{group.name} speaks {group.version} to its targets, with many requests on one connection"
        if group.protocol in _ENCRYPTED:
            return f"{group.name} speaks {group.protocol} to its targets, and what TLS sends need not be an answer"
        if group.protocol != "HTTP":
            return f"{group.name} passes {group.protocol} through to its targets, which may carry TLS or HTTP/2"
    return ""


def _ports(membership: Membership) -> dict[int, frozenset[int]]:
    found: dict[int, frozenset[int]] = {}
    for target in membership.targets:
        asked = checked_port(membership.group(target.group), target)
        found[target.port] = found.get(target.port, frozenset()) | {asked}
    # Checks of the port itself say more than the nodes of another group, which check elsewhere.
    return {port: frozenset({port}) if port in asked else asked for port, asked in found.items()}


def _unseen(membership: Membership, target: Target) -> str:
    group = membership.group(target.group)
    if group.protocol not in _TCP:
        return f"{group.name} is not for TCP alone but for {group.protocol}"
    if group.preserve_client_ip and checked_port(group, target) != target.port:
        return f"{group.name} shows the app its clients' addresses and is checked on a port of its own"
    return ""
