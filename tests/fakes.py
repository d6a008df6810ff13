"""One hand-written fake for each port."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from threading import Event

from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import LifecycleHook, Notice, NoticeKind, ScalingGroup, Transition
from zdd_agent.model.aws import BalancerKind, HealthCheck, Identity, State, Target, TargetGroup, TargetHealth
from zdd_agent.model.kernel import Connection, EndedConnections, Sample
from zdd_agent.model.operation import Posture, ProbeResult
from zdd_agent.model.record import Record
from zdd_agent.model.slots import Holder, SlotTable, Waiter

VPC = "vpc-1"
ME = Identity("i-me", "eu-west-1", "eu-west-1a", VPC, ("10.0.0.1", "fd00::1"))
START = 1_000_000.0


def arn(name: str) -> str:
    return f"arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/{name}/0123456789abcdef"


def group(name: str = "web", **changed: object) -> TargetGroup:
    plain = TargetGroup(
        arn=arn(name),
        name=name,
        kind=BalancerKind.APPLICATION,
        target_type="instance",
        protocol="HTTP",
        port=8080,
        vpc_id=VPC,
        deregistration_delay=300.0,
        balancers=("arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/front/0123456789abcdef",),
        health_check=HealthCheck("HTTP", "traffic-port", "/healthz", 10.0, 5.0, 2, "200"),
    )
    return replace(plain, **changed)  # type: ignore[arg-type]  a test names the fields it needs


class FakeClock:
    """Time that passes only in `wait`; `at` schedules what happens meanwhile."""

    def __init__(self) -> None:
        self.time = START
        self._plans: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def at(self, moment: float, happens: Callable[[], None]) -> None:
        self._plans.append((moment, happens))

    def wait(self, wake: Event, seconds: float) -> None:
        end = self.time + seconds
        while not wake.is_set():
            due = sorted((p for p in self._plans if p[0] <= end), key=lambda p: p[0])
            if not due:
                self.time = end
                return
            self._plans.remove(due[0])
            self.time = max(self.time, due[0][0])
            due[0][1]()


@dataclass
class FakeMetadata:
    who: Identity = ME
    errors: list[AgentError] = field(default_factory=list)
    no_role: AgentError | None = None
    state: str | None = None
    standing: list[Notice] = field(default_factory=list)
    silent: AgentError | None = None
    looks: int = 0

    def lifecycle_state(self) -> str | None:
        self.looks += 1
        if self.silent is not None:
            raise self.silent
        return self.state

    def notices(self, kinds: Collection[NoticeKind]) -> tuple[Notice, ...]:
        self.looks += 1
        if self.silent is not None:
            raise self.silent
        return tuple(one for one in self.standing if one.kind in kinds)

    def role(self) -> str:
        if self.no_role is not None:
            raise self.no_role
        return "arn:aws:iam::123456789012:instance-profile/zdd"

    def identity(self, max_age: float = 5.0) -> Identity:
        if self.errors:
            raise self.errors.pop(0)
        return self.who


@dataclass
class FakeStore:
    """Keeps every version that was written."""

    written: list[Record] = field(default_factory=list)
    errors: list[AgentError] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)

    def set_aside(self, cause: str) -> None:
        self.aside.append(cause)

    def read(self) -> Record:
        return self.written[-1] if self.written else Record()

    def write(self, record: Record) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.written.append(record)


@dataclass
class FakeInstances:
    """Every instance is in this host's zone, but for those named."""

    elsewhere: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)

    def running(self, instance_ids: Sequence[str]) -> frozenset[str]:
        self.asked += instance_ids
        return frozenset(instance_ids) - self.gone

    def terminated(self, instance_ids: Sequence[str]) -> frozenset[str]:
        self.asked += instance_ids
        return frozenset(instance_ids) & self.gone

    def zones(self, instance_ids: Sequence[str]) -> dict[str, str]:
        self.asked += instance_ids
        return {name: self.elsewhere.get(name, ME.zone) for name in instance_ids}


