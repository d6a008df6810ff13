"""What the kernel reports about real sockets. Every host is an address of 127.0.0.0/8 here, as in the lab."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zdd_agent.adapters import sock_diag
from zdd_agent.adapters.sensor import KernelSensor
from zdd_agent.decide.traffic.watch import Track, Watch
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.kernel import Connection, Sample

DEADLINE_SECONDS = 10.0
NET = f"127.{random.randint(100, 250)}.{random.randint(1, 250)}"
HOST, NODE, OTHER = f"{NET}.11", f"{NET}.1", f"{NET}.2"
OWN = frozenset({HOST})


class App:
    """A listener of ours, and what we connect to it."""

    def __init__(self, address: str = HOST, backlog: int = 16, family: int = socket.AF_INET) -> None:
        self.open: list[socket.socket] = []
        self.listener = self._kept(socket.socket(family))
        if family == socket.AF_INET6:
            self.listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.listener.bind((address, 0))
        self.listener.listen(backlog)
        self.port: int = self.listener.getsockname()[1]

    def connect(self, source: str = NODE, to: str = HOST) -> socket.socket:
        client = self._kept(socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET))
        client.settimeout(DEADLINE_SECONDS)
        client.bind((source, 0))
        client.connect((to, self.port))
        return client

    def pair(self, source: str = NODE, to: str = HOST) -> tuple[socket.socket, socket.socket]:
        client = self.connect(source, to)
        self.listener.settimeout(DEADLINE_SECONDS)
        server, _ = self.listener.accept()
        return client, self._kept(server)

    def _kept(self, made: socket.socket) -> socket.socket:
        self.open.append(made)
        return made

    def close(self) -> None:
        for kept in self.open:
            kept.close()


@pytest.fixture
def app() -> Iterator[App]:
    made = App()
    yield made
    made.close()


@pytest.fixture
def sensor() -> Iterator[KernelSensor]:
    made = KernelSensor(time.monotonic)
    yield made
    made.close()


def until(sensor: KernelSensor, port: int, seen: Callable[[Sample], bool], own: frozenset[str] = OWN) -> Sample:
    """The first sample that is as it should be."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while not seen(sample := sensor.sample(frozenset({port}), own)):
        assert time.monotonic() < ends, sample
        time.sleep(0.005)
    return sample


def only(sample: Sample) -> Connection:
    (connection,) = sample.connections
    return connection


def test_it_sees_a_listener_before_anybody_connects(app: App, sensor: KernelSensor) -> None:
    sample = sensor.sample(frozenset({app.port, 1}), OWN)
    assert sample.listening == {app.port}
    assert sample.connections == ()


def test_a_listener_for_this_host_alone_is_none_for_the_outside(app: App, sensor: KernelSensor) -> None:
    assert sensor.sample(frozenset({app.port}), frozenset({"10.9.8.7"})).listening == frozenset()


def test_it_sees_who_is_connected_and_what_came(app: App, sensor: KernelSensor) -> None:
    client, server = app.pair()
    client.sendall(b"x" * 37)
    assert server.recv(100)
    server.sendall(b"y" * 11)
    assert client.recv(100)
    seen = only(until(sensor, app.port, lambda s: only(s).unsent == 0))
    assert (seen.address, seen.port) == (HOST, app.port)
    assert (seen.peer, seen.peer_port) == client.getsockname()
    assert (seen.bytes_received, seen.bytes_acked) == (37, 11)
    assert (seen.data_segments_received, seen.data_segments_sent) == (1, 1)
    assert (seen.unread, seen.unsent) == (0, 0)


def test_it_sees_how_long_ago_bytes_came_and_left(app: App, sensor: KernelSensor) -> None:
    client, server = app.pair()
    client.sendall(b"x")
    assert server.recv(100)
    seen = only(until(sensor, app.port, lambda s: only(s).last_received_seconds_ago > 0.05))
    server.sendall(b"y")
    answered = only(sensor.sample(frozenset({app.port}), OWN))
    assert answered.last_sent_seconds_ago < answered.last_received_seconds_ago
    assert seen.last_received_seconds_ago <= answered.last_received_seconds_ago < DEADLINE_SECONDS


def test_a_cookie_names_a_connection_for_its_life(app: App, sensor: KernelSensor) -> None:
    client, _ = app.pair()
    first = only(sensor.sample(frozenset({app.port}), OWN))
    client.sendall(b"x")
    again = only(until(sensor, app.port, lambda s: only(s).bytes_received == 1))
    assert first.cookie == again.cookie
    app.pair()
    assert len({c.cookie for c in sensor.sample(frozenset({app.port}), OWN).connections}) == 2


def test_it_sees_what_the_app_has_not_read(app: App, sensor: KernelSensor) -> None:
    client, _ = app.pair()
    client.sendall(b"x" * 123)
    assert only(until(sensor, app.port, lambda s: only(s).unread > 0)).unread == 123


