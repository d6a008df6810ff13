"""One host of the simulated fleet: the engine that ships, over ports that answer in simulated time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from fakes import VPC, FakeInstances, FakeMetadata, FakeProber, FakeSensor
from simulation.account import REGION, Account
from simulation.sdk import Calls, Later
from simulation.table import Partition, Slots
from troubles import MortalStore
from zdd_agent.adapters.aws import ATTEMPTS
from zdd_agent.engine.build import Outside, build_engine
from zdd_agent.model.aws import Identity, Target, TargetGroup, TargetHealth
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Outcome, Request, Verb
from zdd_agent.settings import Settings

_T = TypeVar("_T")


class Balancing:
    """Elastic Load Balancing as one host asks it."""

    def __init__(self, account: Account, calls: Calls) -> None:
        self._account = account
        self._calls = calls

    def named_groups(self, names: Sequence[str]) -> tuple[tuple[TargetGroup, ...], tuple[str, ...]]:
        groups = self._account.groups.values()
        found = tuple(g for g in groups if g.name in names or g.arn in names)
        return self._ask("DescribeTargetGroups", lambda: (found, ()))

    def groups_in_vpc(self, vpc_id: str) -> tuple[TargetGroup, ...]:
        return self._ask("DescribeTargetGroups", lambda: tuple(self._account.groups.values()))

    def with_attributes(self, asked: TargetGroup) -> TargetGroup:
        return self._ask("DescribeTargetGroupAttributes", lambda: self._account.groups[asked.arn])

    def health(self, asked: str) -> tuple[TargetHealth, ...]:
        return self._ask("DescribeTargetHealth", lambda: self._account.health(asked))

    def register(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        self._ask("RegisterTargets", lambda: [self._account.register(asked.arn, t.id) for t in targets])

    def deregister(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        self._ask("DeregisterTargets", lambda: [self._account.deregister(asked.arn, t.id) for t in targets])

    def may_change(self, asked: TargetGroup, unregistered: Target) -> None:
        raise NotImplementedError("only the doctor asks this")

    def clock_skew(self) -> float | None:
        return None

    def _ask(self, action: str, answer: Callable[[], _T]) -> _T:
        return self._calls.make(action, lambda: self._account.allows(action), answer, attempts=ATTEMPTS)


class _Quiet:
    def alive(self, status: str) -> None:
        """Nobody watches."""


class Member:
    """One host that is told once: drain, restart the app, rejoin.

    Args:
        account: shared by all.
        partition: shared by all.
        number: of the host.
        rng: draws the jitter and the back-off.
        limit: of the slots.
        wait: `--wait` of its drain, seconds.
        restart: how long the app takes to restart, seconds.
    """

    def __init__(
        self,
        account: Account,
        partition: Partition,
        number: int,
        rng: random.Random,
        *,
        limit: int | str,
        wait: float,
        restart: float,
    ) -> None:
        self.number = number
        self.id = f"i-{number:05}"
        self._clock = account.clock
        self._wait, self._restart = wait, restart
        self.calls = Calls(account.clock, rng)
        self.asked_at = self.left_at = self.back_at = -1.0
        self.tries = 0
        identity = Identity(self.id, REGION, "eu-west-1a", VPC, ("10.0.0.1",))
        outside = Outside(
            clock=account.clock,
            metadata=FakeMetadata(identity),
            aws=Balancing(account, self.calls),
            instances=FakeInstances(),
            prober=FakeProber(),
            sensor=FakeSensor(account.clock),
            store=MortalStore(),
            slots=Slots(partition, self.calls),
        )
        names = (account.group_of(number).name,)
        shared = {"table": "slots", "name": "web", "limit": limit}
        given = Settings(target_groups=names, drain={"until": Until.UNUSED}, slots=shared)
        self.engine = build_engine(outside, _Quiet(), given, "boot-1", rng)
        self.ledger = self.engine.ledger
        self._verb = Verb.DRAIN

    @property
    def done(self) -> bool:
        return self.back_at >= 0

    def turn(self) -> float | None:
        """One turn at this moment; answers when the next is due (seconds), None when there is none."""
        now = self._clock.time
        if self.ledger.running() is None and not self.done:
            self.asked_at = now if self.asked_at < 0 else self.asked_at
            self.ledger.begin(Request(self._verb, 0, wait=self._wait if self._verb is Verb.DRAIN else 0.0))
        self.calls.begin()
        try:
            operation = self.ledger.running()
            waits = self.engine.runner.tick(operation) if operation is not None else self.engine.runner.idle()
        except Later as later:
            return later.at
        self.calls.end()
        if self.ledger.running() is None and not self.done:
            return self._ended(now)
        return None if self.done and not self._owes() else now + waits

    def _ended(self, now: float) -> float | None:
        last = self.ledger.record().last
        assert last is not None
        if last.outcome is not Outcome.SUCCEEDED:
            self.tries += 1
            return now + 30.0  # the deploy tool tries again
        if self._verb is Verb.DRAIN:
            self._verb = Verb.REJOIN
            return now + self._restart
        self.back_at = now
        return now if self._owes() else None

    def _owes(self) -> bool:
        """Whether its slot is still to be given back."""
        return self.ledger.record().slot is not None
