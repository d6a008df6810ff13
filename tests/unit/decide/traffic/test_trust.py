"""What makes the sensor trusted, and what does not: simulated ends of connections, so that every moment is chosen."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

import pytest

from fakes import START, group
from kernel import PORT, Kernel
from zdd_agent.decide.traffic.nodes import pause
from zdd_agent.decide.traffic.trust import Trust, blindness, doubt_of_idle
from zdd_agent.model.aws import BalancerKind, HealthCheck, Membership, Target, TargetGroup

NODE, OTHER = "10.0.1.1", "10.0.1.2"
CHECKED = 9000
UNSEEN = "no health check of the load balancer was seen on port 8080 in 60 s"


def web(interval: float = 30.0, *, check: str = "HTTP", on: str = "traffic-port", **changed: object) -> TargetGroup:
    return group(health_check=HealthCheck(check, on, "/healthz", interval, 5.0, 2, "200"), **changed)


def varying(rng: random.Random, low: int = 200, high: int = 4000) -> Callable[[], int]:
    return lambda: rng.randint(low, high)


def of(*groups: TargetGroup) -> Membership:
    return Membership(groups, tuple(Target(one.arn, "i-me", PORT) for one in groups))


@dataclass
class Peer:
    """Somebody who connects every `period` seconds, each time with a request of `size()` bytes."""

    address: str
    period: float
    size: Callable[[], int] = lambda: 130
    port: int = PORT
    jitter: float = 0.0
    due: float = START + 1.0


@dataclass
class InService:
    """A host in service, whose agent reads now and then which connections have ended."""

    membership: Membership
    peers: list[Peer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = START
        self.kernel = Kernel(listening=frozenset({PORT, CHECKED}))
        self.rng = random.Random(1)
        self.trust = Trust.begin(START, self.membership)
        self.pause = pause(min(c.interval for port in self.trust.heard.checks.values() for c in port))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.pass_by(self.pause)
            self.trust = self.trust.after(self.now, self.kernel.sample(self.now).ended)

    def pass_by(self, seconds: float) -> None:
        """Time in which nobody reads."""
        self.now += seconds
        for peer in self.peers:
            while peer.due <= self.now:
                self.kernel.exchange(peer.due, peer.address, peer.size(), peer.port)
                peer.due += peer.period * self.rng.uniform(1 - peer.jitter, 1 + peer.jitter)

    def doubt(self) -> str:
        """As a drain finds it, which takes a sample."""
        return self.trust.sampled(self.kernel.sample(self.now)).doubt(self.now)


# Health checks make it trusted.


@pytest.mark.parametrize("interval", [5.0, 10.0, 30.0, 60.0, 300.0])
@pytest.mark.parametrize(
    ("check", "size"),
    [
        ("HTTP", lambda: 130),
        ("HTTP", partial(next, cycle((130, 131)))),  # a FIN counts as a byte, where it came in time
        ("HTTPS", varying(random.Random(3))),
        ("TCP", lambda: 1),
    ],
)
def test_two_checks_of_one_node_an_interval_apart_make_it_trusted(
    interval: float, check: str, size: Callable[[], int]
) -> None:
    host = InService(of(web(interval, check=check)), [Peer(NODE, interval, size, jitter=0.1)])
    host.run(interval / 2)
    assert "no health check" in host.doubt(), "one check is one connection"
    host.run(2 * interval)
    assert host.doubt() == ""
    assert host.trust.nodes == {NODE}
    host.run(5 * interval)
    assert host.doubt() == ""


@pytest.mark.parametrize("check", ["HTTP", "HTTPS"])
def test_checks_are_found_among_the_requests_of_their_node(check: str) -> None:
    """Over plain HTTP by their length; over TLS where the load balancer keeps its connections, as it does."""
    period = 0.05 if check == "HTTP" else 90.0
    requests = Peer(NODE, period, varying(random.Random(4)), jitter=0.5)
    host = InService(of(web(check=check)), [Peer(NODE, 30.0, jitter=0.1), requests])
    host.run(120)
    assert host.doubt() == ""


def test_two_groups_that_check_one_port_are_told_from_a_peer_that_connects_too_often() -> None:
    node = [Peer(NODE, 30.0, due=START + 3), Peer(NODE, 30.0, due=START + 13)]
    both = InService(of(web(), web(name="second")), node)
    both.run(75)
    assert both.doubt() == ""


def test_a_network_load_balancer_checks_a_target_from_several_places_behind_one_address() -> None:
    checkers = [Peer(NODE, 30.0, due=START + due, jitter=0.05) for due in (2, 9, 11, 25)]
    host = InService(of(web(kind=BalancerKind.NETWORK)), checkers)
    host.run(75)
    assert host.doubt() == ""


# Nobody else does.


@pytest.mark.parametrize("check", ["HTTP", "HTTPS", "TCP"])
def test_one_connection_of_anybody_proves_nothing(check: str) -> None:
    """As of a monitoring probe that comes to Docker's proxy, while the load balancer's nodes pass it by."""
    host = InService(of(web(check=check)), [Peer(OTHER, 1000.0, lambda: 1 if check == "TCP" else 130)])
    host.run(100)
    assert host.doubt() == UNSEEN
    assert host.trust.nodes == frozenset()


@pytest.mark.parametrize("period", [0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 60.0, 120.0])
@pytest.mark.parametrize("check", ["HTTP", "HTTPS"])
def test_a_monitoring_system_that_asks_more_or_less_often_than_a_check_proves_nothing(
    check: str, period: float
) -> None:
    host = InService(of(web(check=check)), [Peer(OTHER, period)])
    host.run(600)
    assert host.doubt() == UNSEEN


def test_open_connections_prove_nothing() -> None:
    host = InService(of(web()))
    host.kernel.connect(START, OTHER)
    host.run(100)
    assert host.doubt() == UNSEEN


def test_requests_of_different_lengths_an_interval_apart_are_no_checks_over_plain_http() -> None:
    host = InService(of(web()), [Peer(OTHER, 30.0, varying(random.Random(5)))])
    host.run(600)
    assert host.doubt() == UNSEEN


def test_what_carries_bytes_is_no_check_that_only_connects() -> None:
    host = InService(of(web(check="TCP")), [Peer(OTHER, 30.0)])
    host.run(600)
    assert host.doubt() == UNSEEN


def test_a_connection_that_ends_long_after_its_request_is_no_check() -> None:
    """As one that a load balancer keeps for the next request, until its idle time-out."""
    host = InService(of(web(300.0)))
    for _ in range(10):
        cookie = host.kernel.connect(host.now, OTHER)
        host.kernel.receive(cookie, host.now, 130)
        host.run(60)
        host.kernel.close(cookie, host.now)
        host.run(240)
    assert "no health check" in host.doubt()


def test_clients_whose_addresses_a_network_load_balancer_shows_are_no_nodes() -> None:
    rng = random.Random(6)
    clients = [
        Peer(f"192.0.{n // 250}.{n % 250 + 1}", 400.0, varying(rng), jitter=0.5, due=START + n / 12.5)
        for n in range(5000)
    ]
    nodes = [Peer(node, 10.0, jitter=0.05) for node in (NODE, OTHER)]
    shown = web(10.0, kind=BalancerKind.NETWORK, protocol="TCP", preserve_client_ip=True)
    host = InService(of(shown), [*clients, *nodes])
    host.run(300)
    assert host.doubt() == ""
    assert host.trust.nodes == {NODE, OTHER}


def test_what_is_kept_of_other_peers_is_bounded() -> None:
    rng = random.Random(7)
    crowd = [Peer(f"192.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}", 1e6, varying(rng)) for n in range(20_000)]
    host = InService(of(web()), [*crowd, *(Peer(f"10.1.0.{n}", 30.0) for n in range(100))])
    host.run(5)
    assert len(host.trust.heard.rows) <= 4096
    host.run(95)
    assert len(host.trust.heard.known) <= 64


# A port of its own for the checks.


def test_a_node_that_checks_another_port_must_come_to_the_apps_port_too() -> None:
    host = InService(of(web(on=str(CHECKED))), [Peer(NODE, 30.0, port=CHECKED), Peer(OTHER, 30.0)])
    host.run(120)
    assert host.doubt() == "no node of the load balancer was seen on port 8080 in 60 s"
    host.kernel.connect(host.now, NODE)
    assert host.doubt() == ""
    assert host.trust.nodes == {NODE}, "the other one is a client"
    assert host.trust.met == {}, "a client is not remembered"


def test_where_one_group_checks_the_apps_port_the_nodes_of_another_that_checks_elsewhere_prove_less() -> None:
    host = InService(of(web(), web(on=str(CHECKED), name="apart")), [Peer(NODE, 30.0, port=CHECKED)])
    host.run(120)
    host.kernel.connect(host.now, NODE)
    assert host.doubt() == UNSEEN


def test_without_checks_on_their_port_nothing_is_trusted() -> None:
    host = InService(of(web(on=str(CHECKED))), [Peer(NODE, 30.0)])
    host.run(120)
    assert host.doubt() == "no health check of the load balancer was seen on port 9000 in 60 s"


def test_where_the_app_sees_the_clients_and_the_checks_go_to_another_port_nothing_can_be_known() -> None:
    shown = web(on=str(CHECKED), kind=BalancerKind.NETWORK, protocol="TCP", preserve_client_ip=True)
    assert blindness(of(shown)) == "web shows the app its clients' addresses and is checked on a port of its own"
    assert blindness(of(web(preserve_client_ip=True))) == ""


def test_every_port_must_be_seen() -> None:
    first, second = web(), web(name="admin")
    both = Membership((first, second), (Target(first.arn, "i-me", PORT), Target(second.arn, "i-me", CHECKED)))
    host = InService(both, [Peer(NODE, 30.0)])
    host.run(100)
    assert "port 9000" in host.doubt()
    host.peers.append(Peer(NODE, 30.0, port=CHECKED, due=host.now))
    host.run(70)
    assert host.doubt() == ""


# How long.


def test_a_node_is_none_any_more_after_two_intervals_without_a_check() -> None:
    host = InService(of(web()), [Peer(NODE, 30.0)])
    host.run(65)
    host.peers.clear()
    host.run(50)
    assert host.doubt() == ""
    host.run(30)
    assert host.doubt() == UNSEEN
    assert host.trust.checking(host.now) == frozenset()
    assert host.trust.nodes == {NODE}, "its connections are a load balancer's all the same"


def test_a_node_that_comes_again_after_the_host_was_out_is_one_at_once() -> None:
    node = Peer(NODE, 30.0)
    host = InService(of(web()), [node])
    host.run(65)
    host.peers.clear()
    host.pass_by(300)
    host.trust = host.trust.registered(host.now)
    node.due = host.now + 10
    host.peers.append(node)
    host.run(20)
    assert host.doubt() == ""


def test_a_host_that_left_when_it_was_trusted_is_trusted_while_it_is_out() -> None:
    host = InService(of(web()), [Peer(NODE, 30.0)])
    host.run(65)
    left_at, host.peers = host.now, []
    host.run(300)
    assert host.trust.doubt(left_at) == ""


@pytest.mark.parametrize(("interval", "seconds"), [(1.0, 15.0), (5.0, 15.0), (30.0, 90.0), (300.0, 900.0)])
def test_waiting_is_in_vain_after_three_intervals(interval: float, seconds: float) -> None:
    assert Trust.begin(START, of(web(interval))).settled_at == START + seconds


def test_the_time_to_wait_begins_with_the_registration_and_after_a_time_in_which_nobody_listened() -> None:
    host = InService(of(web()))
    host.run(200)
    assert host.trust.settled_at <= host.now
    assert host.trust.registered(host.now).settled_at == host.now + 90
    host.pass_by(100)
    host.run(1)
    assert host.trust.settled_at > host.now + 80


def test_a_gap_between_two_readings_hides_what_came_in_it() -> None:
    """A peer that connects every 15 s would look like one that does so every 30 s."""
    host = InService(of(web()), [Peer(OTHER, 15.0)])
    for _ in range(20):
        host.run(10)
        host.pass_by(20)
        host.kernel.sample(host.now)
    assert "no health check" in host.doubt()


def test_what_was_seen_counts_on_when_aws_lists_the_groups_in_another_order() -> None:
    groups = web(), web(10.0, name="second"), web(on=str(CHECKED), name="apart")
    trust = Trust.begin(START, of(*groups))
    assert trust.same_as(Trust.begin(START + 5, of(*reversed(groups))))
    assert not trust.same_as(Trust.begin(START + 5, of(*groups[:2])))


# What can never be seen.


def test_without_a_listener_here_the_app_is_elsewhere() -> None:
    host = InService(of(web()), [Peer(NODE, 30.0)])
    host.kernel.listening = frozenset()
    host.run(100)
    assert host.doubt() == "nothing listens on port 8080 in the agent's network namespace"
    assert host.trust.sampled(host.kernel.sample(host.now)).settled_at == START, "there is nothing to wait for"


@pytest.mark.parametrize("protocol", ["UDP", "TCP_UDP", "GENEVE", "QUIC", "TCP_QUIC"])
def test_what_is_not_carried_by_tcp_alone_is_never_trusted(protocol: str) -> None:
    host = InService(of(web(protocol=protocol)), [Peer(NODE, 30.0)])
    host.run(100)
    assert host.doubt() == f"web is not for TCP alone but for {protocol}"
    assert host.trust.settled_at == START


def test_nothing_is_trusted_for_nobody() -> None:
    assert Trust.begin(START, Membership()).doubt(START) == "no target group holds this host"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"protocol": "HTTPS"}, "HTTPS"),
        ({"protocol": "TLS"}, "TLS"),
        ({"protocol": "TCP"}, "TCP"),
        ({"version": "HTTP2"}, "HTTP2"),
        ({"version": "GRPC"}, "GRPC"),
    ],
)
def test_idle_is_for_plain_http_1_to_the_target_alone(changed: dict[str, str], why: str) -> None:
    assert doubt_of_idle(of(web())) == ""
    assert why in doubt_of_idle(of(web(**changed)))
