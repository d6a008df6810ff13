"""A fleet that takes turns, one host of which dies, freezes or loses an answer at each of its calls and writes in turn.

The real engine over the fakes, in fake time: every point of a whole deploy is tried, which would take hours in the lab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pytest

from fakes import ME, FakeAws, FakeClock, FakeSlots, arn, group
from faults.rig import SOAK
from host import Host, succeeded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, State
from zdd_agent.model.operation import Verb

HOSTS, LIMIT = 3, 1
# Every call that changes something outside, or on disk, or that such a change is decided on.
CALLS = {
    "store": ("write",),
    "aws": ("health", "register", "deregister"),
    "slots": ("table", "claim", "renew", "release", "stand_in_line", "wait_on", "pass_over"),
}
# Seconds of fake time after which a fleet that has not ended never will.
LONG = 3000.0
_STEP = 1.0
# Longer than a waiter's place in line outlives its last sign of life.
_AWAY = 100.0


class Killed(BaseException):
    """kill -9 at this very point: nothing of the daemon catches it."""


@dataclass
class Trouble:
    """What happens to one host at the call of this number: before it, or after it."""

    at: int
    happens: Callable[[Callable[[], Any]], Any]
    passed: int = 0
    where: str = ""

    def call(self, name: str, real: Callable[..., Any], *words: Any) -> Any:
        self.passed += 1
        if self.passed != self.at:
            return real(*words)
        self.where = name
        return self.happens(partial(real, *words))


class Watched:
    """A port of the host that gets into trouble."""

    def __init__(self, name: str, thing: object, trouble: Trouble) -> None:
        self._name = name
        self._thing = thing
        self._trouble = trouble

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._thing, method)
        if method not in CALLS[self._name]:
            return real
        return partial(self._trouble.call, f"{self._name}.{method}", real)


@dataclass
class Turn:
    """One host, and what the deploy tool has still to do on it."""

    host: Host
    todo: list[Verb]
    asked: bool = False
    back_at: float = 0.0
    lost: bool = False

    def take(self) -> None:
        """Do what is due now."""
        if self.lost or self.host.clock.time < self.back_at:
            return
        try:
            self._take()
        except Killed:
            self.host.restart()
        except AgentError:
            pass  # the operation could not be begun: whoever asked asks again

    def _take(self) -> None:
        ledger = self.host.ledger
        if ledger.running() is None and self.todo and self._may_ask():
            self.host.begin(self.todo[0], wait=LONG if self.todo[0] is Verb.DRAIN else 0.0)
            self.asked = True
        while (operation := ledger.running()) is not None:
            if self.host.runner.tick(operation) > 0:
                return
        self.host.runner.idle()

    def _may_ask(self) -> bool:
        """Whether the next verb is due: what was asked for has ended well, or was never begun."""
        last = self.host.record().last
        if self.asked and last is not None and last.verb is self.todo[0] and succeeded(last):
            self.todo.pop(0)
            self.asked = False
        return bool(self.todo)


class Fleet:
    """Hosts of one service that are all told to deploy at once; `victim` gets into trouble."""

    def __init__(self, trouble: Trouble, victim: int, deploys: int = 1) -> None:
        self.trouble = trouble
        self.deploys = deploys
        self.clock = FakeClock()
        self.aws = FakeAws(self.clock, [group(deregistration_delay=10.0)])
        self.slots = FakeSlots(self.clock)
        self.aws.put("web", "i-stays")
        self.turns = [self._host(number, trouble if number == victim else None) for number in range(HOSTS)]
        self.victim = self.turns[victim]
        self.later: list[tuple[float, Callable[[], Any]]] = []

    def _host(self, number: int, trouble: Trouble | None) -> Turn:
        name = f"i-{number}"
        self.aws.put("web", name)
        who = Identity(name, ME.region, ME.zone, ME.vpc_id, (f"10.0.0.{number + 10}",))
        aws, slots = self.aws, self.slots
        if trouble is not None:
            aws = cast("FakeAws", Watched("aws", self.aws, trouble))
            slots = cast("FakeSlots", Watched("slots", self.slots, trouble))
        settings = {"table": "slots", "name": "web", "limit": LIMIT}
        host = Host(aws=aws, fleet=slots, who=who, slots=settings, drain={"floor_seconds": {"application": 5}})
        if trouble is not None:
            host.store = cast("Any", Watched("store", host.store, trouble))
            host.restart()
        return Turn(host, [Verb.DRAIN, Verb.REJOIN] * self.deploys)

    def let_time_pass(self, seconds: float, *, but: Turn | None = None, until: Callable[[], bool] = bool) -> None:
        end = self.clock.time + seconds
        while self.clock.time < end and not until():
            for due in [one for one in self.later if one[0] <= self.clock.time]:
                self.later.remove(due)
                due[1]()
            for turn in self.turns:
                if turn is not but:
                    turn.take()
                self.check(but)
            self.clock.time += _STEP

    def check(self, frozen: Turn | None) -> None:
        """At every moment: never more than the limit out, and whoever is out holds a slot."""
        serving = {one.target.id for one in self.aws.health(arn("web")) if one.state is State.HEALTHY}
        names = {turn.host.metadata.who.instance_id for turn in self.turns if not turn.lost}
        out = names - serving
        assert len(out) <= LIMIT, f"{sorted(out)} are out at once"
        assert out <= set(self.slots.holders), f"{sorted(out)} are out; holders: {sorted(self.slots.holders)}"

    def over(self) -> bool:
        done = (turn.lost or (not turn.todo and turn.host.record().slot is None) for turn in self.turns)
        return all(done) and not self.later

    def ends_well(self) -> None:
        self.let_time_pass(LONG, until=self.over)
        assert self.over(), [(turn.todo, turn.host.record().slot, turn.host.record().operation) for turn in self.turns]
        # What a host leaves that is gone for good is taken from it by whoever waits next; in the end nobody does.
        gone = {turn.host.metadata.who.instance_id for turn in self.turns if turn.lost}
        assert set(self.slots.holders) <= gone
        assert set(self.slots.waiters) <= gone


def points() -> list[tuple[int, int]]:
    """Every call of the first host and of the last one in line, in a deploy without any trouble: (victim, number)."""
    found = []
    for victim in (0, HOSTS - 1):
        trouble = Trouble(0, lambda call: call())
        Fleet(trouble, victim).ends_well()
        found += [(victim, number) for number in range(1, trouble.passed + 1)]
    return found


POINTS = points()


def story(point: tuple[int, int], happens: Callable[[Fleet, Callable[[], Any]], Any], *, deploys: int = 1) -> Fleet:
    """A fleet whose victim gets into this trouble at its call of this number."""
    victim, number = point
    trouble = Trouble(number, lambda call: happens(fleet, call))
    fleet = Fleet(trouble, victim, deploys)
    fleet.ends_well()
    assert trouble.where
    return fleet


def no_answer() -> AgentError:
    return AgentError(Kind.AWS_UNAVAILABLE, "cannot call: no answer", transient=True)


@pytest.mark.parametrize("effect", ["none", "done"])
@pytest.mark.parametrize("seconds", [0.0, _AWAY])
def test_a_host_that_is_killed_at_any_call_and_comes_back_takes_no_second_slot_and_keeps_none(
    seconds: float, effect: str
) -> None:
    def killed(fleet: Fleet, call: Callable[[], Any]) -> None:
        if effect == "done":
            call()
        fleet.victim.back_at = fleet.clock.time + seconds
        raise Killed

    for point in POINTS:
        story(point, killed)


@pytest.mark.parametrize("effect", ["none", "done"])
def test_a_host_that_is_killed_and_terminated_gives_way_to_the_others(effect: str) -> None:
    def killed(fleet: Fleet, call: Callable[[], Any]) -> None:
        if effect == "done":
            call()
        fleet.victim.lost = True
        for turn in fleet.turns:
            turn.host.instances.gone.add(fleet.victim.host.metadata.who.instance_id)
        raise Killed

    for point in POINTS:
        story(point, killed)


@pytest.mark.parametrize("effect", ["none", "done"])
def test_an_answer_that_is_lost_takes_no_second_slot_and_keeps_none(effect: str) -> None:
    def lost(fleet: Fleet, call: Callable[[], Any]) -> None:
        if effect == "done":
            call()
        raise no_answer()

    for point in POINTS:
        story(point, lost)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_host_that_freezes_in_any_call_and_wakes_up_later_harms_nobody(moment: str) -> None:
    def freezes(fleet: Fleet, call: Callable[[], Any]) -> Any:
        if moment == "before":
            fleet.let_time_pass(_AWAY, but=fleet.victim)
            return call()
        answer = call()
        fleet.let_time_pass(_AWAY, but=fleet.victim)
        return answer

    for point in POINTS:
        story(point, freezes)


@pytest.mark.parametrize("seconds", [3.0, 30.0, 100.0] if SOAK else [3.0])
def test_a_change_of_the_slots_that_takes_effect_long_after_it_was_given_up_harms_nobody(seconds: float) -> None:
    # What the SDK gave up may still wait in the kernel of this host, and go out when the network is back.
    def late(fleet: Fleet, call: Callable[[], Any]) -> Any:
        if not fleet.trouble.where.startswith("slots."):
            return call()
        fleet.later.append((fleet.clock.time + seconds, call))
        raise no_answer()

    for point in POINTS:
        story(point, late, deploys=2)
