"""Real agents under real traffic: what the tests of a drain's end, and the benchmarks, stand on."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from zdd_agent.cli.client import Client
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST
from zdd_lab.processes import children
from zdd_lab.threaded import ThreadedLab
from zdd_lab.traffic.records import Record, read_records

T = TypeVar("T")

BIN = Path(sys.executable).parent
# Calls that count against the load balancers' budget; what else a host calls is STS, EC2 and IMDS.
ELB_CALLS = ("DescribeTarget", "DescribeLoad", "DescribeListener", "DescribeRule", "RegisterTargets", "Deregister")


@dataclass(frozen=True, slots=True)
class Ended:
    """An operation that has ended. Moments are seconds since the epoch."""

    outcome: str
    message: str
    began: float
    ended: float
    said: tuple[str, ...]  # all progress
    cpu: float  # seconds that the command took, the agent apart

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def whole(self) -> str:
        """Everything that it told people."""
        return "; ".join((*self.said, self.message))


async def leave(lab: Lab, host: Host, *words: str) -> Ended:
    """Drain a host, and end its app at once: whatever it still worked at is cut."""
    ended = await operate(lab, host, "drain", *words)
    await host.stop_app()
    return ended


async def operate(lab: Lab, host: Host, *words: str) -> Ended:
    """Run a command on a host and wait for its end."""
    argv = [str(BIN / "zdd-agent"), *words, "--json"]
    began = time.time()
    code, out, err, cpu = await run(argv, lab.env(host))
    assert out, f"{host.name}: {words} ended with {code}: {err}"
    told: dict[str, Any] = json.loads(out)
    every = await asyncio.to_thread(Client(str(host.socket)).call, "GET", f"/v1/operations/{told['id']}?after=0")
    said = tuple(e["text"] for e in every["events"])
    return Ended(told["outcome"], told["message"], began, told["ended_at"], said, cpu)


async def has_been_in_service(lab: Lab, seconds: float = 30.0) -> None:
    """Every agent has been asked for its status, and has had this much time to see health checks since."""
    for host in lab.hosts:
        await run([str(BIN / "zdd-agent"), "status"], lab.env(host))
    await asyncio.sleep(seconds)


async def run(argv: list[str], env: dict[str, str]) -> tuple[int, str, str, float]:
    """Run a program; answers its exit code, both outputs and the CPU seconds of it and its children."""
    out, err = asyncio.subprocess.PIPE, asyncio.subprocess.PIPE
    words = children.dies_with_parent([*_TIMED, *argv])
    process = await asyncio.create_subprocess_exec(*words, env=env, stdout=out, stderr=err)
    told, errors = await process.communicate()
    lines = errors.decode().splitlines()
    spent = next((line for line in reversed(lines) if line.startswith(_MARK)), f"{_MARK}0")
    said = "\n".join(line for line in lines if not line.startswith(_MARK))
    return process.returncode or 0, told.decode(), said, float(spent.removeprefix(_MARK))


_MARK = "cpu-seconds: "
_TIMED = [
    sys.executable,
    "-ISc",
    "import resource, subprocess, sys\n"
    "code = subprocess.call(sys.argv[1:])\n"
    "spent = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    f"print({_MARK!r} + str(spent.ru_utime + spent.ru_stime), file=sys.stderr)\n"
    "sys.exit(code)",
]


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, its children apart."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def elb_calls(lab: Lab, host: Host) -> dict[str, int]:
    """The ELBv2 calls of a host so far, by action."""
    calls = lab.endpoint.calls.items()
    return {action: n for (client, action), n in calls if client == host.name and action.startswith(ELB_CALLS)}


async def until_so(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what tests wait for has no event
            await asyncio.sleep(0.01)


def listens_now(address: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((address, port), 1.0).close()
    except OSError:
        return False
    return True


class Load:
    """The demo's load, in its own process."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def records(self, since: float = 0.0) -> list[Record]:
        return [r for r in read_records(self.file) if r.started >= since]

    def failed(self, since: float = 0.0) -> list[Record]:
        return [r for r in self.records(since) if r.failed]


