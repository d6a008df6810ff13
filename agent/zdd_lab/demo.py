"""`zdd-lab demo`: a rolling deploy under load, through the agent and then by plain restarts."""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import uvloop

from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import PROFILES
from zdd_lab.processes import children
from zdd_lab.report.screen import Screen
from zdd_lab.report.timeline import Run, Span, draw
from zdd_lab.traffic.records import Record, Summary, read_records, summarize

OLD, NEW = "v1", "v2"
# Requests in the deploy without the agent: enough to show that every restart fails some.
_CONTRAST_REQUESTS = 4000
# Seconds of load before the first and after the last step, so that the picture also shows the quiet time.
_CALM_SECONDS = 3.0
# Share of the app's requests that are slow, and how slow they get (s).
_SLOW_SHARE, _SLOW_MAX = 0.03, 2.0
_APP_START = 1.0  # s that the app takes to start: long enough for a plain restart to fail requests


class Figures(Summary):
    """One deploy in report.json."""

    deploy_seconds: float


class Report(TypedDict):
    """report.json."""

    with_agent: Figures
    without_agent: Figures
    imds_v1_requests: int
    host_count: int
    rate_rps: float


class DemoError(RuntimeError):
    """A step of the demo went wrong."""


@dataclass
class Deploy:
    """What happened in one rolling deploy under load."""

    records: list[Record] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    seconds: float = 0.0

    def figures(self) -> Figures:
        return {**summarize(self.records), "deploy_seconds": round(self.seconds, 1)}


@dataclass(frozen=True, slots=True)
class Stage:
    """What every step of the demo works on."""

    lab: Lab
    folder: Path
    rate: float
    min_requests: int
    screen: Screen


Update = Callable[[Stage, Host], Awaitable[None]]


