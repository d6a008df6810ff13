"""A call that AWS refuses for good after another one has gone through: the host is not left half out."""

from __future__ import annotations

import pytest

from fakes import arn, group
from host import Host, succeeded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Target, TargetGroup
from zdd_agent.model.operation import Outcome, Posture, Verb
from zdd_agent.model.states import InService, Out

DENIED = AgentError(Kind.AWS_DENIED, "cannot call DeregisterTargets: denied", hint="allow it in the role's policy")


def in_two_groups() -> Host:
    host = Host(group("first"), group("second"))
    for name in ("first", "second"):
        host.aws.put(name)
        host.aws.put_sibling(name)
    return host


def refuses(host: Host, name: str, error: AgentError) -> list[str]:
    """AWS refuses to deregister anything of this group; the list fills with the groups of the calls."""
    deregister, asked_for = host.aws.deregister, []

    def refusing(asked: TargetGroup, targets: tuple[Target, ...]) -> None:
        asked_for.append(asked.name)
        if asked.name == name:
            raise error
        deregister(asked, targets)

    host.aws.deregister = refusing  # type: ignore[assignment]  the fake's own seam
    return asked_for


def registered(host: Host) -> set[str]:
    return {key[0] for key in host.aws.registered() if key[1] == "i-me"}


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_host_that_cannot_leave_all_of_its_groups_goes_back_into_the_others(name: str, restarts: bool) -> None:
    host = in_two_groups()
    refuses(host, name, DENIED)
    host.begin(Verb.DRAIN)
    if restarts:
        for _ in range(5):
            host.turn()
        host.restart()
    operation = host.finish()
    assert operation.failure is not None
    assert operation.failure.kind == Kind.AWS_DENIED.wire, "exit code 6"
    assert operation.failure.hint == DENIED.hint
    assert registered(host) == {arn("first"), arn("second")}
    assert isinstance(host.record().state, InService)
    host.clock.time += 60
    assert host.posture() is Posture.IN_SERVICE
    assert host.status().out_since is None


def test_going_back_registers_only_what_was_deregistered() -> None:
    host = in_two_groups()
    refuses(host, "second", DENIED)
    registered_again: list[str] = []
    register = host.aws.register

    def noting(asked: TargetGroup, targets: tuple[Target, ...]) -> None:
        registered_again.append(asked.name)
        register(asked, targets)

    host.aws.register = noting  # type: ignore[assignment]  the fake's own seam
    host.do(Verb.DRAIN)
    assert registered_again == ["first"]


def test_a_wait_does_not_ask_again_for_what_is_denied() -> None:
    host = in_two_groups()
    calls = refuses(host, "second", DENIED)
    host.do(Verb.DRAIN, wait=300.0)
    assert calls == ["first", "second"]


def test_a_stop_that_cannot_be_prevented_leaves_what_it_can_and_says_what_it_cannot() -> None:
    host = in_two_groups()
    refuses(host, "second", DENIED)
    host.begin(Verb.DRAIN, stopping=True)
    operation = host.finish()
    assert operation.outcome is Outcome.FAILED
    assert "denied" in operation.message
    assert registered(host) == {arn("second")}
    assert isinstance(host.record().state, Out)


def test_a_time_out_between_two_groups_says_what_is_out_and_what_is_not() -> None:
    host = in_two_groups()
    refuses(host, "second", AgentError(Kind.AWS_UNAVAILABLE, "cannot call: AWS answered 503", transient=True))
    operation = host.do(Verb.DRAIN)
    assert operation.outcome is Outcome.TIMED_OUT
    assert registered(host) == {arn("second")}
    assert "cannot call: AWS answered 503" in operation.message
    assert host.posture() is Posture.OUT_OF_SERVICE
    host.aws.deregister = type(host.aws).deregister.__get__(host.aws)  # type: ignore[method-assign]  as it was
    assert succeeded(host.do(Verb.REJOIN))
    assert registered(host) == {arn("first"), arn("second")}
