"""What the kernel reports about an app in a container, on real namespaces with DNAT between them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import Container, Engine, missing, opener
from published import Outside, PublishingHost, inside
from system.netns import enter
from zdd_agent.adapters.container_sensor import ContainerSensor
from zdd_agent.adapters.namespace_opener import NamespaceOpener
from zdd_agent.adapters.sensor import KernelSensor
from zdd_agent.errors import AgentError
from zdd_agent.model.kernel import Connection, Sample

_WHY = missing() or ("" if shutil.which("nft") else "needs nft")
pytestmark = pytest.mark.skipif(bool(_WHY), reason=f"run as root: {_WHY}")

PORT, INNER = 8080, 80
PORTS = frozenset({PORT})
DEADLINE_SECONDS = 10.0
# It takes connections, and says nothing.
APP = f"""
import socket, threading
def take(one):
    with one:
        try:
            while one.recv(100): pass
        except OSError: pass
listener = socket.create_server(('::', {INNER}), family=socket.AF_INET6, dualstack_ipv6=True)
while True: threading.Thread(target=take, args=(listener.accept()[0],), daemon=True).start()
"""


class Rig:
    """A host with a container, and a sensor of an agent on that host."""

    def __init__(self, folder: Path) -> None:
        self.outside = Outside("10.77.9")
        self.host = PublishingHost(self.outside, "10.77.9.11")
        self.own = frozenset({self.host.address, self.host.address6})
        self.engine = Engine(folder)
        self.settings = folder / "etc" / "config.toml"
        self.settings.parent.mkdir(mode=0o755)
        self.settings.write_text(f'[container]\nname = "web"\nport = {PORT}\n')
        self.path = folder / "netns.sock"
        self.kept: list[socket.socket] = []
        self.now = time.monotonic
        self.sensor = ContainerSensor(
            KernelSensor(self.now), NamespaceOpener(self.path).open, port=PORT, container_port=INNER, now=self.now
        )

    def start(self, name: str = "web") -> tuple[Container, int]:
        """A container with the app, which has the port from now on."""
        made, last = self.host.container((sys.executable, "-ISc", APP))
        self.host.publish(last, PORT, INNER)
        self.engine.podman(name, made.pid)
        reset(self.connect(self.outside.place))
        return made, last

    def connect(self, source: Container, address: str | None = None) -> socket.socket:
        """A connection to the published port; it is made as soon as the app listens."""
        until = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                made = inside(source, lambda: socket.create_connection((address or self.host.address, PORT), 5.0))
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.02)
                continue
            self.kept.append(made)
            return made

    def sample(self) -> Sample:
        return self.sensor.sample(PORTS, self.own)

    def sampled(self, what: Callable[[Sample], bool]) -> Sample:
        """The first sample that is so."""
        until = time.monotonic() + DEADLINE_SECONDS
        while not what(sample := self.sample()):
            assert time.monotonic() < until, sample
            time.sleep(0.05)
        return sample


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    home = "/proc/thread-self/ns/net"
    made = Rig(tmp_path)
    with Path(home).open() as back:
        try:
            with opener(made.path, made.engine, made.settings, host=made.host.place.path):
                enter(made.host.place.path)
                yield made
        finally:
            enter(f"/proc/self/fd/{back.fileno()}")
            made.sensor.close()
            for one in made.kept:
                one.close()
            made.host.close()
            made.outside.place.kill()


def reset(client: socket.socket) -> None:
    """End a connection at both ends at once."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


def ports_of(connections: tuple[Connection, ...], client: socket.socket) -> list[int]:
    """The app's port of each connection that is this client's."""
    return [c.port for c in connections if c.peer_port == client.getsockname()[1]]


@pytest.mark.parametrize("family", [4, 6])
def test_a_connection_of_the_outside_is_seen_with_its_peer_and_the_port_of_the_host(rig: Rig, family: int) -> None:
    rig.start()
    client = rig.connect(rig.outside.place, rig.host.address if family == 4 else rig.host.address6)
    client.sendall(b"GET /")

    sample = rig.sampled(lambda s: any(c.bytes_received for c in s.connections))
    assert sample.listening == PORTS
    (seen,) = sample.connections
    assert (seen.peer, seen.peer_port, seen.port) == (*client.getsockname()[:2], PORT)
    assert (seen.bytes_received, seen.data_segments_received) == (5, 1)


def test_without_the_container_the_host_shows_nothing_of_it(rig: Rig) -> None:
    rig.start()
    rig.connect(rig.outside.place)
    with_nothing = KernelSensor(rig.now)
    sample = with_nothing.sample(PORTS, rig.own)
    with_nothing.close()
    assert (sample.listening, sample.connections) == (frozenset(), ())


