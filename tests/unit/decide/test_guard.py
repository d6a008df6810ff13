"""The guard: pure verdicts first, then two whole hosts that race in fake time."""

from __future__ import annotations

import itertools

import pytest

from fakes import START, FakeAws, FakeClock, arn, group
from host import MANY_TURNS, Host, succeeded
from zdd_agent.decide.guard import leaving, shortages
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, Membership, MinHealthy, State, Target, TargetHealth
from zdd_agent.model.operation import Check, Observation, Outcome, Posture, Verb

ME = Target(arn("web"), "i-me", 8080)
WEB = Membership((group(),), (ME,))


def seen(*states: State, mine: State = State.HEALTHY, zones: tuple[str, ...] = ()) -> Observation:
    """This host and a sibling for each state; in these zones, if given (this host's first)."""
    everywhere = itertools.chain(zones, itertools.repeat(None))
    targets = [TargetHealth(Target(arn("web"), "i-me", 8080, next(everywhere)), mine)]
    for number, state in enumerate(states):
        targets.append(TargetHealth(Target(arn("web"), f"i-{number}", 8080, next(everywhere)), state))
    return Observation(tuple(targets), frozenset(), START, START + 10)


def test_a_host_may_leave_when_enough_others_are_healthy() -> None:
    assert not shortages(WEB, seen(State.HEALTHY), MinHealthy(1))


@pytest.mark.parametrize("state", [s for s in State if s is not State.HEALTHY])
def test_only_healthy_others_count(state: State) -> None:
    (short,) = shortages(WEB, seen(state), MinHealthy(1))
    assert str(short) == "web has 0 other healthy, 1 must stay"


def test_this_host_itself_does_not_count() -> None:
    assert shortages(WEB, seen(), MinHealthy(1))


def test_this_hosts_other_ports_do_not_count() -> None:
    second = Target(arn("web"), "i-me", 9090)
    both = Membership((group(),), (ME, second))
    look = seen()
    look = Observation((*look.population, TargetHealth(second, State.HEALTHY)), frozenset(), START, START)
    assert shortages(both, look, MinHealthy(1))


@pytest.mark.parametrize(
    ("siblings", "percent", "may"), [(1, 50, True), (2, 50, True), (3, 80, False), (4, 80, True), (9, 91, False)]
)
def test_a_percentage_is_of_the_registered_rounded_up(siblings: int, percent: float, may: bool) -> None:
    look = seen(*[State.HEALTHY] * siblings)
    assert (not shortages(WEB, look, MinHealthy(percent=percent))) is may


def test_with_cross_zone_balancing_off_each_zone_needs_its_own() -> None:
    apart = Membership((group(cross_zone=False),), (ME,))
    (short,) = shortages(apart, seen(State.HEALTHY, zones=("a", "b")), MinHealthy(1))
    assert short.zone == "a"
    assert not shortages(apart, seen(State.HEALTHY, zones=("a", "a")), MinHealthy(1))


def test_with_cross_zone_balancing_on_zones_do_not_matter() -> None:
    assert not shortages(WEB, seen(State.HEALTHY, zones=("a", "b")), MinHealthy(1))


def test_a_floor_of_nothing_lets_the_last_host_go() -> None:
    assert not shortages(WEB, seen(), MinHealthy(0))


@pytest.mark.parametrize("state", [State.DRAINING, State.UNUSED])
def test_a_target_that_gets_no_work_leaves_no_gap(state: State) -> None:
    assert not leaving(WEB, seen(mine=state)).groups


def test_a_refused_drain_changes_nothing_and_says_which_group_how_many_and_how_many_must_stay() -> None:
    host = Host(group())
    host.aws.put("web")
    operation = host.do(Verb.DRAIN)
    assert operation.outcome is Outcome.REFUSED
    assert operation.failure is not None
    assert operation.failure.kind == "refused"
    assert "web has 0 other healthy, 1 must stay" in operation.failure.message
    assert "DeregisterTargets" not in host.aws.calls
    assert host.posture() is Posture.IN_SERVICE


def test_force_min_healthy_skips_the_check() -> None:
    host = Host(group())
    host.aws.put("web")
    assert succeeded(host.do(Verb.DRAIN, force=(Check.MIN_HEALTHY,)))


def test_a_drain_that_waits_goes_as_soon_as_it_may() -> None:
    host = Host(group())
    host.aws.put("web")
    host.begin(Verb.DRAIN, timeout=900, wait=300)
    host.clock.at(START + 100, lambda: host.aws.put_sibling("web") and None)
    assert succeeded(host.finish())
    assert 400 <= host.clock.now() - START <= 440


def test_the_wait_to_be_let_go_takes_nothing_from_the_drains_own_time() -> None:
    host = Host(group(deregistration_delay=30.0))  # so that the drain alone would have 90 s
    host.aws.put("web")
    host.begin(Verb.DRAIN, wait=600)
    host.clock.at(START + 500, lambda: host.aws.put_sibling("web") and None)
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 500 + 30


def test_a_drain_that_waited_in_vain_is_refused_when_its_wait_is_over() -> None:
    host = Host(group())
    host.aws.put("web")
    assert host.do(Verb.DRAIN, timeout=900, wait=60).outcome is Outcome.REFUSED
    assert host.clock.now() - START == pytest.approx(60, abs=1)


