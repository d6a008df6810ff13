"""What others did to this host unseen: right before a drain, or after an earlier one had ended."""

from __future__ import annotations

import pytest

from fakes import FakeClock, arn, group
from host import Host, succeeded
from lagging_aws import LaggingAws
from zdd_agent.decide.evidence import API_LAG_SECONDS
from zdd_agent.model.aws import BalancerKind, Target, TargetGroup
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Outcome, Verb
from zdd_agent.model.states import Drained, Guarding, InService

ME = ("i-me", 8080)
NODE = "10.0.9.1"
FLOOR = 30.0


def in_service(*groups: TargetGroup, **more: object) -> Host:
    host = Host(*(groups or (group(),)), **more)  # type: ignore[arg-type]  a test names what it needs
    for one in host.aws.groups.values():
        host.aws.put(one.name)
        host.aws.put_sibling(one.name)
    return host


def late(*groups: TargetGroup, lag: float = 6.0) -> Host:
    """In service in the first group. AWS shows what it has accepted so many seconds later."""
    aws = LaggingAws(FakeClock(), groups, lag=lag)
    aws.clock.time += 100
    for one in groups:
        aws.put_sibling(one.name)
    aws.put(groups[0].name)
    aws.clock.time += 50
    return Host(aws=aws)


def registered(host: Host) -> set[str]:
    return {key[0] for key in host.aws.registered() if key[1] == "i-me"}


def deregistered_by_others(host: Host, name: str = "web") -> None:
    host.aws.deregister(host.aws.groups[arn(name)], [Target(arn(name), *ME)])
    host.aws.calls.clear()


# Registered by others, and not shown yet


def test_already_drained_is_believed_only_when_a_look_after_the_lag_says_so_too() -> None:
    host = late(group(deregistration_delay=20.0))
    assert succeeded(host.do(Verb.DRAIN))
    host.rest(300)
    host.aws.put("web")
    host.rest(2)
    assert succeeded(host.do(Verb.DRAIN))
    assert not registered(host)
    assert isinstance(host.record().state, Drained)


def test_a_drain_that_goes_on_after_a_time_out_believes_two_looks_as_well() -> None:
    host = late(group(deregistration_delay=20.0))
    assert host.do(Verb.DRAIN, timeout=25.0).outcome is Outcome.TIMED_OUT
    host.rest(300)
    host.aws.put("web")
    host.rest(2)
    assert succeeded(host.do(Verb.DRAIN))
    assert not registered(host)


def test_a_second_drain_right_after_the_first_one_answers_at_once() -> None:
    host = late(group(deregistration_delay=20.0))
    assert succeeded(host.do(Verb.DRAIN))
    host.rest(5)
    again = host.clock.now()
    assert host.do(Verb.DRAIN).message == "already drained"
    assert host.clock.now() == again


def test_a_second_drain_keeps_its_time_out_while_it_looks_again() -> None:
    host = late(group(deregistration_delay=20.0))
    assert succeeded(host.do(Verb.DRAIN))
    host.rest(60)
    again = host.clock.now()
    assert host.do(Verb.DRAIN, timeout=4.0).outcome is Outcome.TIMED_OUT
    assert host.clock.now() - again <= 4


@pytest.mark.parametrize("names", [(), ("web", "second")])
def test_a_group_that_this_host_joined_right_before_a_drain_is_left_as_well(names: tuple[str, ...]) -> None:
    aws = late(group(), group("second", deregistration_delay=5.0)).aws
    aws.put("second")
    aws.clock.time += 2
    host = Host(aws=aws, names=names)
    assert succeeded(host.do(Verb.DRAIN))
    assert not registered(host)
    assert succeeded(host.do(Verb.REJOIN))
    assert registered(host) == {arn("web"), arn("second")}


def test_a_group_that_was_joined_right_before_and_cannot_spare_this_host_brings_it_back_and_is_named() -> None:
    aws = late(group(), group("second")).aws
    aws.deregister(aws.groups[arn("second")], [Target(arn("second"), "i-other", 8080)])
    aws.put("second")
    aws.clock.time += 2
    host = Host(aws=aws)
    operation = host.do(Verb.DRAIN)
    assert operation.outcome is Outcome.REFUSED
    assert "this host is needed: second has 0 other healthy" in operation.message
    assert registered(host) == {arn("web"), arn("second")}


def test_a_group_that_is_deleted_in_the_second_look_costs_no_drain() -> None:
    host = late(group(), group("second"), lag=0.0)
    host.aws.put("second")
    host.begin(Verb.DRAIN)
    host.clock.at(host.clock.now() + 6, lambda: host.aws.groups.pop(arn("second")) and None)
    assert succeeded(host.finish())


# Deregistered by others, with a delay that is shorter than the floor


