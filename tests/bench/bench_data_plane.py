"""What the lab's data plane carries: two nodes in one process, two apps, one open-loop load.

`python tests/bench/bench_data_plane.py [--rate 1000] [--seconds 10] [--profile FILE]`; prints figures, asserts none.
"""

import argparse
import asyncio
import cProfile
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))

from zdd_lab.balancer.node import Node
from zdd_lab.model.target import Backend, HealthCheck, NodeHealth, NodeSettings, TargetKey
from zdd_lab.traffic.records import read_records

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def start(module: str, *arguments: str, piped: bool = False) -> asyncio.subprocess.Process:
    out = asyncio.subprocess.PIPE if piped else None
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments, stdout=out, env=environment)


async def measure(rate: float, seconds: float, slow_share: float) -> None:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)  # so that the children end too
    prefix = f"127.{random.randint(100, 250)}.{random.randint(1, 250)}"
    hosts = {f"h{n}": f"{prefix}.{10 + n}" for n in (1, 2)}
    apps = {
        name: await start(
            "zdd_lab.hosts.app", "--host", address, "--name", name, "--version", "v1", "--slow-share", str(slow_share)
        )
        for name, address in hosts.items()
    }
    ready = asyncio.Event()
    healthy: set[tuple[str, TargetKey]] = set()

    def on_health(node: str, key: TargetKey, health: NodeHealth) -> None:
        if health.state == "healthy":
            healthy.add((node, key))
        if len(healthy) == 2 * len(hosts):
            ready.set()

    nodes = [Node(f"n{zone}", zone, f"{prefix}.{n}", NodeSettings(), on_health) for n, zone in ((2, "a"), (3, "b"))]
    check = HealthCheck(path="/healthz", interval=0.5, timeout=0.4)
    try:
        for node in nodes:
            await node.listen(8080, "group")
            for name, address in hosts.items():
                node.register(Backend(TargetKey("group", name, 8080), address, check))
        await asyncio.wait_for(ready.wait(), 10)
        before = {name: cpu_seconds(app.pid) for name, app in apps.items()}
        own = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            urls = [word for node in nodes for word in ("--url", f"http://{node.address}:8080/")]
            asked = ("--rate", str(rate), "--min-requests", str(int(rate * seconds)), "--out", f"{folder}/load.tsv")
            load = await start("zdd_lab.traffic.load", *urls, *asked, piped=True)
            try:
                output, _ = await load.communicate()
            except asyncio.CancelledError:
                load.kill()
                raise
            records = list(read_records(Path(folder) / "load.tsv"))
        took = max(r.started + r.latency_ms / 1000 for r in records) - min(r.started for r in records)
        summary = json.loads(output)
        print(json.dumps(summary))
        print(f"{len(records) / took:.0f} rps achieved, from the first due to the last answered ({took:.2f} s)")
        children = resource.getrusage(resource.RUSAGE_CHILDREN)  # the load alone: the apps still run
        print(f"CPU s: nodes {time.process_time() - own:.2f}", end="")
        print(f", load {children.ru_utime + children.ru_stime:.2f}", end="")
        for name, app in apps.items():
            print(f", app {name} {cpu_seconds(app.pid) - before[name]:.2f}", end="")
        print()
        print("targets:", [(t["id"], t["requests"]) for node in nodes for t in node.counters()["targets"]])
    finally:
        for node in nodes:
            await node.close()
        for app in apps.values():
            app.terminate()
            await app.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--slow-share", type=float, default=0.0)
    parser.add_argument("--profile", type=Path, help="write a cProfile of the nodes' process here")
    options = parser.parse_args()
    profiler = cProfile.Profile() if options.profile else None
    if profiler is not None:
        profiler.enable()
    uvloop.run(measure(options.rate, options.seconds, options.slow_share))
    if profiler is not None:
        profiler.disable()
        profiler.dump_stats(options.profile)


if __name__ == "__main__":
    main()
