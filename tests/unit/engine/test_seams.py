"""What slow answers, restarts, second callers and other people do between two steps of an operation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START, arn, group
from host import Host, succeeded
from zdd_agent.model.aws import TargetHealth
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Outcome, Verb
from zdd_agent.model.record import Guarding

MINE = (arn("web"), "i-me", 8080)


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
