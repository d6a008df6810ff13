"""One AWS account in simulated time: target groups, and the call budgets that all hosts of the fleet share."""

from __future__ import annotations

import heapq
import random
from collections import Counter

from fakes import FakeClock, arn, group
from race.elb import IN_SERVICE, Line, deregistered, registered, state_at
from zdd_agent.model.aws import State, Target, TargetGroup, TargetHealth
from zdd_lab.model.call_budget import Budgets
from zdd_lab.model.profile import ALB

REGION = "eu-west-1"
# A target group takes this many targets: what is beyond goes into further groups, each on its own load balancer.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
TARGETS_A_GROUP = 1000
CHANGES = ("RegisterTargets", "DeregisterTargets")


class Account:
    """What is true. Moments are seconds.

    Args:
        count: how many hosts there are; all are healthy.
        delay: the groups' deregistration delay.
        rng: draws how long a registered target warms.
    """

    def __init__(self, count: int, delay: float, rng: random.Random) -> None:
        self.clock = FakeClock()
        self.rng = rng
        self.budgets = Budgets(ALB)
        self.calls: Counter[str] = Counter()  # that were answered, by action
        self.throttled: Counter[str] = Counter()
        self.a_second: Counter[int] = Counter()  # Elastic Load Balancing's, throttled ones too
        self.most_out = 0
        self._out: set[str] = set()
        self._healthy_at: list[tuple[float, str]] = []
        self.groups: dict[str, TargetGroup] = {}
        self._targets: dict[str, dict[str, TargetHealth]] = {}  # by group and Id, as they are in service
        self._lines: dict[str, dict[str, Line]] = {}  # those that are or were something else
        self._at_rest: dict[str, tuple[TargetHealth, ...]] = {}
        for number in range(count):
            name = f"web-{number // TARGETS_A_GROUP}"
            where = self.groups.setdefault(arn(name), group(name, deregistration_delay=delay))
            target = Target(where.arn, f"i-{number:05}", where.port)
            self._targets.setdefault(where.arn, {})[target.id] = TargetHealth(target, State.HEALTHY)
        self._lines = {one: {} for one in self.groups}

    def group_of(self, number: int) -> TargetGroup:
        """The target group of this host."""
        return self.groups[arn(f"web-{number // TARGETS_A_GROUP}")]

    def allows(self, action: str) -> bool:
        """One call of Elastic Load Balancing; False: it is throttled."""
        now = self.clock.time
        self.a_second[int(now)] += 1
        allowed = self.budgets.allow(REGION, action, now)
        (self.calls if allowed else self.throttled)[action] += 1
        return allowed

    def health(self, asked: str) -> tuple[TargetHealth, ...]:
        """What DescribeTargetHealth answers. Never late: the decisions' own waits for late answers stay as they are."""
        now, lines = self.clock.time, self._lines[asked]
        if not lines:
            if asked not in self._at_rest:
                self._at_rest[asked] = tuple(self._targets[asked].values())
            return self._at_rest[asked]
        found = dict(self._targets[asked])
        for target_id, line in list(lines.items()):
            state = state_at(line, now)  # type: ignore[arg-type]  whole seconds there, any here
            if state is None:
                del found[target_id]
            elif state is not State.HEALTHY:
                found[target_id] = TargetHealth(found[target_id].target, state)
            elif line[-1][1] is State.HEALTHY:
                del lines[target_id]  # in service again
        return tuple(found.values())

    def state(self, where: str, target_id: str) -> State | None:
        """What the target is now; None where AWS does not list it."""
        line = self._lines[where].get(target_id, IN_SERVICE)
        return state_at(line, self.clock.time)  # type: ignore[arg-type]

    def deregister(self, where: str, target_id: str) -> None:
        now, lines = self.clock.time, self._lines[where]
        delay = self.groups[where].deregistration_delay
        lines[target_id] = deregistered(lines.get(target_id, IN_SERVICE), now, delay)  # type: ignore[arg-type]
        self._out.add(target_id)
        self._healthy_at = [one for one in self._healthy_at if one[1] != target_id]
        self.most_out = max(self.most_out, self.out())

    def register(self, where: str, target_id: str) -> None:
        now, lines = self.clock.time, self._lines[where]
        warm = self.rng.uniform(*ALB.registration_lag("application")) + self.rng.uniform(*ALB.learn_lag("application"))
        line = registered(lines.get(target_id, IN_SERVICE), now, warm)  # type: ignore[arg-type]
        if line != lines.get(target_id):
            lines[target_id] = line
            heapq.heappush(self._healthy_at, (line[-1][0], target_id))

    def out(self) -> int:
        """How many hosts do not serve: from the deregistration until they are healthy again."""
        while self._healthy_at and self._healthy_at[0][0] <= self.clock.time:
            self._out.discard(heapq.heappop(self._healthy_at)[1])
        return len(self._out)
