"""AWS's things in AWS's words: target groups, targets, their health; frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address
from math import ceil

from zdd_agent.errors import AgentError, Kind

# A target group's ARN, an Id and a port.
TargetKey = tuple[str, str, int]


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
    """A target group's health check. Seconds; `port` is a number or `traffic-port`.

    `matcher` names HTTP codes, or gRPC codes when the group's version is GRPC.
    """

    protocol: str
    port: str
    path: str
    interval: float
    timeout: float
    healthy_threshold: int
    matcher: str


@dataclass(frozen=True, slots=True)
class GroupMinimum:
    """How many healthy targets the group itself asks for: at least `count`, and at least `percent` of the registered.

    With fewer, its load balancer also sends requests to unhealthy targets, or takes the zone out of DNS. Both
    thresholds are folded into one: the larger count and the larger percentage. AWS counts each zone on its own where
    the group's `cross_zone` is off.

    Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-target-groups.html
    """

    count: int = 1
    percent: float | None = None

    def of(self, registered: int) -> int:
        """How many of this many registered targets must stay healthy."""
        return max(self.count, ceil(registered * (self.percent or 0.0) / 100))


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """What a decision needs to know of a target group.

    `deregistration_delay` and `slow_start` are in seconds. `version` is HTTP1, HTTP2 or GRPC. `cross_zone` is off
    when each zone's targets serve that zone alone. `ip_address_type`, ipv4 or ipv6, is the family of the addresses at
    which the load balancer reaches the targets. `connection_termination`: connections that are left are cut at the
    end of the deregistration delay. `preserve_client_ip`: the app sees the clients' addresses instead of the load
    balancer's.
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
    ip_address_type: str = "ipv4"
    minimum: GroupMinimum = GroupMinimum()
    connection_termination: bool = False
    preserve_client_ip: bool = False
    slow_start: float = 0.0

    def with_attributes_of(self, other: TargetGroup) -> TargetGroup:
        """The same group, with what DescribeTargetGroups does not return taken from another look at it."""
        return replace(
            self,
            deregistration_delay=other.deregistration_delay,
            cross_zone=other.cross_zone,
            minimum=other.minimum,
            connection_termination=other.connection_termination,
            preserve_client_ip=other.preserve_client_ip,
            slow_start=other.slow_start,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """One registration of this host: (target group, Id, Port) names it, always all three.

    `quic_server_id` goes with it in QUIC and TCP_QUIC groups, which refuse a registration without one.
    """

    group: str
    id: str
    port: int
    zone: str | None = None
    quic_server_id: str | None = None

    @property
    def key(self) -> TargetKey:
        """What names it: the group's ARN, the Id and the port."""
        return self.group, self.id, self.port

    def __str__(self) -> str:
        return f"{group_name(self.group)} {self.id}:{self.port}"


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """One line of DescribeTargetHealth.

    `shifted`: a zonal shift keeps new work away from it, whatever its state says.
    """

    target: Target
    state: State
    reason: str = ""
    description: str = ""
    shifted: bool = False

    def __str__(self) -> str:
        return f"{self.target} is {self.state}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Membership:
    """Every target group that holds this host, and under which Id, port and zone.

    `spare` are the targets that were `Target.NotInUse` when this host left: they need not become `healthy`. `named` are
    the groups that the settings named when they existed: that one of these is gone is no slip in the settings.
    """

    groups: tuple[TargetGroup, ...] = ()
    targets: tuple[Target, ...] = ()
    spare: tuple[Target, ...] = ()
    named: tuple[str, ...] = ()

    def group(self, arn: str) -> TargetGroup:
        """The group of this ARN. Raises KeyError when the membership does not hold it."""
        for group in self.groups:
            if group.arn == arn:
                return group
        raise KeyError(arn)

    def find(self, group: str, target_id: str, port: int) -> Target | None:
        """The target of this group (its name or ARN), Id and port; None when the membership does not hold it."""
        for target in self.targets:
            if (target.id, target.port) == (target_id, port) and group in (target.group, group_name(target.group)):
                return target
        return None

    def joined(self, other: Membership) -> Membership:
        """Both memberships; where they name the same group, `other` has the newer facts."""
        groups = {group.arn: group for group in (*self.groups, *other.groups)}
        targets = {target.key: target for target in (*other.targets, *self.targets)}
        spare = {target.key: target for target in (*self.spare, *other.spare)}
        named = tuple(dict.fromkeys((*self.named, *other.named)))
        return Membership(tuple(groups.values()), tuple(targets.values()), tuple(spare.values()), named)

    def without_groups(self, arns: frozenset[str]) -> Membership:
        """The membership without these groups."""
        return Membership(
            tuple(g for g in self.groups if g.arn not in arns),
            tuple(t for t in self.targets if t.group not in arns),
            tuple(t for t in self.spare if t.group not in arns),
            self.named,
        )

    def only_groups(self, arns: frozenset[str]) -> Membership:
        """The part of the membership that these groups hold."""
        return self.without_groups(frozenset(g.arn for g in self.groups) - arns)

    def without_target(self, target: Target) -> Membership:
        """The membership without this target, and without its group if the group held no other."""
        targets = tuple(t for t in self.targets if t.key != target.key)
        held = {t.group for t in targets}
        return Membership(
            tuple(g for g in self.groups if g.arn in held),
            targets,
            tuple(t for t in self.spare if t.key != target.key),
            self.named,
        )

    def with_groups(self, groups: Iterable[TargetGroup]) -> Membership:
        """The membership with newer facts about its groups."""
        newer = {group.arn: group for group in groups}
        return replace(self, groups=tuple(newer.get(group.arn, group) for group in self.groups))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this host is, as IMDSv2 tells it.

    `addresses` are those of every network interface: IPv4 before IPv6, and the primary interface's first.
    """

    instance_id: str
    region: str
    zone: str
    vpc_id: str
    addresses: tuple[str, ...]

    def address_in(self, group: TargetGroup) -> str:
        """Where the group's load balancer reaches this host: the first address of the group's family.

        Raises:
            AgentError: CONFIGURATION, when this host has no such address.
        """
        version = 6 if group.ip_address_type == "ipv6" else 4
        for address in self.addresses:
            if ip_address(address).version == version:
                return address
        raise AgentError(
            Kind.CONFIGURATION,
            f"cannot be reached in target group {group.name}: this host has no IPv{version} address",
            hint="assign one to this host, or take the group out of `target_groups`",
            value="target_groups",
        )

    def id_in(self, group: TargetGroup) -> str:
        """What names this host in the group: its instance ID, or its address there. Raises like `address_in`."""
        return self.instance_id if group.target_type == "instance" else self.address_in(group)

    def names(self, group: TargetGroup) -> frozenset[str]:
        """Everything that may name this host in the group, each address as `plain_address` spells it."""
        if group.target_type == "instance":
            return frozenset((self.instance_id,))
        return frozenset(map(plain_address, self.addresses))


@dataclass(frozen=True, slots=True)
class MinHealthy:
    """How many other targets must stay healthy: a number, or a percentage of the hosts that belong."""

    number: int = 1
    percent: float | None = None

    def of(self, hosts: int) -> int:
        """How many must stay when this many belong; a percentage is rounded up."""
        if self.percent is None:
            return self.number
        return ceil(hosts * self.percent / 100)


def plain_address(text: str) -> str:
    """An address in its canonical spelling (RFC 5952), so that two can be compared; other text unchanged."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def group_name(arn: str) -> str:
    """The name inside a target group's ARN (…:targetgroup/NAME/ID)."""
    parts = arn.split("/")
    return parts[-2] if len(parts) >= 3 else arn
