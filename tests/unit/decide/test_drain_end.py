"""Kernel data ends a drain: the real core over fakes, in fake time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes import START, arn, group
from host import Host, succeeded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import BalancerKind, HealthCheck, Target
from zdd_agent.model.kernel import Connection, Until
from zdd_agent.model.operation import Operation, Outcome, Phase, Posture, Verb
from zdd_agent.model.states import Draining

NODE = "10.0.9.1"


def connection(cookie: int = 1, *, ago: float = 0.0, sent: float = 0.0, **more: int) -> Connection:
    plain = Connection(cookie, 8080, "10.0.0.1", NODE, 40000 + cookie, **more)
    return replace(plain, last_received_seconds_ago=ago, last_sent_seconds_ago=sent)


def fresh_host(until: Until = Until.CLOSED, **more: Any) -> Host:
    """In service, with one connection of a node open, whose last request was answered long ago; the agent starts."""
    host = Host(group(), until=until, **more)
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.sensor.nodes = (NODE,)
    keep_alive(host)
    return host


def busy_host(until: Until = Until.CLOSED) -> Host:
    """The same where the agent has run for two minutes."""
    host = fresh_host(until)
    host.has_run_for(120)
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


def test_a_fresh_agent_that_sees_no_health_check_waits_three_intervals_for_it_and_falls_back() -> None:
    host = fresh_host()
    host.sensor.nodes = ()
    host.begin(Verb.DRAIN)
    operation = host.finish()
    assert "no health check of the load balancer was seen on port 8080" in progress(host, operation)
    assert 330 <= host.clock.now() - START < 345


def test_a_fresh_agent_waits_for_two_health_checks_and_then_the_kernel_ends_the_drain() -> None:
    host = fresh_host()
    host.begin(Verb.DRAIN)
    at(host, 43, host.sensor.open.clear)
    operation = host.finish()
    assert "no connection left" in operation.message
    assert host.clock.now() - START < 60


def test_one_connection_of_anybody_ends_no_drain() -> None:
    """As of a monitoring probe that comes to Docker's proxy while the load balancer's connections pass it by."""
    host = fresh_host()
    host.sensor.nodes = ()
    host.sensor.open = [connection(ago=1.0, sent=0.9, data_segments_received=1, data_segments_sent=1)]
    host.begin(Verb.DRAIN)
    at(host, 5, host.sensor.open.clear)
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 300


def test_an_agent_that_has_looked_in_vain_for_long_does_not_wait_at_the_drain() -> None:
    host = fresh_host()
    host.sensor.nodes = ()
    host.has_run_for(120)
    host.begin(Verb.DRAIN)
    operation = host.finish()
    assert "no health check of the load balancer was seen on port 8080" in progress(host, operation)
    assert host.clock.now() - START < 315


def check_every_30_s(host: Host, protocol: str = "HTTP") -> None:
    check = HealthCheck(protocol, "traffic-port", "/healthz", 30.0, 5.0, 2, "200")
    host.aws.groups[arn("web")] = group(health_check=check)
    host.sensor.interval = 30.0


@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS"])
def test_an_agent_that_has_run_for_two_minutes_waits_for_no_health_check_at_the_drain(protocol: str) -> None:
    host = fresh_host()
    check_every_30_s(host, protocol)
    host.has_run_for(120)
    host.begin(Verb.DRAIN)
    at(host, 2, host.sensor.open.clear)
    assert "no connection left" in host.finish().message
    assert host.clock.now() - START < 40


def slow_checks(**more: Any) -> Host:
    """A fresh agent of a host that is checked every five minutes, in two target groups."""
    check = HealthCheck("HTTP", "traffic-port", "/healthz", 300.0, 5.0, 2, "200")
    host = Host(group(health_check=check), group("second", health_check=check), until=Until.CLOSED, **more)
    for name in ("web", "second"):
        host.aws.put(name)
        host.aws.put_sibling(name)
    host.sensor.interval = 300.0
    return host


@pytest.mark.parametrize("nodes", [(), (NODE,)])
def test_the_wait_for_health_checks_is_not_paid_from_the_time_of_the_drain(nodes: tuple[str, ...]) -> None:
    host = slow_checks()
    host.sensor.nodes = nodes
    operation = host.do(Verb.DRAIN)
    assert succeeded(operation), operation.message


def test_a_time_out_that_was_asked_for_leaves_the_drain_its_floor() -> None:
    host = slow_checks()
    host.begin(Verb.DRAIN, timeout=100)
    operation = host.finish()
    assert operation.outcome is Outcome.TIMED_OUT
    assert host.aws.calls.count("DeregisterTargets") == 2
    assert host.clock.now() - START == pytest.approx(100, abs=2)


def test_a_drain_after_a_rejoin_waits_for_no_health_check_either() -> None:
    host = drained_in_the_delay()
    assert succeeded(host.do(Verb.REJOIN))
    host.rest(15)
    again = host.clock.now()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - again < 45


def test_an_agent_that_was_restarted_looks_for_health_checks_from_its_start() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    assert succeeded(host.finish())
    assert succeeded(host.do(Verb.REJOIN))
    host.restart()
    host.rest(60)
    again = host.clock.now()
    assert "no connection left" in host.do(Verb.DRAIN).message
    assert host.clock.now() - again < 45


def test_health_checks_are_looked_for_while_a_guard_makes_a_drain_wait() -> None:
    host = fresh_host()
    check_every_30_s(host)
    sibling = next(h.target for h in host.aws.health(arn("web")) if h.target.id == "i-other")
    host.aws.break_target(sibling, "Target.Timeout")
    host.begin(Verb.DRAIN, wait=900.0)
    at(host, 300, lambda: host.aws.put_sibling("web"))
    at(host, 305, host.sensor.open.clear)
    assert "no connection left" in host.finish().message
    assert host.clock.now() - START < 360


def test_the_wait_for_health_checks_begins_with_the_registration_and_not_while_the_app_starts() -> None:
    host = fresh_host(names=("web",))
    check_every_30_s(host)
    host.has_run_for(120)
    assert succeeded(host.do(Verb.REJOIN))
    host.aws.deregister(group(), [Target(arn("web"), "i-me", 8080)])
    host.clock.time += 400
    host.restart()
    host.prober.said = "connection refused"
    host.begin(Verb.REJOIN)
    host.clock.at(host.clock.now() + 100, lambda: setattr(host.prober, "said", ""))
    assert succeeded(host.finish())
    host.sensor.open.clear()
    assert "no connection left" in host.do(Verb.DRAIN).message


def test_only_peers_that_check_are_put_on_disk_as_nodes_and_waited_for() -> None:
    host = busy_host()
    host.sensor.open = [
        connection(n, ago=1.0, sent=0.9, data_segments_received=1, data_segments_sent=1) for n in (1, 2)
    ]
    host.sensor.open[1] = replace(host.sensor.open[1], peer="203.0.113.9")  # a client that an NLB shows
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    assert succeeded(host.finish())
    left = host.record().left
    assert left is not None
    assert left.nodes == (NODE,)


def test_nodes_that_check_a_port_of_their_own_are_waited_for_on_it() -> None:
    host = fresh_host()
    check = HealthCheck("HTTP", "9000", "/healthz", 10.0, 5.0, 2, "200")
    host.aws.groups[arn("web")] = group(health_check=check)
    host.sensor.checked = (9000,)
    host.has_run_for(120)
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    assert "no connection left" in host.finish().message
    began, host.aws.warm_seconds = host.clock.now(), 5.0
    assert succeeded(host.do(Verb.REJOIN))
    assert host.clock.now() - began < 15, "it looks when the node has checked, not when every node must have"


def test_checks_of_another_port_that_go_on_hold_no_drain_up() -> None:
    host = fresh_host()
    check = HealthCheck("HTTP", "9000", "/healthz", 4.0, 2.0, 2, "200")
    host.aws.groups[arn("web")] = group(health_check=check)
    host.sensor.checked, host.sensor.interval, host.sensor.in_service = (9000,), 4.0, lambda: True
    host.has_run_for(120)
    host.begin(Verb.DRAIN)
    at(host, 3, host.sensor.open.clear)
    assert "no connection left" in host.finish().message
    assert host.clock.now() - START < 40


def test_nothing_is_read_while_the_settings_leave_every_end_to_the_api_or_the_host_is_out() -> None:
    quiet = fresh_host(Until.UNUSED)
    quiet.has_run_for(120)
    assert quiet.sensor.readings == quiet.sensor.samples == 0
    host = busy_host()
    assert 40 <= host.sensor.readings <= 120 / 1.25 + 1  # less often once the nodes are known
    assert host.sensor.samples == 0
    assert host.do(Verb.DRAIN, timeout=60).outcome is Outcome.TIMED_OUT
    before = host.sensor.readings
    host.rest(120)
    assert host.sensor.readings == before


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
    host = fresh_host()
    sibling = next(h.target for h in host.aws.health(arn("web")) if h.target.id == "i-other")
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


def test_a_drain_and_a_rejoin_of_one_group_make_seven_calls_and_the_looks_that_have_to_agree() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)
    at(host, 33, host.sensor.open.clear)
    assert succeeded(host.finish())
    host.sensor.nodes = ()
    host.begin(Verb.REJOIN)
    began = host.clock.now() - START
    host.aws.warm_seconds = 25
    check = connection(7, data_segments_received=1, data_segments_sent=1, bytes_received=130)
    at(host, began + 28, lambda: host.sensor.open.append(check))
    assert succeeded(host.finish())
    to_agree = [
        "DescribeTargetHealth",  # 4 s after the deregistration: has another host left at the same moment?
        "DescribeTargetGroups",  # once more after the API's lag; and does a group hold this host that was not shown?
        "DescribeTargetHealth",
        "DescribeTargetHealth",  # the look that belongs to the proof
    ]
    drain = ["DescribeTargetGroups", "DescribeTargetHealth", "DescribeTargetGroupAttributes", "DeregisterTargets"]
    rejoin = ["DescribeTargetGroups", "RegisterTargets", "DescribeTargetHealth"]
    assert host.aws.calls == [*drain, *to_agree, *rejoin]
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
    refused = AgentError(Kind.FAILED, "cannot call RegisterTargets: TooManyTargets")
    host.aws.errors["RegisterTargets"] = [refused] * 2  # an address that drains unseen is refused once
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
    host = fresh_host(Until.IDLE)  # so that the drain waits for health checks before it relies on the kernel
    host.aws.groups[arn("web")] = group(deregistration_delay=5.0)
    host.sensor.in_service = lambda: True  # the nodes learn of it later
    host.begin(Verb.DRAIN)
    (target,) = (Target(*key) for key in host.aws.registered() if key[1] == "i-me")
    at(host, 19, lambda: host.aws.deregister(group(), [target]))
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 19 + 30


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


def works_from_5_to_70(host: Host) -> None:
    """A request of a node, in these seconds of the drain."""
    working = connection(2, ago=1.0, sent=50.0, data_segments_received=2, data_segments_sent=1)
    at(host, 5, lambda: host.sensor.open.append(working))
    at(host, 70, lambda: host.sensor.open.remove(working))


def test_unused_ends_no_drain_while_requests_under_way_are_seen() -> None:
    host = busy_host()
    host.aws.groups[arn("web")] = group(deregistration_delay=1.0)
    host.begin(Verb.DRAIN)
    works_from_5_to_70(host)
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


def upload(cookie: int = 3, peer: str = NODE, *, ago: float) -> Connection:
    """Many segments, answered within the tick in which the last one came: no one can say which came last."""
    plain = connection(cookie, ago=ago, sent=ago, data_segments_received=9, data_segments_sent=1, acks_sent=4)
    return replace(plain, peer=peer)


def nothing_more_happens_on(host: Host, one: Connection) -> None:
    """It stays open, and the time since its last byte grows by the second."""

    def older(seconds: int) -> None:
        ago = one.last_received_seconds_ago + seconds
        host.sensor.open = [c for c in host.sensor.open if c.cookie != one.cookie]
        host.sensor.open.append(replace(one, last_received_seconds_ago=ago, last_sent_seconds_ago=ago))

    for seconds in range(400):
        at(host, seconds, lambda seconds=seconds: older(seconds))


def test_an_upload_that_may_have_been_answered_does_not_hold_a_drain_after_the_whole_delay() -> None:
    host = busy_host()
    nothing_more_happens_on(host, upload(ago=1.0))
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - START < 320


def test_what_may_be_a_request_under_way_holds_a_drain_with_a_short_delay_for_as_long_as_a_node_waits() -> None:
    host = busy_host()
    host.aws.groups[arn("web")] = group(deregistration_delay=1.0)
    nothing_more_happens_on(host, upload(ago=1.0))
    assert succeeded(host.do(Verb.DRAIN))
    assert 59 <= host.clock.now() - START < 75


def test_a_drain_that_goes_on_after_a_restart_looks_at_the_connections_before_unused_ends_it() -> None:
    host = busy_host()
    host.aws.groups[arn("web")] = group(deregistration_delay=1.0)
    host.begin(Verb.DRAIN)
    works_from_5_to_70(host)
    while host.clock.now() - START < 40:
        host.turn()
    host.restart()
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 70


PROMETHEUS = "10.0.7.7"


def short_delay_host() -> Host:
    """As `busy_host`, of a group whose deregistration delay is far shorter than a request may take."""
    host = busy_host()
    host.aws.groups[arn("web")] = group(deregistration_delay=1.0)
    return host


def scrape() -> Connection:
    """A monitoring system's request, which the app has not answered yet."""
    return replace(connection(2, ago=1.0, sent=50.0, data_segments_received=2), peer=PROMETHEUS)