@asynccontextmanager
async def load(lab: Lab, rate: float, name: str = "load") -> AsyncIterator[Load]:
    """Load both zones; on exit what is in flight finishes."""
    kept = Load(lab.folder / f"{name}.tsv")
    kept.file.touch()
    words = ["-m", "zdd_lab.traffic.load", "--rate", f"{rate:g}", "--out", str(kept.file), "--until-stdin-closes"]
    for url in lab.urls:
        words += ["--url", url]
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    argv = children.dies_with_parent([sys.executable, *words])
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=none, env=children.bare_environment())
    try:
        yield kept
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


@dataclass
class Asked:
    """One request of ours. Moments are seconds since the epoch; `error` is empty for a whole answer of 200."""

    began: float
    ended: float = 0.0
    host: str = ""
    error: str = "not answered"


async def ask(address: str, path: str, port: int = APP_PORT) -> Asked:
    """GET over its own connection, which is kept until the answer is whole. Who answered is known even if not."""
    asked, answer = Asked(time.time()), b""
    try:
        async with asyncio.timeout(150):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
                while part := await reader.read(65_536):
                    answer += part
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        asked.error = repr(error)
    else:
        asked.error = _wrong(answer)
    asked.host = _header(answer, b"x-host: ")
    asked.ended = time.time()
    return asked


