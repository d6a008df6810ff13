"""Three ways to restart a host behind a load balancer, side by side, at ALB's true length: docs/benchmarks.md.

`python tests/bench/bench_drain.py [--delay 60 --delay 300] [--hosts 2] [--at-once 3]`; up to half an hour. Ansible, its
collections and awscli come from PyPI into a venv of their own, build/bench/venv.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import reporting

from lab.drain_rig import BIN, cpu_seconds, elb_calls, has_been_in_service, load, run
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import ALB

RATE = 250.0  # requests a second, as in the demo
APP = ("--slow-share", "0.03", "--slow-max", "2.0", "--start-seconds", "1.0")
PLAYBOOKS = Path(__file__).parent / "playbooks"
VENV = reporting.FOLDER / "venv"
RETRIES = 10  # of 10 s each: the article's
CALM = 3.0  # s of load before the first step and after the last


@dataclass
class Row:
    """One way at one delay; per host but for the requests."""

    way: str
    delay: float
    seconds: float = 0.0
    requests: int = 0
    failed: int = 0
    calls: float = 0.0
    cpu: float = 0.0
    note: str = ""


class GaveUpError(Exception):
    """The way ended without an update; the text is its last word."""


Way = Callable[[Lab, Host], Awaitable[float]]  # answers the CPU seconds


def playbook(name: str, **given: object) -> Way:
    async def update(lab: Lab, host: Host) -> float:
        words: dict[str, object] = {"imds": host.imds_url, "group": lab.front.group, "restart": restart(lab, host)}
        bin_folder = VENV / "bin"
        env = lab.env(host) | {
            "PATH": f"{bin_folder}:/usr/local/bin:/usr/bin:/bin",
            "ANSIBLE_HOME": str(lab.folder / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
            "ANSIBLE_PYTHON_INTERPRETER": str(bin_folder / "python"),
            "ANSIBLE_NOCOLOR": "1",
        }
        env.pop("PYTHONPATH")  # the lab's, of no use to Ansible
        argv = [
            str(bin_folder / "ansible-playbook"),
            str(PLAYBOOKS / f"{name}.yml"),
            "-e",
            json.dumps(words | {"port": APP_PORT} | given),
        ]
        code, out, err, cpu = await run(argv, env)
        if code != 0:
            lines = [line for line in (out + err).splitlines() if line.strip()]
            raise GaveUpError(next((line for line in lines if "fatal" in line), lines[-1]))
        return cpu

    return update


async def agent(lab: Lab, host: Host) -> float:
    assert host.agent_pid is not None
    before = cpu_seconds(host.agent_pid)
    shell = f"zdd-agent drain && {restart(lab, host)} && zdd-agent rejoin"
    env = lab.env(host) | {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin"}
    code, _, err, cpu = await run(["/bin/sh", "-c", shell], env)
    if code != 0:
        raise GaveUpError(err)
    return cpu + cpu_seconds(host.agent_pid) - before


def restart(lab: Lab, host: Host) -> str:
    """The same small command in every way."""
    number = host.name.removeprefix("h")
    return f"{BIN}/zdd-lab restart-app --prefix {lab.prefix} --host {number} --version v2"


def ways(delay: float) -> dict[str, Way]:
    """The ways at a delay, with as many polls as it needs."""
    found = {"aws in command tasks": playbook("article", retries=RETRIES)}
    if delay >= 10 * RETRIES:
        enough = round(delay / 10) + 10
        found[f"aws in command tasks, {enough} polls"] = playbook("article", retries=enough)
    return found | {"elb_target": playbook("module", patience=round(delay) + 100), "zdd-agent": agent}


async def measure(way: str, delay: float, hosts: int) -> Row:
    """Roll every host under load."""
    prefix = f"127.{random.randint(200, 250)}.{random.randint(1, 250)}"  # only to meet nobody
    row = Row(way, delay)
    update = ways(delay)[way]
    profile = replace(ALB, deregistration_delay=delay)
    lab = Lab(prefix=prefix, profile=profile, hosts=hosts, agents=way == "zdd-agent", app_arguments=APP)
    async with lab, load(lab, RATE) as under:
        if way == "zdd-agent":
            await has_been_in_service(lab)
        calls = sum(sum(elb_calls(lab, host).values()) for host in lab.hosts)
        await asyncio.sleep(CALM)
        began = time.time()
        done = 0
        for host in lab.hosts:
            started = time.time()
            try:
                row.cpu += await update(lab, host)
            except GaveUpError as error:
                row.note = f"gave up after {time.time() - started:.0f} s and left the host out"
                print(f"  {way}, {delay:g} s: {row.note}: {error}", flush=True)
                break
            row.seconds += time.time() - started
            row.calls += sum(elb_calls(lab, host).values())
            done += 1
        row.calls -= calls
        await asyncio.sleep(CALM)
        row.requests, row.failed = len(under.records(began)), len(under.failed(began))
    row.seconds, row.calls, row.cpu = (one / max(done, 1) for one in (row.seconds, row.calls, row.cpu))
    print(f"{way}, delay {delay:g} s: {row}", flush=True)
    return row


def set_up() -> dict[str, str]:
    """Make the venv if there is none; answers what is in it."""
    if not (VENV / "bin" / "ansible-playbook").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        pip = [str(VENV / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "ansible", "awscli", "boto3", "botocore"], check=True)
    listed = subprocess.run(
        [str(VENV / "bin" / "pip"), "list", "--format", "json", "--disable-pip-version-check"],
        capture_output=True,
        check=True,
    )
    found = {one["name"]: one["version"] for one in json.loads(listed.stdout)}
    return {name.partition("-")[0]: found[name] for name in ("ansible-core", "awscli")}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, action="append", help="s; 60 and 300")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--only", help="one way, for the process that measures it")
    options = parser.parse_args()
    delays = options.delay or [60.0, 300.0]
    if options.only:
        row = await measure(options.only, delays[0], options.hosts)
        (reporting.FOLDER / f"{_name(options.only, delays[0])}.json").write_text(json.dumps(asdict(row)), "utf-8")
        return
    versions = set_up()
    turn = asyncio.Semaphore(options.at_once)
    rows = await asyncio.gather(*(_apart(way, d, options.hosts, turn) for d in delays for way in ways(d)))
    reporting.add("drain", {"rate": RATE, "hosts": options.hosts, **versions, "rows": rows})


async def _apart(way: str, delay: float, hosts: int, turn: asyncio.Semaphore) -> dict[str, object]:
    """In a process of its own: a lab's data plane keeps its loop busy."""
    async with turn:
        words = [__file__, "--only", way, "--delay", f"{delay:g}", "--hosts", str(hosts)]
        process = await asyncio.create_subprocess_exec(sys.executable, *words)
        if await process.wait() != 0:
            raise SystemExit(f"{way} at {delay:g} s could not be measured")
    kept = reporting.FOLDER / f"{_name(way, delay)}.json"
    found: dict[str, object] = json.loads(kept.read_text("utf-8"))
    kept.unlink()
    return found


def _name(way: str, delay: float) -> str:
    return f"{''.join(c if c.isalnum() else '-' for c in way)}-{delay:g}"


if __name__ == "__main__":
    uvloop.run(main())