@dataclass
class FakeSlots:
    """One item of DynamoDB, whose every change is atomic. Two hosts may share one."""

    clock: FakeClock
    holders: dict[str, Holder] = field(default_factory=dict)
    waiters: dict[str, Waiter] = field(default_factory=dict)
    calls: list[tuple[str, float]] = field(default_factory=list)
    # What each call raises, by its name; `*` for all. With `lost`, the change is made before that.
    raises: dict[str, AgentError] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def table(self) -> SlotTable:
        self._called("table")
        holders = sorted(self.holders.values(), key=lambda one: (int(one.since), one.instance))
        waiters = sorted(self.waiters.values(), key=lambda one: (int(one.since), one.instance))
        return SlotTable(tuple(holders), tuple(waiters), seen_at=self.clock.now())

    def claim(self, holder: Holder, limit: int | None) -> bool:
        def change() -> bool:
            mine = holder.instance in self.holders
            if not mine and limit is not None and len(self.holders) >= limit:
                return False
            self.holders[holder.instance] = holder
            self.waiters.pop(holder.instance, None)
            return True

        return self._change("claim", change)

    def renew(self, instance: str, seen: float) -> bool:
        def change() -> bool:
            if instance not in self.holders:
                return False
            self.holders[instance] = replace(self.holders[instance], seen=seen)
            return True

        return self._change("renew", change)

    def release(self, instance: str, since: float) -> bool:
        def change() -> bool:
            known = self.holders.get(instance)
            if known is None or known.since != since:
                return False
            del self.holders[instance]
            self.waiters.pop(instance, None)
            return True

        return self._change("release", change)

    def stand_in_line(self, waiter: Waiter, places: int) -> bool:
        def change() -> bool:
            if waiter.instance not in self.waiters and len(self.waiters) >= places:
                return False
            self.waiters.setdefault(waiter.instance, waiter)
            return True

        return self._change("stand_in_line", change)

    def wait_on(self, instance: str, seen: float) -> bool:
        def change() -> bool:
            if instance not in self.waiters:
                return False
            self.waiters[instance] = replace(self.waiters[instance], seen=seen)
            return True

        return self._change("wait_on", change)

    def pass_over(self, waiter: Waiter) -> None:
        def change() -> bool:
            if self.waiters.get(waiter.instance) == waiter:
                del self.waiters[waiter.instance]
            return True

        self._change("pass_over", change)

    def made(self, call: str) -> list[float]:
        """When this call was made, seconds."""
        return [at for name, at in self.calls if name == call]

    def _called(self, name: str) -> None:
        self.calls.append((name, self.clock.now()))
        error = self.raises.get(name, self.raises.get("*"))
        if error is not None and name not in self.lost:
            raise error

    def _change(self, name: str, change: Callable[[], bool]) -> bool:
        self._called(name)
        done = change()
        if name in self.lost and name in self.raises:
            raise self.raises[name]
        return done


@dataclass
class FakeAutoScaling:
    """A group with this host in it. A hook is answered only while the host waits for it; moments are the fake clock's.

    `waits_from`: when the hook's state begins; None where it never does. `calls` names each call with its moment.
    `lost` are what a caller gets instead of the answer, once the call has taken effect.
    """

    clock: FakeClock
    of: ScalingGroup = field(default_factory=lambda: ScalingGroup("web-asg"))
    state: str | None = "InService"
    hook_names: dict[Transition, list[LifecycleHook]] = field(default_factory=dict)
    waits_from: float | None = None
    completed_at: float | None = None
    denied: dict[str, AgentError] = field(default_factory=dict)
    lost: dict[str, list[BaseException]] = field(default_factory=dict)
    calls: list[tuple[str, float]] = field(default_factory=list)
    completes: Callable[[], None] = lambda: None
    standby_seconds: float = 300.0

    def instance(self, instance_id: str) -> tuple[str, str] | None:
        self._called("DescribeAutoScalingInstances")
        return None if self.state is None else (self.of.name, self.state)

    def group(self, name: str) -> ScalingGroup:
        self._called("DescribeAutoScalingGroups")
        assert name == self.of.name
        return self.of

    def hooks(self, group: str, transition: Transition) -> tuple[LifecycleHook, ...]:
        self._called("DescribeLifecycleHooks")
        return tuple(self.hook_names.get(transition, ()))

    def heartbeat(self, hook: str, group: str, instance_id: str) -> None:
        self._called("RecordLifecycleActionHeartbeat")
        self._must_wait(hook, instance_id)

    def complete(self, hook: str, group: str, instance_id: str) -> None:
        self._called("CompleteLifecycleAction")
        self._must_wait(hook, instance_id)
        self.completed_at = self.clock.now()
        self.completes()
        self._answered("CompleteLifecycleAction")

    def enter_standby(self, group: str, instance_id: str) -> None:
        self._called("EnterStandby")
        self._must_be_mine("EnterStandby", instance_id)
        if self.state in ("Standby", "EnteringStandby"):
            return
        if self.of.desired - 1 < self.of.minimum:
            raise AgentError(Kind.REFUSED, f"cannot call EnterStandby: min-size={self.of.minimum}", transient=True)
        self.state = "EnteringStandby"
        self.of = replace(self.of, desired=self.of.desired - 1)
        self.clock.at(self.clock.now() + self.standby_seconds, self._has_entered)
        self._answered("EnterStandby")

    def exit_standby(self, group: str, instance_id: str) -> None:
        self._called("ExitStandby")
        self._must_be_mine("ExitStandby", instance_id)
        if self.state == "InService":
            return
        if self.state != "Standby":
            raise AgentError(Kind.REFUSED, f"cannot call ExitStandby: it is {self.state}", transient=True)
        self.state = "InService"
        self.of = replace(self.of, desired=self.of.desired + 1)
        self._answered("ExitStandby")

    def _must_be_mine(self, call: str, instance_id: str) -> None:
        if instance_id != ME.instance_id:
            raise AgentError(Kind.REFUSED, f"cannot call {call}: no such instance in the group", transient=True)

    def _has_entered(self) -> None:
        self.state = "Standby"

    def made(self, call: str) -> list[float]:
        """When this call was made."""
        return [at for name, at in self.calls if name == call]

    def _called(self, call: str) -> None:
        self.calls.append((call, self.clock.now()))
        if call in self.denied:
            raise self.denied[call]

    def _answered(self, call: str) -> None:
        if self.lost.get(call):
            raise self.lost[call].pop(0)

    def _must_wait(self, hook: str, instance_id: str) -> None:
        assert instance_id == ME.instance_id
        known = hook in {one.name for hooks in self.hook_names.values() for one in hooks}
        if not known or self.waits_from is None or self.clock.now() < self.waits_from or self.completed_at is not None:
            message = "cannot call: ValidationError: No active Lifecycle Action found"
            raise AgentError(Kind.REFUSED, message, transient=True)


