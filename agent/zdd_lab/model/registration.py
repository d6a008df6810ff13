"""A registered target: who registered what, and what each node knows of it."""

import ipaddress
from dataclasses import dataclass, field

from zdd_lab.model.target import NodeHealth, TargetKey

_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A target as a caller names it. Without a port it means the one on the group's own port [seen]."""

    id: str
    port: int | None = None
    zone: str | None = None


def within_reach(address: str) -> bool:
    """Whether an address may be a target: loopback, as in the lab's VPCs, or unique-local IPv6 (RFC 4193)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_loopback or parsed in _UNIQUE_LOCAL


@dataclass(slots=True)
class NodeView:
    """What one node knows of a registration."""

    has_it: bool = False  # the node routes to the target
    learning: bool = True  # the registration has not reached the node yet
    leaving: bool = False  # a deregistration has not reached the node yet
    health: NodeHealth | None = None
    unhealthy_since: float | None = None  # s, the model's clock


@dataclass(slots=True)
class Registered:
    """A target of a group, from its registration to the end of its deregistration delay."""

    key: TargetKey
    zone: str | None  # None: every enabled zone
    named_zone: str | None  # as the caller named it; DescribeTargetHealth repeats it
    ready_at: float = 0.0  # s: when nodes can begin to learn of the registration
    drain_ends: float | None = None  # s: the end of the deregistration delay
    views: dict[str, NodeView] = field(default_factory=dict)  # by node name

    @property
    def draining(self) -> bool:
        return self.drain_ends is not None
