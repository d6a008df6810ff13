"""What a sample of the kernel's connections costs on a host with many others.

`python tests/bench/bench_sensor.py [--unrelated 20000] [--connections 50]`; prints figures, asserts none. It works in
a network namespace of its own where it may make one (root), so that it meets nobody's ports.
"""

import argparse
import os
import resource
import signal
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))

from zdd_agent.adapters.sensor import KernelSensor

HOST, NODES = "127.77.0.11", [f"127.77.0.{n}" for n in (1, 2)]
SAMPLES = 200
PER_SECOND = 4
# Pairs of sockets that one process holds: the limit of open files is often no more than twice that.
PAIRS_EACH = 4_000
SECONDS_AT_MOST = 120  # after which what holds the sockets ends, whatever became of this process


def resident_kb() -> int:
    """Memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def pairs(count: int, address: str, sources: list[str]) -> list[socket.socket]:
    """Connections over loopback, both ends of each, and their listener in front."""
    listener = socket.create_server((address, 0), backlog=1024)
    kept = [listener]
    for n in range(count):
        client = socket.create_connection(listener.getsockname(), source_address=(sources[n % len(sources)], 0))
        kept += [client, listener.accept()[0]]
    return kept


def hold(count: int, address: str, ready: int) -> None:
    """A child's whole life."""
    signal.alarm(SECONDS_AT_MOST)
    kept = pairs(count, address, [address])
    os.write(ready, b"+")
    signal.pause()
    del kept


def crowd(sockets: int) -> list[int]:
    """Children that hold so many sockets between them."""
    reads, writes = os.pipe()
    children = []
    left = sockets // 2
    while left > 0:
        child = os.fork()
        if child == 0:
            hold(min(left, PAIRS_EACH), f"127.78.0.{len(children) + 1}", writes)
            os._exit(0)
        children.append(child)
        left -= PAIRS_EACH
    for _ in children:
        os.read(reads, 1)
    return children


def measure(connections: int) -> None:
    """The samples of an app with so many connections."""
    kept = pairs(connections, HOST, NODES)
    ports, own = frozenset({kept[0].getsockname()[1]}), frozenset({HOST})
    before = resident_kb()
    sensor = KernelSensor(time.monotonic)
    assert len(sensor.sample(ports, own).connections) == connections
    memory = resident_kb() - before
    walls, cpu = [], time.process_time()
    for _ in range(SAMPLES):
        began = time.perf_counter()
        sensor.sample(ports, own)
        walls.append(time.perf_counter() - began)
    each = (time.process_time() - cpu) / SAMPLES
    sensor.close()
    median, best = statistics.median(walls) * 1e3, min(walls) * 1e3
    share = f"{each * PER_SECOND:.2%} of a core at {PER_SECOND} a second"
    print(
        f"  a sample of {connections} connections: {median:.2f} ms (best {best:.2f}), {share}, {memory} kB more memory"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unrelated", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=50)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if os.geteuid() == 0 and "ZDD_BENCH_INSIDE" not in os.environ:
        os.environ["ZDD_BENCH_INSIDE"] = "1"
        inside = f'ip link set lo up; exec "{sys.executable}" "$@"'
        os.execvp("unshare", ["unshare", "--net", "sh", "-ec", inside, "sh", *sys.argv])  # noqa: S606  no shell is what we want
    children: list[int] = []
    try:
        for unrelated in (0, options.unrelated):
            children += crowd(unrelated)
            print(f"beside {unrelated} sockets of others:")
            measure(options.connections)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
