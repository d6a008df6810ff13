"""The end of a host while its metadata service and Auto Scaling answer badly: over fake ports and in fake time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START, arn, group
from host import Host, in_a_group, succeeded, terminated
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import Notice, NoticeKind
from zdd_agent.model.kernel import Connection
from zdd_agent.model.operation import Outcome, Posture, Verb
from zdd_agent.model.states import Drained

MINE = (arn("web"), "i-me", 8080)
DENIED = AgentError(Kind.AWS_DENIED, "cannot call: this instance's role does not allow it")
REBALANCE = Notice(NoticeKind.REBALANCE, "rebalance", START)


def hook_waits(host: Host) -> float:
    """Seconds for which the group waited for the hook although no work was left."""
    assert host.scaling.waits_from is not None
    assert host.scaling.completed_at is not None
    return host.scaling.completed_at - host.scaling.waits_from


def test_an_empty_answer_shortly_before_a_termination_does_not_cost_the_hook() -> None:
    host = in_a_group()
    host.metadata.state = None  # the metadata service answers 404 once
    host.status()
    terminated(host)
    host.rest(400)
    assert hook_waits(host) <= 2


def test_a_group_that_aws_does_not_list_at_first_is_asked_for_again() -> None:
    host = in_a_group()
    terminated(host)
    host.scaling.state = None
    host.clock.at(START + 100, lambda: setattr(host.scaling, "state", "Terminating"))
    host.rest(400)
    assert hook_waits(host) <= 2


def test_a_role_that_may_not_send_heartbeats_ends_the_hook_in_time_all_the_same() -> None:
    host = in_a_group()
    terminated(host)
    host.scaling.denied["RecordLifecycleActionHeartbeat"] = DENIED
    host.rest(400)
    assert hook_waits(host) <= 2
    assert len(host.scaling.made("RecordLifecycleActionHeartbeat")) <= 7


def test_a_metadata_service_that_flaps_costs_neither_the_drain_nor_the_hook() -> None:
    host = in_a_group()
    terminated(host)
    silent = AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask: it answered 500", transient=True)
    for second in range(0, 400, 20):

        def flap(down: bool = second % 40 == 0) -> None:
            host.metadata.silent = silent if down else None

        host.clock.at(START + second, flap)
    host.rest(500)
    assert hook_waits(host) <= 2
    assert host.posture() is Posture.LEAVING


def test_a_hook_that_is_deleted_meanwhile_is_asked_about_at_a_pace_that_costs_little() -> None:
    host = in_a_group()
    terminated(host)
    host.scaling.waits_from = None  # deleted: AWS knows no such hook any more
    host.rest(4000)
    tries = host.scaling.made("CompleteLifecycleAction")
    assert len([at for at in tries if at > START + 1000]) <= 51


def test_a_throttled_group_is_asked_again() -> None:
    host = in_a_group()
    terminated(host)
    throttled = AgentError(Kind.AWS_UNAVAILABLE, "cannot call: Throttling", transient=True)
    host.scaling.denied = dict.fromkeys(("DescribeAutoScalingInstances", "DescribeLifecycleHooks"), throttled)
    host.clock.at(START + 200, host.scaling.denied.clear)
    host.rest(500)
    assert hook_waits(host) <= 2


def test_advice_that_was_followed_is_not_followed_again_after_a_restart() -> None:
    host = Host(group(), notices={"rebalance": "drain"})
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.metadata.standing = [REBALANCE]
    host.rest(500)
    assert MINE not in host.aws.registered()
    assert succeeded(host.do(Verb.REJOIN))  # somebody needs it still
    host.restart()
    host.rest(500)
    assert MINE in host.aws.registered()
    host.metadata.standing = [replace(REBALANCE, at=START + 600)]  # EC2 says so once more
    host.rest(500)
    assert MINE not in host.aws.registered()


def test_a_daemon_that_dies_in_a_drain_of_advice_goes_on_and_does_not_begin_another() -> None:
    host = Host(group(), notices={"rebalance": "drain"})
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.metadata.standing = [REBALANCE]
    host.rest(20)
    running = host.ledger.running()
    assert running is not None
    host.restart()
    host.rest(700)
    last = host.record().last
    assert last is not None
    assert last.id == running.id


def test_a_spot_instance_that_wakes_up_from_hibernation_may_stay() -> None:
    host = Host(group(), notices={"spot": "drain"})
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.metadata.standing = [Notice(NoticeKind.SPOT, "hibernate", START + 120)]
    host.rest(110)
    assert host.record().leaving is not None
    host.metadata.standing = []  # it sleeps, and wakes up in the same boot: the notice is gone
    host.rest(300)
    assert host.record().leaving is None
    assert succeeded(host.do(Verb.REJOIN))


def test_a_notice_that_is_missing_for_a_moment_is_not_taken_back() -> None:
    host = Host(group(), notices={"spot": "drain"})
    host.aws.put("web")
    host.metadata.standing = [Notice(NoticeKind.SPOT, "terminate", START + 120)]
    host.rest(30)
    host.metadata.standing = []
    host.rest(60)
    assert host.record().leaving is not None


BUSY = Connection(
    2, 8080, "10.0.0.1", "10.0.9.1", 40002, data_segments_received=2, data_segments_sent=1,
    last_received_seconds_ago=20.0, last_sent_seconds_ago=50.0,
)  # fmt: skip


def test_a_daemon_that_starts_in_a_termination_keeps_the_group_waiting_for_the_work_that_it_sees() -> None:
    host = in_a_group(until="closed")
    host.aws.groups[arn("web")] = group(deregistration_delay=40.0)
    host.sensor.open = [BUSY]
    ends = START + 300
    host.clock.at(ends, host.sensor.open.clear)
    terminated(host)
    host.restart()  # it has seen no health check, and a target that drains need not be checked
    host.rest(600)
    assert host.scaling.completed_at is not None
    assert ends <= host.scaling.completed_at <= ends + 2
    assert isinstance(host.record().state, Drained)


def test_a_daemon_that_starts_in_a_termination_does_not_wait_for_what_only_stays_open() -> None:
    host = in_a_group(until="closed")
    host.aws.groups[arn("web")] = group(deregistration_delay=40.0)
    idle = replace(BUSY, last_received_seconds_ago=100.0, last_sent_seconds_ago=99.0, data_segments_received=1)
    host.sensor.open = [idle]
    terminated(host)
    host.restart()
    host.rest(200)
    assert hook_waits(host) <= 2


def test_a_plain_drain_of_a_fresh_daemon_goes_by_what_aws_says() -> None:
    host = Host(group(deregistration_delay=40.0), until="closed")  # type: ignore[arg-type]  as the settings spell it
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.sensor.open = [BUSY]
    host.sensor.nodes = ()
    drain = host.do(Verb.DRAIN)
    assert drain.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("ahead", [-100.0, 100.0])
def test_a_clock_that_is_wrong_changes_when_a_spot_drain_gives_up_and_not_that_it_drains(ahead: float) -> None:
    host = Host(group(), notices={"spot": "drain"})
    host.aws.put("web")
    host.metadata.standing = [Notice(NoticeKind.SPOT, "terminate", START + 120 - ahead)]
    host.rest(60)
    assert MINE not in host.aws.registered()
    assert host.posture() is Posture.LEAVING
