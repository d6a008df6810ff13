"""Pure: whether the sensor can be believed when it says that nothing comes.

It sees nothing of an app in another network namespace, behind a proxy in the kernel (DNAT, IPVS), or over UDP; that
looks just like a quiet host. So it must have seen this host's traffic first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Sample

# Protocols of target groups that are carried by TCP alone:
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html
_TCP = frozenset({"HTTP", "HTTPS", "TCP", "TLS"})
# Those that send things of their own, session tickets for one, between a request and its answer (RFC 8446, 4.6.1).
_ENCRYPTED = frozenset({"HTTPS", "TLS"})


@dataclass(frozen=True, slots=True)
class Trust:
    """What the sensor has seen of this host's traffic before the deregistration. Moments are seconds.

    Args:
        began_at: the first sample.
        intervals: for each port of the membership, the longest interval of its health checks in seconds: within that
            time a check at least should come, where the checks go to that port.
        blind: why the sensor cannot see this traffic whatever comes; empty when it may.
        listening: the ports that had a listener in the last sample.
        met: when a connection from outside was last seen on a port.
    """

    began_at: float
    intervals: Mapping[int, float]
    blind: str
    listening: frozenset[int]
    met: Mapping[int, float]

    @classmethod
    def begin(cls, sample: Sample, membership: Membership) -> Trust:
        """Begin to look for the traffic of this membership."""
        trust = cls(sample.at, _intervals(membership), _blind(membership), frozenset(), {})
        return trust.after(sample)

    def after(self, sample: Sample) -> Trust:
        """What is known after one more sample. An open connection counts, whether or not it carries anything."""
        seen = {c.port: sample.at for c in (*sample.connections, *sample.ended)}
        return replace(self, listening=sample.listening, met={**self.met, **seen})

    def doubt(self, now: float) -> str:
        """Why the sensor is not to be believed, as half a sentence; empty when it is."""
        if self.blind:
            return self.blind
        for port, interval in sorted(self.intervals.items()):
            if port not in self.listening:
                return f"nothing listens on port {port} in the agent's network namespace"
            if now - self.met.get(port, float("-inf")) > interval:
                waited = min(now - self.began_at, interval)
                return f"no connection from outside this host was seen on port {port} in {waited:.0f} s"
        return ""

    @property
    def settled_at(self) -> float:
        """The moment after which waiting for trust is in vain: one health-check interval on; at once when blind."""
        if self.blind:
            return self.began_at
        return self.began_at + max(self.intervals.values(), default=0.0)


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


def _intervals(membership: Membership) -> dict[int, float]:
    found: dict[int, float] = {}
    for target in membership.targets:
        interval = membership.group(target.group).health_check.interval
        found[target.port] = max(interval, found.get(target.port, 0.0))
    return found


def _blind(membership: Membership) -> str:
    if not membership.targets:
        return "no target group holds this host"
    return next((why for target in membership.targets if (why := _unseen(membership, target))), "")


def _unseen(membership: Membership, target: Target) -> str:
    group = membership.group(target.group)
    return "" if group.protocol in _TCP else f"{group.name} is not for TCP alone but for {group.protocol}"
