"""A host that will be gone soon: what the loop does about it, over fake ports and in fake time."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from typing import Any

import pytest

from fakes import START, arn, group
from host import Host, succeeded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import LifecycleHook, Notice, NoticeKind, Transition
from zdd_agent.model.kernel import Connection
from zdd_agent.model.operation import Outcome, Posture, Request, Verb
from zdd_agent.model.record import Drained

WATCH = {"mode": "watch"}
TERMINATION = {Transition.TERMINATION: [LifecycleHook("last-drain", 300.0)]}
SPOT = Notice(NoticeKind.SPOT, "terminate", START + 120)


def in_a_group(**settings: Any) -> Host:
    host = Host(group(), auto_scaling={"mode": "watch", **settings.pop("auto_scaling", {})}, **settings)
    host.aws.put("web")
    host.metadata.state = "InService"
    return host


def terminated(host: Host) -> None:
    """Auto Scaling terminates the host: it deregisters it, waits for the delay, and then for the hook."""
    host.metadata.state = "Terminated"
    host.scaling.state = "Terminating"
    host.scaling.hook_names = dict(TERMINATION)
    web = host.aws.groups[arn("web")]
    host.aws.deregister(web, [next(h.target for h in host.aws.health(web.arn) if h.target.id == "i-me")])
    host.scaling.waits_from = host.clock.now() + web.deregistration_delay
    host.aws.calls.clear()


def test_a_host_without_settings_asks_nothing_and_builds_nothing() -> None:
    host = Host(group())
    host.rest(60)
    assert host.metadata.looks == 0
    assert host.engine.lifecycle is None
    assert host.engine.scaling is None


def test_a_host_that_stays_costs_one_question_in_five_seconds_and_after_one_look_no_call_to_aws() -> None:
    host = in_a_group()
    host.rest(60)
    assert host.aws.calls.count("DescribeTargetHealth") == 1
    host.aws.calls.clear()
    looks = host.metadata.looks
    host.rest(60)
    assert host.metadata.looks == looks + 12
    assert host.scaling.calls == []
    assert host.aws.calls == []


def test_a_host_that_is_terminated_drains_by_itself_although_the_guard_would_refuse() -> None:
    host = in_a_group()
    host.metadata.state = "Terminated"
    host.rest(400)
    last = host.record().last
    assert last is not None
    assert succeeded(last)
    assert last.request.stopping
    assert host.aws.registered() == set()
    assert host.posture() is Posture.LEAVING


def test_the_hook_is_completed_within_two_seconds_of_the_moment_at_which_the_group_waits_for_it() -> None:
    host = in_a_group()
    terminated(host)
    host.rest(400)
    assert host.scaling.waits_from is not None
    assert host.scaling.completed_at is not None
    assert 0 <= host.scaling.completed_at - host.scaling.waits_from <= 2
    assert isinstance(host.record().state, Drained)


NODE = Connection(1, 8080, "10.0.0.1", "10.0.9.1", 40001, data_segments_received=1, data_segments_sent=1)
IDLE = replace(NODE, last_received_seconds_ago=100.0, last_sent_seconds_ago=99.0)
BUSY = replace(NODE, cookie=2, data_segments_received=2, last_received_seconds_ago=20.0, last_sent_seconds_ago=50.0)


def test_a_host_whose_last_request_ended_early_is_let_go_as_soon_as_the_group_waits() -> None:
    host = in_a_group(until="closed")
    host.sensor.open = [IDLE]
    host.sensor.nodes = (host.sensor.open[0].peer,)
    host.has_run_for(120)
    host.clock.at(START + 40, host.sensor.open.clear)
    terminated(host)
    host.rest(400)
    last = host.record().last
    assert last is not None
    assert "no connection left" in last.message
    assert host.scaling.waits_from is not None
    assert host.scaling.completed_at is not None
    assert 0 <= host.scaling.completed_at - host.scaling.waits_from <= 2
    assert len(host.scaling.made("CompleteLifecycleAction")) < 60


def test_a_host_whose_last_request_ends_late_is_kept_until_then_and_not_longer() -> None:
    host = in_a_group(until="closed")
    host.aws.groups[arn("web")] = group(deregistration_delay=40.0)
    host.sensor.open = [BUSY]
    host.sensor.nodes = (host.sensor.open[0].peer,)
    host.has_run_for(120)
    ends = START + 300
    host.clock.at(ends, host.sensor.open.clear)
    terminated(host)
    host.rest(500)
    assert host.scaling.completed_at is not None
    assert ends <= host.scaling.completed_at <= ends + 2
    beats = [at for at in host.scaling.made("RecordLifecycleActionHeartbeat") if at > START + 40]
    assert all(later - sooner <= 100 for sooner, later in itertools.pairwise([START + 40, *beats, ends]))


def test_the_work_of_a_host_that_nobody_has_ever_asked_about_keeps_the_group_waiting_too() -> None:
    host = in_a_group(until="closed")
    host.aws.groups[arn("web")] = group(deregistration_delay=40.0)
    host.sensor.open = [BUSY]
    host.sensor.nodes = (host.sensor.open[0].peer,)
    host.rest(120)
    ends = host.clock.now() + 300
    host.clock.at(ends, host.sensor.open.clear)
    terminated(host)
    host.sensor.nodes = ()  # a load balancer need not check a target that drains
    host.rest(500)
    assert host.scaling.completed_at is not None
    assert ends <= host.scaling.completed_at <= ends + 2


def test_a_hook_that_does_not_wait_for_the_deregistration_is_kept_open_from_its_first_moment() -> None:
    host = in_a_group(until="closed")
    host.sensor.open = [BUSY]
    host.sensor.nodes = (host.sensor.open[0].peer,)
    host.has_run_for(120)
    terminated(host)
    host.scaling.hook_names = {Transition.TERMINATION: [LifecycleHook("last-drain", 30.0)]}
    began = host.scaling.waits_from = host.clock.now()  # the final notice of a spot instance
    host.rest(200)
    beats = host.scaling.made("RecordLifecycleActionHeartbeat")
    assert all(later - sooner <= 20 for sooner, later in itertools.pairwise([began, *beats, host.clock.now()]))


def test_a_completed_hook_is_left_alone() -> None:
    host = in_a_group()
    terminated(host)
    host.rest(400)
    calls = len(host.scaling.calls)
    host.rest(300)
    assert len(host.scaling.calls) == calls


def test_while_the_drain_goes_on_the_group_is_kept_waiting_and_then_let_go_at_once() -> None:
    host = in_a_group(until="closed")
    host.aws.groups[arn("web")] = group(deregistration_delay=40.0)
    terminated(host)
    host.rest(20)
    host.aws.errors["DescribeTargetHealth"] = [
        AgentError(Kind.AWS_UNAVAILABLE, "cannot call: AWS answered 503", transient=True) for _ in range(40)
    ]
    host.rest(1000)
    assert host.scaling.completed_at is not None
    last = host.record().last
    assert last is not None
    assert last.ended_at is not None
    beats = host.scaling.made("RecordLifecycleActionHeartbeat")
    assert beats
    assert all(later - sooner >= 10 for sooner, later in itertools.pairwise(beats))
    assert host.scaling.completed_at - last.ended_at <= 2


def test_refused_calls_keep_their_pace() -> None:
    host = in_a_group()
    host.aws.groups[arn("web")] = group(deregistration_delay=40.0)
    terminated(host)
    host.scaling.waits_from = None
    host.rest(1000)
    tries = host.scaling.made("CompleteLifecycleAction")
    assert 50 <= len(tries) <= 120


def test_a_rejoin_is_refused_and_not_told_to_wait_while_the_last_drain_is_under_way() -> None:
    host = in_a_group()
    terminated(host)
    host.rest(6)
    assert host.ledger.running() is not None
    with pytest.raises(AgentError, match="cannot rejoin: Auto Scaling is about to terminate") as caught:
        host.begin(Verb.REJOIN)
    assert caught.value.kind is Kind.REFUSED


def test_no_rejoin_puts_back_a_host_that_is_leaving() -> None:
    host = in_a_group()
    terminated(host)
    host.rest(400)
    with pytest.raises(AgentError, match="cannot rejoin: Auto Scaling is about to terminate") as error:
        host.begin(Verb.REJOIN)
    assert error.value.kind is Kind.REFUSED
    assert "RegisterTargets" not in host.aws.calls


def test_a_rejoin_under_way_is_superseded() -> None:
    host = in_a_group()
    host.do(Verb.DRAIN, force=())  # refused: no other host
    host.aws.put_sibling("web")
    host.do(Verb.DRAIN)
    rejoin = host.begin(Verb.REJOIN)
    host.turn()
    host.metadata.state = "Terminated"
    host.rest(400)
    assert host.ledger.operation(rejoin.id).outcome is Outcome.CANCELLED
    assert (arn("web"), "i-me", 8080) not in host.aws.registered()


def test_a_drain_that_waits_for_the_guard_goes_on_at_once() -> None:
    host = in_a_group()
    drain = host.begin(Verb.DRAIN, wait=3600)
    host.rest(30)
    assert (arn("web"), "i-me", 8080) in host.aws.registered()
    host.metadata.state = "Terminated"
    host.rest(30)
    assert (arn("web"), "i-me", 8080) not in host.aws.registered()
    host.rest(400)
    assert succeeded(host.ledger.operation(drain.id))


@pytest.mark.parametrize("moment", range(1, 420, 13))
def test_a_daemon_that_restarts_at_any_moment_goes_on_and_completes_the_hook(moment: int) -> None:
    host = in_a_group()
    terminated(host)
    host.rest(moment)
    host.restart()
    host.rest(500)
    assert host.scaling.completed_at is not None
    assert host.scaling.waits_from is not None
    assert host.scaling.completed_at - host.scaling.waits_from <= (2 if moment < 290 else 150)


def test_a_missing_permission_is_said_once_and_slows_the_calls(caplog: pytest.LogCaptureFixture) -> None:
    host = in_a_group()
    terminated(host)
    said = "cannot call CompleteLifecycleAction: this instance's role does not allow it"
    host.scaling.denied["CompleteLifecycleAction"] = AgentError(Kind.AWS_DENIED, said)
    with caplog.at_level(logging.WARNING):
        host.rest(1000)
    assert sum(said in line for line in caplog.messages) == 1
    assert len(host.scaling.made("CompleteLifecycleAction")) <= 17
    assert said in host.status().warnings


def test_a_host_whose_group_cannot_be_asked_drains_all_the_same() -> None:
    host = in_a_group()
    terminated(host)
    host.scaling.denied["DescribeAutoScalingInstances"] = AgentError(Kind.AWS_DENIED, "denied")
    host.rest(400)
    assert len(host.scaling.calls) <= 16
    assert isinstance(host.record().state, Drained)
    assert host.scaling.completed_at is None


def test_of_several_hooks_none_is_guessed() -> None:
    host = in_a_group()
    terminated(host)
    host.scaling.hook_names = {Transition.TERMINATION: [LifecycleHook("a", 30.0), LifecycleHook("b", 30.0)]}
    host.rest(500)
    assert host.scaling.completed_at is None
    assert any("auto_scaling.termination_hook" in line for line in host.status().warnings)


def test_a_hook_that_the_settings_name_needs_no_description() -> None:
    host = in_a_group(auto_scaling={"termination_hook": "last-drain"})
    terminated(host)
    host.rest(500)
    assert host.scaling.completed_at is not None
    assert host.scaling.made("DescribeLifecycleHooks") == []


@pytest.mark.parametrize("tag", ["AmazonECSManaged", "eks:cluster-name", "kubernetes.io/cluster/blue"])
def test_a_host_that_another_service_owns_is_left_to_it(tag: str) -> None:
    host = in_a_group()
    host.scaling.of = replace(host.scaling.of, tags=frozenset({tag}))
    terminated(host)
    host.rest(500)
    assert host.record().last is None
    assert host.scaling.completed_at is None
    assert host.posture() is Posture.LEAVING


def test_a_metadata_service_that_is_silent_is_asked_less_often() -> None:
    host = in_a_group()
    host.metadata.silent = AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask: no answer", transient=True)
    host.rest(300)
    assert host.metadata.looks <= 11
    assert "cannot ask: no answer" in host.status().warnings
    host.metadata.silent = None
    host.rest(60)
    assert host.status().warnings == ()


def test_a_host_that_stopped_and_came_back_may_stay() -> None:
    host = in_a_group(notices={"spot": "drain"})
    host.metadata.standing = [replace(SPOT, what="stop")]
    host.rest(200)
    assert host.record().leaving is not None
    host.metadata.standing = []
    host.restart(boot="boot-2")
    assert host.record().leaving is None
    host.aws.put_sibling("web")
    assert succeeded(host.do(Verb.REJOIN))


def test_a_restart_of_the_daemon_alone_changes_nothing() -> None:
    host = in_a_group()
    terminated(host)
    host.rest(10)
    host.restart()
    assert host.record().leaving is not None


# Notices.


def test_a_spot_notice_drains_at_once_and_gives_up_before_the_end() -> None:
    host = Host(group(), notices={"spot": "drain"})
    host.aws.put("web")
    host.metadata.standing = [SPOT]
    host.rest(10)
    one = host.record().underway
    assert one is not None
    assert one.request.stopping
    assert START + 100 < one.deadline < SPOT.at
    assert (arn("web"), "i-me", 8080) not in host.aws.registered()
    assert host.posture() is Posture.LEAVING


def test_a_notice_that_only_warns_is_said_once_counted_once_and_gone_when_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = Host(group(), notices={"spot": "warn", "rebalance": "warn"})
    host.aws.put("web")
    host.metadata.standing = [SPOT]
    with caplog.at_level(logging.WARNING):
        host.rest(60)
    assert sum("this spot instance will terminate" in line for line in caplog.messages) == 1
    assert host.engine.lifecycle is not None
    assert host.engine.lifecycle.counts() == {NoticeKind.SPOT: 1, NoticeKind.REBALANCE: 0}
    assert any("this spot instance will terminate" in line for line in host.status().warnings)
    assert (host.record().leaving, host.record().underway, host.record().last) == (None, None, None)
    host.metadata.standing = []
    host.rest(10)
    assert not any("this spot instance" in line for line in host.status().warnings)


def test_what_is_ignored_is_not_asked_for() -> None:
    host = Host(group(), notices={"rebalance": "warn"})
    host.metadata.standing = [SPOT]
    host.rest(20)
    assert host.engine.lifecycle is not None
    assert host.engine.lifecycle.said() == ()


def test_a_rebalance_recommendation_drains_once_and_the_guard_stays() -> None:
    host = Host(group(), notices={"rebalance": "drain"})
    host.aws.put("web")
    host.metadata.standing = [Notice(NoticeKind.REBALANCE, "rebalance", START)]
    host.rest(700)
    last = host.record().last
    assert last is not None
    assert last.outcome is Outcome.REFUSED
    assert host.record().leaving is None
    host.rest(700)
    assert host.record().last == last


def test_a_maintenance_event_drains_shortly_before_it_and_not_weeks_ahead() -> None:
    host = Host(group(), notices={"maintenance": "drain"})
    host.aws.put("web")
    host.aws.put_sibling("web")
    event = Notice(NoticeKind.MAINTENANCE, "system-reboot", START + 7200, "e-1")
    host.metadata.standing = [event]
    host.rest(3600)
    assert host.record().last is None
    host.rest(3600)
    last = host.record().last
    assert last is not None
    assert succeeded(last)
    assert last.ended_at is not None
    assert last.ended_at < event.at
    assert host.record().leaving is None


def test_a_second_drain_is_not_begun_where_one_is_under_way() -> None:
    host = Host(group(), notices={"rebalance": "drain"})
    host.aws.put("web")
    host.aws.put_sibling("web")
    mine = host.begin(Verb.DRAIN)
    host.metadata.standing = [Notice(NoticeKind.REBALANCE, "rebalance", START)]
    host.rest(400)
    last = host.record().last
    assert last is not None
    assert (last.id, last.request) == (mine.id, Request(Verb.DRAIN, 0))
