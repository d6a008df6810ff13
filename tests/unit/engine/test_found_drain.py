"""What the lab showed about drains and what follows them: the real core over fakes, in fake time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fakes import START, FakeAws, FakeClock, arn, group
from host import Host, succeeded
from lagging_aws import LaggingAws
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import State, Target, TargetGroup
from zdd_agent.model.kernel import Connection, Until
from zdd_agent.model.operation import Outcome, Verb
from zdd_agent.model.states import Confirming

DELAY = 300.0


class Refusing(FakeAws):
    """Refuses to register an address while it drains, as the ALB guide says."""

    def register(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        draining = {h.target for h in self.health(asked.arn) if h.state is State.DRAINING}
        self.calls.pop()  # that was not the agent
        if asked.target_type == "ip" and draining.intersection(targets):
            self._called("RegisterTargets")
            raise AgentError(Kind.FAILED, "cannot call RegisterTargets: InvalidTarget: still being deregistered")
        super().register(asked, targets)


class LateRefusing(LaggingAws):
    """The same, and it shows late what it has accepted."""

    def register(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        if any(gone is not None and self.clock.time < gone for _, _, _, gone in self._targets.values()):
            self._called("RegisterTargets")
            raise AgentError(Kind.FAILED, "cannot call RegisterTargets: InvalidTarget: still being deregistered")
        super().register(asked, targets)


def drained_host(*groups: TargetGroup) -> Host:
    """Drained by proof long before the API says `unused`."""
    host = Host(*groups, until=Until.IDLE, aws=Refusing(FakeClock(), groups))
    for one in groups:
        target = host.aws.put(one.name, "10.0.0.1" if one.target_type == "ip" else "i-me")
        host.aws.put_sibling(one.name)
        assert target.port == 8080
    host.sensor.open = [
        Connection(
            1,
            8080,
            "10.0.0.1",
            "10.0.9.1",
            40000,
            data_segments_received=1,
            data_segments_sent=1,
            last_received_seconds_ago=100.0,
            last_sent_seconds_ago=99.0,
        )
    ]
    host.sensor.nodes = ("10.0.9.1",)
    host.sensor.in_service = lambda: host.ledger.record().left is None
    host.has_run_for(120)
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - START < 60
    return host


@pytest.mark.parametrize("delay", [DELAY, 3600.0])
def test_a_rejoin_outlasts_the_whole_delay_where_aws_refuses_an_address_that_drains(delay: float) -> None:
    host = drained_host(group(target_type="ip", deregistration_delay=delay))
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation), operation.message
    assert delay < host.clock.now() - START < delay + 60


def test_it_asks_aws_no_more_often_than_useful_meanwhile() -> None:
    host = drained_host(group(target_type="ip"))
    before = len(host.aws.calls)
    assert succeeded(host.do(Verb.REJOIN))
    assert len(host.aws.calls) - before <= 8, host.aws.calls[before:]


def test_a_group_that_refuses_keeps_no_other_group_waiting() -> None:
    host = drained_host(group("addresses", target_type="ip"), group("web"))
    host.begin(Verb.REJOIN)
    while host.clock.now() - START < 100:
        host.turn()
    assert (arn("web"), "i-me", 8080) in host.aws.registered()
    operation = host.finish()
    assert succeeded(operation), operation.message
    assert (arn("addresses"), "10.0.0.1", 8080) in host.aws.registered()


def test_a_time_out_that_was_asked_for_is_kept_while_aws_refuses() -> None:
    host = drained_host(group(target_type="ip"))
    began = host.clock.now()
    operation = host.do(Verb.REJOIN, 50.0)
    assert operation.outcome is Outcome.TIMED_OUT
    assert "still being deregistered" in operation.message + str(operation.failure)
    assert host.clock.now() - began < 60


def test_a_rejoin_that_is_refused_while_the_api_does_not_show_yet_that_the_target_drains_waits_as_well() -> None:
    aws = LateRefusing(FakeClock(), [group(target_type="ip", deregistration_delay=60.0)], lag=0.0)
    host = Host(aws=aws)
    aws.put("web", "10.0.0.1")
    aws.put_sibling("web")
    host.rest(100)
    host.begin(Verb.DRAIN)
    while not isinstance(host.record().state, Confirming):
        host.turn()
    host.restart("boot-2")
    aws.lag = 9.0
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation), operation.message


def test_a_rejoin_that_is_refused_in_the_last_moment_of_the_delay_tries_once_more() -> None:
    host = drained_host(group(target_type="ip", deregistration_delay=60.0))
    register, refused = host.aws.register, []

    def refusing(asked: TargetGroup, targets: Sequence[Target]) -> None:
        if not refused:
            refused.append(asked)
            host.clock.time = START + 60.1  # from here on AWS lists it no more
            raise AgentError(Kind.FAILED, "cannot call RegisterTargets: InvalidTarget: still being deregistered")
        register(asked, targets)

    host.aws.register = refusing  # type: ignore[method-assign]  the fake's own seam
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation), operation.message
