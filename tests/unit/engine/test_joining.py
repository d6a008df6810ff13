"""What a second caller gets who joins a drain: one that goes back, or one that ends later than this host does."""

from __future__ import annotations

from fakes import START, arn, group
from host import Host, going_back, succeeded
from zdd_agent.model.kernel import Connection, Until
from zdd_agent.model.operation import Check, Outcome, Verb
from zdd_agent.model.states import Draining

MINE = (arn("web"), "i-me", 8080)


def in_service(until: Until = Until.UNUSED) -> Host:
    host = Host(group(), until=until)
    host.aws.put("web")
    host.aws.put_sibling("web")
    return host


def test_a_caller_who_skips_the_guard_gets_a_drain_although_the_one_that_it_joins_goes_back() -> None:
    host = going_back(in_service())
    host.begin(Verb.DRAIN, force=(Check.MIN_HEALTHY,))
    host.restart()
    assert succeeded(host.finish())
    assert MINE not in host.aws.registered()


def test_a_caller_who_skips_nothing_gets_the_refusal_of_the_drain_that_it_joins() -> None:
    host = going_back(in_service())
    host.begin(Verb.DRAIN)
    assert host.finish().outcome is Outcome.REFUSED
    assert MINE in host.aws.registered()


def test_a_drain_ends_before_the_host_does_where_a_stop_that_cannot_be_prevented_joins_it() -> None:
    host = in_service(Until.CLOSED)
    host.sensor.nodes = ("10.0.9.1",)
    host.has_run_for(120)
    host.sensor.open = [Connection(1, 8080, "10.0.0.1", "10.0.9.1", 40_001)]
    host.begin(Verb.DRAIN, 900.0)
    while not isinstance(host.record().state, Draining):
        host.turn()
    joined_at = host.clock.now()
    host.begin(Verb.DRAIN, 115.0, stopping=True)
    operation = host.begin(Verb.DRAIN, 900.0)  # nobody who joins later lengthens it
    assert operation.deadline == joined_at + 115
    assert host.finish().outcome is Outcome.TIMED_OUT
    assert host.clock.now() == joined_at + 115


def test_the_time_out_of_a_stop_holds_also_where_the_drain_that_it_joins_has_none_and_waits_for_the_guard() -> None:
    host = Host(group())
    host.aws.put("web")
    host.begin(Verb.DRAIN, wait=600.0)
    for _ in range(5):
        host.turn()
    joined_at = host.clock.now()
    host.begin(Verb.DRAIN, 115.0, stopping=True)
    assert host.finish().outcome is Outcome.TIMED_OUT
    assert host.clock.now() == joined_at + 115
    assert MINE not in host.aws.registered()


def test_a_stop_without_a_time_out_shortens_nothing() -> None:
    host = in_service()
    host.begin(Verb.DRAIN, 900.0)
    host.begin(Verb.DRAIN, stopping=True, wait=20.0)
    assert host.record().underway.deadline == START + 900  # type: ignore[union-attr]  it is under way