def test_it_sees_what_a_peer_does_not_take(app: App, sensor: KernelSensor) -> None:
    _, server = app.pair()
    server.setblocking(False)
    while select.select([], [server], [], 0)[1]:
        server.send(b"y" * 65536)
    assert only(until(sensor, app.port, lambda s: only(s).unsent > 0)).unsent > 0


def test_it_sees_a_connection_that_the_app_has_not_accepted(app: App, sensor: KernelSensor) -> None:
    app.connect()
    assert only(sensor.sample(frozenset({app.port}), OWN)).peer == NODE


def test_it_sees_a_handshake_under_way(app: App, sensor: KernelSensor) -> None:
    app.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)  # the handshake ends with the first byte
    client = app.connect()
    half = only(sensor.sample(frozenset({app.port}), OWN))
    assert half.last_received_seconds_ago == float("inf"), "nothing is known yet"
    client.sendall(b"x")
    whole = only(until(sensor, app.port, lambda s: only(s).bytes_received == 1))
    assert whole.cookie == half.cookie


def test_it_sees_connections_that_are_closed_on_one_side_only(app: App, sensor: KernelSensor) -> None:
    by_app, by_peer = app.pair(), app.pair(OTHER)
    by_app[1].shutdown(socket.SHUT_WR)
    by_peer[0].shutdown(socket.SHUT_WR)
    sample = until(sensor, app.port, lambda s: any(c.bytes_received for c in s.connections))
    assert {c.peer for c in sample.connections} == {NODE, OTHER}


def test_a_connection_that_only_the_peer_has_not_closed_is_nothing_to_wait_for(app: App, sensor: KernelSensor) -> None:
    client, server = app.pair()
    server.close()
    assert client.recv(1) == b""
    ended = until(sensor, app.port, lambda s: not s.connections)
    assert ended.connections == ()


def test_it_is_told_of_a_connection_that_came_and_went_between_two_samples(app: App, sensor: KernelSensor) -> None:
    sensor.sample(frozenset({app.port}), OWN)
    client, server = app.pair()
    client.sendall(b"x" * 21)
    assert server.recv(100)
    name = client.getsockname()
    client.close()
    server.close()
    (ended,) = until(sensor, app.port, lambda s: s.ended != ()).ended
    assert (ended.peer, ended.peer_port) == name
    assert ended.bytes_received == 21 + 1, "and the FIN"


def test_a_listener_that_ends_is_no_connection(app: App, sensor: KernelSensor) -> None:
    sensor.sample(frozenset({app.port}), OWN)
    client, server = app.pair()
    app.listener.close()
    client.close()
    server.close()
    assert len(until(sensor, app.port, lambda s: s.ended != ()).ended) == 1
    assert sensor.sample(frozenset({app.port}), OWN).ended == ()


def test_the_cookie_of_what_ended_is_the_one_it_had(app: App, sensor: KernelSensor) -> None:
    client, server = app.pair()
    cookie = only(sensor.sample(frozenset({app.port}), OWN)).cookie
    client.close()
    server.close()
    (ended,) = until(sensor, app.port, lambda s: s.ended != ()).ended
    assert ended.cookie == cookie


def test_the_first_sample_says_that_it_missed_what_ended_before(app: App, sensor: KernelSensor) -> None:
    ports = frozenset({app.port})
    assert sensor.sample(ports, OWN).lost
    assert not sensor.sample(ports, OWN).lost
    assert sensor.sample(frozenset({app.port, 1}), OWN).lost, "other ports were not listened for"
    sensor.close()
    assert sensor.sample(ports, OWN).lost


def test_the_ends_alone_are_read_without_a_dump_and_each_of_them_once(app: App, sensor: KernelSensor) -> None:
    ports = frozenset({app.port})
    assert sensor.ended(ports, OWN).lost, "nobody listened before"
    client, server = app.pair()
    client.sendall(b"x" * 130)
    assert server.recv(200)
    server.close()
    client.close()
    ends = time.monotonic() + DEADLINE_SECONDS
    while not (told := sensor.ended(ports, OWN)).connections:
        assert time.monotonic() < ends
        time.sleep(0.005)
    (ended,) = told.connections
    assert (ended.peer, ended.port, told.lost) == (NODE, app.port, False)
    assert ended.bytes_received in (130, 131), "a FIN counts as a byte, where it came in time"
    assert ended.last_received_seconds_ago < DEADLINE_SECONDS
    assert sensor.sample(ports, OWN).ended == ()


def test_a_check_that_only_connects_is_told_with_no_byte_but_its_fin(app: App, sensor: KernelSensor) -> None:
    sensor.ended(frozenset({app.port}), OWN)
    client, server = app.pair()
    client.close()
    assert server.recv(1) == b""
    server.close()
    ends = time.monotonic() + DEADLINE_SECONDS
    while not (told := sensor.ended(frozenset({app.port}), OWN)).connections:
        assert time.monotonic() < ends
        time.sleep(0.005)
    assert told.connections[0].bytes_received <= 1


