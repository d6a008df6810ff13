"""A lab under load whose hosts go through faults side by side, and what must hold of it at every moment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import free_prefix
from zdd_agent.model.states import PHASES
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST
from zdd_lab.processes import children
from zdd_lab.threaded import ThreadedLab
from zdd_lab.traffic.records import Record, read_records

SOAK = bool(os.environ.get("ZDD_SOAK"))
REPORTS = Path(__file__).resolve().parents[2] / "build" / "faults"
# Seconds of the deregistration delay: longer than the nodes' lag of up to 2 s and the slowest request after it
# together. A node cuts what is still under way when the delay is over, and no agent can help that.
DELAY_SECONDS = 5.0
SECOND_PORT = 8081  # of the balancer's second listener
# Seconds after which a command counts as hanging: above the longest deadline that the agent derives here, 120 s.
PATIENCE = 180.0
# Checks in a row that a host may miss: the lab's are ten times as fast as AWS's, and a busy machine is not.
_MISSES = 8
_GROUP_PORT = 9999  # of the second group: its targets are registered on another one
_SLOW_APP = ("--slow-share", "0.05", "--slow-max", "1.5")
_RATE = 40  # requests a second, over both listeners and both zones

Key = tuple[str, str, int]


@dataclass
class Told:
    """A command that has ended. Moments are seconds since the epoch."""

    code: int
    out: str
    err: str
    began: float
    ended: float


@dataclass
class Row:
    """One row of docs/reliability.md. `repeat` are the words after `pytest`."""

    fault: str
    phase: str
    runs: int
    outcome: str
    repeat: str


def write_rows(name: str, rows: list[Row]) -> None:
    """Keep the rows for scripts/reliability.py."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")


def selected(request: pytest.FixtureRequest, test: str, *names: str) -> list[tuple[Any, ...]]:
    """The parameters of the tests of this name that this run is going to make."""
    module = request.node.path
    items = [i for i in request.session.items if isinstance(i, pytest.Function) and i.path == module]
    return [tuple(i.callspec.params[name] for name in names) for i in items if i.originalname == test]


