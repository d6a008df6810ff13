"""A drain at ALB's true length: lag 10 to 20 s, deregistration delay 300 s, 2 hosts, the demo's load.

`python tests/bench/bench_true_length.py [idle | flight | stream]...`; minutes long. Prints figures, and
fails when one of its promises is not kept.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import reporting

from lab.drain_rig import Load, elb_calls, has_been_in_service, leave, load, operate, through
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import ALB

RATE = 250.0  # requests a second, as in the demo
SLOW = ("--slow-share", "0.03", "--slow-max", "2.0")

broken: list[str] = []
rows: list[tuple[str, str, str]] = []


def promise(kept: bool, what: str) -> None:
    if not kept:
        broken.append(what)
        print(f"  NOT KEPT: {what}", flush=True)


def found(what: str, promised: str, measured: str) -> None:
    """A row of docs/benchmarks.md."""
    rows.append((what, promised, measured))


async def idle(lab: Lab, host: Host, under: Load) -> None:
    """The plain case: keep-alive pools, short requests."""
    began = time.time()
    drained = await leave(lab, host, "--until", "idle")
    await host.start_app("v2", SLOW)
    print(f"{host.name} idle: drained in {drained.seconds:.1f} s: {drained.message}", flush=True)
    promise(drained.seconds <= 40, "idle drains in at most 40 s")
    found("`idle`", "drained in at most 40 s", f"{drained.seconds:.1f} s")
    await _back(lab, host, under, began)


async def _long(lab: Lab, host: Host, under: Load, path: str, until: str) -> None:
    began = time.time()
    drained, gone, asked = await through(lab, host, until, path, 0.5)
    cut = [one for one in asked if one.error]
    last = max(one.ended for one in asked)
    latest = max(one.began for one in asked)
    print(
        f"{host.name} {path} until {until}: {len(asked)} in flight at the host, {len(cut)} cut; the last one started "
        f"{gone.last - latest:.2f} s before the last node let go; the drain ended "
        f"{drained.ended - last:+.2f} s from the last answer, {drained.seconds:.1f} s in all: {drained.message}",
        flush=True,
    )
    promise(not cut, f"none of {path} is cut: {[one.error for one in cut]}")
    measured = f"{drained.ended - last:.2f} s; {len(asked)} in flight, {len(cut)} cut; {drained.seconds:.0f} s in all"
    found(f"`{until}`, {path} sent until the last moment", "at most 1 s after the last response, none cut", measured)
    promise(-0.25 <= drained.ended - last <= 1, f"the drain ends within 1 s after the last answer of {path}")
    await host.start_app("v2", SLOW)
    await _back(lab, host, under, began)


async def flight(lab: Lab, host: Host, under: Load) -> None:
    """Requests of 45 s that go on coming until the last node has let go."""
    await _long(lab, host, under, "/sleep?seconds=45", "closed" if host.name == "h1" else "idle")


async def stream(lab: Lab, host: Host, under: Load) -> None:
    """Answers that stream for 60 s."""
    await _long(lab, host, under, "/stream?seconds=60", "closed" if host.name == "h1" else "idle")


async def _back(lab: Lab, host: Host, under: Load, began: float) -> None:
    rejoined = await operate(lab, host, "rejoin")
    calls = elb_calls(lab, host)
    print(
        f"  rejoined in {rejoined.seconds:.1f} s; {len(under.records(began))} requests meanwhile, "
        f"{len(under.failed(began))} failed; ELBv2 calls of {host.name} so far: {sum(calls.values())} {calls}",
        flush=True,
    )
    promise(rejoined.outcome == "succeeded", f"rejoin: {rejoined.message}")
    for record in under.failed(began)[:5]:
        promise(False, f"no request fails: {record}")


SCENARIOS: dict[str, Callable[[Lab, Host, Load], Awaitable[None]]] = {
    "idle": idle,
    "flight": flight,
    "stream": stream,
}


async def scenario(name: str) -> None:
    prefix = f"127.{random.randint(200, 250)}.{random.randint(1, 250)}"  # only to meet nobody
    async with Lab(prefix=prefix, profile=ALB, hosts=2, agents=False, app_arguments=SLOW) as lab:
        for host in lab.hosts:
            await host.start_agent()
        async with load(lab, RATE) as under:
            await has_been_in_service(lab)
            for host in lab.hosts:
                await SCENARIOS[name](lab, host, under)
            print(f"{name}: {len(under.records())} requests, {len(under.failed())} failed", flush=True)
            found(
                "all other requests meanwhile", "0 failed", f"{len(under.failed())} of {len(under.records()):,} failed"
            )
    _kept(name).parent.mkdir(parents=True, exist_ok=True)
    _kept(name).write_text(json.dumps(rows), "utf-8")


def _kept(name: str) -> Path:
    return reporting.FOLDER / f"true-{name}.json"


async def main() -> None:
    """One process for each scenario, side by side: a lab mostly waits."""
    if len(sys.argv) == 2:
        await scenario(sys.argv[1])
        sys.exit(1 if broken else 0)
    names = sys.argv[1:] or list(SCENARIOS)
    turn = asyncio.Semaphore(3)
    codes = await asyncio.gather(*(_apart(name, turn) for name in names))
    if names == list(SCENARIOS):
        rows = [row for name in names for row in json.loads(_kept(name).read_text("utf-8"))]
        reporting.add("true_length", {"rate": RATE, "rows": rows})
    sys.exit(max(codes))


async def _apart(name: str, turn: asyncio.Semaphore) -> int:
    async with turn:
        process = await asyncio.create_subprocess_exec(sys.executable, __file__, name)
        return await process.wait()


if __name__ == "__main__":
    uvloop.run(main())
