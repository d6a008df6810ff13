"""The load balancers' model: registration, target health and lags, as AWS shows them. No I/O, no clock.

A target is (group, Id, Port). The model decides when each node learns of a change: a `Command` says so to the node.
The node reports what it thinks of a target to `health_reported`. From both follows what the API says: `describe`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.profile import Profile, Range
from zdd_lab.model.registration import NodeView, Registered, TargetSpec, within_reach
from zdd_lab.model.schedule import Action, Command, Schedule
from zdd_lab.model.target import Backend, NodeHealth, TargetKey
from zdd_lab.model.target_health import (
    DEREGISTRATION_IN_PROGRESS,
    IP_UNUSABLE,
    NOT_REGISTERED,
    TargetHealth,
    current_health,
)
from zdd_lab.model.topology import ZONES_EVERYWHERE, Group, NodePlace, Topology


@dataclass(slots=True)
class Elb:
    """Every target of the account. `now` is in seconds, of any clock that never goes back."""

    profile: Profile
    rng: Random
    nodes: Mapping[str, NodePlace]
    topology: Topology = field(default_factory=Topology)
    down: frozenset[str] = frozenset()  # nodes in a zone that is down: what they think does not count
    reserved: frozenset[str] = frozenset()  # addresses of the load balancers, which cannot be targets
    _targets: dict[TargetKey, Registered] = field(default_factory=dict)
    _schedule: Schedule = field(default_factory=Schedule)

    def configure(self, topology: Topology, now: float) -> None:
        """Adopt a new topology: groups, listeners, states of instances."""
        self.expire(now)
        before, self.topology = self.topology, topology
        for key, target in list(self._targets.items()):
            if key.group not in topology.groups:
                self._forget(target, now)
                continue
            old = before.groups.get(key.group)
            new = topology.groups[key.group]
            changed = old is not None and (old.check, old.slow_start) != (new.check, new.slow_start)
            self._reconcile(target, now, relearn=changed)

    def register(self, group_arn: str, specs: Sequence[TargetSpec], now: float) -> None:
        """Register targets. One that is registered stays as it is. One that drains comes back.

        Raises:
            AwsError: TargetGroupNotFound; InvalidTarget, and then none of them is registered.
        """
        self.expire(now)
        group = self._group(group_arn)
        keys = [(self._key(group, spec), spec) for spec in specs]
        self._refuse_unfit(group, [key for key, _ in keys])
        for key, spec in keys:
            target = self._targets.get(key)
            if target and not target.draining:
                continue
            if target is None:
                target = self._targets[key] = Registered(key, zone=self._zone(group, spec), named_zone=spec.zone)
            for view in target.views.values():  # it drains, and some nodes do not know that yet
                view.learning = True
            target.drain_ends = None
            target.ready_at = now + self._draw(self.profile.registration_lag(self._kind(key)))
            self._reconcile(target, now, relearn=True)

    def deregister(self, group_arn: str, specs: Sequence[TargetSpec], now: float) -> None:
        """Deregister targets. One that is not registered on exactly this port is passed over [seen].

        Raises:
            AwsError: TargetGroupNotFound.
        """
        self.expire(now)
        group = self._group(group_arn)
        for spec in specs:
            target = self._targets.get(self._key(group, spec))
            if target is None or target.draining:
                continue
            if not self._wanted(target):  # no load balancer routes to it, so nothing drains
                self._forget(target, now)
                continue
            target.drain_ends = now + group.deregistration_delay
            self._reconcile(target, now)

    def describe(self, group_arn: str, specs: Sequence[TargetSpec] | None, now: float) -> list[TargetHealth]:
        """Health of every target of the group, draining ones included, or only of `specs`.

        Raises:
            AwsError: TargetGroupNotFound; InvalidTarget for one that is gone, when the profile says so.
        """
        self.expire(now)
        group = self._group(group_arn)
        if not specs:
            return [self._health_of(one, now) for key, one in self._targets.items() if key.group == group_arn]
        found = []
        for spec in specs:
            key = self._key(group, spec)
            target = self._targets.get(key)
            if target:
                found.append(self._health_of(target, now))
            elif self.profile.invalid_target_when_gone:
                message = f"The following targets are not registered with the target group: '{spec.id}'"
                raise AwsError("InvalidTarget", message)
            else:
                found.append(TargetHealth(key, spec.zone, *NOT_REGISTERED))
        return found

    def due(self, now: float) -> list[Command]:
        """What nodes learn until now, in order. Each command is returned once."""
        self.expire(now)
        commands = self._schedule.take(now)
        for command in commands:
            target = self._targets.get(command.key)
            if target is None:
                continue
            if command.action == "register":
                view = target.views[command.node]
                view.has_it, view.learning = True, False
            else:
                target.views.pop(command.node, None)
        return commands

    def next_due(self) -> float | None:
        return self._schedule.next_at()

    def health_reported(self, node: str, key: TargetKey, health: NodeHealth, now: float) -> None:
        """A node tells that it thinks differently of a target."""
        target = self._targets.get(key)
        view = target.views.get(node) if target else None
        if target is None or view is None:
            return
        if health.state != "unhealthy":
            view.unhealthy_since = None
        elif view.unhealthy_since is None:
            view.unhealthy_since = now
        view.health = health

    def backend(self, key: TargetKey) -> Backend | None:
        """What a node needs to reach and check a target. None when it cannot be reached any more."""
        group = self.topology.groups.get(key.group)
        address = self.topology.address_of(key.group, key.id) if group else None
        if group is None or address is None:
            return None
        scale = self.profile.check_scale
        check = replace(group.check, interval=group.check.interval * scale, timeout=group.check.timeout * scale)
        return Backend(key, address, check, group.slow_start * scale)

    def expire(self, now: float) -> None:
        """Drop targets whose deregistration delay is over. Nodes that do not know yet still get their commands."""
        for key, target in list(self._targets.items()):
            if target.drain_ends is not None and target.drain_ends <= now:
                del self._targets[key]

    def _health_of(self, target: Registered, now: float) -> TargetHealth:
        if target.draining:
            state = DEREGISTRATION_IN_PROGRESS
        elif target.key.id in self.reserved:
            state = IP_UNUSABLE
        else:
            state = current_health(target, self.topology, self._wanted(target), self.down, now)
        return TargetHealth(target.key, target.named_zone, *state)

    def _group(self, arn: str) -> Group:
        group = self.topology.groups.get(arn)
        if group is None:
            raise AwsError("TargetGroupNotFound", "One or more target groups not found")
        return group

    def _key(self, group: Group, spec: TargetSpec) -> TargetKey:
        return TargetKey(group.arn, spec.id, group.port if spec.port is None else spec.port)

    def _kind(self, key: TargetKey) -> str:
        return self.topology.kind_of(key.group)

    def _zone(self, group: Group, spec: TargetSpec) -> str | None:
        if spec.zone:
            return None if spec.zone == ZONES_EVERYWHERE else spec.zone
        instances = self.topology.instances
        found = self.topology.instance_at(spec.id) if group.target_type == "ip" else instances.get(spec.id)
        return found.zone if found else None

    def _refuse_unfit(self, group: Group, keys: Sequence[TargetKey]) -> None:
        if group.target_type == "ip":
            for key in keys:
                if not within_reach(key.id):
                    raise AwsError("InvalidTarget", f"The IP address '{key.id}' is not within the VPC")
                target = self._targets.get(key)
                if target and target.draining and not self.profile.reregister_draining_ip:
                    raise AwsError("InvalidTarget", f"The IP address '{key.id}' is still being deregistered")
            return
        instances = self.topology.instances
        unknown = [key.id for key in keys if key.id not in instances]
        if unknown:
            raise AwsError("InvalidTarget", f"Instance ID '{unknown[0]}' is not valid")
        stopped = [f"'{key.id}'" for key in keys if instances[key.id].state != "running"]
        if stopped:
            start = "The following targets are not in a running state and cannot be registered: "
            raise AwsError("InvalidTarget", start + ", ".join(stopped))

    def _wanted(self, target: Registered) -> frozenset[str]:
        if target.key.id in self.reserved:
            return frozenset()
        return self.topology.nodes_for(target.key.group, target.zone, self.nodes)

    def _reconcile(self, target: Registered, now: float, *, relearn: bool = False) -> None:
        """Schedule what each node must learn about a target, each after its own lag."""
        instance = self.topology.instances.get(target.key.id)
        dead = instance is not None and instance.state in ("stopped", "terminated")
        wanted = frozenset() if target.draining or dead else self._wanted(target)
        for node in sorted(wanted | set(target.views)):
            view = target.views.get(node)
            if node in wanted and (view is None or view.leaving or relearn):
                self._bring(target, node, now)
            elif node not in wanted and view is not None and not view.leaving:
                self._take_away(target, node, view, now)

    def _bring(self, target: Registered, node: str, now: float) -> None:
        view = target.views.setdefault(node, NodeView())
        view.leaving = False
        lag = self._draw(self.profile.learn_lag(self._kind(target.key)))
        if "deregister" in self._schedule.cancel(node, target.key):
            view.has_it = True  # of an earlier registration, whose end the node has not learned
        self._put(max(now, target.ready_at) + lag, node, "register", target.key)

    def _take_away(self, target: Registered, node: str, view: NodeView, now: float) -> None:
        self._schedule.cancel(node, target.key)
        if not view.has_it:
            del target.views[node]
            return
        view.leaving = True
        kind = self._kind(target.key)
        learns_at = now + self._draw(self.profile.deregistration_lag(kind))
        self._put(learns_at, node, "deregister", target.key)
        if kind == "application" or self.topology.groups[target.key.group].cuts_connections:
            self._put(max(learns_at, target.drain_ends or learns_at), node, "cut", target.key)

    def _forget(self, target: Registered, now: float) -> None:
        del self._targets[target.key]
        for node, view in target.views.items():
            self._schedule.cancel(node, target.key)
            if view.has_it:
                self._put(now, node, "cut", target.key)

    def _put(self, at: float, node: str, action: Action, key: TargetKey) -> None:
        self._schedule.put(at, Command(node, action, key))

    def _draw(self, span: Range) -> float:
        return self.rng.uniform(*span)
