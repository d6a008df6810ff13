"""Two hosts that leave at the same moment, one of which does not live to look again: never are both out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakes import FakeAws, FakeClock, group
from host import Host
from zdd_agent.model.aws import Identity, MinHealthy
from zdd_agent.model.operation import Phase, Verb


class Killed(BaseException):
    """kill -9 at this very point: nothing of the daemon catches it."""


class Pair:
    """Two hosts over one AWS, both of which the guard has allowed to leave; one must stay."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.aws = FakeAws(self.clock, [group()])
        self.hosts = []
        for name in ("i-0", "i-1"):
            self.aws.put("web", name)
            who = Identity(name, "eu-west-1", "eu-west-1a", "vpc-1", (f"10.0.0.{name[-1]}",))
            self.hosts.append(Host(aws=self.aws, who=who, minimum=MinHealthy(1)))
        for host in self.hosts:
            host.begin(Verb.DRAIN)
            self.tick_until(host, Phase.DEREGISTERING)

    def tick_until(self, host: Host, phase: Phase) -> None:
        while (operation := host.ledger.running()) is not None and operation.phase is not phase:
            host.runner.tick(operation)

    def let_time_pass(self, seconds: float = 200.0, *, but: Host | None = None) -> None:
        end = self.clock.time + seconds
        while self.clock.time < end:
            for host in self.hosts:
                operation = None if host is but else host.ledger.running()
                while operation is not None and host.runner.tick(operation) == 0:
                    operation = host.ledger.running()
            self.clock.time += 0.5

    def deregister_both(self) -> None:
        for host in self.hosts:
            self.tick_until(host, Phase.DRAINING)


def killed_behind_its_call(pair: Pair, victim: Host, other: Host) -> None:
    pair.aws.errors_after["DeregisterTargets"] = [Killed()]  # type: ignore[list-item]  what a list takes
    with pytest.raises(Killed):
        pair.tick_until(victim, Phase.DRAINING)
    victim.restart()
    pair.tick_until(other, Phase.DRAINING)
    pair.let_time_pass()


def cancelled_before_its_second_look(pair: Pair, victim: Host, other: Host) -> None:
    pair.deregister_both()
    victim.ledger.cancel(0)
    pair.let_time_pass()


def gone_for_good(pair: Pair, victim: Host, other: Host) -> None:
    pair.deregister_both()
    pair.let_time_pass(but=victim)


def back_after_a_while(pair: Pair, victim: Host, other: Host) -> None:
    pair.deregister_both()
    pair.let_time_pass(9.0, but=victim)
    victim.restart()
    pair.let_time_pass()


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize(
    "fate", [killed_behind_its_call, cancelled_before_its_second_look, gone_for_good, back_after_a_while]
)
def test_one_of_two_stays_in_whatever_becomes_of_the_other(
    fate: Callable[[Pair, Host, Host], None], victim: int
) -> None:
    pair = Pair()
    fate(pair, pair.hosts[victim], pair.hosts[1 - victim])
    assert len(pair.aws.registered()) >= 1
