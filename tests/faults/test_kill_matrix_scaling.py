"""`kill -9` of the daemon at every write and every Auto Scaling call: in Standby drains and rejoins, launches, ends.

Hosts of an Auto Scaling group that replaces what its load balancer does not call healthy, under load. Some go to
Standby and back, run after run. Others live once: the group launches them, their rejoin completes the launch hook, the
group terminates them, and their last drain completes the hook for that.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faults.rig import Row, Site, Subject, failures, load, selected, site, until, write_rows
from faults.test_kill_matrix import Kill, look_at, one
from lab.auto_scaling_rig import GROUP, put_hook, scaling, scaling_calls, state_of, watched
from zdd_agent.adapters.failpoints import VARIABLE
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT
from zdd_lab.model.faults import Fault, FaultKind

PARKED = 4  # hosts that go to Standby and back
LIVES = 3  # hosts at a time that are launched and terminated
DELAY = 14.0  # s of deregistration: longer than the time until Standby is entered
HOOK = 3600  # s until the group would go on by itself
BACK_WITHIN = 60.0  # s from the group's wait to its going on, kills and restarts of the daemon included
DRAIN_CALLS = ("store.write", "auto_scaling.instance", "auto_scaling.group", "auto_scaling.enter_standby")
REJOIN_CALLS = ("store.write", "auto_scaling.instance", "auto_scaling.group", "auto_scaling.exit_standby")
_ASKED = ("store.write", "auto_scaling.instance", "auto_scaling.group", "auto_scaling.hooks")
LAUNCH_CALLS = (*_ASKED, "auto_scaling.complete")
END_CALLS = (*_ASKED, "auto_scaling.heartbeat", "auto_scaling.complete")
CALLS = {"drain": DRAIN_CALLS, "rejoin": REJOIN_CALLS, "launch": LAUNCH_CALLS, "end": END_CALLS}
# A heartbeat is taken only where work outlives the group's own wait for the deregistration, as no request here does.
POINTS = [
    (verb, call, when)
    for verb, calls in CALLS.items()
    for call in calls
    for when in ("before", "after")
    if (call, when) != ("auto_scaling.heartbeat", "after")
]
# The kill comes while AWS has the request, and has or has not acted on it; the answer never comes.
IN_FLIGHT = [
    (verb, action, when)
    for verb, action in (
        ("drain", "EnterStandby"),
        ("rejoin", "ExitStandby"),
        ("launch", "CompleteLifecycleAction"),
        ("end", "CompleteLifecycleAction"),
    )
    for when in ("before", "after")
]
_HANGS = {"before": FaultKind.TIMEOUT_BEFORE_EFFECT, "after": FaultKind.TIMEOUT_AFTER_EFFECT}
_MODE = {"ZDD_AGENT_AUTO_SCALING__MODE": "standby"}
_NEVER = {VARIABLE: "nothing:before:1"}

Point = tuple[str, str, str]


@dataclass
class Matrix:
    """All runs, and what became of the load and of the group."""

    runs: dict[Point, list[Kill]]
    made: dict[str, Counter[str]] = field(default_factory=dict)  # by verb: the calls when nobody was killed
    failed: list[str] = field(default_factory=list)
    requests: int = 0
    stayed: list[str] = field(default_factory=list)  # where the hosts stand in the group that it never terminated


@dataclass
class Runs:
    """What is still to be done, by verb."""

    site: Site
    matrix: Matrix
    parked: list[Subject]
    waiting: dict[str, list[Kill]] = field(default_factory=lambda: {verb: [] for verb in CALLS})
    taken: set[str] = field(default_factory=set)  # launched hosts that somebody looks after

    def next(self, verb: str) -> Kill:
        return self.waiting[verb].pop() if self.waiting[verb] else Kill(verb)

    def plan(self, verb: str, made: Counter[str]) -> None:
        """The runs of a verb, now that it is known how often it makes each call."""
        self.matrix.made[verb] = made
        for (of, call, when), kills in self.matrix.runs.items():
            if of != verb:
                continue
            if (of, call, when) in IN_FLIGHT:
                kills.append(Kill(verb, in_flight=(call, when)))
            else:
                times = made[call] if call == "store.write" else 1
                kills += [Kill(verb, (f"{call}:{when}:{n}",)) for n in range(1, times + 1)]
            self.waiting[verb] += kills


def made_since(host: Host, start: int) -> Counter[str]:
    """The calls in an agent's log from this byte on."""
    said = (host.folder / "agent.log").read_bytes()[start:].decode()
    points = (line.split()[-1] for line in said.splitlines() if "failpoint " in line)
    return Counter(point.removesuffix(":before") for point in points if point.endswith(":before"))