def test_any_peers_request_holds_a_drain_where_the_nodes_are_not_known() -> None:
    host = short_delay_host()
    host.sensor.open.append(scrape())
    host.begin(Verb.DRAIN)
    while not isinstance(host.record().state, Draining):
        host.turn()
    host.restart()  # the new daemon knows none
    assert host.finish().outcome is Outcome.TIMED_OUT


def test_a_second_drain_after_a_time_out_and_a_restart_still_waits_for_a_request_under_way() -> None:
    host = short_delay_host()
    host.sensor.open.append(connection(2, ago=1.0, sent=50.0, data_segments_received=2))
    assert host.do(Verb.DRAIN).outcome is Outcome.TIMED_OUT
    host.restart()
    assert host.do(Verb.DRAIN).outcome is Outcome.TIMED_OUT
    host.restart()
    host.clock.at(host.clock.now() + 20, host.sensor.open.clear)
    assert succeeded(host.do(Verb.DRAIN))


def test_a_request_of_a_peer_that_is_no_node_holds_nothing_and_is_reported() -> None:
    host = short_delay_host()
    host.sensor.open.append(scrape())
    operation = host.do(Verb.DRAIN)
    assert succeeded(operation)
    assert f"not waited for: {PROMETHEUS}:40002 to port 8080" in operation.message


