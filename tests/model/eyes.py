"""The ports of one agent over the truth: an AWS that answers late and by turns, or not; a kernel; an app; a disk."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fakes import VPC
from model.truth import Request, Scene, Truth
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import BalancerKind, HealthCheck, State, Target, TargetGroup, TargetHealth
from zdd_agent.model.kernel import Connection, EndedConnections, Sample
from zdd_agent.model.operation import ProbeResult
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.topology import Group, Topology

Key = tuple[str, str, int]
# Seconds between two answers that are far too old: no two looks that have to agree are both so.
_RARE_SECONDS = 60.0


class BrokenPromiseError(BaseException):  # no agent may take it for a defect of its own
    """What must never be."""


@dataclass
class Prober:
    """The app on this host, asked what the agent believes the health check to be."""

    truth: Truth
    me: str

    def check(self, group: TargetGroup, target: Target) -> ProbeResult:
        good = self.truth.apps[self.me].passes(target.port, group.health_check.path)
        return ProbeResult(target, good, f"GET {group.health_check.path} on port {target.port} answered {good}")


class Kernel:
    """The connections of this host. Other instances' it does not see."""

    def __init__(self, truth: Truth, ids: tuple[str, ...]) -> None:
        self._truth = truth
        self._ids = ids
        self._asked_at: float | None = None

    def sample(self, ports: frozenset[int], addresses: frozenset[str]) -> Sample:
        now, seen, lost = self._seen(ports)
        opened = tuple(_connection(r, now) for r in seen if r.closes > now)
        listening = ports & self._truth.apps[self._ids[0]].ports
        return Sample(now, frozenset(listening), opened, _ended(seen, now), lost)

    def ended(self, ports: frozenset[int], addresses: frozenset[str]) -> EndedConnections:
        now, seen, lost = self._seen(ports)
        return EndedConnections(now, _ended(seen, now), lost)

    def _seen(self, ports: frozenset[int]) -> tuple[float, list[Request], bool]:
        """Now, what was open at some moment since the last time, and whether there was none."""
        now = self._truth.clock.time
        since = now if self._asked_at is None else self._asked_at
        lost, self._asked_at = self._asked_at is None, now
        return (
            now,
            [r for r in self._truth.connections(self._ids, since) if r.key.port in ports and r.opened <= now],
            lost,
        )

    def close(self) -> None:
        self._asked_at = None