def test_more_ends_than_fit_are_said_to_be_lost(app: App, sensor: KernelSensor) -> None:
    sensor.sample(frozenset({app.port}), OWN)
    assert sensor._told is not None
    sensor._told.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for _ in range(50):
        client, server = app.pair()
        client.close()
        server.close()
    assert until(sensor, app.port, lambda s: s.lost).lost


def test_it_does_not_look_at_more_connections_than_memory_allows(app: App) -> None:
    bounded = KernelSensor(time.monotonic, most=3)
    ports = frozenset({app.port})
    pairs = [app.pair() for _ in range(4)]
    with pytest.raises(AgentError, match="more than 3 connections") as refused:
        bounded.sample(ports, OWN)
    assert refused.value.transient
    for kept in pairs[0]:
        kept.close()
    until(bounded, app.port, lambda s: len(s.connections) == 3)
    bounded.close()


def test_it_sees_nothing_of_other_ports(app: App, sensor: KernelSensor) -> None:
    other = App()
    try:
        sensor.sample(frozenset({app.port}), OWN)
        strange = other.pair()
        sample = sensor.sample(frozenset({app.port}), OWN)
        assert sample.listening == {app.port}
        assert sample.connections == ()
        for kept in (*strange, *app.pair()):
            kept.close()
        assert {c.port for c in until(sensor, app.port, lambda s: s.ended != ()).ended} == {app.port}
    finally:
        other.close()


def test_every_one_of_many_ports_is_seen(sensor: KernelSensor) -> None:
    apps = [App() for _ in range(20)]
    try:
        for app in apps:
            app.pair()
        ports = frozenset(app.port for app in apps)
        sample = sensor.sample(ports, OWN)
        assert sample.listening == ports
        assert {c.port for c in sample.connections} == ports
        some = frozenset(sorted(ports)[3:17:2])
        assert {c.port for c in sensor.sample(some, OWN).connections} == some
    finally:
        for app in apps:
            app.close()


def test_peers_on_this_host_are_not_the_outside(app: App, sensor: KernelSensor) -> None:
    app.pair(source=HOST)
    app.pair(source=OTHER)
    ports = frozenset({app.port})
    assert {c.peer for c in sensor.sample(ports, OWN).connections} == {OTHER}
    assert sensor.sample(ports, frozenset({HOST, OTHER})).connections == ()


def test_other_addresses_of_the_machine_are_other_hosts(sensor: KernelSensor) -> None:
    app = App(address="0.0.0.0")  # noqa: S104  as apps do
    try:
        app.pair()
        app.pair(to=f"{NET}.12")
        sample = sensor.sample(frozenset({app.port}), OWN)
        assert only(sample).address == HOST
        assert sample.listening == {app.port}
    finally:
        app.close()


def test_ipv4_on_an_ipv6_socket_reads_as_ipv4(sensor: KernelSensor) -> None:
    app = App(address="::", family=socket.AF_INET6)
    try:
        app.pair()
        sample = sensor.sample(frozenset({app.port}), OWN)
        assert (only(sample).address, only(sample).peer) == (HOST, NODE)
        assert sample.listening == {app.port}
        assert only(sensor.sample(frozenset({app.port}), frozenset({f"::ffff:{HOST}"}))).peer == NODE
    finally:
        app.close()


def watched(app: App, sensor: KernelSensor, pending: bool) -> Iterator[Track]:
    """A connection after some fast answers; the last thing on it is one, or a request that came as it left."""
    client, server = app.pair()
    ports = frozenset({app.port})
    watch = Watch.begin(sensor.sample(ports, OWN), {}, 5.0)
    for exchange in range(5):
        client.sendall(b"request")
        assert server.recv(100)
        server.sendall(b"answer")
        assert client.recv(100)
        if exchange == 3:
            watch = watch.after(sensor.sample(ports, OWN))
    if pending:
        client.sendall(b"request")
        assert server.recv(100)
    ends = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < ends:
        watch = watch.after(sensor.sample(ports, OWN))
        (track,) = watch.open
        yield track
        time.sleep(0.05)


def test_a_fast_answer_is_known_for_one(app: App, sensor: KernelSensor) -> None:
    assert any(track.answered for track in watched(app, sensor, pending=False))


def test_a_request_that_came_as_an_answer_left_is_known_for_one(app: App, sensor: KernelSensor) -> None:
    for track in watched(app, sensor, pending=True):
        assert not track.answered
        if track.connection.last_received_seconds_ago > 1.0:
            return


