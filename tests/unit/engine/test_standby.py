"""A host that enters Standby in its Auto Scaling group while it is out, over fake ports and in fake time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes import arn, group
from host import Host, succeeded
from zdd_agent.adapters.record_json import decoded, encoded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import ScalingGroup
from zdd_agent.model.operation import Operation, Outcome, Posture, Verb
from zdd_agent.model.states import Drained, InService

MINE = (arn("web"), "i-me", 8080)


def host_of(minimum: int = 1, desired: int = 2, mode: str = "standby", **settings: Any) -> Host:
    host = Host(group(), auto_scaling={"mode": mode}, **settings)
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.metadata.state = "InService"
    host.scaling.of = ScalingGroup("web-asg", "ELB", minimum, desired, (arn("web"),))
    return host


def failure_of(operation: Operation) -> tuple[Outcome | None, str]:
    assert operation.failure is not None
    return operation.outcome, operation.failure.message


def calls(host: Host) -> list[str]:
    """The calls that change something, in their order."""
    changes = ("DeregisterTargets", "RegisterTargets")
    return [c for c in host.aws.calls if c in changes] + [c for c, _ in host.scaling.calls if c.endswith("Standby")]


def entered(host: Host) -> bool:
    return host.scaling.state in ("EnteringStandby", "Standby")


def test_a_drain_enters_standby_and_the_group_wants_one_instance_less_meanwhile() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    assert entered(host)
    assert host.scaling.of.desired == 1
    state = host.record().state
    assert isinstance(state, Drained)
    assert state.left.standby == "web-asg"
    assert host.posture() is Posture.DRAINED


def test_standby_is_entered_only_once_no_other_host_can_have_left_at_the_same_moment() -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    while not host.scaling.made("EnterStandby"):
        host.turn()
    state = host.record().state
    assert host.scaling.made("EnterStandby")[0] - state.left.accepted_at >= 10  # type: ignore[union-attr]


def test_where_the_group_is_at_its_minimum_nothing_is_changed_and_the_numbers_are_said() -> None:
    host = host_of(minimum=2, desired=2)
    outcome, message = failure_of(host.do(Verb.DRAIN))
    assert outcome is Outcome.REFUSED
    assert message == "cannot drain: Standby takes one of 2 desired instances of web-asg, whose minimum is 2"
    assert calls(host) == []


def test_a_drain_with_a_wait_goes_on_as_soon_as_the_group_has_room() -> None:
    host = host_of(minimum=2, desired=2)
    host.begin(Verb.DRAIN, wait=100.0)

    def more() -> None:
        host.scaling.of = replace(host.scaling.of, desired=3)

    host.clock.at(host.clock.now() + 30, more)
    assert succeeded(host.finish())
    assert entered(host)


def test_a_host_whose_group_loses_its_room_meanwhile_goes_back_and_says_why() -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    while MINE in host.aws.registered():
        host.turn()
    host.scaling.of = replace(host.scaling.of, minimum=2)
    outcome, message = failure_of(host.finish())
    assert outcome is Outcome.REFUSED
    assert "min-size=2" in message
    assert MINE in host.aws.registered()
    assert isinstance(host.record().state, InService)
    assert host.scaling.state == "InService"


def test_without_the_permission_the_host_goes_back_too() -> None:
    host = host_of()
    host.scaling.denied["EnterStandby"] = AgentError(Kind.AWS_DENIED, "cannot call EnterStandby: denied")
    operation = host.do(Verb.DRAIN)
    assert operation.failure is not None
    assert operation.failure.kind == Kind.AWS_DENIED.wire
    assert MINE in host.aws.registered()


@pytest.mark.parametrize("state", ["Pending", "Standby", "Detaching"])
def test_only_an_instance_that_is_in_service_may_enter_standby(state: str) -> None:
    host = host_of()
    host.scaling.state = state
    outcome, message = failure_of(host.do(Verb.DRAIN))
    assert outcome is Outcome.REFUSED
    assert f"this host is {state} in the Auto Scaling group web-asg" in message
    assert calls(host) == []


def test_a_stop_that_cannot_be_prevented_enters_no_standby() -> None:
    host = host_of(minimum=2, desired=2)
    host.begin(Verb.DRAIN, stopping=True)
    assert succeeded(host.finish())
    assert calls(host) == ["DeregisterTargets"]


def test_a_host_that_is_in_no_group_drains_as_ever() -> None:
    host = host_of()
    host.metadata.state = None
    assert succeeded(host.do(Verb.DRAIN))
    assert calls(host) == ["DeregisterTargets"]


def test_what_the_group_is_must_be_known_before_anything_is_changed() -> None:
    host = host_of()
    host.scaling.denied["DescribeAutoScalingInstances"] = AgentError(Kind.AWS_DENIED, "cannot call: denied")
    outcome, message = failure_of(host.do(Verb.DRAIN))
    assert outcome is Outcome.FAILED
    assert "denied" in message
    assert calls(host) == []


def test_a_rejoin_waits_until_standby_is_reached_leaves_it_and_registers() -> None:
    host = host_of(until="closed")
    host.begin(Verb.DRAIN)
    while not host.scaling.made("EnterStandby"):
        host.turn()
    entered_at = host.clock.now()
    host.ledger.cancel(0)
    host.finish()
    assert host.scaling.state == "EnteringStandby"
    assert succeeded(host.do(Verb.REJOIN))
    assert host.clock.now() - entered_at >= host.scaling.standby_seconds
    assert host.scaling.state == "InService"
    assert host.scaling.of.desired == 2
    assert MINE in host.aws.registered()
    assert isinstance(host.record().state, InService)


def test_a_rejoin_asks_at_its_pace_while_standby_is_not_reached() -> None:
    host = host_of()
    host.scaling.standby_seconds = 400.0
    host.do(Verb.DRAIN)
    assert host.scaling.state == "EnteringStandby"
    assert succeeded(host.do(Verb.REJOIN))
    assert 5 <= len(host.scaling.made("ExitStandby")) <= 12


def test_a_host_that_others_registered_while_it_is_in_standby_leaves_it_all_the_same() -> None:
    host = host_of()
    host.do(Verb.DRAIN)
    host.aws.put("web")
    assert succeeded(host.do(Verb.REJOIN))
    assert host.scaling.state == "InService"


def test_a_host_that_others_registered_while_it_is_in_standby_drains_again() -> None:
    host = host_of()
    host.do(Verb.DRAIN)
    host.aws.put("web")
    assert succeeded(host.do(Verb.DRAIN))
    assert MINE not in host.aws.registered()
    assert len(host.scaling.made("EnterStandby")) == 1
    assert succeeded(host.do(Verb.REJOIN))
    assert host.scaling.state == "InService"


def test_a_host_that_goes_back_from_standby_still_knows_that_it_has_to_leave_it() -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    while not entered(host):
        host.turn()
    host.aws.put("web")  # others register it again, and the other host fails
    other = host.aws.put_sibling("web")
    host.aws.break_target(other, "Target.Timeout")
    assert host.finish().outcome is Outcome.REFUSED
    assert MINE in host.aws.registered()
    host.aws.break_target(other, "")
    assert succeeded(host.do(Verb.REJOIN))
    assert host.scaling.state == "InService"
    assert host.scaling.of.desired == 2


def test_a_mode_that_was_turned_off_between_deregistration_and_standby_costs_no_drain() -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    while MINE in host.aws.registered():
        host.turn()
    host.settings = host.settings.model_copy(update={"auto_scaling": type(host.settings.auto_scaling)(mode="off")})
    host.restart()
    assert succeeded(host.finish())
    assert host.scaling.state == "InService"


def test_another_version_of_the_record_still_knows_that_it_has_to_leave_standby() -> None:
    host = host_of()
    host.do(Verb.DRAIN)
    record, why = decoded({**encoded(host.record()), "version": 99}, host.clock.now())
    assert why
    host.store.written.append(record)
    host.restart()
    assert succeeded(host.do(Verb.REJOIN))
    assert host.scaling.state == "InService"


def test_a_second_drain_knows_that_it_is_in_standby() -> None:
    host = host_of()
    host.begin(Verb.DRAIN, 60.0)
    assert host.finish().outcome is Outcome.TIMED_OUT
    assert succeeded(host.do(Verb.DRAIN))
    assert len(host.scaling.made("EnterStandby")) == 1
    assert succeeded(host.do(Verb.REJOIN))
    assert host.scaling.state == "InService"


def test_a_mode_that_was_turned_off_meanwhile_does_not_leave_the_host_in_standby_without_a_word() -> None:
    host = host_of()
    host.do(Verb.DRAIN)
    host.metadata.state = "Standby"
    host.settings = host.settings.model_copy(update={"auto_scaling": type(host.settings.auto_scaling)(mode="off")})
    host.restart()
    outcome, message = failure_of(host.do(Verb.REJOIN))
    assert outcome is Outcome.FAILED
    assert message == "cannot leave Standby in the Auto Scaling group web-asg: `auto_scaling.mode` is off"
    assert MINE not in host.aws.registered()


@pytest.mark.parametrize("verb", [Verb.DRAIN, Verb.REJOIN])
@pytest.mark.parametrize("boot", [None, "boot-2"])
def test_a_daemon_that_dies_after_any_turn_ends_where_it_should(verb: Verb, boot: str | None) -> None:
    turns = 0
    while True:
        host = host_of()
        if verb is Verb.REJOIN:
            assert succeeded(host.do(Verb.DRAIN))
        host.begin(verb)
        for _ in range(turns):
            if host.ledger.running() is not None:
                host.turn()
        if host.ledger.running() is None:
            break
        host.restart(boot)
        if host.ledger.running() is not None:
            host.finish()
        assert succeeded(host.do(Verb.REJOIN))
        assert host.scaling.state == "InService"
        assert host.scaling.of.desired == 2
        assert MINE in host.aws.registered()
        turns += 1
    assert turns > 5


def test_a_dry_run_says_that_the_group_has_no_room() -> None:
    host = host_of(minimum=2, desired=2)
    refusal = host.reporter().plan(Verb.DRAIN, ()).refusal
    assert refusal is not None
    assert "minimum is 2" in refusal.message


def test_status_and_doctor_say_how_long_a_host_is_out_at_least() -> None:
    host = host_of()
    said = "a drain enters Standby, which takes at least 300 s"
    assert said in next(f.said for f in host.doctor().examine() if f.name == "auto scaling")
    host.do(Verb.DRAIN)
    assert said in host.status().scaling
    assert not any("replace" in warning for warning in host.status().warnings)


@pytest.mark.parametrize("call", ["EnterStandby", "ExitStandby"])
def test_doctor_names_the_missing_permission_and_changes_nothing(call: str) -> None:
    host = host_of()
    assert next(f for f in host.doctor().examine() if f.name == "standby").ok
    host.scaling.denied[call] = AgentError(Kind.AWS_DENIED, f"cannot call {call}: denied")
    finding = next(f for f in host.doctor().examine() if f.name == "standby")
    assert not finding.ok
    assert call in finding.said
    assert host.scaling.state == "InService"
    assert host.scaling.of.desired == 2


def out_before_the_mode_was_set(minimum: int) -> Host:
    """Its drain timed out without Standby; then somebody turned the mode on."""
    host = host_of(minimum=minimum, mode="watch")
    assert host.do(Verb.DRAIN, 60.0).outcome is Outcome.TIMED_OUT
    host.settings = host.settings.model_copy(update={"auto_scaling": type(host.settings.auto_scaling)(mode="standby")})
    host.restart()
    host.scaling.calls.clear()
    return host


@pytest.mark.parametrize("wait", [0.0, 100.0])
def test_a_host_that_is_out_already_does_not_ask_for_standby_where_the_group_has_no_room(wait: float) -> None:
    host = out_before_the_mode_was_set(minimum=2)
    began = host.clock.now()
    outcome, message = failure_of(host.do(Verb.DRAIN, wait=wait))
    assert outcome is Outcome.REFUSED
    assert message == "cannot drain: Standby takes one of 2 desired instances of web-asg, whose minimum is 2"
    assert host.clock.now() - began >= wait
    assert not host.scaling.made("EnterStandby")
    assert MINE not in host.aws.registered()


def test_a_host_that_is_out_already_enters_standby_as_soon_as_the_group_has_room() -> None:
    host = out_before_the_mode_was_set(minimum=2)

    def more() -> None:
        host.scaling.of = replace(host.scaling.of, desired=3)

    host.clock.at(host.clock.now() + 40, more)
    assert succeeded(host.do(Verb.DRAIN, wait=100.0))
    assert len(host.scaling.made("EnterStandby")) == 1


@pytest.mark.parametrize("state", [None, "InService"])
def test_a_host_that_its_group_has_let_go_meanwhile_has_no_standby_to_leave(state: str | None) -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    host.scaling.of = replace(host.scaling.of, name="another-asg")
    host.scaling.state = state  # detached; or attached to another group since

    def refused(group: str, instance_id: str) -> None:
        host.scaling.calls.append(("ExitStandby", host.clock.now()))
        raise AgentError(Kind.REFUSED, "cannot call ExitStandby: it is not part of the group", transient=True)

    host.scaling.exit_standby = refused  # type: ignore[method-assign]  the fake's own seam
    assert succeeded(host.do(Verb.REJOIN))
    assert len(host.scaling.made("ExitStandby")) == 1
    assert MINE in host.aws.registered()
    assert isinstance(host.record().state, InService)


def test_a_host_that_is_terminated_while_it_leaves_standby_is_not_registered() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    host.begin(Verb.REJOIN)
    while not host.scaling.made("ExitStandby"):
        host.turn()
    host.metadata.state = "Terminated"
    host.finish()
    assert "RegisterTargets" not in host.aws.calls
    assert MINE not in host.aws.registered()
