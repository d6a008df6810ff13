"""What people use with Ansible, over the same account: batches of `serial` hosts that go through each task together.

Left out, in their favour: the time that Ansible, ssh and the AWS CLI themselves take, and `forks` (taken as `serial`).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass

from simulation.account import Account
from simulation.rollout import DELAY, RESTART, Found, summed_up
from zdd_agent.model.aws import State

# A task of one host: yields the seconds that it sleeps.
Task = Generator[float, None, None]


@dataclass(frozen=True, slots=True)
class Way:
    """How one of them asks.

    Args:
        name: for the table.
        every: seconds between two polls.
        looks_first: it reads the group and its targets before each change.
        tries: of one call, all in all.
        back_off: (number of the try that was throttled, from 0) → seconds, of which it sleeps a random part.
    """

    name: str
    every: float
    looks_first: bool
    tries: int
    back_off: Callable[[int], float]


# awscli, retry mode `legacy`: https://docs.aws.amazon.com/cli/v1/userguide/cli-configure-retries.html
PLAYBOOK = Way("aws in command tasks", 10.0, looks_first=False, tries=5, back_off=lambda n: 2.0**n)
# community.aws.elb_target: AWSRetry.jittered_backoff(retries=10, delay=10), at most 60 s
ELB_TARGET = Way("elb_target", 1.0, looks_first=True, tries=10, back_off=lambda n: min(10.0 * 2.0**n, 60.0))


class ThrottledError(Exception):
    """The last try of a call was throttled, too."""


class Batch:
    """Hosts that go through each task together."""

    def __init__(self, account: Account, way: Way, numbers: range, rng: random.Random) -> None:
        self._account, self._way, self._numbers, self._rng = account, way, numbers, rng
        self.gave_up = 0
        self.longest = 0.0

    def run(self) -> None:
        self._together(lambda n: self._change(n, "DeregisterTargets", None))
        self._account.clock.time += RESTART
        self._together(lambda n: self._change(n, "RegisterTargets", State.HEALTHY))

    def _together(self, task: Callable[[int], Task]) -> None:
        clock = self._account.clock
        tasks = {n: task(n) for n in self._numbers}
        due = [(clock.time, n) for n in self._numbers]
        while due:
            at, number = heapq.heappop(due)
            clock.time = max(at, clock.time)
            if (sleeps := next(tasks[number], None)) is not None:
                heapq.heappush(due, (clock.time + sleeps, number))

    def _change(self, number: int, action: str, until: State | None) -> Task:
        account, group, me = self._account, self._account.group_of(number).arn, f"i-{number:05}"
        if self._way.looks_first:
            yield from self._call("DescribeTargetGroups")
            yield from self._call("DescribeTargetHealth")
        yield from self._call(action)
        (account.deregister if until is None else account.register)(group, me)
        while True:
            try:
                yield from self._call("DescribeTargetHealth", polls=True)
                if account.state(group, me) is until:
                    return
            except ThrottledError:
                pass
            yield self._way.every

    def _call(self, action: str, *, polls: bool = False) -> Task:
        began = self._account.clock.time
        while True:
            for number in range(self._way.tries):
                if self._account.allows(action):
                    self.longest = max(self.longest, self._account.clock.time - began)
                    return
                if number + 1 < self._way.tries:
                    yield self._rng.random() * self._way.back_off(number)
            self.gave_up += 1
            if polls:
                raise ThrottledError
            yield self._way.every  # somebody starts the playbook again for this host


def playbook(hosts: int, serial: int, way: Way, *, seed: int = 1) -> Found:
    """The whole fleet, one batch after another."""
    rng = random.Random(seed)
    account = Account(hosts, DELAY, rng)
    begin = account.clock.time
    found = Found(hosts, serial, f"{way.name}, serial {serial}")
    for first in range(0, hosts, serial):
        batch = Batch(account, way, range(first, min(first + serial, hosts)), rng)
        batch.run()
        found.gave_up += batch.gave_up
        found.longest_throttled_seconds = max(found.longest_throttled_seconds, batch.longest)
    found.deploy_seconds = account.clock.time - begin
    return summed_up(found, account)