def test_an_upload_that_was_answered_at_once_is_never_taken_for_a_request_under_way(
    app: App, sensor: KernelSensor
) -> None:
    client, server = app.pair()
    ports = frozenset({app.port})
    watch = Watch.begin(sensor.sample(ports, OWN), {}, 5.0)
    for _ in range(20):
        for part in (b"head", b"body" * 5_000, b"end"):
            client.sendall(part)
            got = 0
            while got < len(part):  # what was read is acknowledged, before the answer
                got += len(server.recv(65_536))
        server.sendall(b"answer")
        assert client.recv(100)
        watch = watch.after(sensor.sample(ports, OWN))
        (track,) = watch.open
        assert track.answered is not False


IN_A_NAMESPACE = """
import socket, time
from zdd_agent.adapters.sensor import KernelSensor
sensor = KernelSensor(time.monotonic)
"""
TWO_IPV6_HOSTS = """
listener = socket.create_server(("fd00:1::11", 0), family=socket.AF_INET6)
port = listener.getsockname()[1]
first = sensor.sample(frozenset({port}), frozenset({"FD00:1:0::11"}))
client = socket.create_connection(("fd00:1::11", port), source_address=("fd00:1::1", 0))
server, _ = listener.accept()
(seen,) = sensor.sample(frozenset({port}), frozenset({"fd00:1::11"})).connections
client.close(), server.close()
ended = ()
while not ended:
    ended = sensor.sample(frozenset({port}), frozenset({"fd00:1::11"})).ended
print(first.listening == {port}, seen.address, seen.peer, ended[0].cookie == seen.cookie)
"""


def in_a_namespace(script: str, *setup: str) -> str:
    """What a script prints in its own network namespace; skipped when we may not make one."""
    words = ["unshare", "--net", "sh", "-ec", "; ".join([*setup, 'exec "$0" -c "$1"']), sys.executable, script]
    agent = str(Path(sock_diag.__file__).parents[2])
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a network namespace")
    ran = subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": agent}
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_it_sees_ipv6() -> None:
    addresses = [f"ip -6 addr add fd00:1::{n}/128 dev lo nodad" for n in ("1", "11")]
    said = in_a_namespace(IN_A_NAMESPACE + TWO_IPV6_HOSTS, "ip link set lo up", *addresses)
    assert said == "True fd00:1::11 fd00:1::1 True"


def test_it_is_blind_to_another_network_namespace(app: App) -> None:
    app.pair()
    script = f"{IN_A_NAMESPACE}print(sensor.sample(frozenset({{{app.port}}}), frozenset({{'{HOST}'}})))"
    said = in_a_namespace(script, "ip link set lo up")
    assert "listening=frozenset(), connections=(), ended=()" in said


def test_an_ordinary_user_sees_all_of_it(app: App) -> None:
    """The app belongs to another user, as on a real host."""
    if os.geteuid() != 0:
        pytest.skip("not root: every other test here shows it")
    _, server = app.pair()
    server.send(b"y" * 7)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        ours = KernelSensor(time.monotonic)
        sample = ours.sample(frozenset({app.port}), OWN)
        for kept in app.open[1:]:
            kept.close()
        os.write(writes, f"{len(sample.connections)} {sample.connections[0].data_segments_sent}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writes)
    with os.fdopen(reads) as said:
        assert said.read() == "1 1"


def test_what_the_kernel_refuses_is_said_and_may_be_asked_again(app: App, sensor: KernelSensor) -> None:
    for ports in (frozenset[int](), frozenset(range(1, 400))):
        with pytest.raises(AgentError, match="cannot ask the kernel") as refused:
            sensor.sample(ports, OWN)
        assert refused.value.kind is Kind.FAILED
        assert refused.value.transient
    with pytest.raises(AgentError):
        sensor.sample(frozenset({app.port}), frozenset({"no address"}))
    assert sensor.sample(frozenset({app.port}), OWN).listening == {app.port}


def test_a_socket_that_breaks_is_opened_again(app: App, sensor: KernelSensor) -> None:
    sensor.sample(frozenset({app.port}), OWN)
    assert sensor._asked is not None
    sensor._asked.close()
    with pytest.raises(AgentError):
        sensor.sample(frozenset({app.port}), OWN)
    again = sensor.sample(frozenset({app.port}), OWN)
    assert again.lost
    assert again.listening == {app.port}


def test_an_error_of_the_kernel_is_raised() -> None:
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 7, 0, -2)
    with pytest.raises(FileNotFoundError):
        list(sock_diag.read(refusal, 7, frozenset()))
    assert list(sock_diag.read(refusal, 8, frozenset())) == [], "another dump's"


def test_a_message_that_makes_no_sense_is_an_error() -> None:
    with pytest.raises(OSError, match="of 3 bytes"):
        list(sock_diag.read(struct.pack("=IHHII", 3, 20, 0, 0, 0), None, frozenset()))
