"""What it costs to look for health checks while the host is in service, at rest and under many short connections.

`python tests/bench/bench_listening.py [--seconds 20]`; prints figures, asserts none. It works in a network namespace
of its own where it may make one (root), so that it meets nobody's ports. The client and the app are other processes:
what is measured is the reader alone, as the daemon's loop has it, and the memory that it takes.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))

from zdd_agent.adapters.sensor import KernelSensor
from zdd_agent.engine.sampler import Sampler
from zdd_agent.model.aws import BalancerKind, HealthCheck, Identity, Membership, Target, TargetGroup

HOST, NODES = "127.77.0.11", [f"127.77.0.{n}" for n in (1, 2)]
INTERVAL = 30.0
SECONDS_AT_MOST = 600


def resident_kb() -> int:
    """Memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def serve(listener: socket.socket) -> None:
    """A child's whole life: answer each connection and close it."""
    signal.alarm(SECONDS_AT_MOST)

    def turn() -> None:
        while True:
            taken, _ = listener.accept()
            taken.recv(1000)
            taken.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            taken.close()

    for _ in range(4):
        threading.Thread(target=turn, daemon=True).start()
    signal.pause()


def ask(port: int, rate: float) -> None:
    """A child's whole life: so many connections a second from both nodes, their requests of many lengths."""
    signal.alarm(SECONDS_AT_MOST)
    due, n = time.monotonic(), 0
    while True:
        n, due = n + 1, due + 1 / rate
        time.sleep(max(due - time.monotonic(), 0))
        source = (NODES[n % len(NODES)], 0)
        with socket.create_connection((HOST, port), 5.0, source_address=source) as client:
            client.sendall(b"G" * (200 + n * 37 % 1500))
            client.recv(1000)


def child(run: object, *args: object) -> int:
    made = os.fork()
    if made == 0:
        run(*args)  # type: ignore[operator]  any function
        os._exit(0)
    return made


class Here:
    """The metadata that a sampler asks for."""

    def identity(self, max_age: float = 5.0) -> Identity:
        return Identity("i-1", "eu-west-1", "eu-west-1a", "vpc-1", (HOST,))


class Now:
    """The clock of a sampler."""

    def now(self) -> float:
        return time.monotonic()


def membership(port: int) -> Membership:
    check = HealthCheck("HTTP", "traffic-port", "/", INTERVAL, 5.0, 2, "200")
    group = TargetGroup("arn", "web", BalancerKind.APPLICATION, "instance", "HTTP", port, "vpc-1", 300.0, check)
    return Membership((group,), (Target("arn", "i-1", port),))


def measure(port: int, rate: float, seconds: float) -> None:
    """The loop of an agent in service for a while."""
    children = [child(ask, port, rate)] if rate else []
    sensor = KernelSensor(time.monotonic)
    sampler = Sampler(sensor, Here(), Now(), adaptive=False, listens=True, quiet_seconds=5.0)  # type: ignore[arg-type]
    told: list[tuple[int, bool]] = []
    plain = sensor.ended

    def counted(ports: frozenset[int], addresses: frozenset[str]) -> object:
        one = plain(ports, addresses)
        told.append((len(one.connections), one.lost))
        return one

    sensor.ended = counted  # type: ignore[method-assign,assignment]  to count; nothing is replaced
    of = membership(port)
    time.sleep(sampler.listen(of))
    memory, cpu, began = resident_kb(), time.process_time(), time.monotonic()
    most = memory
    del told[:]
    while (spent := time.monotonic() - began) < seconds:
        time.sleep(sampler.listen(of))
        most = max(most, resident_kb())
    share = (time.process_time() - cpu) / spent
    ended, lost = sum(n for n, _ in told), sum(lost for _, lost in told)
    print(
        f"  {rate:g} connections a second: {share:.3%} of a core, {len(told) / spent:.1f} readings a second, "
        f"{ended / spent:.0f} ends a second were read, {lost} of {len(told)} readings missed some, "
        f"{most - memory} kB more memory, {len(sampler.trust.heard.rows)} rows"
    )
    sensor.close()
    for one in children:
        os.kill(one, signal.SIGKILL)
        os.waitpid(one, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    if os.geteuid() == 0 and "ZDD_BENCH_INSIDE" not in os.environ:
        os.environ["ZDD_BENCH_INSIDE"] = "1"
        inside = f'ip link set lo up; exec "{sys.executable}" "$@"'
        os.execvp("unshare", ["unshare", "--net", "sh", "-ec", inside, "sh", *sys.argv])  # noqa: S606  no shell is what we want
    listener = socket.create_server((HOST, 0), backlog=1024)
    app = child(serve, listener)
    print(f"looking for health checks every {INTERVAL:g} s:")
    try:
        for rate in (0.0, 50.0, 500.0, 1000.0):
            measure(listener.getsockname()[1], rate, options.seconds)
    finally:
        os.kill(app, signal.SIGKILL)
        os.waitpid(app, 0)


if __name__ == "__main__":
    main()