def size(host: Host) -> int:
    log = host.folder / "agent.log"
    return log.stat().st_size if log.exists() else 0


async def everything(runs: Runs) -> None:
    """Count the calls, then kill at each: the parked hosts and the lives side by side."""
    lab = runs.site.lab
    lab.fleet.account.groups[GROUP].suspended.add("AZRebalance")
    await put_hook(lab, "ready", "LAUNCHING", HOOK)
    await put_hook(lab, "last-drain", "TERMINATING", HOOK)
    await scaling(
        lab, "set_desired_capacity", AutoScalingGroupName=GROUP, DesiredCapacity=len(runs.site.subjects) + 2 + LIVES
    )
    async with asyncio.TaskGroup() as doing:
        doing.create_task(park(runs))
        doing.create_task(live(runs))


async def park(runs: Runs) -> None:
    """Standby drains and rejoins, until no run of them is left."""
    first = runs.parked[0]
    for verb in ("drain", "rejoin"):
        if any(of == verb for of, _, _ in runs.matrix.runs):
            await first.start(_NEVER)
            began = size(first.host)
            runs.site.heard(first)
            assert (await first.command(verb)).code == 0
            runs.plan(verb, made_since(first.host, began))
    if first.phase() is None and first.on_disk().get("out_since") is not None:
        runs.site.heard(first)
        assert (await first.command("rejoin")).code == 0

    async def both(subject: Subject) -> None:
        kill = runs.next("drain")
        await survived(subject, kill)
        kill.wrong += wrong_in_standby(subject)
        await subject.host.restart_app("v2", runs.site.lab.app_arguments)
        kill = runs.next("rejoin")
        await survived(subject, kill)
        if (state := state_of(runs.site.lab, subject.host)) != "InService":
            kill.wrong.append(f"rejoined, and {state} in its group")

    async def each(subject: Subject) -> None:
        while runs.waiting["drain"] or runs.waiting["rejoin"]:
            await both(subject)

    async with asyncio.TaskGroup() as doing:
        for subject in runs.parked:
            doing.create_task(each(subject))


async def survived(subject: Subject, kill: Kill) -> None:
    """Carry out one run. What hangs is one run that went wrong, and not the end of all the others."""
    try:
        await one(subject.site, subject, kill)
    except (AssertionError, TimeoutError) as error:
        kill.wrong.append(f"{error!r}: {subject.on_disk().get('record')}")


def wrong_in_standby(subject: Subject) -> list[str]:
    """What does not hold although a Standby drain answered 0."""
    wrong = []
    if (state := state_of(subject.site.lab, subject.host)) not in ("EnteringStandby", "Standby"):
        wrong.append(f"drained, and {state} in its group")
    if subject.on_disk().get("standby") != GROUP:
        wrong.append(f"on disk: in Standby of {subject.on_disk().get('standby')!r}")
    return wrong


