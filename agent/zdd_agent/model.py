"""The values that everything else speaks in: frozen, without behaviour that touches the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType


class Verb(StrEnum):
    """What a caller can ask for."""

    DRAIN = "drain"
    REJOIN = "rejoin"


class Phase(StrEnum):
    """Where an operation stands."""

    GUARDING = "guarding"
    DEREGISTERING = "deregistering"
    DRAINING = "draining"
    SETTLED = "settled"
    PROBING = "probing"
    REGISTERING = "registering"
    WARMING = "warming"
    IN_SERVICE = "in_service"


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = MappingProxyType(
    {
        Phase.GUARDING: frozenset({Phase.DEREGISTERING, Phase.SETTLED}),
        Phase.DEREGISTERING: frozenset({Phase.DRAINING}),
        Phase.DRAINING: frozenset({Phase.DEREGISTERING, Phase.SETTLED}),
        Phase.SETTLED: frozenset(),
        Phase.PROBING: frozenset({Phase.REGISTERING, Phase.IN_SERVICE}),
        Phase.REGISTERING: frozenset({Phase.WARMING}),
        Phase.WARMING: frozenset({Phase.REGISTERING, Phase.IN_SERVICE}),
        Phase.IN_SERVICE: frozenset(),
    }
)
FIRST_PHASE: Mapping[Verb, Phase] = MappingProxyType({Verb.DRAIN: Phase.GUARDING, Verb.REJOIN: Phase.PROBING})
LAST_PHASE: Mapping[Verb, Phase] = MappingProxyType({Verb.DRAIN: Phase.SETTLED, Verb.REJOIN: Phase.IN_SERVICE})


class Outcome(StrEnum):
    """How an operation ended."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Posture(StrEnum):
    """Where the host stands towards its load balancers."""

    IN_SERVICE = "in_service"
    DRAINING = "draining"
    DRAINED = "drained"
    REJOINING = "rejoining"
    OUT_OF_SERVICE = "out_of_service"
    UNKNOWN = "unknown"


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
    """What a decision needs to know of a target group. `deregistration_delay` is in seconds."""

    arn: str
    name: str
    kind: BalancerKind
    target_type: str
    protocol: str
    port: int
    vpc_id: str
    deregistration_delay: float
    health_check: HealthCheck


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
class Failure:
    """An error as it is kept and sent."""

    kind: str
    message: str
    hint: str = ""
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked for. `timeout` is in seconds, None for the derived one."""

    verb: Verb
    uid: int
    timeout: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """A drain or a rejoin under way or ended. Moments are seconds since the epoch."""

    id: str
    request: Request
    phase: Phase
    started_at: float
    deadline: float
    accepted_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    message: str = ""
    failure: Failure | None = None
    cancelled_by: int | None = None

    @property
    def verb(self) -> Verb:
        """Drain or rejoin."""
        return self.request.verb

    def moved(self, phase: Phase) -> Operation:
        """The operation one phase on. Raises ValueError for a step that TRANSITIONS does not allow."""
        if phase not in TRANSITIONS[self.phase]:
            raise ValueError(f"illegal transition: {self.phase} to {phase}")
        return replace(self, phase=phase)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of progress. Moments are seconds since the epoch; `until` is when the next change is possible."""

    seq: int
    at: float
    operation: str
    phase: Phase
    text: str
    until: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """All that the store keeps. `out_since` is set before the first deregistration and cleared by a rejoin."""

    membership: Membership | None = None
    out_since: float | None = None
    operation: Operation | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What AWS said last: every target of every group of the membership, siblings included.

    `seen_at` and `look_again_at` are moments; before the second, asking again would waste the shared API budget.
    """

    population: tuple[TargetHealth, ...]
    missing_groups: frozenset[str]
    seen_at: float
    look_again_at: float

    def of(self, target: Target) -> TargetHealth | None:
        """This target's health; None when it is not registered."""
        for health in self.population:
            seen = health.target
            if (seen.group, seen.id, seen.port) == (target.group, target.id, target.port):
                return health
        return None


def group_name(arn: str) -> str:
    """The name inside a target group's ARN (…:targetgroup/NAME/ID)."""
    parts = arn.split("/")
    return parts[-2] if len(parts) >= 3 else arn
