"""A host that its Auto Scaling group launches: the hook is completed once the app passes, and not before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START, arn, group
from host import Host, succeeded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import LifecycleHook, Transition
from zdd_agent.model.operation import Outcome, Verb

ME = (arn("web"), "i-me", 8080)


def launched(state: str = "Pending:Wait") -> Host:
    """A fresh host, in no target group. Once its hook is completed the group registers it, 3 s later."""
    host = Host(group("web"), group("other"), auto_scaling={"mode": "watch"})
    host.metadata.state = "InService"
    host.scaling.state = state
    host.scaling.of = replace(host.scaling.of, target_groups=(arn("web"),))
    host.scaling.hook_names = {Transition.LAUNCH: [LifecycleHook("ready", 600.0)]}
    host.scaling.waits_from = START

    def goes_on() -> None:
        host.scaling.state = "Pending:Proceed"
        host.clock.at(host.clock.now() + 3, registered)

    def registered() -> None:
        host.scaling.state = "InService"
        host.aws.put("web")

    host.scaling.completes = goes_on
    return host


def test_a_launch_goes_on_once_the_app_passes_and_the_agent_registers_nothing_by_itself() -> None:
    host = launched()
    rejoin = host.do(Verb.REJOIN)
    assert succeeded(rejoin)
    assert host.scaling.completed_at is not None
    assert "RegisterTargets" not in host.aws.calls
    assert host.aws.registered() == {ME}


def test_an_app_that_does_not_pass_keeps_the_launch_waiting_and_nothing_is_abandoned() -> None:
    host = launched()
    host.prober.said = "GET /healthz answered 503"
    rejoin = host.do(Verb.REJOIN, 120)
    assert rejoin.outcome is Outcome.TIMED_OUT
    assert host.scaling.completed_at is None
    assert host.scaling.made("CompleteLifecycleAction") == []


def test_a_start_up_rejoin_is_tried_again_until_the_app_passes() -> None:
    host = launched()
    host.prober.said = "GET /healthz answered 503"
    host.begin(Verb.REJOIN, 60, keep_trying=True)
    host.rest(300)
    assert host.scaling.completed_at is None
    host.prober.said = ""
    host.rest(120)
    assert host.scaling.completed_at is not None
    assert host.aws.registered() == {ME}


def test_a_host_that_is_ahead_of_its_group_waits_until_the_group_waits_for_it() -> None:
    host = launched("Pending")
    host.clock.at(START + 20, lambda: setattr(host.scaling, "state", "Pending:Wait"))
    assert succeeded(host.do(Verb.REJOIN))
    assert host.scaling.completed_at is not None
    assert host.scaling.completed_at >= START + 20


def test_without_a_launch_hook_the_group_registers_the_host_and_the_rejoin_waits_for_it() -> None:
    host = launched("Pending")
    host.scaling.hook_names = {}
    host.clock.at(START + 8, lambda: (setattr(host.scaling, "state", "InService"), host.aws.put("web")))
    assert succeeded(host.do(Verb.REJOIN))
    assert "RegisterTargets" not in host.aws.calls


def test_a_group_that_does_not_register_the_host_after_all_is_made_up_for() -> None:
    host = launched()
    host.scaling.completes = lambda: setattr(host.scaling, "state", "InService")
    assert succeeded(host.do(Verb.REJOIN))
    assert host.aws.registered() == {ME}


@pytest.mark.parametrize("turns", range(1, 14))
def test_a_daemon_that_restarts_in_a_launch_goes_on_and_completes_the_hook_once(turns: int) -> None:
    host = launched()
    host.begin(Verb.REJOIN)
    for _ in range(turns):
        if host.ledger.running() is not None:
            host.turn()
    host.restart()
    assert succeeded(host.finish())
    assert len(host.scaling.made("CompleteLifecycleAction")) == 1
    assert "RegisterTargets" not in host.aws.calls


def test_a_missing_permission_is_named() -> None:
    host = launched()
    host.scaling.denied["CompleteLifecycleAction"] = AgentError(Kind.AWS_DENIED, "cannot call", hint="allow it")
    rejoin = host.do(Verb.REJOIN)
    assert rejoin.failure is not None
    assert rejoin.failure.kind == "aws_denied"


@pytest.mark.parametrize("state", ["Warmed:Pending:Proceed", "Warmed:Running", "Warmed:Stopped"])
def test_a_host_in_a_warm_pool_registers_nothing_and_says_so(state: str) -> None:
    host = launched(state)
    rejoin = host.do(Verb.REJOIN)
    assert rejoin.outcome is Outcome.REFUSED
    assert "warm pool" in rejoin.message
    assert host.aws.registered() == set()
    assert host.scaling.made("CompleteLifecycleAction") == []


def warmed(pool: str) -> Host:
    """A fresh host whose group launches it into its warm pool, where it will be in this state."""
    host = launched("Warmed:Pending:Wait")
    host.metadata.state = pool
    host.scaling.completes = lambda: setattr(host.scaling, "state", pool)
    return host


def test_a_launch_into_a_warm_pool_goes_on_once_the_app_passes_and_nothing_is_registered() -> None:
    host = warmed("Warmed:Stopped")
    host.prober.said = "GET /healthz answered 503"
    host.begin(Verb.REJOIN, keep_trying=True)
    host.rest(60)
    assert host.scaling.completed_at is None
    host.prober.said = ""
    host.rest(60)
    assert host.scaling.completed_at is not None
    assert host.aws.registered() == set()
    last = host.record().last
    assert last is not None
    assert last.outcome is Outcome.REFUSED
    assert "warm pool" in last.message
    assert "RegisterTargets" not in host.aws.calls


def test_a_launch_that_is_ahead_of_its_warm_pool_waits_for_the_hook() -> None:
    host = warmed("Warmed:Stopped")
    host.scaling.state = "Warmed:Pending"
    host.clock.at(START + 20, lambda: setattr(host.scaling, "state", "Warmed:Pending:Wait"))
    host.begin(Verb.REJOIN, keep_trying=True)
    host.rest(60)
    assert host.scaling.completed_at is not None
    assert host.scaling.completed_at >= START + 20


@pytest.mark.parametrize("turns", range(1, 12))
def test_a_daemon_that_restarts_on_the_way_into_a_warm_pool_completes_the_hook_once_and_registers_nothing(
    turns: int,
) -> None:
    host = warmed("Warmed:Running")
    host.begin(Verb.REJOIN)
    for _ in range(turns):
        if host.ledger.running() is not None:
            host.turn()
    host.restart()
    if host.ledger.running() is not None:
        host.finish()
    host.rest(60)
    assert host.scaling.completed_at is not None
    assert len(host.scaling.made("CompleteLifecycleAction")) == 1
    assert host.aws.registered() == set()


def test_a_host_that_keeps_running_in_its_warm_pool_is_put_in_once_the_group_takes_it_out() -> None:
    host = warmed("Warmed:Running")
    host.begin(Verb.REJOIN, keep_trying=True)
    host.rest(60)
    assert host.scaling.state == "Warmed:Running"
    host.rest(3600)
    calls = len(host.scaling.calls)
    host.rest(3600)
    assert len(host.scaling.calls) == calls  # in the pool, AWS is not asked again and again
    host.scaling.state, host.metadata.state, host.scaling.completed_at = "Pending:Wait", "InService", None

    def goes_on() -> None:
        host.scaling.state = "InService"
        host.aws.put("web")

    host.scaling.completes = goes_on
    host.rest(120)
    assert host.scaling.completed_at is not None
    assert host.aws.registered() == {ME}
    assert succeeded(host.record().last)  # type: ignore[arg-type]  it has one


def test_a_rejoin_that_a_person_asked_for_in_a_warm_pool_is_not_repeated() -> None:
    host = warmed("Warmed:Running")
    host.scaling.state = "Warmed:Running"
    rejoin = host.do(Verb.REJOIN)
    host.scaling.state = host.metadata.state = "InService"
    host.rest(120)
    last = host.record().last
    assert last is not None
    assert last.id == rejoin.id
