"""The words that the load balancer's model and its nodes share."""

from dataclasses import dataclass
from typing import Literal

CheckProtocol = Literal["HTTP", "TCP"]
HealthState = Literal["initial", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True)
class TargetKey:
    """What names a target: the same host on two ports is two targets."""

    group: str  # ARN of the target group
    id: str
    port: int


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A target group's health check."""

    protocol: CheckProtocol = "HTTP"
    port: int | None = None  # None: the target's own (traffic-port)
    path: str = "/"
    interval: float = 30.0  # s
    timeout: float = 5.0  # s
    healthy_threshold: int = 5
    unhealthy_threshold: int = 2
    matcher: str = "200"  # "200", "200-299" or "200,202"
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Backend:
    """A registered target as a node needs it: where it is and how to check it."""

    key: TargetKey
    address: str  # a loopback address, IPv4 or IPv6
    check: HealthCheck
    slow_start: float = 0.0  # s, 0 for none


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What one node thinks of one target, in the API's words."""

    state: HealthState
    reason: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How a node behaves, where AWS lets one choose or does not say."""

    idle_timeout: float = 60.0  # s: idle keep-alive connections, to clients and to targets
    response_timeout: float = 60.0  # s without a byte in either direction: 504
    closes_idle_on_deregistration: bool = True
    checks_while_draining: bool = False
    one_check_is_enough: bool = True  # initial -> healthy after one pass, as on ALB
