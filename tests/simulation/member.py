"""One host of the simulated fleet: the engine that ships, over ports that answer in simulated time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fakes import VPC, FakeInstances, FakeMetadata, FakeProber, FakeSensor
from simulation.account import REGION, Account
from troubles import MortalStore
from zdd_agent.adapters.aws import ATTEMPTS
from zdd_agent.engine.build import Outside, build_engine
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, Target, TargetGroup, TargetHealth
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Outcome, Request, Verb
from zdd_agent.settings import Settings

_T = TypeVar("_T")


class Later(BaseException):  # noqa: N818  no error: the SDK waits before its next try. Nothing of the engine catches it
    """The call goes on at this moment (seconds)."""

    def __init__(self, at: float) -> None:
        self.at = at


class Calls:
    """The SDK of one host: tries a throttled call again with its own back-off, while the host's loop waits for it.

    The loop is not suspended in the middle of a call: it turns again from the same record, and gets what it was told
    before from here.
    """

    def __init__(self, clock: Any, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._answers: list[tuple[object, Any]] = []
        self._given = 0
        self._tries = 0
        self._since: dict[object, float] = {}
        self.longest = 0.0  # seconds that a throttled call has cost, from its first try to its answer
        self.gave_up = 0  # calls that the SDK has given up

    def begin(self) -> None:
        self._given = 0

    def end(self) -> None:
        self._answers.clear()
        self._given = 0

    def make(self, key: object, allows: Callable[[], bool], answer: Callable[[], _T], *, attempts: int) -> _T:
        if self._given < len(self._answers) and self._answers[self._given][0] == key:
            self._given += 1
            return self._answers[self._given - 1][1]
        del self._answers[self._given :]
        now = self._clock.time
        if allows():
            self._tries = 0
            self.longest = max(self.longest, now - self._since.pop(key, now))
            told = answer()
            self._answers.append((key, told))
            self._given += 1
            return told
        self._since.setdefault(key, now)
        self._tries += 1
        if self._tries >= attempts:
            self._tries = 0
            self.gave_up += 1
            raise AgentError(Kind.AWS_UNAVAILABLE, f"cannot call {key}: throttled", transient=True)
        # The SDK's mode `standard`: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
        raise Later(now + self._rng.random() * min(2.0 ** (self._tries - 1), 20.0))


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
        number: of the host.
        rng: draws the jitter and the back-off.
        wait: `--wait` of its drain, seconds.
        restart: how long the app takes to restart, seconds.
        settings: more of the agent's settings.
    """

    def __init__(
        self, account: Account, number: int, rng: random.Random, *, wait: float, restart: float, **settings: Any
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
        )
        names = (account.group_of(number).name,)
        given = Settings(target_groups=names, drain={"until": Until.UNUSED}, **settings)
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
        """Whether something is left to do between operations."""
        return False