class Eyes:
    """AWS as one agent sees it, and what this agent has done to it. It may touch no other instance.

    Args:
        truth: what is so.
        ids: what names this host: its instance ID and its address.
        lags: seconds by which an answer may lag, at the most, and by which a rare one does; two answers in a row may go
            back in time.
        rng: draws the lags and how long each call takes.
    """

    def __init__(self, truth: Truth, ids: tuple[str, ...], lags: tuple[float, float], rng: random.Random) -> None:
        self.truth = truth
        self.clock = truth.clock
        self.ids = ids
        self.lag, self.rare_lag = lags
        self._rare_at = truth.clock.time
        self.rng = rng
        self.errors: dict[str, list[BaseException]] = {}
        self.errors_after: dict[str, list[BaseException]] = {}
        # When somebody else last changed each registration of this host, seconds.
        self.touched: dict[Key, float] = {}
        # Of the operation under way: what it has deregistered, and the changes whose answer has come without a fault.
        self.deregistered: set[Key] = set()
        self._surely_out: set[Key] = set()
        self._surely_in: set[Key] = set()
        self.may_register_only: set[Key] | None = None
        self.leaves: Callable[[], bool] = lambda: False  # whether this agent knows that its host will be gone

    def forget_operation(self) -> None:
        """Another operation begins."""
        self.deregistered = set()
        self.forget_answers()

    def forget_answers(self) -> None:
        """The agent may not know what has been done: it may do it again."""
        self._surely_out, self._surely_in = set(), set()

    def named_groups(self, names: Sequence[str]) -> tuple[tuple[TargetGroup, ...], tuple[str, ...]]:
        topology = self._called("DescribeTargetGroups").topology
        found = tuple(_group(g, topology) for g in topology.groups.values() if g.name in names or g.arn in names)
        known = {word for g in found for word in (g.name, g.arn)}
        return found, tuple(name for name in names if name not in known)

    def groups_in_vpc(self, vpc_id: str) -> tuple[TargetGroup, ...]:
        topology = self._called("DescribeTargetGroups").topology
        return tuple(replace(_group(g, topology), deregistration_delay=-1.0) for g in topology.groups.values())

    def with_attributes(self, asked: TargetGroup) -> TargetGroup:
        self._called("DescribeTargetGroupAttributes")
        group = self._must_exist(asked.arn)
        return replace(_group(group, self.truth.elb.topology), health_check=asked.health_check)

    def health(self, asked: str) -> tuple[TargetHealth, ...]:
        scene = self._called("DescribeTargetHealth")
        self._must_exist(asked)
        return tuple(
            TargetHealth(Target(h.key.group, h.key.id, h.key.port), State(h.state), h.reason or "", h.description or "")
            for h in scene.health.get(asked, ())
        )

    def register(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        self._only_mine(targets)
        keys = [t.key for t in targets]
        # What is registered in any case is left as it is.
        may = self.may_register_only
        if asked.arn not in self.truth.elb.topology.groups:  # deleted meanwhile: AWS answers that it does not exist
            may = None
        if may is not None and (more := set(keys) - may - self._registered() - self._touched_keys()):
            raise BrokenPromiseError(f"a drain registers {sorted(more)}, which it has not deregistered")
        if not self._touched() and keys and self._surely_in.issuperset(keys):
            raise BrokenPromiseError(f"registers {keys} again, though nobody deregistered them")
        if self.leaves():
            raise BrokenPromiseError(f"{self.ids[0]} is registered although its agent knows that it will be gone")
        self._called("RegisterTargets")
        self._must_exist(asked.arn)
        try:
            self.truth.register(asked.arn, [(t.id, t.port) for t in targets])
        except AwsError as error:
            self.forget_answers()
            raise AgentError(Kind.FAILED, f"cannot call RegisterTargets: {error}", value=error.code) from None
        self._surely_out -= set(keys)
        self._answered("RegisterTargets")
        self._surely_in |= set(keys)

    def deregister(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        self._only_mine(targets)
        keys = {t.key for t in targets}
        # An Auto Scaling group may put a host back that has just left Standby: then there is something to deregister.
        if not self._touched() and keys & self._surely_out - self._registered():
            raise BrokenPromiseError(f"deregisters {sorted(keys)} again, though nobody registered them")
        self._called("DeregisterTargets")
        if asked.arn not in self.truth.elb.topology.groups:
            return  # as the adapter: a group that is gone holds nobody
        self.deregistered |= keys
        self.truth.deregister(asked.arn, [(t.id, t.port) for t in targets])
        self._surely_in -= keys
        self._answered("DeregisterTargets")
        self._surely_out |= keys

    def may_change(self, asked: TargetGroup, unregistered: Target) -> None:
        raise NotImplementedError("the doctor does not come here")

    def clock_skew(self) -> float | None:
        return None

    def _called(self, action: str) -> Scene:
        """Time for the way there; what this call would see; or its fault."""
        self.truth.advance(self.rng.choice((0.01, 0.03, 0.1, 0.4)))
        if self.errors.get(action):
            self.forget_answers()
            raise self.errors[action].pop(0)
        lag = self.rng.choice((0.0, self.lag, self.rng.uniform(0.0, self.lag)))
        if self.rare_lag and self.clock.time - self._rare_at > _RARE_SECONDS and self.rng.random() < 0.2:
            lag, self._rare_at = self.rare_lag, self.clock.time
        return self.truth.scene(lag)

    def _answered(self, action: str) -> None:
        self.truth.advance(self.rng.choice((0.01, 0.03, 0.1)))
        if self.errors_after.get(action):
            self.forget_answers()
            raise self.errors_after[action].pop(0)

    def _registered(self) -> set[Key]:
        return {(key.group, key.id, key.port) for key in self.truth.registered()}

    def _touched_keys(self) -> set[Key]:
        return {key for key, at in self.touched.items() if self.clock.time - at < 40.0}

    def _touched(self) -> bool:
        """Whether a late answer may still show what somebody else did."""
        return bool(self._touched_keys())

    def _only_mine(self, targets: Sequence[Target]) -> None:
        if strange := [str(t) for t in targets if t.id not in self.ids]:
            raise BrokenPromiseError(f"{self.ids[0]} changes targets of another instance: {strange}")

    def _must_exist(self, asked: str) -> Group:
        group = self.truth.elb.topology.groups.get(asked)
        if group is None:
            raise AgentError(Kind.TARGET_GROUP_NOT_FOUND, f"cannot find {asked}")
        return group


def _group(group: Group, topology: Topology) -> TargetGroup:
    check = group.check
    balancers = topology.balancers_of(group.arn)
    return TargetGroup(
        arn=group.arn,
        name=group.name,
        kind=BalancerKind(topology.kind_of(group.arn)),
        target_type=group.target_type,
        protocol=group.protocol,
        port=group.port,
        vpc_id=VPC,
        deregistration_delay=group.deregistration_delay,
        balancers=tuple(one.arn for one in balancers),
        health_check=HealthCheck("HTTP", "traffic-port", check.path, check.interval, check.timeout, 2, check.matcher),
    )


def _ended(seen: list[Request], now: float) -> tuple[Connection, ...]:
    return tuple(_connection(r, r.closes) for r in seen if r.closes <= now)


def _connection(request: Request, now: float) -> Connection:
    """As the kernel shows it at this moment."""
    answered = now >= request.answered
    return Connection(
        cookie=request.cookie,
        port=request.key.port,
        address="10.0.0.1",
        peer=request.node,
        peer_port=40_000 + request.cookie % 20_000,
        unread=0,
        bytes_received=120 if request.check else 300 + request.cookie % 50,
        bytes_acked=200 if answered else 1,
        data_segments_received=1,
        data_segments_sent=1 if answered else 0,
        acks_sent=1,
        last_received_seconds_ago=now - request.opened - 0.001 if now > request.opened + 0.001 else 0.0,
        last_sent_seconds_ago=now - request.answered if answered else now - request.opened,
    )