async def live(runs: Runs) -> None:
    """Launches and terminations, until no run of them is left. The first host counts their calls."""
    wanted = [verb for verb in ("launch", "end") if any(of == verb for of, _, _ in runs.matrix.runs)]
    if not wanted:
        return
    subject = await launched(runs)
    await subject.start(_NEVER)
    assert (await subject.command("rejoin")).code == 0
    runs.plan("launch", made_since(subject.host, 0))
    began = size(subject.host)
    await end(runs, subject, Kill("end"))
    runs.plan("end", made_since(subject.host, began))

    async def each() -> None:
        while runs.waiting["launch"] or runs.waiting["end"]:
            subject = await launched(runs)
            await launch(runs, subject, runs.next("launch"))
            await end(runs, subject, runs.next("end"))

    async with asyncio.TaskGroup() as doing:
        for _ in range(LIVES):
            doing.create_task(each())


async def launched(runs: Runs) -> Subject:
    """A host that the group has launched, and that waits for its hook."""
    lab = runs.site.lab

    def found() -> Host | None:
        fresh = (h for h in lab.hosts if state_of(lab, h) == "Pending:Wait" and h.name not in runs.taken)
        return next((host for host in fresh if host.app_pid is not None), None)

    await until(lambda: found() is not None)
    host = found()
    assert host is not None
    runs.taken.add(host.name)
    subject = Subject(runs.site, host)
    subject.env = _MODE
    subject.expected = {(lab.front.group, host.identity.instance_id, APP_PORT)}
    return subject


async def launch(runs: Runs, subject: Subject, kill: Kill) -> None:
    """Its rejoin at the start of the host: the group alone registers it, once the hook is completed."""
    lab, host = runs.site.lab, subject.host
    kill.verb = "rejoin"
    await survived(subject, kill)
    if (state := state_of(lab, host)) != "InService":
        kill.wrong.append(f"rejoined, and {state} in its group")
    if calls := lab.endpoint.calls[host.name, "RegisterTargets"]:
        kill.wrong.append(f"its agent registered it {calls} times")


async def end(runs: Runs, subject: Subject, kill: Kill) -> None:
    """The group terminates it: its agent drains it, and lets the group go on with nothing less than proof."""
    lab, host = runs.site.lab, subject.host
    log = size(host)
    if kill.sequence or subject.host.agent_pid is None:
        await subject.start(*({VARIABLE: point} for point in kill.sequence))
    registered = lab.endpoint.calls[host.name, "RegisterTargets"]
    async with watched(lab, host) as course:
        words = {"InstanceId": host.identity.instance_id, "ShouldDecrementDesiredCapacity": False}
        await scaling(lab, "terminate_instance_in_auto_scaling_group", **words)
        await until(lambda: "Terminating:Wait" in course.at or "gone" in course.at)
        if kill.in_flight is not None:
            await in_flight(subject, *kill.in_flight)
        try:
            await until(lambda: "gone" in course.at, BACK_WITHIN)
        except TimeoutError:
            said = (host.folder / "agent.log").read_text("utf-8")[-2000:]
            kill.wrong.append(f"{state_of(lab, host)} after {BACK_WITHIN:g} s; its agent ({host.agent_pid}): {said}")
            await scaling(
                lab, "complete_lifecycle_action", LifecycleHookName="last-drain", AutoScalingGroupName=GROUP,
                InstanceId=host.identity.instance_id, LifecycleActionResult="CONTINUE",
            )  # fmt: skip
    await subject.stop()
    said = (host.folder / "agent.log").read_bytes()[log:].decode()
    kill.died = bool(kill.in_flight) or any(said.count(f"failpoint {p.rpartition(':')[0]}") for p in kill.sequence)
    kill.phases = subject.phases_at_death or ["none"]
    record = subject.on_disk().get("record", {})
    last = record.get("last") or {}
    if (last.get("request", {}).get("verb"), last.get("outcome")) != ("drain", "succeeded"):
        kill.wrong.append(f"the group went on, and the last drain ended as {last.get('outcome')}: {record}")
    if lab.endpoint.calls[host.name, "RegisterTargets"] != registered:
        kill.wrong.append("it was registered although its group terminates it")


