"""What exists in the lab's account: target groups, load balancers, listeners, instances. Frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zdd_lab.model.target import HealthCheck

ZONES_EVERYWHERE = "all"


@dataclass(frozen=True, slots=True)
class NodePlace:
    """The zone of a node, and the kind of load balancer that it belongs to."""

    zone: str
    kind: str  # application or network


@dataclass(frozen=True, slots=True)
class Instance:
    id: str
    state: str  # pending, running, shutting-down, terminated, stopping, stopped
    address: str
    zone: str


@dataclass(frozen=True, slots=True)
class Group:
    """A target group. The attributes are spelt as in the API."""

    arn: str
    name: str
    target_type: str  # instance, ip, lambda, alb
    protocol: str
    port: int
    check: HealthCheck
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def deregistration_delay(self) -> float:  # s
        return float(self.attributes.get("deregistration_delay.timeout_seconds", "300"))

    @property
    def cuts_connections(self) -> bool:
        """NLB: whether established connections are cut at the end of the delay. Off by default."""
        return self.attributes.get("deregistration_delay.connection_termination.enabled") == "true"

    @property
    def slow_start(self) -> float:  # s
        return float(self.attributes.get("slow_start.duration_seconds", "0"))

    @property
    def unhealthy_draining_interval(self) -> float:
        """NLB: s that an unhealthy target shows `unhealthy.draining`, if its connections are not cut."""
        if self.attributes.get("target_health_state.unhealthy.connection_termination.enabled", "true") == "true":
            return 0.0
        return float(self.attributes.get("target_health_state.unhealthy.draining_interval_seconds", "0"))


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    arn: str
    kind: str  # application, network, gateway
    zones: frozenset[str]
    crosses_zones: bool = True


@dataclass(frozen=True, slots=True)
class Listener:
    arn: str
    load_balancer: str
    port: int
    default_group: str | None
    groups: frozenset[str]  # all that it forwards to, those of its rules included


@dataclass(frozen=True, slots=True)
class Topology:
    groups: Mapping[str, Group] = field(default_factory=dict)
    load_balancers: Mapping[str, LoadBalancer] = field(default_factory=dict)
    listeners: tuple[Listener, ...] = ()
    instances: Mapping[str, Instance] = field(default_factory=dict)

    def balancers_of(self, group: str) -> tuple[LoadBalancer, ...]:
        """The load balancers with a listener that forwards to the group."""
        arns = {listener.load_balancer for listener in self.listeners if group in listener.groups}
        return tuple(self.load_balancers[arn] for arn in sorted(arns) if arn in self.load_balancers)

    def kind_of(self, group: str) -> str:
        """The kind of load balancer before the group. Without one, the kind that its protocol fits."""
        balancers = self.balancers_of(group)
        if balancers:
            return balancers[0].kind
        return "application" if self.groups[group].protocol in ("HTTP", "HTTPS") else "network"

    def instance_at(self, address: str) -> Instance | None:
        return next((one for one in self.instances.values() if one.address == address), None)

    def address_of(self, group: str, target_id: str) -> str | None:
        """The address of a target, or None."""
        if self.groups[group].target_type == "ip":
            return target_id
        instance = self.instances.get(target_id)
        return instance.address if instance else None

    def nodes_for(self, group: str, zone: str | None, nodes: Mapping[str, NodePlace]) -> frozenset[str]:
        """Names of the nodes that route to a target of the group in this zone (None: in every zone).

        None at all when the group is on no listener, or when the zone is not enabled for its load balancers.
        """
        found = set()
        for balancer in self.balancers_of(group):
            if zone is not None and zone not in balancer.zones:
                continue
            for name, place in nodes.items():
                in_reach = balancer.crosses_zones or zone in (None, place.zone)
                if place.kind == balancer.kind and place.zone in balancer.zones and in_reach:
                    found.add(name)
        return frozenset(found)
