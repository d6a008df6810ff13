"""A target, its health check and its health, as the model and the load balancers' nodes name them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

CheckProtocol = Literal["HTTP", "TCP"]
HealthState = Literal["initial", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True)
class TargetKey:
    """Names a target. A host on two ports is two targets."""

    group: str  # ARN of the target group
    id: str
    port: int


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A target group's health check."""

    protocol: CheckProtocol = "HTTP"
    port: int | None = None  # None: the port of the target (traffic-port)
    path: str = "/"
    interval: float = 30.0  # s
    timeout: float = 5.0  # s
    healthy_threshold: int = 5
    unhealthy_threshold: int = 2
    matcher: str = "200"  # "200", "200-299" or "200,202"
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Backend:
    """A registered target as a node needs it: its address and its health check."""

    key: TargetKey
    address: str  # a loopback address, IPv4 or IPv6
    check: HealthCheck
    slow_start: float = 0.0  # s, 0 for none


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What one node thinks of a target, as the API spells it."""

    state: HealthState
    reason: str | None = None
    description: str | None = None


HealthReport = Callable[[str, TargetKey, NodeHealth], None]  # the name of the node, the target, its health


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How a node behaves where AWS has a setting or does not say."""

    idle_timeout: float = 60.0  # s that idle connections to clients and targets are kept
    response_timeout: float = 60.0  # s without a byte in either direction: 504
    closes_idle_on_deregistration: bool = True
    checks_while_draining: bool = False
    one_check_is_enough: bool = True  # one passed check makes a new target healthy, as on ALB