class Subject:
    """One host with its agent, which is started again whenever it dies, as systemd does.

    `sequence` are further environments: one for each start, then the plain one again.
    """

    def __init__(self, site: Site, host: Host) -> None:
        self.site = site
        self.host = host
        self.name = host.name
        self.deaths = 0
        self.phases_at_death: list[str] = []
        self.expected = site.registered(host)
        self.wrapped: tuple[str, ...] = ()  # words before the agent's own
        self.env: dict[str, str] = {}  # of every start
        self._listens = False
        self._starts: list[dict[str, str]] = []
        self._watching: asyncio.Task[None] | None = None

    async def start(self, *sequence: dict[str, str]) -> None:
        """Start the agent anew with these environments, one after another."""
        await self.stop()
        self._starts = list(sequence)
        await self._spawn()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self.host.stop_agent()

    async def kill(self) -> None:
        """End the agent with SIGKILL; the watch starts it again."""
        before = self.deaths
        await self.host.signal_agent(signal.SIGKILL)
        await until(lambda: self.deaths > before)
        await self.up()

    async def up(self) -> None:
        """Wait until the agent listens."""
        await until(lambda: self.host.agent_pid is not None and self._listens)

    def then(self, *sequence: dict[str, str]) -> None:
        """The environments of the next starts."""
        self._starts = list(sequence)

    async def _watch(self) -> None:
        while self.host in self.site.lab.hosts:  # until EC2 ends the host
            if self.host.agent_pid is None:
                self._died()
                await self._spawn()
            await asyncio.sleep(0.02)

    async def _spawn(self) -> None:
        self._listens = False
        while not self._listens and self.host in self.site.lab.hosts:
            try:
                await self._start_agent(self._starts.pop(0) if self._starts else {})
                self._listens = True
            except children.ChildStartError:  # it was killed before it listened
                self._died()

    async def _start_agent(self, more: dict[str, str]) -> None:
        if not self.wrapped:
            await self.host.start_agent(self.env | more)
            return
        argv = [*self.wrapped, sys.executable, "-m", "zdd_agent", "serve"]
        env = self.site.lab.env(self.host) | self.env | more
        host = self.host
        host._agent = children.spawn(argv, env, host.folder / "agent.log")
        async with asyncio.timeout(PATIENCE):
            while not await host._agent_listens():  # noqa: ASYNC110  a process of its own has no event
                await asyncio.sleep(0.02)

    def _died(self) -> None:
        self.deaths += 1
        self.phases_at_death.append(self.phase() or "none")

    async def command(self, *words: str) -> Told:
        """Run the real command line to its end. Raises AssertionError when it hangs."""
        began = time.time()
        process = await asyncio.create_subprocess_exec(
            *children.dies_with_parent([sys.executable, "-m", "zdd_agent", *words]),
            env=self.site.lab.env(self.host),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
        except TimeoutError:
            raise AssertionError(f"{self.name}: {' '.join(words)} hangs; on disk: {self.on_disk()}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Told(process.returncode or 0, out.decode(), err.decode(), began, time.time())

    async def status(self) -> dict[str, Any]:
        told = await self.command("status", "--json")
        while told.code == 5:  # a failpoint that was not reached yet
            await self.up()
            told = await self.command("status", "--json")
        assert told.code == 0, told.err
        answer: dict[str, Any] = json.loads(told.out)
        return answer

    def on_disk(self) -> dict[str, Any]:
        """The state file; empty before the first one."""
        try:
            raw = (self.state_folder() / "host.json").read_text("utf-8")
        except FileNotFoundError:
            return {}
        document: dict[str, Any] = json.loads(raw)
        return document

    def state_folder(self) -> Path:
        """As the agent sees it: a wrapped one has a file system of its own."""
        folder = self.host.folder / "state"
        return Path(f"/proc/{self.host.agent_pid}/root{folder}") if self.wrapped else folder

    def phase(self) -> str | None:
        """The phase of the operation under way, as it stands on disk."""
        record = self.on_disk().get("record", {"underway": None})
        return None if record["underway"] is None else _PHASES[record["state"]["is"]]

    async def wrong_when_drained(self) -> list[str]:
        """What does not hold although a drain answered 0: invariants 1 and 2."""
        wrong = []
        record = self.on_disk()
        status = await self.status()
        ended = status["operation"]["ended_at"]
        if ended is None:
            return [f"the command answered although the operation is under way: {status['operation']}"]
        self.site.quiet(self, ended)
        for node, target in self.site.node_targets(self.host):
            if target["in_flight"]:
                wrong.append(f"{node} has {target['in_flight']} requests in flight")
            if (target["last_request_at"] or 0.0) > ended:
                wrong.append(f"{node} sent a request {target['last_request_at'] - ended:.3f} s behind the drain")
        if left := self.site.registered(self.host):
            wrong.append(f"still registered: {left}")
        if record["out_since"] is None or targets_of(record) != self.expected:
            wrong.append(f"on disk: out_since {record['out_since']}, targets {targets_of(record)}")
        if status["posture"] != "drained" or status["drained_since"] is None:
            wrong.append(f"status says {status['posture']}, drained_since {status['drained_since']}")
        return wrong

    async def wrong_when_back(self) -> list[str]:
        """What does not hold although a rejoin answered 0: invariant 3."""
        wrong = []
        if (now := self.site.registered(self.host)) != self.expected:
            wrong.append(f"registered {now} instead of {self.expected}")
        states = {t["state"] for t in self.site.targets(self.host)}
        if states != {"healthy"}:
            wrong.append(f"targets are {states}")
        status = await self.status()
        if status["posture"] != "in_service" or status["drained_since"] is not None:
            wrong.append(f"status says {status['posture']}, drained_since {status['drained_since']}")
        if self.phase() and not self.wrapped:  # its end could not be put on disk: the next daemon goes on from there
            await self.kill()
            await until(lambda: self.phase() is None)
        if self.phase() is None and self.on_disk()["out_since"] is not None:
            wrong.append("the state file says that the host is out")
        return wrong


_PHASES = {state.__name__: phase.value for state, phase in PHASES.items()}


def targets_of(record: dict[str, Any]) -> set[Key]:
    membership = record.get("membership") or {"targets": ()}
    return {(t["group"], t["id"], t["port"]) for t in membership["targets"]}


@dataclass
class Site:
    """A lab with two target groups, a load through both, and two hosts that always stay in."""

    running: ThreadedLab
    lab: Lab
    subjects: list[Subject] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    lowest: dict[str, int] = field(default_factory=dict)
    # Per host: from when to when (epoch, s) it must have heard nothing.
    _quiet: list[list[Any]] = field(default_factory=list)

    def targets(self, host: Host) -> list[dict[str, Any]]:
        """What DescribeTargetHealth says of this host."""
        own = host.identity.instance_id
        return [t for group in self.groups for t in self.lab.control.targets(group) if t["id"] == own]

    def registered(self, host: Host) -> set[Key]:
        return {(t["group"], t["id"], t["port"]) for t in self.targets(host) if t["state"] != "draining"}

    def node_targets(self, host: Host) -> Iterator[tuple[str, Any]]:
        for name, node in self.lab.plane.nodes.items():
            for target in node.counters()["targets"]:
                if target["id"] == host.identity.instance_id:
                    yield name, target

    def healthy(self, group: str) -> int:
        return sum(t["state"] == "healthy" for t in self.lab.control.targets(group))

    def quiet(self, subject: Subject, since: float) -> None:
        """From this moment until `heard` this host must hear nothing."""
        self._quiet.append([subject.name, since, float("inf")])

    def heard(self, subject: Subject) -> None:
        """It may hear something from now on."""
        for span in self._quiet:
            if span[0] == subject.name and span[2] == float("inf"):
                span[2] = time.time()

    def broken_quiet(self, records: list[Record]) -> list[str]:
        """Requests that a host answered while it was out."""
        wrong = []
        for name, since, to in self._quiet:
            for one in records:
                if one.host == name and one.started + one.latency_ms / 1000 > since and one.started < to:
                    wrong.append(f"{name} answered a request of {one.started - since:+.3f} s, counted from its drain")
        return wrong

    def refusals(self) -> list[str]:
        """What the nodes themselves answered, and when that host was out."""
        found = []
        names = {host.identity.instance_id: host.name for host in self.lab.hosts}
        for node in self.lab.plane.nodes.values():
            for one in node.counters()["refusals"]:
                name, at = names.get(one["target"] or "", "no host"), one["at"]
                out = [(since - at, to - at) for who, since, to in self._quiet if who == name]
                near = ", ".join(f"{since:+.3f} to {to:+.3f} s" for since, to in out if abs(since) < 20 or abs(to) < 20)
                found.append(f"{at:.3f} {node.name}, {name}: {one['status']} {one['why']}; out from then: {near}")
        return found

    async def watch_floor(self) -> None:
        """Record the lowest number of healthy targets that each group ever had."""
        while True:
            for group in self.groups:
                self.lowest[group] = min(self.lowest.get(group, 10**6), self.healthy(group))
            await asyncio.sleep(0.05)

    async def spread(self, works: list[Callable[[Subject], Awaitable[None]]]) -> None:
        """Share this work among the subjects, one piece at a time each, until none is left."""
        waiting = list(reversed(works))

        async def one(subject: Subject) -> None:
            while waiting:
                await waiting.pop()(subject)

        async with asyncio.TaskGroup() as doing:
            for subject in self.subjects:
                doing.create_task(one(subject))


async def until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for it. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  the lab's own state has no event
            await asyncio.sleep(0.02)


@contextmanager
def site(
    subjects: int, folder: Path, *, settings: str = "min_healthy = 2\n", delay: float = DELAY_SECONDS, **profile: Any
) -> Iterator[Site]:
    """A lab with this many subjects, and two further hosts that stay in. `delay` is the deregistration delay, s."""
    lab = replace(FAST, deregistration_delay=delay, check_timeout=0.9, unhealthy_threshold=_MISSES, **profile)
    with ThreadedLab(
        prefix=free_prefix(), profile=lab, hosts=subjects + 2, agents=False, app_arguments=_SLOW_APP
    ) as running:
        built = Site(running, running.lab)
        _add_group(built, delay)
        for host in built.lab.hosts:
            config = host.folder / "config.toml"
            # The lab's loop shares this process, and two cores, with its tests: its nodes may stop sending later
            # than their lag of up to 2 s, which a real balancer's do not. So the floor is twice the lab's own 3 s.
            # And between its two probes a host probes for a second, so that a fault can begin in that phase.
            text = config.read_text("utf-8")
            for old, new in (
                ("application = 3\n", "application = 6\n"),
                ("interval_seconds = 0.1\n", "interval_seconds = 1\n"),
            ):
                assert old in text
                text = text.replace(old, new)
            config.write_text(settings + text, "utf-8")
        running.run(_all_healthy(built))
        built.subjects = [Subject(built, host) for host in built.lab.hosts[2:]]
        yield built
        running.run(_stop(built))


@contextmanager
def load(built: Site, file: Path) -> Iterator[None]:
    """An open-loop load while it lasts; it ends when the last answer is in."""

    async def begin() -> asyncio.subprocess.Process:
        words = ["-m", "zdd_lab.traffic.load", "--rate", str(_RATE), "--out", str(file), "--until-stdin-closes"]
        for url in built.lab.urls:
            words += ["--url", url, "--url", url.replace(str(APP_PORT), str(SECOND_PORT))]
        return await asyncio.create_subprocess_exec(
            *children.dies_with_parent([sys.executable, *words]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )

    async def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0

    process = built.running.run(begin())
    watch = built.running.run(_task(built.watch_floor()))
    try:
        yield
    finally:
        built.running.run(_cancel(watch))
        built.running.run(end())


def failures(built: Site, file: Path) -> tuple[list[Record], list[str]]:
    """Every request of the load; what became of those that failed, followed by the nodes' reasons."""
    records = list(read_records(file))
    failed = [f"{r.started:.3f} +{r.latency_ms / 1000:.3f}: {r.status} {r.error}" for r in records if r.failed]
    return records, failed + (built.refusals() if failed else [])


def _add_group(built: Site, seconds: float) -> None:
    """A second group, on a second listener; its targets are registered on another port than its own."""
    elb = built.lab.client("elbv2")
    group = elb.create_target_group(
        Name="second",
        Protocol="HTTP",
        Port=_GROUP_PORT,
        VpcId=built.lab.network.vpc,
        TargetType="instance",
        HealthCheckPath="/healthz",
        HealthCheckIntervalSeconds=10,
        HealthCheckTimeoutSeconds=9,
        HealthyThresholdCount=2,
        UnhealthyThresholdCount=_MISSES,
    )["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": f"{seconds:.0f}"}
    elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=[delay])
    elb.create_listener(
        LoadBalancerArn=built.lab.front.load_balancer,
        Protocol="HTTP",
        Port=SECOND_PORT,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )
    targets = [{"Id": host.identity.instance_id, "Port": APP_PORT} for host in built.lab.hosts]
    elb.register_targets(TargetGroupArn=group, Targets=targets)
    built.groups = [built.lab.front.group, group]


async def _all_healthy(built: Site) -> None:
    await until(lambda: all(built.healthy(g) == len(built.lab.hosts) for g in built.groups))


async def _stop(built: Site) -> None:
    await asyncio.gather(*(subject.stop() for subject in built.subjects))


async def _task(work: Any) -> asyncio.Task[None]:
    return asyncio.create_task(work)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
