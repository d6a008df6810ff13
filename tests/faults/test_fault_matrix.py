"""Each fault in each phase: an honest exit code, a true status, and a next command that succeeds.

The rows run side by side on many hosts of one lab; each test then looks at its own row. A fault `passes` after a
while, and the command must succeed; or it `stays` until the command has ended, and the next command must succeed. Where
a phase is over in a moment, a slow answer of AWS holds it until the fault has struck.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faults.rig import PATIENCE, SOAK, Row, Site, Subject, Told, failures, load, selected, site, until, write_rows
from zdd_agent.errors import exit_code
from zdd_lab.model.faults import Fault, FaultKind

SUBJECTS = 14
# The phases of a drain, each paired with one of a rejoin: a run goes through both.
PHASES = (("guarding", "probing"), ("deregistering", "registering"), ("draining", "warming"))
# What holds a short phase: this action's answer comes late.
_HOLD = {"guarding": "DescribeTargetGroups", "deregistering": "DeregisterTargets", "registering": "RegisterTargets"}
_HOLD_SECONDS = 1.5
# Seconds of a fault that passes. The metadata service is down for a minute, at the lab's scale of a tenth.
_PASSES_SECONDS = 3.0
_METADATA_SECONDS = 6.0
# Seconds of --timeout while a fault stays.
_GIVE_UP_SECONDS = 10
_SOAK_ROUNDS = 5
_TMPFS = 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" && exec "$@"'

Deed = Callable[[Subject], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault.

    `codes` are the honest exit codes while it stays, and `passed` when it passes: a kill that hits the command's first
    request leaves it without an answer. `passing` is whether it can pass at all, `lasts` then in seconds. `wrapped`
    ones need a file system of the daemon's own.
    """

    begins: Deed
    ends: Deed
    codes: frozenset[int] = frozenset({0, 3})
    passing: bool = True
    passed: frozenset[int] = frozenset({0})
    lasts: float = _PASSES_SECONDS
    wrapped: bool = False
    loses_requests: bool = False


def api(kind: FaultKind, *, codes: tuple[int, ...] = (0, 3), passing: bool = True, **more: float) -> Trouble:
    """A fault of the lab's endpoint, for this host's calls."""

    async def begins(subject: Subject) -> None:
        subject.site.lab.faults.add(Fault(kind, client=subject.name, **more))  # type: ignore[arg-type]

    async def ends(subject: Subject) -> None:
        clear(subject)

    return Trouble(begins, ends, frozenset(codes), passing)


def clear(subject: Subject) -> None:
    """End the lab's faults of this host."""
    faults = subject.site.lab.faults
    for fault in faults.all():
        if fault.client == subject.name:
            faults.clear(fault.id)


async def metadata_down(subject: Subject) -> None:
    # A daemon that runs knows who it is and has credentials for hours: only one that starts needs the service.
    subject.site.lab.faults.add(Fault(FaultKind.IMDS_DOWN, client=subject.name))
    await subject.kill()


async def metadata_up(subject: Subject) -> None:
    clear(subject)


async def name_gone(subject: Subject) -> None:
    # The system's own resolver, asked for a name that never exists (RFC 6761). A running process cannot be given one.
    subject.then({"AWS_ENDPOINT_URL": "http://elasticloadbalancing.invalid:4566"})
    await subject.kill()


async def name_back(subject: Subject) -> None:
    await subject.kill()


async def file_limit(subject: Subject) -> None:
    _limit_files(subject, 64)


async def no_file_limit(subject: Subject) -> None:
    _limit_files(subject, resource.RLIM_INFINITY)


def _limit_files(subject: Subject, size: int) -> None:
    pid = subject.host.agent_pid
    assert pid is not None
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


async def disk_full(subject: Subject) -> None:
    filler = (subject.state_folder() / "filler").open("wb", buffering=0)
    with filler, suppress(OSError):
        while True:
            filler.write(b"x" * 1024)


async def disk_free(subject: Subject) -> None:
    (subject.state_folder() / "filler").unlink()


