"""What is true: the lab's own model of the load balancers, its nodes, and the connections they hold, in fake time.

The agents never see this. They see it through `eyes`, late and by turns.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from fakes import FakeClock, arn
from zdd_lab.model.elb import Elb
from zdd_lab.model.profile import ALB
from zdd_lab.model.registration import TargetSpec
from zdd_lab.model.target import HealthCheck, NodeHealth, TargetKey
from zdd_lab.model.target_health import TargetHealth
from zdd_lab.model.topology import Group, Instance, Listener, LoadBalancer, NodePlace, Topology

ZONE = "eu-west-1a"
NODES = ("10.0.9.1", "10.0.9.2")  # of the load balancer, by their addresses
CHECK_SECONDS = 10.0  # between two checks of one node
# Seconds of the past that a late answer can show; more than any lag that is drawn.
_MEMORY_SECONDS = 30.0
# Seconds between two requests that one node sends one target, on average.
_REQUEST_EVERY = 4.0


@dataclass
class App:
    """What runs on one host: the ports it serves, the paths of its health check, and whether it is well."""

    ports: set[int] = field(default_factory=lambda: {8080, 9090})
    paths: set[str] = field(default_factory=lambda: {"/healthz"})
    well: bool = True

    def passes(self, port: int, path: str) -> bool:
        return self.well and port in self.ports and path in self.paths


@dataclass
class Request:
    """One connection of a node to an app with one request on it. Moments are seconds."""

    node: str
    key: TargetKey
    cookie: int
    opened: float
    answered: float
    closes: float
    check: bool = False


@dataclass(frozen=True)
class Scene:
    """What the API would say at one moment."""

    at: float
    topology: Topology
    health: dict[str, tuple[TargetHealth, ...]]


class Truth:
    """One load balancer with two nodes.

    Args:
        rng: draws the lags, the checks' phases and the requests.
        kind: `application` or `network`.
        lag: seconds, the longest, until a node learns of a change.
        takes_draining: an address that still drains may be registered again.
        cuts: a node cuts what is under way when it lets a target go and the delay is over.
        busy: nodes send requests, for sensors to see.
    """

    def __init__(
        self, rng: random.Random, *, kind: str, lag: float, takes_draining: bool, cuts: bool, busy: bool
    ) -> None:
        self.clock = FakeClock()
        self.rng = rng
        self.kind = kind
        self.cuts = cuts
        self.busy = busy
        nothing, to_lag = (0.0, 0.0), (0.0, lag)
        profile = replace(
            ALB,
            alb_lag=to_lag,
            alb_registration_lag=nothing,
            nlb_learn_lag=to_lag,
            nlb_deregistration_lag=to_lag,
            nlb_registration_lag=nothing,
            reregister_draining_ip=takes_draining,
        )
        self.elb = Elb(profile, rng, {name: NodePlace(ZONE, kind) for name in NODES})
        self.balancer = f"arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/{kind[:3]}/front/0123456789"
        self.elb.topology = Topology(
            load_balancers={self.balancer: LoadBalancer(self.balancer, kind, frozenset({ZONE}))}
        )
        # Dicts for sets, here and below: their order does not hang on the hash of text, so that a run repeats.
        self.routes: dict[str, dict[TargetKey, None]] = {name: {} for name in NODES}
        self.requests: dict[str, list[Request]] = {}  # by the target's Id
        self.apps: dict[str, App] = {}
        self._sent_until: dict[tuple[str, TargetKey], float] = {}
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._scenes: list[Scene] = []
        self._remember()

    # What people set up and change

    def add_group(self, name: str, port: int, *, delay: float, target_type: str, listened: bool) -> None:
        check = HealthCheck(path="/healthz", interval=CHECK_SECONDS, healthy_threshold=2)
        attributes = {"deregistration_delay.timeout_seconds": f"{delay:.0f}"}
        protocol = "HTTP" if self.kind == "application" else "TCP"
        group = Group(arn(name), name, target_type, protocol, port, check, attributes)
        old = self.elb.topology
        more = (Listener(f"listener-{name}", self.balancer, port, group.arn, frozenset({group.arn})),)
        self._configure(
            replace(
                old, groups={**old.groups, group.arn: group}, listeners=(*old.listeners, *(more if listened else ()))
            )
        )

    def add_host(self, instance: str, address: str) -> None:
        old = self.elb.topology
        new = Instance(instance, "running", address, ZONE)
        self._configure(replace(old, instances={**old.instances, instance: new}))
        self.apps[instance] = self.apps[address] = App()

    def delete_group(self, name: str) -> None:
        old = self.elb.topology
        groups = {key: group for key, group in old.groups.items() if key != arn(name)}
        listeners = tuple(one for one in old.listeners if arn(name) not in one.groups)
        self._configure(replace(old, groups=groups, listeners=listeners))

    def change_check(self, name: str, path: str) -> None:
        """Another path in the group's health check."""
        old = self.elb.topology
        if (group := old.groups.get(arn(name))) is not None:
            changed = replace(group, check=replace(group.check, path=path))
            self._configure(replace(old, groups={**old.groups, group.arn: changed}))

    def app_changed(self) -> None:
        """The nodes find out what the apps answer now, after their next checks."""
        for node in NODES:
            for key in self.routes[node]:
                self._check_later(node, key, misses=2)

    def register(self, group: str, keys: Iterable[tuple[str, int]]) -> None:
        """Raises AwsError as the lab's model does."""
        self.elb.register(group, [TargetSpec(target_id, port) for target_id, port in keys], self.clock.time)
        self._remember()

    def deregister(self, group: str, keys: Iterable[tuple[str, int]]) -> None:
        self.elb.deregister(group, [TargetSpec(target_id, port) for target_id, port in keys], self.clock.time)
        if (known := self.elb.topology.groups.get(group)) is not None:
            self._plan(self.clock.time + known.deregistration_delay, lambda: None)
        self._remember()

    def others_changed(self) -> None:
        """An Auto Scaling group may have registered and deregistered targets."""
        before = self.draining()
        self._remember()
        for key in self.draining() - before:
            self._plan(self.clock.time + self.elb.topology.groups[key.group].deregistration_delay, lambda: None)

    # What is so

    def registered(self) -> set[TargetKey]:
        """Every target that is registered and does not drain."""
        return {health.key for health in self._all() if health.state != "draining"}

    def draining(self) -> set[TargetKey]:
        return {health.key for health in self._all() if health.state == "draining"}

    def states(self) -> dict[TargetKey, str]:
        return {health.key: health.state for health in self._all()}

    def routed(self) -> set[TargetKey]:
        """Every target that some node may send work."""
        return {key for known in self.routes.values() for key in known}

    def at_work(self, ids: Sequence[str]) -> list[Request]:
        """The requests under way on this host."""
        self._send()
        now = self.clock.time
        found = [r for one in ids for r in self.requests.get(one, ())]
        return [r for r in found if not r.check and r.opened <= now < min(r.answered, r.closes)]

    def connections(self, ids: Sequence[str], since: float) -> list[Request]:
        """Every connection of this host that was open at some moment since then, checks included."""
        self._send()
        for one in ids:  # what nobody can ask for any more
            kept = [r for r in self.requests.get(one, ()) if r.closes >= self.clock.time - _MEMORY_SECONDS]
            self.requests[one] = kept
        return [r for one in ids for r in self.requests.get(one, ()) if r.closes > since]

    def scene(self, lag: float) -> Scene:
        """What the API would have said this many seconds ago."""
        then = self.clock.time - lag
        return next((scene for scene in reversed(self._scenes) if scene.at <= then), self._scenes[0])

    # Time

    def advance(self, seconds: float) -> None:
        """Let this much time pass, and all that is due in it happen."""
        self.advance_to(self.clock.time + seconds)

    def advance_to(self, end: float) -> None:
        while True:
            learns = self.elb.next_due()
            planned = self._plans[0][0] if self._plans else None
            due = min((at for at in (learns, planned) if at is not None), default=None)
            if due is None or due > end:
                break
            self.clock.time = max(due, self.clock.time)
            while self._plans and self._plans[0][0] <= self.clock.time:
                heapq.heappop(self._plans)[2]()
            for command in self.elb.due(self.clock.time):
                self._learned(command.node, command.action, command.key)
            self._remember()
        self.clock.time = max(end, self.clock.time)

    def _plan(self, at: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._plans, (at, next(self._numbers), happens))

    def _configure(self, topology: Topology) -> None:
        self.elb.configure(topology, self.clock.time)
        self._remember()

    def _all(self) -> list[TargetHealth]:
        return [health for found in self._scenes[-1].health.values() for health in found]

    def _remember(self) -> None:
        now, topology = self.clock.time, self.elb.topology
        health = {group: tuple(self.elb.describe(group, None, now)) for group in topology.groups}
        if self._scenes and self._scenes[-1].health == health and self._scenes[-1].topology is topology:
            return
        self._scenes.append(Scene(now, topology, health))
        while len(self._scenes) > 1 and self._scenes[1].at < now - _MEMORY_SECONDS:
            del self._scenes[0]

    def _learned(self, node: str, action: str, key: TargetKey) -> None:
        self._send()
        if action == "register":
            self.routes[node][key] = None
            self._sent_until[node, key] = self.clock.time
            self._check_later(node, key)
        elif action == "deregister":
            self.routes[node].pop(key, None)
        else:
            self.routes[node].pop(key, None)
            for request in self.requests.get(key.id, ()) if self.cuts else ():
                if (request.node, request.key) == (node, key):
                    request.closes = min(request.closes, self.clock.time)

    def _check_later(self, node: str, key: TargetKey, misses: int = 1) -> None:
        self._plan(
            self.clock.time + self.rng.uniform(0.5, 1.0) * misses * CHECK_SECONDS, lambda: self._check(node, key)
        )

    def _check(self, node: str, key: TargetKey) -> None:
        group = self.elb.topology.groups.get(key.group)
        if group is None or key not in self.routes[node]:
            return
        good = self.apps[key.id].passes(key.port, group.check.path)
        health = NodeHealth("healthy") if good else NodeHealth("unhealthy", "Target.ResponseCodeMismatch", "503")
        self.elb.health_reported(node, key, health, self.clock.time)

    def _send(self) -> None:
        """The requests and checks that nodes have sent since they were last asked for."""
        if not self.busy:
            return
        now = self.clock.time
        for node in NODES:
            for key in self.routes[node]:
                began = max(self._sent_until.get((node, key), now), now - _MEMORY_SECONDS)
                self._sent_until[node, key] = now
                self._send_between(node, key, began, now)

    def _send_between(self, node: str, key: TargetKey, began: float, now: float) -> None:
        kept = self.requests.setdefault(key.id, [])
        phase = (NODES.index(node) * 3.1 + key.port % 7) % CHECK_SECONDS
        check = began - (began - phase) % CHECK_SECONDS + CHECK_SECONDS
        while check <= now:
            kept.append(Request(node, key, next(self._numbers), check, check + 0.002, check + 0.004, check=True))
            check += CHECK_SECONDS
        if not self.apps[key.id].well or key.port not in self.apps[key.id].ports:
            return
        at = began + self.rng.expovariate(1 / _REQUEST_EVERY)
        while at <= now:
            answered = at + self.rng.choice((0.05, 0.5, 3.0, 3.0, 50.0) if self.kind == "network" else (0.05, 0.5, 3.0))
            closes = answered + self.rng.choice((0.0, 0.0, 2.0))
            kept.append(Request(node, key, next(self._numbers), at, answered, closes))
            at += self.rng.expovariate(1 / _REQUEST_EVERY)
