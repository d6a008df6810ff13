"""One registered target: what was asked for, and what each node knows of it."""

import ipaddress
from dataclasses import dataclass, field

from zdd_lab.model.target import NodeHealth, TargetKey

_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A target as a caller names it: without a port it means the group's own port, nothing else [seen]."""

    id: str
    port: int | None = None
    zone: str | None = None


def within_reach(address: str) -> bool:
    """Whether an address may be a target: of loopback, as the lab's VPCs are, or unique-local IPv6 (RFC 4193)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_loopback or parsed in _UNIQUE_LOCAL


@dataclass(slots=True)
class NodeView:
    """One node's part in one registration."""

    has_it: bool = False  # the node has learned of the target, and has not let it go
    learning: bool = True  # this registration is on its way to the node
    leaving: bool = False  # a deregistration is on its way to the node
    health: NodeHealth | None = None
    unhealthy_since: float | None = None  # s, the model's clock


@dataclass(slots=True)
class Registered:
    """A target of a group, from its registration to the end of its deregistration delay."""

    key: TargetKey
    zone: str | None  # None: every enabled zone
    named_zone: str | None  # as the caller said, given back by DescribeTargetHealth
    ready_at: float = 0.0  # s: the moment from which nodes can learn of the registration
    drain_ends: float | None = None  # s: the end of the deregistration delay
    views: dict[str, NodeView] = field(default_factory=dict)  # by node name

    @property
    def draining(self) -> bool:
        return self.drain_ends is not None
