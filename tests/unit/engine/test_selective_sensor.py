"""Peers that the settings leave out: no drain waits for them."""

from __future__ import annotations

from fakes import FakeClock, FakeSensor, group
from host import Host, succeeded
from zdd_agent.engine.selective_sensor import SelectiveSensor
from zdd_agent.model.kernel import Connection, Until
from zdd_agent.model.operation import Verb
from zdd_agent.settings import DrainSettings

NODE, SCRAPER = "10.0.9.1", "10.0.7.7"
PORTS = frozenset({8080})


def connection(peer: str, answered: bool) -> Connection:
    sent = int(answered)
    return Connection(
        hash(peer), 8080, "10.0.0.1", peer, 40_000, 0, 0, 100, 100, 1, sent, 0, 60.0, 59.0 if sent else 70.0
    )


def seen(sensor: FakeSensor, *ignored: str) -> set[str]:
    selective = SelectiveSensor(sensor, DrainSettings(ignore_peers=ignored).ignored)
    return {c.peer for c in selective.sample(PORTS, frozenset()).connections}


def test_the_peers_of_a_network_are_left_out() -> None:
    sensor = FakeSensor(FakeClock(), open=[connection(peer, True) for peer in (NODE, SCRAPER, "fd00::7")])
    assert seen(sensor, "10.0.7.0/24") == {NODE, "fd00::7"}
    assert seen(sensor, SCRAPER, "fd00::/64") == {NODE}
    assert seen(sensor) == {NODE, SCRAPER, "fd00::7"}


def test_no_drain_waits_for_a_peer_that_the_settings_ignore() -> None:
    host = Host(group(deregistration_delay=300.0), until=Until.CLOSED, drain={"ignore_peers": ["10.0.7.0/24"]})
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.sensor.open = [connection(NODE, True), connection(SCRAPER, False)]
    host.sensor.nodes = (NODE,)
    host.has_run_for(120)
    host.clock.at(host.clock.now() + 5, lambda: host.sensor.open.pop(0))
    operation = host.do(Verb.DRAIN)
    assert succeeded(operation)
    assert "no connection left" in operation.message
