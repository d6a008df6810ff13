"""AWS's things in AWS's words: target groups, targets, their health; frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil


class State(StrEnum):
    """Target health as ELBv2 spells it.

    Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
    """

    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNHEALTHY_DRAINING = "unhealthy.draining"
    UNUSED = "unused"
    DRAINING = "draining"
    UNAVAILABLE = "unavailable"


class BalancerKind(StrEnum):
    """The kinds of load balancer, as their ARNs and `Type` name them."""

    APPLICATION = "application"
    NETWORK = "network"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A target group's health check. Seconds; `port` is a number or `traffic-port`."""

    protocol: str
    port: str
    path: str
    interval: float
    timeout: float
    healthy_threshold: int
    matcher: str


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """What a decision needs to know of a target group.

    `deregistration_delay` is in seconds. `version` is HTTP1, HTTP2 or GRPC. `cross_zone` is off when each zone's
    targets serve that zone alone.
    """

    arn: str
    name: str
    kind: BalancerKind
    target_type: str
    protocol: str
    port: int
    vpc_id: str
    deregistration_delay: float
    health_check: HealthCheck
    version: str = "HTTP1"
    balancers: tuple[str, ...] = ()
    cross_zone: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """One registration of this host: (target group, Id, Port) names it, always all three."""

    group: str
    id: str
    port: int
    zone: str | None = None

    def __str__(self) -> str:
        return f"{group_name(self.group)} {self.id}:{self.port}"


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """One line of DescribeTargetHealth."""

    target: Target
    state: State
    reason: str = ""
    description: str = ""

    def __str__(self) -> str:
        return f"{self.target} is {self.state}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Membership:
    """Every target group that holds this host, and under which Id, port and zone."""

    groups: tuple[TargetGroup, ...] = ()
    targets: tuple[Target, ...] = ()

    def group(self, arn: str) -> TargetGroup:
        """The group of this ARN. Raises KeyError when it is no part of the membership."""
        for group in self.groups:
            if group.arn == arn:
                return group
        raise KeyError(arn)

    def joined(self, other: Membership) -> Membership:
        """Both memberships; where they name the same group, `other` has the newer facts."""
        groups = {group.arn: group for group in (*self.groups, *other.groups)}
        targets = {(t.group, t.id, t.port): t for t in (*other.targets, *self.targets)}
        return Membership(tuple(groups.values()), tuple(targets.values()))

    def without_groups(self, arns: frozenset[str]) -> Membership:
        """The membership less these groups."""
        return Membership(
            tuple(g for g in self.groups if g.arn not in arns),
            tuple(t for t in self.targets if t.group not in arns),
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this host is, as IMDSv2 tells it. `addresses` are IPv4 and IPv6, the primary first."""

    instance_id: str
    region: str
    zone: str
    vpc_id: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Floor:
    """How many targets must stay healthy: a number, or a percentage of the registered ones."""

    number: int = 1
    percent: float | None = None

    def of(self, registered: int) -> int:
        """How many of so many registered targets must stay."""
        if self.percent is None:
            return self.number
        return ceil(registered * self.percent / 100)


def group_name(arn: str) -> str:
    """The name inside a target group's ARN (…:targetgroup/NAME/ID)."""
    parts = arn.split("/")
    return parts[-2] if len(parts) >= 3 else arn
