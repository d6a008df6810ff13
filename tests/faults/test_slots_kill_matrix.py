"""`kill -9` of the daemons of hosts that take turns, at every call and write that has to do with their slots.

Six hosts deploy side by side, of which two may be out at once, in one lab under load.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from faults.rig import SOAK, Row, Site, Subject, failures, load, selected, site, until, write_rows
from faults.test_kill_matrix import Kill, look_at, one
from lab.dynamodb_rig import client, create_table
from zdd_agent.adapters.failpoints import VARIABLE

HOSTS, LIMIT = 6, 2
TABLE, SERVICE = "zdd-agent-slots", "web"
SETTINGS = f'\n[slots]\ntable = "{TABLE}"\nname = "{SERVICE}"\nlimit = {LIMIT}\n'
WAIT = ("--wait", "170")
# Every call of the slots, and the calls and writes around it. Those of a whole drain and rejoin: test_kill_matrix.
POINTS = [
    (verb, call, when)
    for verb, calls in (
        ("drain", ("slots.table", "slots.claim", "store.write", "aws.deregister")),
        ("rejoin", ("aws.register", "store.write", "slots.table", "slots.release")),
    )
    for call in calls
    for when in ("before", "after")
]
# The kill comes while DynamoDB has the change, and has or has not made it; the answer never comes.
IN_FLIGHT = [(verb, "UpdateItem", when) for verb in ("drain", "rejoin") for when in ("before", "after")]
_ROUNDS = 3 if SOAK else 1


@dataclass
class Turns:
    """Who was out at once, and who of them held no slot."""

    most: int = 0
    wrong: list[str] = field(default_factory=list)

    def out(self, built: Site) -> set[str]:
        serves = [built.targets(subject.host) for subject in built.subjects]
        pairs = zip(built.subjects, serves, strict=True)
        return {
            subject.host.identity.instance_id
            for subject, targets in pairs
            if len(targets) < len(built.groups) or any(one["state"] != "healthy" for one in targets)
        }

    async def watch_the_limit(self, built: Site) -> None:
        while True:
            out = self.out(built)
            if len(out) > max(self.most, LIMIT):
                self.wrong.append(f"out at once: {sorted(out)}")
            self.most = max(self.most, len(out))
            await asyncio.sleep(0.02)

    async def watch_the_holders(self, built: Site) -> None:
        while True:
            before = self.out(built)
            holders, _ = await asyncio.to_thread(in_table, built)
            if without := (before & self.out(built)) - holders:
                self.wrong.append(f"out without a slot: {sorted(without)}; holders: {sorted(holders)}")
            await asyncio.sleep(0.3)


@dataclass
class Story:
    """All runs, by test, and how it ended."""

    runs: dict[tuple[str, str, str], list[Kill]]
    turns: Turns = field(default_factory=Turns)
    left: tuple[set[str], set[str]] = (set(), set())
    failed: list[str] = field(default_factory=list)


def in_table(built: Site) -> tuple[set[str], set[str]]:
    """Holders and waiters. Blocks: not in the lab's thread."""
    key = {"service": {"S": SERVICE}}
    item = client(built.lab.endpoint_url).get_item(TableName=TABLE, Key=key, ConsistentRead=True).get("Item", {})
    holders, waiters = (set(item.get(name, {"M": {}})["M"]) for name in ("holders", "waiters"))
    return holders, waiters


async def given_back(subject: Subject) -> None:
    await until(lambda: subject.on_disk().get("slot") is None and subject.host.agent_pid is not None)


async def deploy(built: Site, subject: Subject, drain: Kill, rejoin: Kill) -> None:
    await one(built, subject, drain)
    await subject.host.restart_app("v2", built.lab.app_arguments)
    before = subject.deaths
    await one(built, subject, rejoin)
    await given_back(subject)
    rejoin.died = subject.deaths - before  # the slot is given back after the answer, and so may be the death


async def counted(built: Site, subject: Subject) -> dict[str, Counter[str]]:
    """How often a drain and a rejoin of a fresh daemon make each call."""
    found = {}
    for verb in ("drain", "rejoin"):
        await subject.start({VARIABLE: "nothing:before:1"})
        log = subject.host.folder / "agent.log"
        built.heard(subject)
        assert (await subject.command(verb)).code == 0
        if verb == "rejoin":
            await given_back(subject)
        said = log.read_text("utf-8")
        said = said[said.rindex("failpoint store.read:before") :]
        found[verb] = Counter(re.findall(r"failpoint (\S+):before$", said, re.MULTILINE))
    return found