def test_what_comes_from_the_host_itself_does_not_count(rig: Rig) -> None:
    """A monitoring probe, by the published port or the container's own address; a neighbour on the bridge."""
    container, last = rig.start()
    neighbour, _ = rig.host.container()
    rig.sample()
    probes = [rig.connect(rig.host.place), rig.connect(neighbour)]
    for source in (rig.host.place, neighbour):
        probes.append(inside(source, lambda: socket.create_connection((f"10.88.0.{last}", INNER), 5.0)))
    probes.append(inside(container, lambda: socket.create_connection(("127.0.0.1", INNER), 5.0)))
    rig.kept += probes
    client = rig.connect(rig.outside.place)

    assert [c.peer_port for c in rig.sample().connections] == [client.getsockname()[1]]
    for one in probes:
        one.close()
    time.sleep(0.1)
    assert rig.sensor.ended(PORTS, rig.own).connections == ()


def test_connections_that_end_are_reported(rig: Rig) -> None:
    rig.start()
    rig.sensor.ended(PORTS, rig.own)
    client = rig.connect(rig.outside.place)
    number = client.getsockname()[1]
    reset(client)
    until = time.monotonic() + DEADLINE_SECONDS
    told: list[tuple[int, int]] = []
    while not told and time.monotonic() < until:
        told += [c.port for c in rig.sensor.ended(PORTS, rig.own).connections if c.peer_port == number]
    assert told == [PORT]


def test_a_container_that_is_killed_ends_its_connections(rig: Rig) -> None:
    container, _ = rig.start()
    client = rig.connect(rig.outside.place)
    rig.sampled(lambda s: bool(ports_of(s.connections, client)))
    container.kill()
    rig.engine.forget()

    sample = rig.sample()
    assert ports_of(sample.ended, client) == [PORT]
    assert (sample.connections, sample.listening) == ((), frozenset())
    assert sample.lost  # quiet is counted from here
    assert not rig.sample().lost


def test_a_namespace_whose_container_is_gone_is_let_go_of(rig: Rig) -> None:
    container, last = rig.start()
    rig.sample()
    container.kill()
    rig.engine.forget()
    rig.sample()
    until = time.monotonic() + DEADLINE_SECONDS
    while subprocess.run(["ip", "link", "show", f"c{last}"], check=False, capture_output=True).returncode == 0:
        assert time.monotonic() < until, "the namespace lives"
        time.sleep(0.05)


def test_a_container_in_the_place_of_another_is_found(rig: Rig) -> None:
    container, _ = rig.start()
    rig.sample()
    container.kill()
    rig.engine.forget()
    rig.sample()
    rig.start()
    client = rig.connect(rig.outside.place)
    sample = rig.sample()  # the first one: a restarted container must not go unseen for a moment
    assert (ports_of(sample.connections, client), sample.listening, sample.lost) == ([PORT], PORTS, True)


def test_a_container_that_lost_its_name_is_looked_at_until_it_ends(rig: Rig) -> None:
    """As with `podman rename web old; podman run --name web`: both may have requests to answer."""
    rig.start()
    early = rig.connect(rig.outside.place)
    rig.sampled(lambda s: bool(ports_of(s.connections, early)))
    rig.engine.forget()
    rig.start()
    late = rig.connect(rig.outside.place)
    sample = rig.sampled(lambda s: bool(ports_of(s.connections, late)))
    assert ports_of(sample.connections, early) == [PORT]


def test_after_close_the_container_is_found_afresh(rig: Rig) -> None:
    container, last = rig.start()
    rig.sample()
    rig.sensor.close()
    container.kill()
    until = time.monotonic() + DEADLINE_SECONDS
    while subprocess.run(["ip", "link", "show", f"c{last}"], check=False, capture_output=True).returncode == 0:
        assert time.monotonic() < until, "the namespace lives"
        time.sleep(0.05)
    rig.engine.forget()
    rig.start()
    client = rig.connect(rig.outside.place)
    assert ports_of(rig.sample().connections, client) == [PORT]


def test_an_opener_that_does_not_answer_is_an_error_and_not_a_quiet_host(rig: Rig) -> None:
    rig.start()
    rig.path.unlink()
    with pytest.raises(AgentError, match="cannot look into the container"):
        rig.sample()


def test_settings_that_the_opener_refuses_are_an_error(rig: Rig) -> None:
    rig.start()
    rig.settings.chmod(0o666)
    with pytest.raises(AgentError, match="others may write it"):
        rig.sample()