def test_a_restart_between_the_guard_and_the_deregistration_guards_again() -> None:
    host = Host(group())
    host.aws.put("web")
    sibling = host.aws.put_sibling("web")
    host.begin(Verb.DRAIN)
    while (running := host.ledger.running()) is not None and running.phase != "deregistering":
        host.turn()
    host.aws.break_target(sibling, "Target.Timeout")
    host.restart()
    assert host.finish().outcome is Outcome.REFUSED
    assert "DeregisterTargets" not in host.aws.calls
    assert host.record().out_since is None


class Race:
    """Hosts of one group over one AWS and one clock, turned in any order."""

    def __init__(self, count: int, floor: MinHealthy) -> None:
        self.clock = FakeClock()
        aws = FakeAws(self.clock, [group()])
        self.hosts = []
        for number in range(count):
            name = f"i-{number}"
            aws.put("web", name)
            who = Identity(name, "eu-west-1", "eu-west-1a", "vpc-1", (f"10.0.0.{number}",))
            self.hosts.append(Host(aws=aws, who=who, minimum=floor))
        self.aws = aws

    def run(self, order: itertools.cycle[int]) -> list[Outcome | None]:
        """Turn the hosts by these numbers until all have ended; time moves only when nobody can."""
        for host in self.hosts:
            host.begin(Verb.DRAIN)
        for _ in range(MANY_TURNS):
            running = [h for h in self.hosts if h.ledger.running() is not None]
            if not running:
                break
            host = self.hosts[next(order) % len(self.hosts)]
            operation = host.ledger.running()
            if operation is not None and host.runner.tick(operation) > 0:
                self.clock.time += 0.05 if self.clock.time < START + 30 else 1.0
        return [h.ledger.record().operation.outcome for h in self.hosts]  # type: ignore[union-attr]

    def healthy(self) -> int:
        return sum(h.state is State.HEALTHY for h in self.aws.health(arn("web")))


ORDERS = [(0, 1), (0, 0, 0, 0, 1), (1, 1, 1, 1, 1, 0), (0, 0, 0, 0, 0, 0, 1), (1, 1, 1, 0, 0), (0, 1, 1, 1, 1, 1, 1)]


@pytest.mark.parametrize("order", ORDERS)
def test_of_two_hosts_that_ask_at_once_at_most_one_leaves(order: tuple[int, ...]) -> None:
    race = Race(2, MinHealthy(1))
    outcomes = race.run(itertools.cycle(order))
    assert sorted(map(str, outcomes)) == ["refused", "succeeded"]
    race.clock.time += 60
    assert race.healthy() == 1


def test_in_a_tie_the_later_claim_goes_back_and_the_earlier_one_stays_out() -> None:
    race = Race(2, MinHealthy(1))
    assert race.run(itertools.cycle((0, 1))) == [Outcome.SUCCEEDED, Outcome.REFUSED]


def test_of_three_hosts_with_a_floor_of_one_two_may_leave_together() -> None:
    race = Race(3, MinHealthy(1))
    outcomes = race.run(itertools.cycle((0, 1, 2)))
    assert outcomes.count(Outcome.SUCCEEDED) == 2
    race.clock.time += 60
    assert race.healthy() == 1


def test_of_four_hosts_with_a_floor_of_three_one_leaves() -> None:
    race = Race(4, MinHealthy(3))
    outcomes = race.run(itertools.cycle((3, 1, 2, 0)))
    assert outcomes.count(Outcome.SUCCEEDED) == 1
    race.clock.time += 60
    assert race.healthy() == 3


def test_a_host_that_goes_back_is_registered_as_before_and_says_why() -> None:
    race = Race(2, MinHealthy(1))
    race.run(itertools.cycle((0, 1)))
    later = race.hosts[1]
    operation = later.record().operation
    assert operation is not None
    assert operation.failure is not None
    assert "at the same moment" in operation.failure.message
    assert later.record().out_since is None
    race.clock.time += 60
    assert later.posture() is Posture.IN_SERVICE


def test_a_deregistration_that_took_too_long_gives_way_whatever_its_id() -> None:
    race = Race(2, MinHealthy(1))
    slow = race.hosts[0]
    deregister = race.aws.deregister

    def late(*words):
        if any(t.id == "i-0" for t in words[1]) and not late.done:
            late.done = True
            for _ in range(12):  # meanwhile the other one goes
                race.hosts[1].turn()
            race.clock.time += 3
        deregister(*words)

    late.done = False
    race.aws.deregister = late
    slow.begin(Verb.DRAIN)
    race.hosts[1].begin(Verb.DRAIN)
    for _ in range(6):
        if slow.ledger.running() is not None:
            slow.turn()
    outcomes = [slow.finish().outcome, race.hosts[1].finish().outcome]
    assert outcomes[0] is Outcome.REFUSED


def test_going_back_is_tried_until_it_works() -> None:
    race = Race(2, MinHealthy(1))
    race.aws.errors["RegisterTargets"] = [AgentError(Kind.AWS_UNAVAILABLE, "cannot", transient=True) for _ in range(3)]
    assert race.run(itertools.cycle((0, 1))) == [Outcome.SUCCEEDED, Outcome.REFUSED]
    race.clock.time += 60
    assert race.healthy() == 1
