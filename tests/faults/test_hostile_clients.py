"""Callers that send anything, slowly, in part or in crowds: no crash, no hang, no leak; others are served."""

from __future__ import annotations

import json
import random
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.rig import SOAK, Row, write_rows
from lab.conftest import SHORT, free_prefix
from zdd_lab.processes.children import bare_environment
from zdd_lab.threaded import ThreadedLab

EXAMPLES = 200 if SOAK else 15
ROUNDS = 40 if SOAK else 6
# Seconds in which an honest caller is served, whatever the others do.
SERVED_SECONDS = 1.0
# Seconds after which what hostile callers held is free again: the longest limit of a connection is 30.
RECOVERS_SECONDS = 60.0
_GET = b"GET /v1/metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_OPENAPI = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


@dataclass
class Daemon:
    """The real daemon, as its clients and the kernel see it."""

    path: str
    pid: int

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(20)
        connection.connect(self.path)
        return connection

    def held(self) -> tuple[int, int]:
        """Threads and descriptors."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        threads = re.search(r"^Threads:\s+(\d+)", status, re.M)
        assert threads is not None
        return int(threads[1]), len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]) * 4096


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """An agent on a host that is in no target group: every operation is over at once."""
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=1) as running:
        lab, host = running.lab, running.lab.hosts[0]
        elb = lab.client("elbv2")
        elb.deregister_targets(
            TargetGroupArn=lab.front.group, Targets=[{"Id": host.identity.instance_id, "Port": host.app_port}]
        )
        while elb.describe_target_health(TargetGroupArn=lab.front.group)["TargetHealthDescriptions"]:
            time.sleep(0.5)
        assert host.agent_pid is not None
        found = Daemon(str(host.socket), host.agent_pid)
        # The connections to AWS and to the metadata service that it keeps from its first question on.
        answer(found, b"POST /v1/doctor HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        yield found
        assert host.agent_pid is not None, (host.folder / "agent.log").read_text("utf-8")[-4000:]
        log = (host.folder / "agent.log").read_text("utf-8", errors="replace")
        assert "a defect of zdd-agent" not in log, log[-4000:]


def answer(daemon: Daemon, request: bytes = _GET) -> bytes:
    with daemon.connect() as connection:
        with suppress(BrokenPipeError):
            connection.sendall(request)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def honest(daemon: Daemon) -> None:
    """One caller among the others gets its answer in time."""
    began = time.monotonic()
    assert answer(daemon).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - began < SERVED_SECONDS


@contextmanager
def nothing_is_kept(daemon: Daemon, pooled: int = 0) -> Iterator[None]:
    """What the callers inside held is free again soon after, except for `pooled` connections in the SDK's pool."""
    answer(daemon)
    time.sleep(0.1)
    threads, descriptors = daemon.held()
    before = threads, descriptors + pooled
    yield
    end = time.monotonic() + RECOVERS_SECONDS
    while _more(after := daemon.held(), before) and time.monotonic() < end:
        time.sleep(0.2)
    assert not _more(after, before), f"threads and descriptors: {before} before, {after} after"
    honest(daemon)


def _more(now: tuple[int, int], before: tuple[int, int]) -> bool:
    return now[0] > before[0] or now[1] > before[1]


def noise(daemon: Daemon, rng: random.Random) -> None:
    request = rng.randbytes(rng.choice((1, 20, 500, 9_000)))
    if rng.random() < 0.5:
        request = rng.choice((b"GET ", b"POST /v1/drain HTTP/1.1\r\n", b"\r\n\r\n", _GET[:-2])) + request
    with daemon.connect() as connection:
        with suppress(OSError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        received = rest(connection)
    assert received == b"" or received.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), received[:80]


def broken_body(daemon: Daemon, rng: random.Random) -> None:
    body = rng.choice(
        (b"{", b"[]", b"nul", b"{" * 5_000, rng.randbytes(64), b'{"timeout": 1e999}', b'{"reason": "\\ud800"}')
    )
    head = b"POST /v1/drain HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert answer(daemon, head + body).startswith(b"HTTP/1.1 400")


def broken_off(daemon: Daemon, rng: random.Random) -> None:
    with daemon.connect() as connection:
        connection.sendall(_GET[: rng.randint(1, len(_GET) - 1)])


def half_closed(daemon: Daemon, rng: random.Random) -> None:
    with daemon.connect() as connection:
        connection.sendall(_GET)
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection).startswith(b"HTTP/1.1 200")


def oversized(daemon: Daemon, rng: random.Random) -> None:
    head = b"GET /v1/status HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * rng.choice((8_200, 100_000, 1_000_000)))
    assert answer(daemon, head).startswith(b"HTTP/1.1 413")