def main(argv: Sequence[str]) -> int:
    """The command. Returns its exit status: 0 if the agent's deploy lost no request and put v2 everywhere."""
    parser = argparse.ArgumentParser(
        prog="zdd-lab demo",
        description="A rolling deploy under load: with the agent, then by plain restarts.",
    )
    parser.add_argument("--prefix", default="127.77.0", help="first three bytes of the lab's addresses (%(default)s)")
    parser.add_argument("--hosts", type=int, default=2, help="at least 2 (%(default)s)")
    parser.add_argument("--rate", type=float, default=250.0, help="requests a second (%(default)s)")
    parser.add_argument(
        "--requests", type=int, default=20_500, help="how many at least, in the deploy with the agent (%(default)s)"
    )
    parser.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        default="fast",
        help="how long things take: alb as on AWS, fast a tenth of it (%(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for the results (%(default)s)")
    options = parser.parse_args(argv)
    if options.hosts < 2:
        parser.error("a rolling deploy needs at least 2 hosts")
    try:
        return uvloop.run(_demo(options))
    except (DemoError, OSError) as error:
        print(f"zdd-lab: cannot finish the demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _demo(options: argparse.Namespace) -> int:
    folder: Path = options.out.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    app = ("--slow-share", str(_SLOW_SHARE), "--slow-max", str(_SLOW_MAX), "--start-seconds", str(_APP_START))
    screen = Screen(sys.stderr)
    screen.say(f"starting the lab: {options.hosts} hosts, profile {options.profile}")
    lab = Lab(
        prefix=options.prefix,
        profile=PROFILES[options.profile],
        hosts=options.hosts,
        state_folder=folder / "lab",
        app_arguments=app,
    )
    async with lab:
        stage = Stage(lab, folder, options.rate, options.requests, screen)
        screen.say("rolling deploy from v1 to v2 with the agent, one host at a time")
        with_agent = await _deploy(stage, "with_agent", options.requests, _through_the_agent)
        await _must_run(lab, NEW)
        screen.say("the same deploy by plain restarts, without the agent")
        for host in lab.hosts:
            await host.restart_app(OLD, lab.app_arguments)
        await asyncio.sleep(2 * lab.profile.check_interval)
        await lab.wait_until_healthy()
        without = await _deploy(stage, "without_agent", _CONTRAST_REQUESTS, _by_plain_restart)
        report: Report = {
            "with_agent": with_agent.figures(),
            "without_agent": without.figures(),
            "imds_v1_requests": sum(host.imds.v1_requests for host in lab.hosts),
            "host_count": len(lab.hosts),
            "rate_rps": options.rate,
        }
    _write(folder, report, with_agent, without)
    print(table(report))
    print(f"\n{_shown(folder / 'timeline.svg')}\n{_shown(folder / 'report.json')}")
    lost = report["with_agent"]["failed"]
    if lost:
        print(f"zdd-lab: {lost} requests failed with the agent", file=sys.stderr)
    return 1 if lost else 0


async def _deploy(stage: Stage, name: str, requests: int, update: Update) -> Deploy:
    """Roll every host from v1 to v2 under load."""
    file = stage.folder / f"{name}.tsv"
    deploy = Deploy()
    async with _load(stage, file, requests):
        await asyncio.sleep(_CALM_SECONDS)
        began = time.time()
        for host in stage.lab.hosts:
            start = time.time()
            await update(stage, host)
            deploy.spans.append(Span(host.name, start, time.time()))
        deploy.seconds = time.time() - began
        await asyncio.sleep(_CALM_SECONDS)
        stage.screen.say("deploy done; the load goes on until it has sent enough requests")
    deploy.records = list(read_records(file))
    return deploy


@asynccontextmanager
async def _load(stage: Stage, file: Path, requests: int) -> AsyncIterator[None]:
    """Run the load in its own process. On exit, wait until it has sent its minimum and has every answer."""
    words = ["-m", "zdd_lab.traffic.load", "--rate", f"{stage.rate:g}", "--out", str(file)]
    words += ["--until-stdin-closes", "--min-requests", str(requests)]
    for url in stage.lab.urls:
        words += ["--url", url]
    load = await asyncio.create_subprocess_exec(
        *children.dies_with_parent([sys.executable, *words]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    watching = asyncio.create_task(stage.screen.watch(file))
    try:
        yield
        assert load.stdin is not None  # noqa: S101  # opened as a pipe above
        load.stdin.close()
        if await load.wait() != 0:
            raise DemoError(f"the load generator ended with {load.returncode}")
    finally:
        watching.cancel()
        stage.screen.clear()
        if load.returncode is None:
            load.terminate()
            await load.wait()


async def _through_the_agent(stage: Stage, host: Host) -> None:
    """Update a host as a deploy tool does: by the command line and nothing else."""
    number = host.name.removeprefix("h")
    restart = f"zdd-lab restart-app --prefix {stage.lab.prefix} --host {number} --version {NEW} > /dev/null"
    stage.screen.say(f"{host.name}: zdd-agent drain && restart && zdd-agent rejoin")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    shell = await asyncio.create_subprocess_exec(
        *children.dies_with_parent(["/bin/sh", "-c", f"zdd-agent drain && {restart} && zdd-agent rejoin"]),
        env=stage.lab.env(host) | {"PATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await shell.communicate()
    for said in out.decode().splitlines():
        stage.screen.say(f"{host.name}: {said}")
    if shell.returncode != 0:
        raise DemoError(f"{host.name}: exit {shell.returncode}: {err.decode()}")


async def _by_plain_restart(stage: Stage, host: Host) -> None:
    """Update a host as people do without an agent."""
    stage.screen.say(f"{host.name}: plain restart")
    await host.restart_app(NEW, stage.lab.app_arguments)


async def _must_run(lab: Lab, version: str) -> None:
    """Ask every app for its version: the lab's own record could be wrong. Raises DemoError."""
    for host in lab.hosts:
        reader, writer = await asyncio.open_connection(host.identity.address, host.app_port)
        writer.write(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        running = json.loads(answer.partition(b"\r\n\r\n")[2])["version"]
        if running != version:
            raise DemoError(f"{host.name} runs {running}, not {version}")


def _write(folder: Path, report: Report, with_agent: Deploy, without: Deploy) -> None:
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    runs = [
        Run(
            "zdd-agent drain && restart && zdd-agent rejoin", _verdict(with_agent), with_agent.records, with_agent.spans
        ),
        Run("plain restart", _verdict(without), without.records, without.spans),
    ]
    subtitle = (
        f"{report['host_count']} hosts behind a load balancer of two zones, {report['rate_rps']:g} requests a second"
    )
    (folder / "timeline.svg").write_text(draw(runs, subtitle), "utf-8")


def _verdict(deploy: Deploy) -> str:
    figures = deploy.figures()
    return f"{figures['failed']:,} of {figures['requests']:,} requests failed"


def table(report: Report) -> str:
    """The report as a table of text."""
    rows = [("", "requests", "failed", "p50 ms", "p99 ms", "deploy s", "versions")]
    for label, figures in (("with zdd-agent", report["with_agent"]), ("plain restarts", report["without_agent"])):
        rows.append(
            (
                label,
                f"{figures['requests']:,}",
                f"{figures['failed']:,}",
                f"{figures['p50_ms']}",
                f"{figures['p99_ms']}",
                f"{figures['deploy_seconds']:.0f}",
                " ".join(figures["versions_seen"]),
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(w) if n else cell.ljust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append(f"IMDSv1 requests: {report['imds_v1_requests']}")
    return "\n".join(lines)


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