async def in_flight(subject: Subject, action: str, effect: str) -> None:
    """Let AWS never answer the call that ends the hook, and kill the daemon while it waits."""
    lab, calls = subject.site.lab, lambda: scaling_calls(subject.site.lab, subject.host).get(action, 0)
    before = calls()
    lab.faults.add(Fault(_HANGS[effect], action=action, client=subject.name, count=1, seconds=5.0))
    await until(lambda: calls() > before)
    await asyncio.sleep(0.1)
    if subject.host in lab.hosts:
        await subject.host.signal_agent(9)


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    folder: Path = tmp_path_factory.mktemp("kill-scaling")
    tests = ("test_the_host_survives_a_kill", "test_the_host_survives_a_kill_while_aws_has_the_call")
    chosen = [params for test in tests for params in selected(request, test, "verb", "call", "when")]
    done = Matrix(defaultdict(list, {params: [] for params in chosen}))
    settings = {"scaling_check_interval": 0.5, "replaces_deregistered": True}
    with site(PARKED, folder, delay=DELAY, **settings) as built:
        hosts = len(built.lab.hosts)
        limits = {"MinSize": 2, "MaxSize": hosts + 4 * LIVES, "HealthCheckType": "ELB"}
        built.running.run(built.lab.create_group(GROUP, **limits))
        for subject in built.subjects:
            subject.env = _MODE
        stay = list(built.lab.hosts)
        with load(built, folder / "load.tsv"):
            built.running.run(everything(Runs(built, done, built.subjects)), timeout=3600)
        records, done.failed = failures(built, folder / "load.tsv")
        done.requests = len(records)
        done.stayed = [state_of(built.lab, host) for host in stay]
    yield done
    write_rows("kill_matrix_scaling", [_row(*params, kills) for params, kills in done.runs.items()])


def _row(verb: str, call: str, when: str, kills: list[Kill]) -> Row:
    in_flight = (verb, call, when) in IN_FLIGHT
    taken = "the call had taken effect" if when == "after" else "the call had had no effect"
    fault = f"kill -9 while {call} waits for its answer; {taken}" if in_flight else f"kill -9 {when} `{call}`"
    phases = sorted({phase for kill in kills for phase in kill.phases})
    died = [kill for kill in kills if kill.died]
    codes = Counter(" then ".join(map(str, kill.codes)) for kill in died if kill.codes)
    outcome = "; ".join(f"exit {code}: {n}" for code, n in sorted(codes.items()))
    if verb == "end":
        outcome = f"drained, the hook completed: {sum(not kill.wrong for kill in died)}"
    which = "while_aws" if in_flight else "not while_aws"
    words = f"{verb} and {call.rpartition('.')[2]} and {when} and {which}"
    repeat = f"tests/faults/test_kill_matrix_scaling.py -k '{words}'"
    return Row(fault, f"{_SAID[verb]}: {', '.join(phases)}", len(died), outcome, repeat)


_SAID = {"drain": "drain into Standby", "rejoin": "rejoin from Standby", "launch": "launch", "end": "termination"}


@pytest.mark.parametrize(("verb", "call", "when"), POINTS)
def test_the_host_survives_a_kill(matrix: Matrix, verb: str, call: str, when: str) -> None:
    look_at(matrix.runs[verb, call, when])


@pytest.mark.parametrize(("verb", "call", "when"), IN_FLIGHT)
def test_the_host_survives_a_kill_while_aws_has_the_call(matrix: Matrix, verb: str, call: str, when: str) -> None:
    look_at(matrix.runs[verb, call, when])


def test_the_matrix_has_every_auto_scaling_call_that_is_made(matrix: Matrix) -> None:
    for verb, made in matrix.made.items():
        assert {call for call in made if call.startswith("auto_scaling.")} <= set(CALLS[verb])


def test_no_request_was_lost(matrix: Matrix) -> None:
    assert not matrix.failed, "\n".join([f"of {matrix.requests}:", *matrix.failed])


def test_no_host_was_replaced_or_left_in_standby(matrix: Matrix) -> None:
    assert set(matrix.stayed) == {"InService"}
