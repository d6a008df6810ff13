"""A host that may be in Standby without an answer of AWS: no rejoin leaves it there, no drain forgets to enter it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import arn, group
from host import Host, succeeded
from troubles import Killed, away
from zdd_agent.model.auto_scaling import ScalingGroup
from zdd_agent.model.operation import Outcome, Verb
from zdd_agent.model.states import InService

MINE = (arn("web"), "i-me", 8080)


def host_of() -> Host:
    host = Host(group(), auto_scaling={"mode": "standby"})
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.metadata.state = "InService"
    host.scaling.of = ScalingGroup("web-asg", "ELB", 1, 2, (arn("web"),))
    return host


def asked_to_enter(host: Host) -> None:
    """It drains until it has asked for Standby once. AWS does that, and its answer does not come."""
    host.begin(Verb.DRAIN)
    while not host.scaling.made("EnterStandby"):
        try:
            host.turn()
        except Killed:
            host.restart()
    assert host.scaling.state == "EnteringStandby"


def somebody_takes_it_out_of_standby(host: Host) -> None:
    host.scaling.state = host.metadata.state = "InService"
    host.scaling.of = replace(host.scaling.of, desired=2)


def back_in_service(host: Host) -> None:
    assert succeeded(host.do(Verb.REJOIN))
    assert host.scaling.state == "InService"
    assert host.scaling.of.desired == 2
    assert MINE in host.aws.registered()
    assert isinstance(host.record().state, InService)


@pytest.mark.parametrize("lost", [away(), Killed()])
def test_a_drain_that_is_cancelled_before_it_knows_that_it_is_in_standby_is_left_by_a_rejoin(
    lost: BaseException,
) -> None:
    host = host_of()
    host.scaling.lost["EnterStandby"] = [lost]
    asked_to_enter(host)
    host.ledger.cancel(0)
    assert host.finish().outcome is Outcome.CANCELLED
    back_in_service(host)


def test_a_drain_that_times_out_without_an_answer_is_left_by_a_rejoin() -> None:
    host = host_of()
    host.scaling.lost["EnterStandby"] = [away()]
    asked_to_enter(host)
    host.scaling.denied["EnterStandby"] = away()
    assert host.finish().outcome is Outcome.TIMED_OUT
    del host.scaling.denied["EnterStandby"]
    back_in_service(host)


def test_a_reboot_before_the_answer_is_left_by_the_rejoin_at_the_start_of_the_host() -> None:
    host = host_of()
    host.scaling.lost["EnterStandby"] = [Killed()]
    asked_to_enter(host)
    host.restart("boot-2")
    back_in_service(host)


def test_a_drain_that_could_not_ask_leaves_it_to_the_next_one_to_enter_standby() -> None:
    host = host_of()
    host.scaling.denied["EnterStandby"] = away()
    assert host.do(Verb.DRAIN).outcome is Outcome.TIMED_OUT
    del host.scaling.denied["EnterStandby"]
    assert host.scaling.state == "InService"
    assert succeeded(host.do(Verb.DRAIN))
    assert host.scaling.state in ("EnteringStandby", "Standby")
    back_in_service(host)


def test_a_host_that_somebody_took_out_of_standby_enters_it_again_with_the_next_drain() -> None:
    host = host_of()
    assert host.do(Verb.DRAIN, 60.0).outcome is Outcome.TIMED_OUT
    somebody_takes_it_out_of_standby(host)
    assert succeeded(host.do(Verb.DRAIN))
    assert host.scaling.state in ("EnteringStandby", "Standby")
    back_in_service(host)


def test_an_exit_by_hand_does_for_an_agent_whose_mode_is_off() -> None:
    host = host_of()
    host.scaling.standby_seconds = 100.0
    host.do(Verb.DRAIN)
    host.settings = host.settings.model_copy(update={"auto_scaling": type(host.settings.auto_scaling)(mode="off")})
    host.restart()
    host.metadata.state = "Standby"
    refused = host.do(Verb.REJOIN)
    assert refused.outcome is Outcome.FAILED
    assert "aws autoscaling exit-standby" in refused.failure.hint  # type: ignore[union-attr]
    somebody_takes_it_out_of_standby(host)
    back_in_service(host)
