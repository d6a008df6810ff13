"""What slow answers, restarts, second callers and other people do between two steps of an operation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START, arn, group
from host import Host, going_back, succeeded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import TargetHealth
from zdd_agent.model.kernel import Connection, Until
from zdd_agent.model.operation import Outcome, Verb
from zdd_agent.model.states import Confirming, Draining, Guarding, Joining, Warming

MINE = (arn("web"), "i-me", 8080)
NODE = "10.0.9.1"
# A request of a node that the app has not answered yet.
REQUEST = Connection(
    1,
    8080,
    "10.0.0.1",
    NODE,
    40_000,
    bytes_received=200,
    data_segments_received=1,
    last_received_seconds_ago=30.0,
    last_sent_seconds_ago=31.0,
)


def in_service(*, until: Until = Until.UNUSED, delay: float = 300.0) -> Host:
    host = Host(group(deregistration_delay=delay), until=until)
    host.aws.put("web")
    host.aws.put_sibling("web")
    return host


def answers_after(host: Host, seconds: float) -> None:
    """From now on AWS takes this long for each look."""
    ask = host.aws.health

    def slow(asked: str) -> tuple[TargetHealth, ...]:
        host.clock.time += seconds
        return ask(asked)

    host.aws.health = slow  # type: ignore[method-assign]  the fake's own seam


# Slow answers


def test_a_look_that_takes_long_beside_a_sensor_that_is_not_trusted_does_not_go_round_for_ever() -> None:
    host = in_service(until=Until.CLOSED)
    answers_after(host, 2.5)
    host.begin(Verb.DRAIN)
    while isinstance(host.record().state, Guarding) and host.clock.now() < START + 300:
        host.turn()
    assert not isinstance(host.record().state, Guarding)
    assert host.aws.calls.count("DescribeTargetHealth") <= 3


@pytest.mark.parametrize("timeout", [0.5, 12.0])
def test_a_drain_whose_time_is_over_before_it_has_changed_anything_changes_nothing(timeout: float) -> None:
    host = in_service()
    answers_after(host, timeout + 1)
    operation = host.do(Verb.DRAIN, timeout)
    assert operation.outcome is Outcome.TIMED_OUT
    assert not operation.changed
    assert MINE in host.aws.registered()


def test_a_stop_that_cannot_be_prevented_drains_however_late_it_is() -> None:
    host = in_service()
    answers_after(host, 13.0)
    host.begin(Verb.DRAIN, 12.0, stopping=True)
    host.finish()
    assert MINE not in host.aws.registered()


@pytest.mark.parametrize("timeout", [0.5, 3.0])
def test_a_drain_that_finds_nothing_keeps_its_time_out(timeout: float) -> None:
    host = Host(group())
    assert host.do(Verb.DRAIN, timeout).outcome is Outcome.TIMED_OUT
    assert host.clock.now() - START <= timeout


# Restarts


def waiting_for_a_request() -> Host:
    """Its sensor is trusted; the request takes longer than the deregistration delay."""
    host = in_service(until=Until.CLOSED, delay=5.0)
    host.sensor.nodes = (NODE,)
    host.has_run_for(120)
    host.sensor.open = [REQUEST]
    return host


def test_a_second_drain_of_a_fresh_daemon_waits_for_the_request_that_the_first_one_waited_for() -> None:
    host = waiting_for_a_request()
    assert host.do(Verb.DRAIN, 60.0).outcome is Outcome.TIMED_OUT
    host.restart()
    operation = host.do(Verb.DRAIN, 60.0)
    assert operation.outcome is Outcome.TIMED_OUT, operation.message
    host.sensor.open = []
    assert succeeded(host.do(Verb.DRAIN, 60.0))


def test_an_app_that_has_closed_its_port_and_still_answers_is_waited_for_by_a_second_drain() -> None:
    host = waiting_for_a_request()
    assert host.do(Verb.DRAIN, 60.0).outcome is Outcome.TIMED_OUT
    host.sensor.deaf = frozenset({8080})
    assert host.do(Verb.DRAIN, 60.0).outcome is Outcome.TIMED_OUT


def test_what_a_sensor_that_was_not_trusted_sees_proves_nothing_to_a_second_drain() -> None:
    host = in_service(until=Until.CLOSED)
    assert host.do(Verb.DRAIN, 60.0).outcome is Outcome.TIMED_OUT
    host.restart()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - START >= 300


def test_a_node_that_still_sends_holds_a_drain_over_a_restart() -> None:
    host = waiting_for_a_request()
    answered = replace(REQUEST, data_segments_sent=1, last_received_seconds_ago=0.1, last_sent_seconds_ago=0.09)
    host.sensor.open = []
    host.begin(Verb.DRAIN)
    while host.clock.now() < START + 29:
        host.turn()
    host.restart()
    while host.ledger.running() is not None and host.clock.now() < START + 80:
        number = int(host.clock.now() // 3)  # a new connection every 3 s, each for half a second
        host.sensor.open = [replace(answered, cookie=number)] if host.clock.now() % 3 < 0.5 else []
        host.turn()
    assert host.ledger.running() is not None, "it has not ended on `unused`"


def test_a_metadata_service_that_is_away_at_a_restart_does_not_blind_the_drain() -> None:
    host = waiting_for_a_request()
    host.begin(Verb.DRAIN)
    while not isinstance(host.record().state, Draining):
        host.turn()
    host.restart()
    host.metadata.errors = [AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask", transient=True)] * 3
    assert host.finish().outcome is Outcome.TIMED_OUT, "the request is still under way"


# Second callers


def waiting_for_the_guard() -> Host:
    host = Host(group())
    host.aws.put("web")
    host.begin(Verb.DRAIN, wait=600.0)
    for _ in range(5):
        host.turn()
    return host


def test_a_stop_that_cannot_be_prevented_waits_no_longer_than_it_can_when_it_joins_a_patient_drain() -> None:
    host = waiting_for_the_guard()
    host.begin(Verb.DRAIN, stopping=True, wait=20.0)
    joined_at = host.clock.now()
    while MINE in host.aws.registered() and host.clock.now() < joined_at + 60:
        host.turn()
    assert 20 <= host.clock.now() - joined_at < 30


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_stop_that_cannot_be_prevented_is_not_refused_by_a_drain_that_goes_back(cancelled: bool) -> None:
    host = going_back(in_service())
    if cancelled:
        host.ledger.cancel(0)
    host.begin(Verb.DRAIN, stopping=True)
    assert succeeded(host.finish())
    assert MINE not in host.aws.registered()


def test_a_stop_that_cannot_be_prevented_is_not_cancelled_with_the_drain_that_it_joins() -> None:
    host = waiting_for_the_guard()
    host.ledger.cancel(0)
    host.begin(Verb.DRAIN, stopping=True)
    assert succeeded(host.finish())
    assert MINE not in host.aws.registered()


# Groups that others delete


@pytest.mark.parametrize("state", [Confirming, Draining])
def test_a_group_that_is_deleted_in_mid_drain_ends_it_only_with_the_floor_and_the_last_request(state: type) -> None:
    host = waiting_for_a_request()
    host.begin(Verb.DRAIN)
    while not isinstance(host.record().state, state):
        host.turn()
    del host.aws.groups[arn("web")]
    host.clock.at(START + 60, host.sensor.open.clear)
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 60


def test_a_host_whose_group_was_deleted_in_mid_drain_joins_the_one_that_the_settings_name_instead() -> None:
    host = Host(group("web"), group("next"), names=("web", "next"))
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.begin(Verb.DRAIN)
    while not isinstance(host.record().state, Draining):
        host.turn()
    del host.aws.groups[arn("web")]
    assert succeeded(host.finish())
    assert succeeded(host.do(Verb.REJOIN))
    assert host.aws.registered() >= {(arn("next"), "i-me", 8080)}


# Terminations


def terminated_by_others(host: Host) -> None:
    """The Auto Scaling group begins to terminate this host, which it deregisters first."""
    host.metadata.state = "Terminated"
    host.aws.deregister(host.aws.groups[arn("web")], host.record().membership.targets)
    host.aws.calls.clear()


def test_a_host_that_is_terminated_while_it_warms_is_not_registered_again() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    host.aws.warm_seconds = 200.0
    host.begin(Verb.REJOIN)
    while not isinstance(host.record().state, Warming):
        host.turn()
    terminated_by_others(host)
    assert host.finish().outcome is Outcome.REFUSED
    assert "RegisterTargets" not in host.aws.calls


def test_a_host_that_is_terminated_while_the_daemon_restarts_is_not_registered() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    host.begin(Verb.REJOIN)
    while not isinstance(host.record().state, Joining):
        host.turn()
    host.restart()
    terminated_by_others(host)
    assert host.finish().outcome is Outcome.REFUSED
    assert "RegisterTargets" not in host.aws.calls
