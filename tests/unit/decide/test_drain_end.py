"""Kernel data ends a drain: the real core over fakes, in fake time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START, arn, group
from host import Host, succeeded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import BalancerKind, Target
from zdd_agent.model.kernel import Connection, Until
from zdd_agent.model.operation import Operation, Outcome, Phase, Posture, Verb

NODE = "10.0.9.1"


def connection(cookie: int = 1, *, ago: float = 0.0, sent: float = 0.0, **more: int) -> Connection:
    plain = Connection(cookie, 8080, "10.0.0.1", NODE, 40000 + cookie, **more)
    return replace(plain, last_received_seconds_ago=ago, last_sent_seconds_ago=sent)


def busy_host(until: Until = Until.CLOSED) -> Host:
    """In service, with one connection of a node open, whose last request was answered long ago."""
    host = Host(group(), until=until)
    host.aws.put("web")
    host.aws.put_sibling("web")
    keep_alive(host)
    return host


def keep_alive(host: Host) -> None:
    host.sensor.open = [connection(ago=100.0, sent=99.0, data_segments_received=1, data_segments_sent=1)]


def at(host: Host, seconds: float, happens) -> None:
    host.clock.at(START + seconds, happens)


def test_closed_ends_when_no_connection_is_left_and_long_before_the_api_says_unused() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    operation = host.finish()
    assert succeeded(operation)
    assert 33 <= host.clock.now() - START < 45
    assert "no connection left" in operation.message
    assert "the API would have said `unused` in 2" in operation.message
    assert host.posture() is Posture.DRAINED


def test_closed_waits_for_an_idle_connection_and_idle_does_not() -> None:
    waits, ends = busy_host(Until.CLOSED), busy_host(Until.IDLE)
    assert succeeded(waits.do(Verb.DRAIN))
    assert waits.clock.now() - START >= 300
    assert succeeded(ends.do(Verb.DRAIN))
    assert 30 <= ends.clock.now() - START < 40


def progress(host: Host, operation: Operation) -> str:
    return "; ".join(event.text for event in host.ledger.events(operation.id, 0, 0)[1])


def test_closed_tells_what_idle_would_have_saved() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 60, host.sensor.open.clear)
    assert "`idle` would have ended it" in host.finish().message


def test_a_request_that_is_being_answered_holds_idle_up() -> None:
    host = busy_host(Until.IDLE)
    working = connection(2, ago=1.0, sent=50.0, data_segments_received=2, data_segments_sent=1)
    host.begin(Verb.DRAIN)
    at(host, 5, lambda: host.sensor.open.append(working))
    at(host, 90, lambda: host.sensor.open.remove(working))
    assert succeeded(host.finish())
    assert 90 <= host.clock.now() - START < 100


def test_nothing_ends_before_the_floor_however_quiet_it_is() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 2, host.sensor.open.clear)
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 30


@pytest.mark.parametrize("until", [Until.CLOSED, Until.IDLE])
def test_a_port_without_a_listener_falls_back_to_the_api_and_says_so(until: Until) -> None:
    host = busy_host(until)
    host.sensor.deaf = frozenset({8080})
    host.begin(Verb.DRAIN)
    operation = host.finish()
    assert succeeded(operation)
    assert host.clock.now() - START >= 300
    assert "nothing listens on port 8080" in progress(host, operation)


def test_a_host_without_traffic_waits_one_check_interval_for_it_and_falls_back() -> None:
    host = busy_host()
    host.sensor.open = []
    host.begin(Verb.DRAIN)
    operation = host.finish()
    assert "no connection from outside this host was seen on port 8080" in progress(host, operation)
    assert host.clock.now() - START >= 310


def test_a_sensor_that_cannot_be_asked_falls_back() -> None:
    host = busy_host()
    host.sensor.error = AgentError(Kind.FAILED, "cannot ask the kernel", transient=True)
    host.begin(Verb.DRAIN)
    operation = host.finish()
    assert "cannot ask the kernel" in progress(host, operation)
    assert host.clock.now() - START >= 300


def test_a_sensor_that_dies_half_way_never_ends_a_drain() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)

    def dies() -> None:
        host.sensor.error = AgentError(Kind.FAILED, "cannot ask the kernel", transient=True)
        host.sensor.open.clear()

    at(host, 20, dies)
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 300


def test_a_restart_in_the_middle_keeps_the_trust_and_counts_quiet_anew() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 43, host.sensor.open.clear)
    while host.clock.now() - START < 42:
        host.turn()
    host.restart()
    operation = host.finish()
    assert succeeded(operation)
    assert "no connection left" in operation.message
    assert 47 <= host.clock.now() - START < 60


def test_the_guard_looks_again_when_the_sensor_took_its_time() -> None:
    host = busy_host()
    sibling = next(h.target for h in host.aws.health(arn("web")) if h.target.id == "i-other")
    host.sensor.open = []
    host.begin(Verb.DRAIN)
    at(host, 5, lambda: host.aws.break_target(sibling, "Target.Timeout"))
    assert host.finish().outcome is Outcome.REFUSED
    assert "DeregisterTargets" not in host.aws.calls


def test_a_time_out_names_the_connections_that_hung() -> None:
    host = busy_host()
    operation = host.do(Verb.DRAIN, timeout=60)
    assert operation.outcome is Outcome.TIMED_OUT
    assert f"{NODE}:40001 to port 8080" in operation.message


def drained_in_the_delay() -> Host:
    """Drained with proof, 35 s after the deregistration; AWS shows it draining for 300 s."""
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    host.finish()
    return host


def test_a_second_drain_of_a_host_that_the_api_still_shows_draining_says_already_drained() -> None:
    host = drained_in_the_delay()
    host.rest(60)
    assert host.do(Verb.DRAIN).message == "already drained"


def test_a_second_drain_proves_it_again_where_others_put_the_host_back_and_took_it_out_again() -> None:
    host = drained_in_the_delay()
    host.aws.put("web")
    keep_alive(host)
    host.rest(30)
    host.sensor.open.clear()
    host.aws.deregister(group(), [Target(arn("web"), "i-me", 8080)])
    again = host.clock.now()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - again >= 30, "new work may come for as long as after the first deregistration"


def test_a_second_drain_proves_it_again_where_nobody_watched_meanwhile() -> None:
    host = drained_in_the_delay()
    host.restart()
    again = host.clock.now()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - again >= 30


def test_a_drain_after_a_foreign_registration_is_a_drain_again() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    host.finish()
    host.aws.put("web")
    keep_alive(host)
    host.clock.time += 15  # so that AWS is asked again
    assert host.posture() is Posture.IN_SERVICE
    host.do(Verb.DRAIN)
    assert host.aws.calls.count("DeregisterTargets") == 2


def test_a_drained_host_that_others_registered_on_another_port_is_not_called_drained() -> None:
    host = busy_host()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.posture() is Posture.DRAINED
    host.clock.time += 60  # so that AWS is asked again
    host.aws.put("web", port=9090)
    assert host.posture() is Posture.OUT_OF_SERVICE
    assert succeeded(host.do(Verb.DRAIN))
    host.clock.time += 600
    assert host.posture() is Posture.DRAINED


def test_a_drain_and_a_rejoin_of_one_group_make_at_most_nine_calls_and_one_look_to_agree() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    assert succeeded(host.finish())
    host.begin(Verb.REJOIN)
    began = host.clock.now() - START
    host.aws.warm_seconds = 25
    check = connection(7, data_segments_received=1, data_segments_sent=1, bytes_received=130)
    at(host, began + 28, lambda: host.sensor.open.append(check))
    assert succeeded(host.finish())
    assert len(host.aws.calls) <= 9 + 1, host.aws.calls
    assert host.clock.now() - START - began < 30


def test_a_rejoin_looks_as_soon_as_the_nodes_are_back_however_much_they_send() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    host.finish()
    began = host.clock.now()
    host.aws.warm_seconds = 10
    host.begin(Verb.REJOIN)
    busy = connection(8, data_segments_received=5, data_segments_sent=4)  # in each sample it has just received
    host.clock.at(began + 15, lambda: host.sensor.open.append(busy))
    assert succeeded(host.finish())
    assert host.clock.now() - began < 20


def test_a_rejoin_that_aws_refuses_while_the_target_drains_waits_and_registers() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    host.finish()
    register = host.aws.register

    def refusing(asked, targets):
        if any(h.state == "draining" and h.target.id == "i-me" for h in host.aws.health(asked.arn)):
            raise AgentError(Kind.FAILED, "cannot call RegisterTargets: InvalidTarget: it is draining")
        register(asked, targets)

    host.aws.register = refusing
    operation = host.do(Verb.REJOIN, timeout=900)
    assert succeeded(operation)
    assert host.clock.now() - START >= 300


def test_a_rejoin_that_aws_refuses_for_good_fails_with_its_words() -> None:
    host = busy_host(Until.UNUSED)
    host.do(Verb.DRAIN)
    host.aws.errors["RegisterTargets"] = [AgentError(Kind.FAILED, "cannot call RegisterTargets: TooManyTargets")]
    operation = host.do(Verb.REJOIN)
    assert operation.outcome is Outcome.FAILED
    assert "TooManyTargets" in operation.message
    assert operation.phase is Phase.REGISTERING


@pytest.mark.parametrize("until", list(Until))
def test_unused_before_the_floor_is_no_proof_since_the_nodes_may_still_send(until: Until) -> None:
    host = busy_host(until)
    host.aws.groups[arn("web")] = group(deregistration_delay=5.0)
    assert succeeded(host.do(Verb.DRAIN))
    assert 30 <= host.clock.now() - START < 60


def test_the_floor_of_a_target_that_others_deregistered_counts_from_when_that_was_found_out() -> None:
    host = busy_host(Until.IDLE)
    host.aws.groups[arn("web")] = group(deregistration_delay=5.0)
    host.sensor.open.clear()  # so that the drain waits for a health check's connection before it relies on the kernel
    host.begin(Verb.DRAIN)
    (target,) = (Target(*key) for key in host.aws.registered() if key[1] == "i-me")
    at(host, 9, lambda: host.aws.deregister(group(), [target]))
    at(host, 10, lambda: keep_alive(host))
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 9 + 30


def test_a_group_on_no_load_balancer_has_no_floor() -> None:
    host = Host(group(deregistration_delay=5.0, balancers=()))
    host.aws.put("web")
    host.aws.put_sibling("web")
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - START < 30


def test_a_drain_of_a_network_load_balancer_has_time_for_its_floor() -> None:
    host = Host(group(deregistration_delay=20.0, kind=BalancerKind.NETWORK))
    host.aws.put("web")
    host.aws.put_sibling("web")
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - START >= 300


def test_a_deadline_before_the_floor_is_a_time_out_and_no_success() -> None:
    host = busy_host(Until.UNUSED)
    host.aws.groups[arn("web")] = group(deregistration_delay=5.0)
    operation = host.do(Verb.DRAIN, timeout=20)
    assert operation.outcome is Outcome.TIMED_OUT
    assert "may still send new work" in operation.message


def test_unused_ends_no_drain_while_requests_under_way_are_seen() -> None:
    host = busy_host()
    host.aws.groups[arn("web")] = group(deregistration_delay=1.0)
    working = connection(2, ago=1.0, sent=50.0, data_segments_received=2, data_segments_sent=1)
    host.begin(Verb.DRAIN)
    at(host, 5, lambda: host.sensor.open.append(working))
    at(host, 70, lambda: host.sensor.open.remove(working))
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 70


def test_a_drain_that_unused_does_not_end_times_out_and_names_the_requests_under_way() -> None:
    host = busy_host()
    host.aws.groups[arn("web")] = group(deregistration_delay=1.0)
    working = connection(2, ago=1.0, sent=50.0, data_segments_received=2, data_segments_sent=1)
    host.begin(Verb.DRAIN)
    at(host, 5, lambda: host.sensor.open.append(working))
    operation = host.finish()
    assert operation.outcome is Outcome.TIMED_OUT
    assert f"{NODE}:40002 to port 8080" in operation.message


def test_a_connection_that_is_kept_open_without_a_request_does_not_hold_a_drain_that_the_api_calls_unused() -> None:
    host = busy_host()
    host.aws.groups[arn("web")] = group(deregistration_delay=1.0)
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - START < 60
