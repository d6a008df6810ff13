"""`kill -9` of the daemon before and after every write and every AWS call of a drain and of a rejoin.

The matrix runs as a whole, side by side on many hosts of one lab under load; each test then looks at its own rows. How
often each call is made is found out by a first run, in which the failpoints kill nobody.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from faults.rig import SOAK, Row, Site, Subject, failures, load, selected, site, until, write_rows
from zdd_agent.adapters.failpoints import VARIABLE
from zdd_lab.model.faults import Fault, FaultKind

SUBJECTS = 8
DRAIN_CALLS = ("store.read", "store.write", "aws.groups_in_vpc", "aws.health", "aws.with_attributes", "aws.deregister")
REJOIN_CALLS = ("store.read", "store.write", "aws.named_groups", "aws.health", "aws.register")
# Every point of each verb: the call, and on which side of it.
POINTS = [
    (verb, call, when)
    for verb, calls in (("drain", DRAIN_CALLS), ("rejoin", REJOIN_CALLS))
    for call in calls
    for when in ("before", "after")
]
# The kill comes while AWS has the request, and has or has not acted on it; the answer never comes.
IN_FLIGHT = [
    ("drain", "DescribeTargetGroups", "before"),
    ("drain", "DescribeTargetHealth", "before"),
    ("drain", "DeregisterTargets", "before"),
    ("drain", "DeregisterTargets", "after"),
    ("rejoin", "DescribeTargetGroups", "before"),
    ("rejoin", "DescribeTargetHealth", "before"),
    ("rejoin", "RegisterTargets", "before"),
    ("rejoin", "RegisterTargets", "after"),
]
_HANGS = {"before": FaultKind.TIMEOUT_BEFORE_EFFECT, "after": FaultKind.TIMEOUT_AFTER_EFFECT}
# What a command may answer when its daemon was killed: done, or that it cannot tell because the daemon went away.
_HONEST = (0, 5)
_TRIES = 4
_NEVER = {VARIABLE: "nothing:before:1"}
_SOAK_ROUNDS = 5


@dataclass
class Kill:
    """One run: `sequence` are the failpoints of the daemon's starts, one after another; `words` follow the verb."""

    verb: str
    sequence: tuple[str, ...] = ()
    in_flight: tuple[str, str] | None = None
    died: int = 0
    phases: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    words: tuple[str, ...] = ()


@dataclass
class Matrix:
    """All runs, by test, and what became of the load."""

    runs: dict[tuple[str, str, str], list[Kill]]
    passed: dict[str, Counter[str]]  # by verb: how often each call was made when nobody was killed
    failed: list[str]
    requests: int
    heard: list[str]
    lowest: list[int]


async def one(site: Site, subject: Subject, kill: Kill) -> None:
    """Carry out one run from its daemon's start to its verb's success, and look at everything."""
    before = subject.deaths
    subject.phases_at_death.clear()
    if kill.sequence:
        await subject.start(*({VARIABLE: point} for point in kill.sequence))
    elif subject.host.agent_pid is None:
        await subject.start()
    if kill.verb == "rejoin":
        site.heard(subject)
    hanging = asyncio.create_task(kill_in_flight(site, subject, *kill.in_flight)) if kill.in_flight else None
    for _ in range(_TRIES):
        told = await subject.command(kill.verb, *kill.words)
        kill.codes.append(told.code)
        if told.code == 0:
            break
        if told.code not in _HONEST:
            kill.wrong.append(f"exit {told.code}: {told.err}")
            break
        await subject.up()
    if hanging is not None:
        await hanging
    kill.died = subject.deaths - before
    kill.phases = list(subject.phases_at_death)
    if not kill.died and any(code != 0 for code in kill.codes):
        kill.wrong.append(f"exit {kill.codes[0]} although nobody died")
    if kill.codes[-1] != 0:
        kill.wrong.append(f"never ended well: {kill.codes}")
        return
    kill.wrong += await (subject.wrong_when_drained() if kill.verb == "drain" else subject.wrong_when_back())


async def kill_in_flight(site: Site, subject: Subject, action: str, effect: str) -> None:
    """Let AWS never answer the next such call of this host, and kill the daemon while it waits."""
    calls, own = site.lab.endpoint.calls, (subject.name, action)
    before = calls[own]
    site.lab.faults.add(Fault(_HANGS[effect], action=action, client=subject.name, count=1, seconds=5.0))
    await until(lambda: calls[own] > before)
    await asyncio.sleep(0.1)  # the lab acts on it, in the runs in which it should have an effect
    await subject.kill()


async def everything(site: Site, wanted: dict[tuple[str, str, str], list[Kill]]) -> dict[str, Counter[str]]:
    """Find out the points, then do every run: a drain and a rejoin at a time on each host."""
    passed = await record(site.subjects[0]) if wanted else {}
    for (verb, call, when), kills in wanted.items():
        if (verb, call, when) in IN_FLIGHT:
            kills.append(Kill(verb, in_flight=(call, when)))
        else:
            kills += [Kill(verb, (f"{call}:{when}:{n}",)) for n in range(1, passed[verb][call] + 1)]
    if SOAK:
        _multiply(wanted)
    queues = {v: [k for (verb, *_), ks in wanted.items() if verb == v for k in ks] for v in ("drain", "rejoin")}

    async def both(subject: Subject) -> None:
        await one(site, subject, queues["drain"].pop() if queues["drain"] else Kill("drain"))
        await subject.host.restart_app("v2", site.lab.app_arguments)
        await one(site, subject, queues["rejoin"].pop() if queues["rejoin"] else Kill("rejoin"))

    await site.spread([both] * max(map(len, queues.values()), default=0))
    return passed


