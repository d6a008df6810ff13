"""What a sample of a host and its container costs, with many other sockets in the container.

`python tests/bench/bench_container.py [--unrelated 20000]`, as root; prints figures, asserts none.
"""

import argparse
import os
import resource
import signal
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_sensor import crowd

from containers import Engine, opener
from published import Outside, PublishingHost, inside
from system.netns import enter
from zdd_agent.adapters.container_sensor import ContainerSensor
from zdd_agent.adapters.namespace_opener import NamespaceOpener
from zdd_agent.adapters.sensor import KernelSensor

PORT, INNER, SAMPLES, CONNECTIONS = 8080, 80, 200, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unrelated", type=int, default=20_000)
    unrelated = parser.parse_args().unrelated
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    outside = Outside("10.77.7")
    host = PublishingHost(outside, "10.77.7.11")
    container, last = host.container()
    host.publish(last, PORT, INNER)
    listener = inside(container, lambda: socket.create_server(("0.0.0.0", INNER), backlog=1024))  # noqa: S104
    kept: list[socket.socket] = [listener]
    for _ in range(CONNECTIONS):
        kept.append(inside(outside.place, lambda: socket.create_connection((host.address, PORT), 5.0)))
        kept.append(listener.accept()[0])
    enter(container.path)
    children = crowd(unrelated)
    enter(host.place.path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine, settings = Engine(folder), folder / "etc" / "config.toml"
        settings.parent.mkdir()
        settings.write_text(f'[container]\nname = "web"\nport = {PORT}\n')
        engine.podman("web", container.pid)
        with opener(folder / "netns.sock", engine, settings, host=host.place.path) as process:
            asks = NamespaceOpener(folder / "netns.sock")
            sensor = ContainerSensor(
                KernelSensor(time.monotonic), asks.open, port=PORT, container_port=INNER, now=time.monotonic
            )
            ports, own = frozenset({PORT}), frozenset({host.address})
            assert len(sensor.sample(ports, own).connections) == CONNECTIONS
            walls, cpu = [], time.process_time()
            for _ in range(SAMPLES):
                began = time.perf_counter()
                sensor.sample(ports, own)
                walls.append(time.perf_counter() - began)
            each = (time.process_time() - cpu) / SAMPLES * 1e3
            asked = []
            for _ in range(SAMPLES):
                began = time.perf_counter()
                asks.check()
                asked.append(time.perf_counter() - began)
            memory = Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]
            sensor.close()
    print(f"beside {unrelated} sockets of others in the container:")
    median, best = statistics.median(walls) * 1e3, min(walls) * 1e3
    print(f"  a sample of {CONNECTIONS} connections: {median:.2f} ms (best {best:.2f}), {each:.2f} ms of CPU")
    print(f"  a question to the opener: {statistics.median(asked) * 1e3:.2f} ms; it takes {int(memory) / 1024:.0f} MB")
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for one in kept:
        one.close()
    host.close()
    outside.place.kill()


if __name__ == "__main__":
    main()
