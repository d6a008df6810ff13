"""What the command and the daemon cost: `zdd-agent status` against a bare interpreter, and the daemon's memory at rest.

`python tests/bench/bench_agent.py`; prints figures and ratios of one run in the lab, asserts none.
"""

import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import uvloop

from zdd_lab.lab import Lab

BIN = Path(sys.executable).parent
RUNS = 40


def seconds(argv: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def resident_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def compare(environment: dict[str, str]) -> tuple[float, float]:
    """Median seconds of `zdd-agent status` and of a bare interpreter, alternating, so that noise meets both."""
    status, bare = [], []
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ZDD_"))}
    # Compiled once, as an installed package is.
    environment = {key: value for key, value in environment.items() if key != "PYTHONDONTWRITEBYTECODE"}
    seconds([str(BIN / "zdd-agent"), "status"], environment)
    for _ in range(RUNS):
        status.append(seconds([str(BIN / "zdd-agent"), "status"], environment))
        bare.append(seconds([sys.executable, "-I", "-c", "pass"], plain))
    return statistics.median(status), statistics.median(bare)


async def main() -> None:
    prefix = f"127.{random.randint(100, 250)}.{random.randint(1, 250)}"  # only to meet nobody
    async with Lab(prefix=prefix, hosts=2, agents=False) as lab:
        host = lab.hosts[0]
        # The product's own pace, not the fast lab's: a `status` is answered from the last look for 10 s.
        await host.start_agent({"ZDD_AGENT_POLL__INTERVAL_SECONDS": "10"})
        await asyncio.sleep(1.0)  # at rest: start-up is over
        assert host.agent_pid is not None
        rest = resident_megabytes(host.agent_pid)
        status, bare = await asyncio.to_thread(compare, {**os.environ, **lab.env(host)})
        after = resident_megabytes(host.agent_pid)
    print(f"zdd-agent status: median {status * 1000:.1f} ms; python3 -I -c pass: {bare * 1000:.1f} ms")
    print(f"ratio: {status / bare:.2f}")
    print(f"daemon at rest, before its first operation: {rest:.1f} MB resident; once it has asked AWS: {after:.1f} MB")


if __name__ == "__main__":
    uvloop.run(main())