async def everything(built: Site, story: Story) -> None:
    watching = [
        asyncio.create_task(watch)
        for watch in (story.turns.watch_the_limit(built), story.turns.watch_the_holders(built))
    ]
    passed = await counted(built, built.subjects[0])
    for (verb, call, when), kills in story.runs.items():
        words = WAIT if verb == "drain" else ()
        for _ in range(_ROUNDS):
            if (verb, call, when) in IN_FLIGHT:
                kills.append(Kill(verb, in_flight=(call, when), words=words))
            else:
                kills += [
                    Kill(verb, (f"{call}:{when}:{number}",), words=words) for number in range(1, passed[verb][call] + 1)
                ]
    queues = {v: [k for (verb, *_), ks in story.runs.items() if verb == v for k in ks] for v in ("drain", "rejoin")}

    async def next_deploy(subject: Subject) -> None:
        drain = queues["drain"].pop() if queues["drain"] else Kill("drain", words=WAIT)
        rejoin = queues["rejoin"].pop() if queues["rejoin"] else Kill("rejoin")
        await deploy(built, subject, drain, rejoin)

    await built.spread([next_deploy] * max(map(len, queues.values())))
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    story.turns.wrong += [str(task.exception()) for task in watching if not task.cancelled() and task.exception()]
    story.left = await asyncio.to_thread(in_table, built)


@pytest.fixture(scope="module")
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("slots")
    names = ("verb", "call", "when")
    tests = ("test_a_host_that_takes_turns_survives_a_kill", "test_it_survives_a_kill_while_dynamodb_has_the_call")
    told = Story({params: [] for test in tests for params in selected(request, test, *names)})
    with site(HOSTS, folder) as built:
        create_table(client(built.lab.endpoint_url), TABLE)
        for subject in built.subjects:
            config = subject.host.folder / "config.toml"
            config.write_text(config.read_text("utf-8") + SETTINGS, "utf-8")
        with load(built, folder / "load.tsv"):
            built.running.run(everything(built, told), timeout=3600)
        _, told.failed = failures(built, folder / "load.tsv")
    yield told
    write_rows("slots_kill_matrix", [_row(*params, kills) for params, kills in told.runs.items()])


def _row(verb: str, call: str, when: str, kills: list[Kill]) -> Row:
    effect = "had taken effect" if when == "after" else "had had no effect"
    waiting = f"kill -9 while {call} waits for its answer; the call {effect}"
    fault = waiting if (verb, call, when) in IN_FLIGHT else f"kill -9 {when} `{call}`, with slots"
    phases = sorted({phase for kill in kills for phase in kill.phases})
    codes = Counter(" then ".join(map(str, kill.codes)) for kill in kills if kill.died)
    outcome = "; ".join(f"exit {code}: {number}" for code, number in sorted(codes.items()))
    repeat = f"tests/faults/test_slots_kill_matrix.py -k '{verb} and {call.rpartition('.')[2]} and {when}'"
    return Row(fault, f"{verb}: {', '.join(phases)}", sum(kill.died > 0 for kill in kills), outcome, repeat)


@pytest.mark.parametrize(("verb", "call", "when"), POINTS)
def test_a_host_that_takes_turns_survives_a_kill(story: Story, verb: str, call: str, when: str) -> None:
    look_at(story.runs[verb, call, when])


@pytest.mark.parametrize(("verb", "call", "when"), IN_FLIGHT)
def test_it_survives_a_kill_while_dynamodb_has_the_call(story: Story, verb: str, call: str, when: str) -> None:
    look_at(story.runs[verb, call, when])


def test_never_more_hosts_than_the_limit_were_out_and_each_of_them_held_a_slot(story: Story) -> None:
    assert story.turns.wrong == []
    assert story.turns.most == LIMIT


def test_in_the_end_no_slot_is_held_and_nobody_waits(story: Story) -> None:
    assert story.left == (set(), set())


def test_no_request_was_lost_while_hosts_took_turns(story: Story) -> None:
    assert story.failed == []