async def read_only(subject: Subject) -> None:
    # On top of the folder: the agent holds its lock open for writing, and so the folder itself cannot be remounted.
    await _in_its_mounts(subject, 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"')


async def writable(subject: Subject) -> None:
    await _in_its_mounts(subject, 'umount "$0"')


async def _in_its_mounts(subject: Subject, script: str) -> None:
    argv = ["nsenter", "-t", str(subject.host.agent_pid), "-m", "/bin/sh", "-c", script]
    process = await asyncio.create_subprocess_exec(*argv, str(subject.host.folder / "state"))
    assert await process.wait() == 0


async def app_dies(subject: Subject) -> None:
    await subject.host.stop_app()


async def app_lives(subject: Subject) -> None:
    await subject.host.start_app("v3", subject.site.lab.app_arguments)


async def zone_down(subject: Subject) -> None:
    subject.site.lab.faults.add(Fault(FaultKind.ZONE_DOWN, client=subject.name, zone="b"))
    await subject.site.lab.control.apply_zone_faults()


async def zone_up(subject: Subject) -> None:
    clear(subject)
    await subject.site.lab.control.apply_zone_faults()


TROUBLES = {
    "throttling": api(FaultKind.THROTTLING),
    "503": api(FaultKind.SERVICE_UNAVAILABLE),
    "500": api(FaultKind.INTERNAL_FAILURE),
    "timeout-before-effect": api(FaultKind.TIMEOUT_BEFORE_EFFECT, seconds=0.5),
    "timeout-after-effect": api(FaultKind.TIMEOUT_AFTER_EFFECT, seconds=0.5),
    "frozen-connection": api(FaultKind.TIMEOUT_BEFORE_EFFECT, seconds=15.0, count=1),
    "expired-credentials": api(FaultKind.EXPIRED_TOKEN, codes=(6,)),
    "denied": api(FaultKind.ACCESS_DENIED, codes=(6,), passing=False),
    "metadata-down": Trouble(
        metadata_down, metadata_up, frozenset({0, 3, 5, 6}), passed=frozenset({0, 5}), lasts=_METADATA_SECONDS
    ),
    "dns-gone": Trouble(name_gone, name_back, frozenset({0, 3, 5}), passed=frozenset({0, 5})),
    "disk-full-by-limit": Trouble(file_limit, no_file_limit),
    "disk-full": Trouble(disk_full, disk_free, wrapped=True),
    "read-only-folder": Trouble(read_only, writable, wrapped=True),
    "app-dead": Trouble(app_dies, app_lives, loses_requests=True),
    "zone-down": Trouble(zone_down, zone_up, loses_requests=True),
}
# In a plain run these faults only pass: while they stay, they look to the agent like another one of the table.
_PASS_ONLY = () if SOAK else ("503", "500", "timeout-before-effect", "disk-full-by-limit")
CASES = [
    (name, phase, how)
    for name, trouble in TROUBLES.items()
    for drain_phase, rejoin_phase in PHASES
    for phase in (drain_phase, rejoin_phase)
    for how in ("passes", "stays")
    if (trouble.passing if how == "passes" else name not in ("frozen-connection", *_PASS_ONLY))
]


@dataclass
class Case:
    """One row, as it went."""

    name: str
    phase: str
    how: str
    runs: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Matrix:
    """Every row, and what became of the load."""

    cases: dict[tuple[str, str, str], Case]
    failed: list[str]
    heard: list[str]
    lowest: list[int]


def has_mounts() -> bool:
    """Whether this user may make a file system for a daemon alone."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode == 0


async def strike(subject: Subject, verb: str, case: Case) -> None:
    """Run the verb, let the fault begin in its phase, and see how it ends."""
    trouble, faults = TROUBLES[case.name], subject.site.lab.faults
    case.runs += 1
    if action := _HOLD.get(case.phase):
        faults.add(Fault(FaultKind.LATENCY, action=action, client=subject.name, count=1, seconds=_HOLD_SECONDS))
    words = [verb, "--timeout", str(_GIVE_UP_SECONDS)] if case.how == "stays" else [verb]
    command = asyncio.create_task(subject.command(*words))
    await until(lambda: subject.phase() == case.phase or command.done(), 2 * PATIENCE)
    if command.done():
        case.wrong.append(f"the phase was over before the fault could strike: {command.result()}")
    await trouble.begins(subject)
    if case.how == "passes":
        await asyncio.wait([command], timeout=trouble.lasts)
        await trouble.ends(subject)
    told = await command
    accepted = trouble.codes if case.how == "stays" else trouble.passed
    if told.code not in accepted:
        case.wrong.append(f"exit {told.code}, not one of {sorted(accepted)}: {told.err}")
    codes = [told.code]
    if case.how == "stays":
        if told.code != 5:
            case.wrong += await wrong_in_words(subject, told)
        await trouble.ends(subject)
    clear(subject)
    if told.code != 0:
        codes.append(await heal(subject, verb, case, heard=told.code != 5))
    if trouble.loses_requests:  # a node that was down looks at every host anew
        await until(lambda: all(t["state"] != "initial" for t in subject.site.targets(subject.host)))
    case.wrong += await (subject.wrong_when_drained() if verb == "drain" else subject.wrong_when_back())
    case.codes[", healed: ".join(map(str, codes))] += 1


async def heal(subject: Subject, verb: str, case: Case, *, heard: bool) -> int:
    """Now that the fault has passed: a true status, and the next command, which must succeed; its exit code."""
    if heard:
        case.wrong += await wrong_posture(subject)
    else:  # the next command would join what is still under way, time-out and all
        await subject.up()
        await until(lambda: subject.phase() is None)
    told = await subject.command(verb)
    if told.code != 0:
        case.wrong.append(f"the next {verb} ended with {told.code}: {told.err}")
    return told.code


async def wrong_in_words(subject: Subject, told: Told) -> list[str]:
    """Where the exit code and `status` contradict each other, while the fault is still there."""
    error = (await subject.status())["operation"]["error"]
    said = exit_code(error["kind"]) if error else 0
    wrong = [] if said == told.code else [f"exit {told.code}, but the operation ended with {error}"]
    if told.code == 3 and "cannot finish the" not in told.err:
        wrong.append(f"a time-out that does not say what is pending: {told.err}")
    return wrong


async def wrong_posture(subject: Subject) -> list[str]:
    """Where `status` is wrong, as the lab knows, once AWS can be asked again."""

    def truth() -> set[str]:
        targets = subject.site.targets(subject.host)
        states = {t["state"] for t in targets}
        if states == {"healthy"} and len(targets) == len(subject.expected):
            return {"in_service"}
        return {"drained", "out_of_service"} if states <= {"draining"} else {"out_of_service"}

    said = ""
    for _ in range(40):
        before = truth()
        status = await subject.status()
        said = status["posture"]
        if said in before | truth():
            out = status["drained_since"] is not None
            return ["in service, yet drained_since is set"] if said == "in_service" and out else []
        await asyncio.sleep(0.25)
    return [f"status says {said}, but the truth is {truth()}"]


async def cycle(subject: Subject, cases: tuple[Case | None, Case | None]) -> None:
    """A drain with the first fault in it, a restart of the app, a rejoin with the second."""
    name = next(case.name for case in cases if case is not None)
    wrapped = TROUBLES[name].wrapped
    if wrapped:
        subject.wrapped = ("/usr/bin/unshare", "-m", "/bin/sh", "-c", _TMPFS, str(subject.host.folder / "state"))
    if wrapped or subject.host.agent_pid is None:
        await subject.start()
    for verb, case in zip(("drain", "rejoin"), cases, strict=True):
        if verb == "rejoin":
            await subject.host.restart_app("v2", subject.site.lab.app_arguments)
            subject.site.heard(subject)
        if case is not None:
            try:
                await strike(subject, verb, case)
            except (AssertionError, TimeoutError, OSError) as error:
                case.wrong.append(f"{error!r}; on disk: {subject.on_disk().get('operation')}")
                await _recover(subject, name, verb)
            continue
        await subject.command(verb)
    if wrapped:
        await subject.stop()
        subject.wrapped = ()


async def _recover(subject: Subject, name: str, verb: str) -> None:
    """After a row that went wrong: clean up, so that the next one starts fresh."""
    with suppress(OSError, AssertionError):
        await TROUBLES[name].ends(subject)
    clear(subject)
    await subject.start()
    await subject.command(verb)


def _works(cases: dict[tuple[str, str, str], Case], *, under_load: bool) -> list[Deed]:
    works: list[Deed] = []
    for name, trouble in TROUBLES.items():
        for drain_phase, rejoin_phase in PHASES:
            for how in ("stays", "passes"):
                pair = (cases.get((name, drain_phase, how)), cases.get((name, rejoin_phase, how)))
                if pair != (None, None) and trouble.loses_requests is not under_load:
                    works.append(lambda subject, pair=pair: cycle(subject, pair))  # type: ignore[misc]
    return works * (_SOAK_ROUNDS if SOAK else 1)


async def everything(built: Site, cases: dict[tuple[str, str, str], Case]) -> None:
    await built.spread(_works(cases, under_load=True))


async def without_load(built: Site, cases: dict[tuple[str, str, str], Case]) -> None:
    await built.spread(_works(cases, under_load=False))


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    file: Path = tmp_path_factory.mktemp("faults") / "load.tsv"
    mounts = has_mounts()
    chosen = selected(request, "test_the_host_survives_a_fault", "name", "phase", "how")
    cases = {key: Case(*key) for key in chosen if mounts or not TROUBLES[key[0]].wrapped}
    with site(SUBJECTS, file.parent) as built:
        with load(built, file):
            built.running.run(everything(built, cases), timeout=3600)
        built.running.run(without_load(built, cases), timeout=3600)
        records, failed = failures(built, file)
        done = Matrix(cases, failed, built.broken_quiet(records), list(built.lowest.values()))
    yield done
    write_rows("fault_matrix", [_row(case) for case in cases.values()])


def _row(case: Case) -> Row:
    outcome = "; ".join(f"exit {codes}: {times}" for codes, times in sorted(case.codes.items()))
    verb = "drain" if case.phase in [drain for drain, _ in PHASES] else "rejoin"
    repeat = f"tests/faults/test_fault_matrix.py -k '{case.name}-{case.phase}-{case.how}'"
    return Row(f"{case.name}, {case.how}", f"{verb}: {case.phase}", case.runs, outcome, repeat)


@pytest.mark.parametrize(("name", "phase", "how"), CASES)
def test_the_host_survives_a_fault(matrix: Matrix, name: str, phase: str, how: str) -> None:
    if (name, phase, how) not in matrix.cases:
        pytest.skip("needs root, to give the daemon a file system of its own")
    case = matrix.cases[name, phase, how]
    assert case.wrong == []
    assert case.runs


def test_no_request_was_lost(matrix: Matrix) -> None:
    assert not matrix.failed, "\n".join(matrix.failed)


def test_no_host_heard_anything_between_its_drain_and_its_rejoin(matrix: Matrix) -> None:
    assert matrix.heard == []


def test_the_floor_was_kept_all_the_time(matrix: Matrix) -> None:
    assert min(matrix.lowest) >= 2
