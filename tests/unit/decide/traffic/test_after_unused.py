"""What holds a drain after `unused`, and whose work counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START, group
from kernel import PORT, Kernel
from zdd_agent.decide import drain_end
from zdd_agent.decide.evidence import Senses
from zdd_agent.decide.traffic import after_unused
from zdd_agent.decide.traffic.nodes import Nodes
from zdd_agent.decide.traffic.trust import Trust
from zdd_agent.decide.traffic.watch import Watch
from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.states import Departure, Draining, Ending

NODE, SCRAPER = "10.0.1.1", "10.0.7.7"
NODES = frozenset({NODE})
QUIET = 5.0
TRUST = Trust(START - 1000, {}, "", Nodes({}, START, {(NODE, PORT): START}), None, {})


def watched(kernel: Kernel, at: float = START) -> Watch:
    return Watch.begin(kernel.sample(at), {}, QUIET)


def request_of(kernel: Kernel, peer: str, at: float = START - 20) -> int:
    cookie = kernel.connect(at, peer)
    kernel.receive(cookie, at)
    return cookie


def holders(watch: Watch, nodes: frozenset[str] = NODES) -> list[str]:
    return [track.connection.peer for track in after_unused.work_of(watch, nodes)]


def test_a_nodes_request_holds_and_a_scrapers_does_not() -> None:
    kernel = Kernel()
    for peer in (NODE, SCRAPER):
        request_of(kernel, peer)
    watch = watched(kernel)
    assert holders(watch) == [NODE]
    assert [track.connection.peer for track in after_unused.of_others(watch, NODES)] == [SCRAPER]


def test_any_peers_request_holds_where_no_node_is_known() -> None:
    kernel = Kernel()
    request_of(kernel, SCRAPER)
    watch = watched(kernel)
    assert holders(watch, frozenset()) == [SCRAPER]
    assert after_unused.of_others(watch, frozenset()) == ()


def test_an_idle_connection_of_a_node_holds_nothing() -> None:
    kernel = Kernel()
    cookie = request_of(kernel, NODE)
    kernel.send(cookie, START - 19)
    assert holders(watched(kernel)) == []


@pytest.mark.parametrize("which", ["unread", "unsent"])
def test_bytes_that_wait_hold(which: str) -> None:
    kernel = Kernel()
    cookie = request_of(kernel, NODE)
    kernel.send(cookie, START - 19, unsent=10 if which == "unsent" else 0)
    if which == "unread":
        kernel.receive(cookie, START - 18, unread=10)
    assert holders(watched(kernel)) == [NODE]


def test_what_may_have_been_answered_holds_for_as_long_as_a_load_balancer_waits_for_an_answer() -> None:
    kernel = Kernel()
    cookie = request_of(kernel, NODE)
    kernel.receive(cookie, START - 20)
    kernel.send(cookie, START - 20)
    assert holders(watched(kernel)) == [NODE]
    assert holders(watched(kernel, START + 39)) == [NODE]
    assert holders(watched(kernel, START + 41)) == []


def test_what_was_surely_not_answered_holds_without_end() -> None:
    kernel = Kernel()
    request_of(kernel, NODE)
    assert holders(watched(kernel, START + 4000)) == [NODE]


def test_a_node_that_sends_on_connections_that_end_at_once_still_sends() -> None:
    kernel = Kernel()
    watch = watched(kernel)
    for peer in (NODE, SCRAPER):
        kernel.exchange(START + 1, peer)
    watch = watch.after(kernel.sample(START + 1))
    assert after_unused.still_sending(watch, NODES, START + 2) == NODE
    assert after_unused.still_sending(watch, NODES, START + 1 + QUIET) == ""
    assert after_unused.still_sending(watch, frozenset(), START + 2) == ""


STATE = Draining(Departure(START - 100, START - 100), Ending(Until.CLOSED))


def of(**changed: object) -> Membership:
    web = group(**changed)
    return Membership((web,), (Target(web.arn, "i-me", PORT),))


def test_a_drain_says_what_it_did_not_wait_for() -> None:
    kernel = Kernel()
    request_of(kernel, SCRAPER)
    senses = Senses(watch=watched(kernel), trust=TRUST)
    assert drain_end.blocking(STATE, of(), senses, START) == ""
    said = drain_end.unproved(STATE, of(), senses, START)
    assert said == f"; not waited for: {SCRAPER}:40001 to port {PORT}, over 0 s old, with work"


def test_any_peers_request_holds_where_not_every_node_can_have_been_seen_before_the_deregistration() -> None:
    kernel = Kernel()
    request_of(kernel, SCRAPER)
    late = replace(TRUST, began_at=STATE.left.accepted_at - 14)  # three intervals are 15 s
    assert "work is left" in drain_end.blocking(STATE, of(), Senses(watch=watched(kernel), trust=late), START)


def test_where_client_addresses_are_preserved_any_peers_request_holds_also_where_the_nodes_are_known() -> None:
    kernel = Kernel()
    request_of(kernel, SCRAPER)
    senses = Senses(watch=watched(kernel), trust=TRUST)
    assert SCRAPER in drain_end.blocking(STATE, of(preserve_client_ip=True), senses, START)
    assert drain_end.unproved(STATE, of(preserve_client_ip=True), senses, START) == ""


def test_a_node_that_still_sends_holds_the_drain() -> None:
    kernel = Kernel()
    watch = watched(kernel)
    kernel.exchange(START + 1, NODE)
    senses = Senses(watch=watch.after(kernel.sample(START + 1)), trust=TRUST)
    assert f"node {NODE} still sends" in drain_end.blocking(STATE, of(), senses, START + 2)


def test_by_the_api_alone_the_connections_hold_nothing() -> None:
    kernel = Kernel()
    request_of(kernel, NODE)
    senses = Senses(watch=watched(kernel), trust=TRUST)
    alone = replace(STATE, ending=Ending(Until.UNUSED))
    assert drain_end.blocking(alone, of(), senses, START) == ""
    assert drain_end.unproved(alone, of(), senses, START) == ""
    assert not drain_end.must_look(alone, Senses(), START)