@pytest.mark.parametrize("delay", [0.0, 1.0])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_drain_right_after_somebody_elses_deregistration_waits_for_the_floor(delay: float, restarts: bool) -> None:
    host = in_service(group(deregistration_delay=delay))
    assert succeeded(host.do(Verb.REJOIN))  # already in service: the agent knows its group
    deregistered_by_others(host)
    host.rest(3)
    began = host.clock.now()
    host.begin(Verb.DRAIN)
    for _ in range(3):
        host.turn()
    if restarts:
        host.restart()
    assert succeeded(host.finish())
    assert host.clock.now() - began >= FLOOR
    assert isinstance(host.record().state, InService)
    host.rest(60)
    again = host.clock.now()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - again == API_LAG_SECONDS, "it waits once: after that the group is forgotten"


def test_the_floor_of_a_group_that_others_took_this_host_out_of_holds_beside_another_group() -> None:
    slow = group("slow", kind=BalancerKind.NETWORK, deregistration_delay=1.0)
    host = in_service(group(deregistration_delay=1.0), slow)
    assert succeeded(host.do(Verb.REJOIN))
    deregistered_by_others(host, "slow")
    host.rest(3)
    began = host.clock.now()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - began >= 295
    assert succeeded(host.do(Verb.REJOIN))
    assert registered(host) == {arn("web")}, "what others took it out of is not put back"


def test_a_group_that_had_let_this_host_go_and_takes_it_again_in_mid_drain_is_left_as_well() -> None:
    host = in_service(group(deregistration_delay=0.0), group("second", deregistration_delay=0.0))
    assert succeeded(host.do(Verb.REJOIN))  # already in service: the agent knows its groups
    deregistered_by_others(host)
    host.begin(Verb.DRAIN)
    host.clock.at(host.clock.now() + 14, lambda: host.aws.put("web") and None)
    assert succeeded(host.finish())
    assert not registered(host)


def test_a_group_that_is_deleted_before_the_deregistration_holds_the_answer_for_its_floor() -> None:
    host = in_service()
    host.begin(Verb.DRAIN, wait=100.0)
    host.aws.break_target(Target(arn("web"), "i-other", 8080), "Target.Timeout")
    while not isinstance(host.record().state, Guarding) or not host.record().membership.targets:
        host.turn()
    deleted_at = host.clock.now()
    del host.aws.groups[arn("web")]
    assert succeeded(host.finish())
    assert host.clock.now() - deleted_at >= FLOOR


# Put back and taken out again after an earlier drain


def drained(delay: float = 1.0, until: Until = Until.CLOSED) -> Host:
    """With a delay that is shorter than the floor. Its sensor is trusted."""
    host = in_service(group(deregistration_delay=delay), until=until)
    host.sensor.nodes = (NODE,)
    host.has_run_for(120)
    assert succeeded(host.do(Verb.DRAIN))
    return host


def put_back_for_a_while(host: Host, seconds: float = 30.0) -> None:
    host.rest(300)
    host.aws.put("web")
    host.rest(seconds)
    deregistered_by_others(host)
    host.rest(12)


@pytest.mark.parametrize("until", [Until.CLOSED, Until.UNUSED])
def test_a_host_that_others_put_back_and_took_out_again_unseen_waits_for_the_floor_again(until: Until) -> None:
    host = drained(until=until)
    put_back_for_a_while(host)
    again = host.clock.now()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - again >= FLOOR


def test_a_host_that_nobody_touched_needs_only_the_two_looks() -> None:
    host = drained()
    host.rest(300)
    again = host.clock.now()
    assert host.do(Verb.DRAIN).message == "already drained"
    assert host.clock.now() - again == API_LAG_SECONDS


def test_where_nobody_watched_meanwhile_the_floor_is_waited_for_again() -> None:
    host = drained()
    host.rest(100)
    host.restart()
    host.rest(100)
    again = host.clock.now()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - again >= FLOOR


def test_a_delay_that_is_as_long_as_the_floor_hides_nothing() -> None:
    host = drained(delay=FLOOR)
    host.rest(100)
    host.restart()
    host.rest(100)
    again = host.clock.now()
    assert host.do(Verb.DRAIN).message == "already drained"
    assert host.clock.now() - again == API_LAG_SECONDS


def test_what_a_sensor_that_was_not_trusted_has_not_seen_keeps_no_proof() -> None:
    host = in_service(group(deregistration_delay=300.0), until=Until.CLOSED)
    assert succeeded(host.do(Verb.DRAIN))  # the sensor sees nothing: until `unused`
    host.rest(5)
    host.aws.put("web")
    host.rest(20)
    deregistered_by_others(host)
    again = host.clock.now()
    host.do(Verb.DRAIN)
    assert host.clock.now() - again >= FLOOR