def _multiply(wanted: dict[tuple[str, str, str], list[Kill]]) -> None:
    """Each run several times, and each with a second kill somewhere after the first."""
    rng = random.Random(7)
    for (verb, *_), kills in wanted.items():
        calls = DRAIN_CALLS if verb == "drain" else REJOIN_CALLS
        seconds = [f"{call}:{when}:1" for call in calls for when in ("before", "after")]
        plain = list(kills)
        for _ in range(_SOAK_ROUNDS):
            kills += [Kill(verb, k.sequence, k.in_flight) for k in plain]
            kills += [Kill(verb, (*k.sequence, *rng.sample(seconds, 2))) for k in plain if k.sequence]


async def record(subject: Subject) -> dict[str, Counter[str]]:
    """How often a drain and a rejoin of a fresh daemon make each call."""
    found = {}
    for verb in ("drain", "rejoin"):
        await subject.start(_NEVER)
        log = subject.host.folder / "agent.log"
        before = log.stat().st_size
        subject.site.heard(subject)
        assert (await subject.command(verb)).code == 0
        said = log.read_bytes()[max(before - 4096, 0) :].decode()
        said = said[said.rindex("failpoint store.read:before") :]
        found[verb] = Counter(
            line.split()[-1].removesuffix(":before")
            for line in said.splitlines()
            if "failpoint " in line and line.endswith(":before")
        )
    return found


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    folder: Path = tmp_path_factory.mktemp("kill")
    names = ("verb", "call", "when")
    tests = ("test_the_host_survives_a_kill", "test_the_host_survives_a_kill_while_aws_has_the_call")
    chosen = [params for test in tests for params in selected(request, test, *names)]
    wanted: dict[tuple[str, str, str], list[Kill]] = defaultdict(list, {params: [] for params in chosen})
    with site(SUBJECTS, folder) as built:
        with load(built, folder / "load.tsv"):
            passed = built.running.run(everything(built, wanted), timeout=3600)
        records, failed = failures(built, folder / "load.tsv")
        done = Matrix(wanted, passed, failed, len(records), built.broken_quiet(records), list(built.lowest.values()))
    yield done
    write_rows("kill_matrix", [_row(*params, kills) for params, kills in wanted.items()])


def _row(verb: str, call: str, when: str, kills: list[Kill]) -> Row:
    in_flight = (verb, call, when) in IN_FLIGHT
    taken = "the call had taken effect" if when == "after" else "the call had had no effect"
    fault = f"kill -9 while {call} waits for its answer; {taken}" if in_flight else f"kill -9 {when} `{call}`"
    phases = sorted({phase for kill in kills for phase in kill.phases})
    codes = Counter(" then ".join(map(str, kill.codes)) for kill in kills if kill.died)
    outcome = "; ".join(f"exit {code}: {n}" for code, n in sorted(codes.items()))
    which = "while_aws" if in_flight else "not while_aws"
    words = f"{verb} and {call.rpartition('.')[2]} and {when} and {which}"
    repeat = f"tests/faults/test_kill_matrix.py -k '{words}'"
    return Row(fault, f"{verb}: {', '.join(phases)}", sum(k.died > 0 for k in kills), outcome, repeat)


def look_at(kills: list[Kill]) -> None:
    """Nothing went wrong, and the daemon died where it was to."""
    assert [(kill.sequence, kill.in_flight, wrong) for kill in kills for wrong in kill.wrong] == []
    assert kills
    assert kills[0].died  # a later one of many looks may not have come up this time


@pytest.mark.parametrize(("verb", "call", "when"), POINTS)
def test_the_host_survives_a_kill(matrix: Matrix, verb: str, call: str, when: str) -> None:
    look_at(matrix.runs[verb, call, when])


@pytest.mark.parametrize(("verb", "call", "when"), IN_FLIGHT)
def test_the_host_survives_a_kill_while_aws_has_the_call(matrix: Matrix, verb: str, call: str, when: str) -> None:
    look_at(matrix.runs[verb, call, when])


def test_the_matrix_has_every_call_that_is_made(matrix: Matrix) -> None:
    made: dict[str, Any] = {verb: set(calls) for verb, calls in matrix.passed.items()}
    assert made in ({"drain": set(DRAIN_CALLS), "rejoin": set(REJOIN_CALLS)}, {})


def test_no_request_was_lost(matrix: Matrix) -> None:
    assert not matrix.failed, "\n".join([f"of {matrix.requests}:", *matrix.failed])


def test_no_host_heard_anything_between_its_drain_and_its_rejoin(matrix: Matrix) -> None:
    assert matrix.heard == []


def test_the_floor_was_kept_all_the_time(matrix: Matrix) -> None:
    assert min(matrix.lowest) >= 2
