"""The daemon, or the whole host, restarts in each state of an operation; the operation still ends as it should."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from fakes import ME, START, arn, group
from host import MANY_TURNS, Host, succeeded
from zdd_agent.model.aws import Identity, State
from zdd_agent.model.operation import Operation, Outcome, Phase, Posture, Verb
from zdd_agent.model.states import (
    Claiming,
    Confirming,
    Drained,
    Draining,
    GoingBack,
    Guarding,
    InService,
    Joining,
    Probing,
    Warming,
)

DRAIN = (Guarding, Claiming, Confirming, Draining)
REJOIN = (Probing, Joining, Warming)
HERE, THERE = (arn("web"), "i-me", 8080), (arn("web"), "i-other", 8080)


def until(host: Host, state: type, others: Callable[[], None] = lambda: None) -> Operation:
    """Turn the host until it is in this state; the operation that is under way then."""
    for _ in range(MANY_TURNS):
        operation = host.ledger.running()
        assert operation is not None, f"the operation ended without {state.__name__}: {host.record().last}"
        if isinstance(host.record().state, state):
            return operation
        host.turn()
        others()
    raise AssertionError(f"never in {state.__name__}")


def in_one_group() -> Host:
    host = Host(group())
    host.aws.put("web")
    host.aws.put_sibling("web")
    return host


def in_a_drain(state: type) -> Host:
    host = in_one_group()
    host.begin(Verb.DRAIN)
    until(host, state)
    return host


def in_a_rejoin(state: type) -> Host:
    host = in_one_group()
    assert succeeded(host.do(Verb.DRAIN))
    host.begin(Verb.REJOIN)
    until(host, state)
    return host


def going_back() -> Host:
    """The later of two hosts that left at the same moment: it deregistered, and is needed."""
    first = Host(group())
    second = Host(aws=first.aws, who=Identity("i-other", ME.region, ME.zone, ME.vpc_id, ("10.0.0.2",)))
    first.aws.put("web")
    first.aws.put_sibling("web")
    for host in (first, second):
        host.begin(Verb.DRAIN)
    for host in itertools.islice(itertools.cycle((first, second)), MANY_TURNS):
        operation = host.ledger.running()
        if operation is not None and host.runner.tick(operation) > 0:
            host.clock.time += 0.05
        for one in (first, second):
            if isinstance(one.record().state, GoingBack):
                return one
    raise AssertionError("none of the two goes back")


def test_of_two_hosts_that_left_at_once_the_one_that_goes_back_is_out_at_first() -> None:
    host = going_back()
    assert host.ledger.running() is not None
    assert host.record().underway is not None
    assert host.record().underway.request.verb is Verb.DRAIN
    assert host.aws.registered() == set()


@pytest.mark.parametrize("state", DRAIN)
def test_a_drain_goes_on_after_a_restart_of_the_daemon(state: type) -> None:
    host = in_a_drain(state)
    before, id_before = host.record(), host.ledger.running()
    host.restart()
    assert host.record() == before
    operation = host.finish()
    assert id_before is not None
    assert operation.id == id_before.id
    assert succeeded(operation)
    assert operation.phase is Phase.SETTLED
    assert host.aws.calls.count("DeregisterTargets") == 1
    assert host.aws.registered() == {THERE}
    assert host.clock.now() - START >= 300
    assert isinstance(host.record().state, Drained)
    assert host.posture() is Posture.DRAINED


@pytest.mark.parametrize("state", REJOIN)
def test_a_rejoin_goes_on_after_a_restart_of_the_daemon(state: type) -> None:
    host = in_a_rejoin(state)
    before, id_before = host.record(), host.ledger.running()
    host.restart()
    assert host.record() == before
    operation = host.finish()
    assert id_before is not None
    assert operation.id == id_before.id
    assert succeeded(operation)
    assert operation.phase is Phase.IN_SERVICE
    assert host.aws.registered() == {HERE, THERE}
    assert all(health.state is State.HEALTHY for health in host.aws.health(arn("web")))
    assert isinstance(host.record().state, InService)


def test_a_host_that_goes_back_does_so_after_a_restart_of_the_daemon() -> None:
    host = going_back()
    me = (arn("web"), host.metadata.who.instance_id, 8080)
    host.restart()
    operation = host.finish()
    assert operation.outcome is Outcome.REFUSED
    assert operation.failure is not None
    assert "at the same moment" in operation.failure.message
    assert me in host.aws.registered()
    assert isinstance(host.record().state, InService)
    host.clock.time += 60
    assert host.posture() is Posture.IN_SERVICE


@pytest.mark.parametrize("state", [Claiming, Confirming, Draining])
def test_a_restart_between_a_call_and_its_record_makes_the_same_call_again_and_harms_nothing(state: type) -> None:
    host = in_a_drain(state)
    here = next(t for t in host.record().membership.targets)
    host.aws.deregister(host.aws.groups[here.group], (here,))  # accepted, but the daemon died before it noted that
    host.restart()
    assert succeeded(host.finish())
    assert host.aws.registered() == {THERE}


def test_a_registration_that_the_daemon_did_not_live_to_note_is_made_again() -> None:
    host = in_a_rejoin(Joining)
    here = next(t for t in host.record().membership.targets)
    host.aws.register(host.aws.groups[here.group], (here,))
    host.restart()
    assert succeeded(host.finish())
    assert host.aws.registered() == {HERE, THERE}


@pytest.mark.parametrize("state", DRAIN)
def test_a_reboot_ends_a_drain_and_a_rejoin_brings_the_host_back(state: type) -> None:
    host = in_a_drain(state)
    out = state in (Confirming, Draining)
    host.restart("boot-2")
    assert host.ledger.running() is None
    last = host.record().last
    assert last is not None
    assert (last.verb, last.outcome) == (Verb.DRAIN, Outcome.CANCELLED)
    assert last.failure is not None
    assert "the host restarted" in last.failure.message
    assert (HERE in host.aws.registered()) is not out
    assert (host.record().out_since is None) is (state is Guarding)
    assert succeeded(host.do(Verb.REJOIN))
    assert host.aws.registered() == {HERE, THERE}
    assert isinstance(host.record().state, InService)
    assert host.posture() is Posture.IN_SERVICE


def test_a_reboot_of_a_host_that_goes_back_leaves_it_out_and_a_rejoin_brings_it_back() -> None:
    host = going_back()
    me = (arn("web"), host.metadata.who.instance_id, 8080)
    host.restart("boot-2")
    last = host.record().last
    assert last is not None
    assert last.outcome is Outcome.CANCELLED
    assert host.record().out_since is not None
    assert me not in host.aws.registered()
    assert succeeded(host.do(Verb.REJOIN))
    assert me in host.aws.registered()
    assert isinstance(host.record().state, InService)


@pytest.mark.parametrize("state", REJOIN)
def test_a_rejoin_goes_on_over_a_reboot_to_its_end_and_asks_the_app_again(state: type) -> None:
    host = in_a_rejoin(state)
    under_way, probes = host.ledger.running(), host.prober.asked
    host.restart("boot-2")
    assert isinstance(host.record().state, Probing)
    operation = host.finish()
    assert under_way is not None
    assert operation.id == under_way.id
    assert succeeded(operation)
    assert host.aws.registered() == {HERE, THERE}
    assert isinstance(host.record().state, InService)
    registered_already = state is Warming
    assert host.prober.asked > probes or registered_already


@pytest.mark.parametrize("state", REJOIN)
def test_a_rejoin_has_the_time_to_go_on_however_long_the_reboot_takes(state: type) -> None:
    host = in_a_rejoin(state)
    host.clock.time += 3600
    host.restart("boot-2")
    assert succeeded(host.finish())
    assert host.aws.registered() == {HERE, THERE}


@pytest.mark.parametrize("boot", [None, "boot-2"])
@pytest.mark.parametrize("verb", list(Verb))
def test_a_restart_between_operations_starts_nothing(boot: str | None, verb: Verb) -> None:
    host = in_one_group()
    assert succeeded(host.do(Verb.DRAIN))
    if verb is Verb.REJOIN:
        assert succeeded(host.do(Verb.REJOIN))
    before, calls = host.record(), list(host.aws.calls)
    host.restart(boot)
    host.rest(600)
    assert host.ledger.running() is None
    assert (host.record().state, host.record().last) == (before.state, before.last)
    assert host.aws.calls == calls


@pytest.mark.parametrize("verb", [Verb.DRAIN, Verb.REJOIN])
def test_an_operation_that_is_taken_up_after_its_deadline_ends_on_a_whole_look(verb: Verb) -> None:
    host = Host(group("first", deregistration_delay=5.0), group("second", deregistration_delay=5.0))
    for name in ("first", "second"):
        host.aws.put(name)
        host.aws.put_sibling(name)
    if verb is Verb.REJOIN:
        host.do(Verb.DRAIN)
    host.begin(verb, 100.0)
    while not isinstance(host.record().state, Draining | Warming):
        host.turn()
    host.clock.time += 200  # the daemon was down, and all is over by now
    host.restart()
    operation = host.finish()
    assert operation.outcome is Outcome.SUCCEEDED, operation.message