@dataclass
class FakeProber:
    """The app: passes unless `said` holds what it answers instead."""

    said: str = ""
    asked: int = 0

    def check(self, group: TargetGroup, target: Target) -> ProbeResult:
        self.asked += 1
        return ProbeResult(target, not self.said, self.said or "GET /healthz on port 8080 answered 200")


@dataclass
class FakeSensor:
    """The kernel: a listener on every port, the connections that a test puts in `open`, and the health checks.

    Each of `nodes` checks the ports `checked` every `interval` seconds, while `in_service` says so.
    """

    clock: FakeClock
    open: list[Connection] = field(default_factory=list)
    deaf: frozenset[int] = frozenset()
    error: AgentError | None = None
    samples: int = 0
    readings: int = 0
    nodes: tuple[str, ...] = ()
    checked: tuple[int, ...] = (8080,)
    interval: float = 10.0
    in_service: Callable[[], bool] = lambda: True
    told_at: float | None = None

    def sample(self, ports: frozenset[int], addresses: frozenset[str]) -> Sample:
        self.samples += 1
        if self.error is not None:
            raise self.error
        now = self.clock.now()
        return Sample(now, ports - self.deaf, tuple(c for c in self.open if c.port in ports), self._checks(ports))

    def ended(self, ports: frozenset[int], addresses: frozenset[str]) -> EndedConnections:
        self.readings += 1
        if self.error is not None:
            raise self.error
        return EndedConnections(self.clock.now(), self._checks(ports))

    def close(self) -> None:
        self.told_at = None

    def _checks(self, ports: frozenset[int]) -> tuple[Connection, ...]:
        """Those since the last time; none the first time."""
        before, self.told_at = self.told_at, self.clock.now()
        if before is None or not self.in_service():
            return ()
        times = int(self.told_at // self.interval) - int(before // self.interval)
        ended = Connection(
            0,
            0,
            "10.0.0.1",
            "",
            0,
            bytes_received=130,
            data_segments_received=1,
            data_segments_sent=1,
            last_received_seconds_ago=0.01,  # before its end, whenever that was
            last_sent_seconds_ago=0.005,
        )
        return tuple(
            replace(
                ended,
                cookie=1_000_000 + int(self.told_at * 100) * 100 + n,
                port=port,
                peer=node,
            )
            for n, node in enumerate(self.nodes)
            for port in self.checked
            if times and port in ports
        )


@dataclass
class FakePostures:
    """Every posture that was shown, each once in a row."""

    shown: list[Posture] = field(default_factory=list)

    def show(self, service: str, posture: Posture) -> None:
        if self.shown[-1:] != [posture]:
            self.shown.append(posture)


@dataclass
class FakeSupervisor:
    said: list[str] = field(default_factory=list)

    def alive(self, status: str) -> None:
        self.said.append(status)


class FakeAws:
    """Target groups that drain for their whole delay and warm for `warm_seconds`, in the fake clock's time."""

    def __init__(self, clock: FakeClock, groups: Sequence[TargetGroup]) -> None:
        self.clock = clock
        self.groups = {g.arn: g for g in groups}
        self.warm_seconds = 12.0
        self.calls: list[str] = []
        self.skew: float | None = 0.4
        self.errors: dict[str, list[AgentError]] = {}
        self.errors_after: dict[str, list[AgentError]] = {}
        # (group, id, port) → (zone, healthy from, unhealthy reason, gone from)
        self._targets: dict[tuple[str, str, int], tuple[str | None, float, str, float | None]] = {}

    def put(self, name: str, target_id: str = "i-me", port: int = 8080, *, zone: str | None = None) -> Target:
        """A healthy target."""
        self._targets[arn(name), target_id, port] = (zone, 0.0, "", None)
        return Target(arn(name), target_id, port, zone)

    def put_sibling(self, name: str, target_id: str = "i-other") -> Target:
        """Another host in the group, healthy."""
        return self.put(name, target_id)

    def break_target(self, target: Target, reason: str) -> None:
        zone, healthy, _, gone = self._targets[target.group, target.id, target.port]
        self._targets[target.group, target.id, target.port] = (zone, healthy, reason, gone)

    def registered(self) -> set[tuple[str, str, int]]:
        """What is registered now, draining targets not counted."""
        return {key for key, value in self._targets.items() if value[3] is None}

    def zone(self, target: Target) -> str | None:
        return self._targets[target.group, target.id, target.port][0]

    def named_groups(self, names: Sequence[str]) -> tuple[tuple[TargetGroup, ...], tuple[str, ...]]:
        self._called("DescribeTargetGroups")
        found = tuple(g for g in self.groups.values() if g.name in names or g.arn in names)
        known = {word for g in found for word in (g.name, g.arn)}
        return found, tuple(name for name in names if name not in known)

    def groups_in_vpc(self, vpc_id: str) -> tuple[TargetGroup, ...]:
        self._called("DescribeTargetGroups")
        return tuple(
            replace(g, deregistration_delay=-1.0, cross_zone=True) for g in self.groups.values() if g.vpc_id == vpc_id
        )

    def with_attributes(self, asked: TargetGroup) -> TargetGroup:
        self._called("DescribeTargetGroupAttributes")
        self._must_exist(asked.arn)
        return replace(self.groups[asked.arn], health_check=asked.health_check)

    def health(self, asked: str) -> tuple[TargetHealth, ...]:
        self._called("DescribeTargetHealth")
        self._must_exist(asked)
        now = self.clock.now()
        found = []
        for (group_arn, target_id, port), (zone, healthy, broken, gone) in self._targets.items():
            if group_arn != asked or (gone is not None and now >= gone):
                continue
            state, reason = State.HEALTHY, ""
            if gone is not None:
                state, reason = State.DRAINING, "Target.DeregistrationInProgress"
            elif now < healthy:
                state, reason = State.INITIAL, "Elb.RegistrationInProgress"
            elif broken:
                state, reason = State.UNHEALTHY, broken
            found.append(TargetHealth(Target(group_arn, target_id, port, zone), state, reason))
        return tuple(found)

    def register(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        self._called("RegisterTargets")
        self._must_exist(asked.arn)
        for target in targets:
            key = (target.group, target.id, target.port)
            old = self._targets.get(key)
            if old is None or old[3] is not None:
                self._targets[key] = (target.zone, self.clock.now() + self.warm_seconds, old[2] if old else "", None)
        self._answered("RegisterTargets")

    def deregister(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        self._called("DeregisterTargets")
        for target in targets:
            key = (target.group, target.id, target.port)
            if key in self._targets and self._targets[key][3] is None:
                zone, healthy, broken, _ = self._targets[key]
                gone = self.clock.now() + self.groups[asked.arn].deregistration_delay
                self._targets[key] = (zone, healthy, broken, gone)
        self._answered("DeregisterTargets")

    def may_change(self, asked: TargetGroup, unregistered: Target) -> None:
        assert (unregistered.group, unregistered.id, unregistered.port) not in self._targets
        self._called("RegisterTargets")
        self._called("DeregisterTargets")

    def clock_skew(self) -> float | None:
        return self.skew

    def _called(self, action: str) -> None:
        self.calls.append(action)
        if self.errors.get(action):
            raise self.errors[action].pop(0)

    def _answered(self, action: str) -> None:
        if self.errors_after.get(action):
            raise self.errors_after[action].pop(0)

    def _must_exist(self, asked: str) -> None:
        if asked not in self.groups:
            raise AgentError(Kind.TARGET_GROUP_NOT_FOUND, f"cannot find {asked}")