def _wrong(answer: bytes) -> str:
    """What is wrong with a response that ended with its connection; empty when it is whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        return f"answered {head[:40]!r}"
    if _header(head, b"transfer-encoding: ") == "chunked":
        return "" if body.endswith(b"0\r\n\r\n") else "cut off"
    return "" if len(body) == int(_header(answer, b"content-length: ") or 0) else "cut off"


def _header(answer: bytes, name: bytes) -> str:
    """Its value. `name` is in lower case, as HAProxy writes headers."""
    head = answer.partition(b"\r\n\r\n")[0]
    start = head.lower().find(b"\r\n" + name)
    return "" if start < 0 else head[start + 2 + len(name) :].partition(b"\r\n")[0].decode()


@dataclass
class Deregistration:
    """When each node learned of a deregistration, by the counters of the nodes; seconds since the epoch.

    Args:
        ids: the targets to watch; empty for all that are the host's by its instance or its IPv4 address.
    """

    ids: tuple[str, ...] = ()
    deregistered: float = 0.0  # when AWS accepted it
    at: dict[str, float] = field(default_factory=dict)
    over: bool = False

    @property
    def last(self) -> float:
        return max(self.at.values())

    async def watch(self, lab: Lab, host: Host) -> None:
        """Look every few milliseconds, until every node has."""
        ids = self.ids or (host.identity.instance_id, host.identity.address)
        knew = {name for name in lab.plane.nodes if _deregistered(lab, name, ids) is False}
        await until_so(lambda: _draining(lab, ids), 60)
        self.deregistered = time.time()
        await until_so(lambda: self._all(lab, ids, knew), 60)
        self.over = True

    def _all(self, lab: Lab, ids: tuple[str, ...], knew: set[str]) -> bool:
        for name in knew - self.at.keys():
            if _deregistered(lab, name, ids) is not False:
                self.at[name] = time.time()
        return len(self.at) == len(knew)


def _draining(lab: Lab, ids: tuple[str, ...]) -> bool:
    return all(t["state"] == "draining" for t in lab.state()["targets"] if t["id"] in ids)


def _deregistered(lab: Lab, node: str, ids: tuple[str, ...]) -> bool | None:
    """Whether the node has learned of the deregistration; None when it does not know it."""
    known = [t["deregistered"] for t in lab.plane.nodes[node].counters()["targets"] if t["id"] in ids]
    return all(known) if known else None


async def keep_asking(
    lab: Lab, host: Host, path: str, every: float, until: Callable[[], bool], port: int = APP_PORT
) -> list[Asked]:
    """Ask every node again and again, until the last moment at which `until` is not yet so; wait for all answers.

    Answers those of this host and those of nobody. What another host cut is for another test: under `idle` it may have
    been right to.
    """
    asked: list[asyncio.Task[Asked]] = []
    while not until():
        for url in lab.urls:
            address = url.removeprefix("http://").partition(":")[0]
            asked.append(asyncio.create_task(ask(address, path, port)))
        await asyncio.sleep(every)
    answers = await asyncio.gather(*asked)
    return [one for one in answers if one.host == host.name or not one.host]


async def seen_leaving(
    lab: Lab, host: Host, until: str, during: Callable[[Deregistration], Awaitable[T]], *, early: bool = False
) -> tuple[Ended, Deregistration, T]:
    """Take a host out for good, while from the deregistration on, or `early`, something goes on with it."""
    gone = Deregistration()
    watching = asyncio.create_task(gone.watch(lab, host))

    async def behind() -> T:
        await until_so(lambda: early or gone.deregistered > 0, 60)
        return await during(gone)

    drained, kept = await asyncio.gather(leave(lab, host, "--until", until), behind())
    await watching
    return drained, gone, kept


async def through(
    lab: Lab, host: Host, until: str, path: str, every: float, *, early: bool = False
) -> tuple[Ended, Deregistration, list[Asked]]:
    """Take a host out for good, while requests keep coming until its last node knows of the deregistration.

    They begin with the deregistration; `early`: with the command, so that some are sure to be in flight.
    """

    async def asking(gone: Deregistration) -> list[Asked]:
        return await keep_asking(lab, host, path, every, lambda: gone.over)

    return await seen_leaving(lab, host, until, asking, early=early)


# A tenth of ALB's length: the deregistration delay is 30 s, the nodes' lag 1 to 2 s.
FLOOR = 5.0  # s: after the second look at the other hosts, which comes 4 s after the deregistration on every profile
SETTINGS = {"ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION": f"{FLOOR:g}"}
QUIET = 0.5  # s
# Health checks at true length that go on while a target drains. Two nodes check within each interval, so that a host is
# never quiet for a whole one unless checks are told apart.
CHECK_INTERVAL = 5.0  # s, the shortest that the API takes
CHECKED_PROFILE = replace(
    FAST,
    checks_while_draining=True,
    check_interval=CHECK_INTERVAL,
    check_timeout=2.0,
    check_scale=1.0,
    deregistration_delay=60.0,
)
CHECKED_SETTINGS = {
    "ZDD_AGENT_DRAIN__QUIET_SECONDS": f"{CHECK_INTERVAL:g}",
    "ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION": f"{FLOOR:g}",
    "ZDD_AGENT_POLL__INTERVAL_SECONDS": "1",
}
RATE = 40.0  # requests a second, over both nodes and all hosts that are in

# Keeps a promise with its own host; the word is the value of --until.
Promise = Callable[[Lab, Host, str], Coroutine[Any, Any, None]]
Case = tuple[Promise, str]


class Street:
    """A lab where many promises are kept side by side, each with a host, under a load that must not lose a request.

    Side by side because every drain mostly waits. The first host stays in.

    Args:
        running: with a host more than there are cases.
        settings: further variables of every agent.
    """

    def __init__(self, running: ThreadedLab, cases: Sequence[Case], settings: Mapping[str, str] = SETTINGS) -> None:
        self.lab = running.lab
        self._settings = settings
        self._errors: dict[Case, BaseException] = {}
        self.failed: list[Record] = []
        running.run(self._run(cases))

    def kept(self, case: Case) -> None:
        """Raise what went wrong with it, if anything did."""
        if case in self._errors:
            raise self._errors[case]

    async def _run(self, cases: Sequence[Case]) -> None:
        hosts = self.lab.hosts[1:]
        await asyncio.gather(*(host.start_agent(self._settings) for host in hosts))
        async with load(self.lab, RATE) as under:
            await asyncio.sleep(0.3)
            going = [promise(self.lab, host, word) for host, (promise, word) in zip(hosts, cases, strict=True)]
            results = await asyncio.gather(*going, return_exceptions=True)
        assert under.records()
        self.failed = under.failed()
        self._errors = {c: error for c, error in zip(cases, results, strict=True) if isinstance(error, BaseException)}


def by_proof(drained: Ended, gone: Deregistration, answered: float, delay: float) -> None:
    """It ended soon after the last answer, not before the floor, and long before the API's word.

    That it did not end before the last answer is shown by the answer: the app was ended at the drain's end.
    """
    api = gone.deregistered + delay
    assert drained.outcome == "succeeded"
    assert "the API would have said `unused` in" in drained.message
    assert drained.ended >= gone.deregistered + FLOOR - 0.05
    ready = max(answered, gone.deregistered + FLOOR)
    assert drained.ended - ready < (api - ready) / 4