def pipelined(daemon: Daemon, rng: random.Random) -> None:
    received = answer(daemon, _GET.replace(b"Connection: close\r\n", b"") * 20 + _GET)
    assert received.count(b"HTTP/1.1 200") == 21


HOSTILE: tuple[Callable[[Daemon, random.Random], None], ...] = (
    noise,
    broken_body,
    broken_off,
    half_closed,
    oversized,
    pipelined,
)


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
def test_a_caller_that_sends_rubbish_is_told_so_or_hung_up_on(
    daemon: Daemon, attack: Callable[[Daemon, random.Random], None]
) -> None:
    rng = random.Random(11)
    with nothing_is_kept(daemon):
        for _ in range(40):
            attack(daemon, rng)
        honest(daemon)


def test_slow_senders_are_hung_up_on_and_hold_up_nobody(daemon: Daemon) -> None:
    with nothing_is_kept(daemon), ExitStack() as stack:
        slow = [stack.enter_context(daemon.connect()) for _ in range(30)]
        for place in range(8):  # longer than the time that a head may take
            for connection in slow:
                with suppress(OSError):
                    connection.sendall(_GET[place : place + 1])
            honest(daemon)
            time.sleep(1)
        ended, _, _ = select.select(slow, [], [], 0)
        assert len(ended) == len(slow)


def test_a_caller_that_never_reads_holds_up_nobody(daemon: Daemon) -> None:
    with nothing_is_kept(daemon), ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(daemon.connect())
            connection.setblocking(False)
            with suppress(BlockingIOError):
                for _ in range(2_000):
                    connection.send(_GET.replace(b"Connection: close\r\n", b""))
        honest(daemon)


def test_a_thousand_idle_connections_do_not_keep_others_out(daemon: Daemon) -> None:
    with nothing_is_kept(daemon), ExitStack() as stack:
        for number in range(1_000):
            stack.enter_context(daemon.connect())
            if number % 100 == 99:
                honest(daemon)
        assert daemon.held()[0] < 100


def test_memory_levels_off(daemon: Daemon) -> None:
    rng = random.Random(12)
    levels = []
    for _ in range(ROUNDS):
        for _ in range(30):
            for attack in HOSTILE:
                attack(daemon, rng)
        levels.append(daemon.memory())
    grown = levels[-1] - levels[ROUNDS // 2]
    assert grown < 2_000_000, [level // 1024 for level in levels]
    calls = ROUNDS * 30 * len(HOSTILE)
    outcome = (
        f"resident memory {levels[0] / 1e6:.0f} MB after the first round, {levels[-1] / 1e6:.0f} MB after the last"
    )
    repeat = "tests/faults/test_hostile_clients.py -k memory"
    write_rows("hostile_memory", [Row("hostile callers: six kinds of rubbish", "none", calls, outcome, repeat)])


class Bridge:
    """Loopback TCP in front of the socket, for clients that know no other."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._carry, args=(self._listener.accept()[0],), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, self._daemon.connect() as agent, suppress(OSError):
            agent.settimeout(None)
            ways = {client: agent, agent: client}
            while ways:
                for source in select.select(list(ways), [], [])[0]:
                    part = source.recv(65536)
                    if part:
                        ways[source].sendall(part)
                        continue
                    if source is agent:
                        return
                    ways.pop(source).shutdown(socket.SHUT_WR)


def test_schemathesis_finds_no_fault_in_the_api(daemon: Daemon, tmp_path: Path) -> None:
    bridge = Bridge(daemon)
    argv = [str(Path(sys.executable).with_name("schemathesis")), "run", str(_OPENAPI), "--url", bridge.url]
    argv += ["--max-examples", str(EXAMPLES), "--request-timeout", "60", "--no-color", "--seed", "1"]
    # A schema cannot say that a drain has no `probe` to force, nor when a call is allowed.
    argv += ["--exclude-checks", "positive_data_acceptance"]
    argv += ["--report", "json", "--report-json-path", str(tmp_path / "report.json")]
    with nothing_is_kept(daemon, pooled=4):
        done = subprocess.run(
            argv, cwd=tmp_path, env=bare_environment(), capture_output=True, text=True, timeout=1800, check=False
        )
        bridge.close()
    assert done.returncode == 0, done.stdout[-6000:]
    made = re.search(r"(\d[\d,]*) generated", done.stdout)
    cases = int(made[1].replace(",", "")) if made else len(json.loads((tmp_path / "report.json").read_text("utf-8")))
    repeat = "tests/faults/test_hostile_clients.py -k schemathesis"
    write_rows("schemathesis", [Row("schemathesis against docs/openapi.json", "none", cases, "no fault found", repeat)])