def test_a_time_out_after_unused_names_what_held_the_drain_once() -> None:
    host = short_delay_host()
    host.sensor.open.append(connection(2, ago=1.0, sent=50.0, data_segments_received=2))
    message = host.do(Verb.DRAIN).message
    assert message.count(f"{NODE}:40002 to port 8080") == 1
    assert f"{NODE}:40001" not in message, "an idle connection holds nothing"


def test_a_second_drain_goes_on_waiting_for_what_held_the_first_one() -> None:
    host = short_delay_host()
    working = connection(2, ago=1.0, sent=50.0, data_segments_received=2)
    host.sensor.open.append(working)
    assert host.do(Verb.DRAIN).outcome is Outcome.TIMED_OUT
    again = host.clock.now() - START
    host.begin(Verb.DRAIN)
    at(host, again + 20, lambda: host.sensor.open.remove(working))
    assert succeeded(host.finish())
    assert host.clock.now() - START >= again + 20


def test_a_drain_by_unused_alone_says_why_the_connections_did_not_end_it() -> None:
    host = busy_host()
    host.begin(Verb.DRAIN)

    def fails() -> None:
        host.sensor.error = AgentError(Kind.FAILED, "there are more than 20000 connections", transient=True)

    at(host, 20, fails)
    assert "by the API's `unused` alone: there are more than 20000 connections" in host.finish().message


def test_a_stream_that_outlives_unused_holds_the_drain_until_it_ends() -> None:
    host = busy_host()
    host.aws.groups[arn("web")] = group(deregistration_delay=1.0)
    stream = connection(2, ago=40.0, sent=0.5, data_segments_received=1, data_segments_sent=90)
    host.sensor.open.append(stream)
    host.begin(Verb.DRAIN)
    at(host, 70, lambda: host.sensor.open.remove(stream))
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 70
