"""The state file: replaced whole, synced, private, and never silently forgotten."""

import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import START, arn, group
from zdd_agent.adapters.store import FileStore
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import GroupMinimum, Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Failure, Operation, Outcome, Phase, Reboot, Request, Verb
from zdd_agent.model.owner import Owner
from zdd_agent.model.record import Leaving, Record, Underway, Wanted
from zdd_agent.model.states import (
    Claim,
    Claiming,
    Confirming,
    Departure,
    Drained,
    Draining,
    Ending,
    GoingBack,
    Guarding,
    InService,
    Joining,
    Out,
    Probing,
    State,
    Warming,
)

LAST = Operation(
    id="4f",
    request=Request(
        Verb.DRAIN, 1000, 42.5, "release 7", (Check.MIN_HEALTHY,), 60.0, Until.IDLE, stopping=True, reboot=True
    ),
    phase=Phase.DRAINING,
    started_at=START,
    deadline=START + 300,
    ended_at=START + 20,
    outcome=Outcome.FAILED,
    message="cannot",
    failure=Failure("aws_denied", "cannot", "allow it", "x:Y"),
    changed=True,
    cancelled_by=0,
)
WEB = Target(arn("web"), "i-me", 8080)
MEMBERSHIP = Membership(
    (
        group(minimum=GroupMinimum(2, 50.0), connection_termination=True, preserve_client_ip=True, slow_start=30.0),
        group("api", target_type="ip", ip_address_type="ipv6"),
    ),
    (
        WEB,
        Target(arn("web"), "i-me", 443, quic_server_id="0xa1b2c3d4e5f65890"),
        Target(arn("api"), "fd00::1", 9090, "all"),
    ),
)
LEFT = Departure(START, START + 1, (WEB,), ("10.0.9.1",))
CLAIM = Claim((Target(arn("web"), "i-other", 8080),), START)
ENDING = Ending(Until.CLOSED, " (a doubt)")
OUT = Out(LEFT, "the last drain ended as timed_out")
STATES: tuple[State, ...] = (
    InService(),
    Drained(LEFT, "proved", START + 40),
    OUT,
    Guarding(OUT),
    Claiming(InService(), START, (WEB,), ("10.0.9.1",), CLAIM, ENDING),
    Confirming(Drained(LEFT, "proved", START + 40), LEFT, CLAIM, ENDING),
    Draining(LEFT, ENDING),
    GoingBack(InService(), LEFT, Failure("refused", "cannot drain")),
    Probing(OUT),
    Joining(OUT),
    Joining(InService(), launching=True),
    Warming(InService(), START + 5, True),
)
RECORD = Record(
    owner=Owner("i-me", "b007"),
    membership=MEMBERSHIP,
    wanted=Wanted.OUT,
    state=OUT,
    last=LAST,
    listed=(WEB, *CLAIM.counted),
    leaving=Leaving("this spot instance will terminate", "4f", START + 120),
    reboot=Reboot("b007", 1000),
)
AS_0_1_0 = Path(__file__).parent / "states_of_0_1_0"


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow: writes fail as on a full disk, without the need for a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def damaged(folder: Path) -> list[Path]:
    return sorted(folder.glob("host.json.damaged-*"))


@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
def test_what_was_written_is_read_again_to_the_last_field_by_the_next_daemon(state: State, tmp_path: Path) -> None:
    busy = not isinstance(state, InService | Drained | Out)
    underway = Underway("5a", LAST.request, START, START + 300, cancelled_by=7) if busy else None
    record = replace(RECORD, state=state, underway=underway)
    FileStore(tmp_path).write(record)
    assert FileStore(tmp_path).read() == record


def test_each_service_has_a_file_of_its_own(tmp_path: Path) -> None:
    FileStore(tmp_path, "web").write(RECORD)
    assert FileStore(tmp_path, "api").read() == Record()
    assert FileStore(tmp_path, "web").read() == RECORD


@pytest.mark.parametrize("version", [1.5, 3, "next", None])
def test_a_file_of_another_version_never_costs_the_membership(version: object, tmp_path: Path) -> None:
    FileStore(tmp_path).write(RECORD)
    document = json.loads((tmp_path / "host.json").read_text())
    document.update(version=version, record={"shape": "unknown"}, later={"more": 1})
    document["membership"]["targets"][0]["later"] = "kept"
    (tmp_path / "host.json").write_text(json.dumps(document))
    store = FileStore(tmp_path)
    read = store.read()
    assert (read.owner, read.membership, read.wanted) == (RECORD.owner, RECORD.membership, Wanted.OUT)
    assert (read.leaving, read.reboot) == (RECORD.leaving, RECORD.reboot)
    assert isinstance(read.state, Out)
    assert read.out_since == START
    store.write(read)
    written = json.loads((tmp_path / "host.json").read_text())
    assert written["later"] == {"more": 1}, "a field that this version does not know is kept"
    assert written["membership"]["targets"][0]["later"] == "kept"


@pytest.mark.parametrize(
    ("name", "state", "wanted"),
    [
        ("drained", Drained, Wanted.OUT),
        ("drained_ip", Drained, Wanted.OUT),
        ("timed_out", Out, Wanted.OUT),
        ("draining", Confirming, Wanted.OUT),
        ("warming", Warming, Wanted.IN),
        ("in_service", InService, Wanted.IN),
    ],
)
def test_a_state_file_that_0_1_0_wrote_is_taken_over(
    name: str, state: type, wanted: Wanted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = (AS_0_1_0 / f"{name}.json").read_bytes()
    (tmp_path / "state.json").write_bytes(old)
    store = FileStore(tmp_path)
    record = store.read()
    assert isinstance(record.state, state)
    assert record.wanted is wanted
    assert record.owner == Owner()
    assert {t.group for t in record.membership.targets} >= {arn("web")}
    assert record.out_since == json.loads(old)["record"]["out_since"]
    assert not caplog.records
    store.write(record)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host.json", "state.json.migrated"]
    assert FileStore(tmp_path).read() == record


def test_a_record_of_another_instance_is_set_aside_under_a_name_that_says_so(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write(RECORD)
    store.set_aside("it is the record of i-source")
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith("host.json.foreign-")
    assert FileStore(tmp_path).read() == Record()


def test_a_new_host_has_an_empty_record(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    assert store.read() == Record()
    assert store.notices() == ()


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    FileStore(tmp_path).write(RECORD)
    assert stat.S_IMODE((tmp_path / "host.json").stat().st_mode) == 0o600


def test_the_file_is_synced_before_it_takes_its_place_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, os.replace

    def noting_sync(descriptor: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def noting_rename(old: Any, new: Any) -> None:
        steps.append(f"{Path(old).name} becomes {Path(new).name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(os, "replace", noting_rename)
    FileStore(tmp_path).write(RECORD)
    assert steps == ["sync host.new", "host.new becomes host.json", f"sync {tmp_path.name}"]


def test_a_full_disk_is_an_error_that_may_pass_and_the_earlier_state_stays(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write(RECORD)
    with full_disk(), pytest.raises(AgentError) as caught:
        store.write(replace(RECORD, state=InService()))
    assert (caught.value.kind, caught.value.transient) == (Kind.STORE, True)
    assert str(tmp_path / "host.json") in caught.value.message
    assert "free space" in caught.value.hint
    assert store.read() == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["host.json"]


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        FileStore(tmp_path / "gone").write(RECORD)
    assert caught.value.kind is Kind.STORE
    assert str(tmp_path / "gone") in caught.value.hint


def test_a_write_that_a_crash_cut_off_is_no_part_of_the_state(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write(RECORD)
    (tmp_path / "host.new").write_text('{"version": 1, "rec')
    assert FileStore(tmp_path).read() == RECORD
    store.write(replace(RECORD, state=InService()))
    assert FileStore(tmp_path).read() == replace(RECORD, state=InService())


def test_the_write_does_not_follow_a_link_that_somebody_left_there(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "host.new").symlink_to(tmp_path / "victim")
    with pytest.raises(AgentError):
        FileStore(tmp_path).write(RECORD)
    assert (tmp_path / "victim").read_text() == "precious"
    FileStore(tmp_path).write(RECORD)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 4096,
        b"{",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "record": 5}',
        b'{"version": 1, "record": {"operation": {"id": "4f"}}}',
        b'{"version": 2, "record": {}}',
        b'{"record": {}}',
        b'{"membership": 5, "version": 2}',
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_file_is_set_aside_whole_and_said_loudly(
    raw: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "host.json").write_bytes(raw)
    store = FileStore(tmp_path)
    assert store.read() == Record()
    (aside,) = damaged(tmp_path)
    assert aside.read_bytes() == raw
    (notice,) = store.notices()
    assert str(aside) in notice
    assert [(r.levelname, r.message) for r in caplog.records] == [("CRITICAL", notice)]
    assert "\n" not in notice


def test_a_file_cut_short_at_any_byte_is_set_aside(tmp_path: Path) -> None:
    FileStore(tmp_path).write(RECORD)
    whole = (tmp_path / "host.json").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "host.json").write_bytes(whole[:length])
        assert FileStore(tmp_path).read() == Record()
        damaged(tmp_path)[-1].unlink()


def test_a_second_damaged_file_does_not_take_the_place_of_the_first(tmp_path: Path) -> None:
    for raw in (b"first", b"second"):
        (tmp_path / "host.json").write_bytes(raw)
        FileStore(tmp_path).read()
    assert sorted(path.read_bytes() for path in damaged(tmp_path)) == [b"first", b"second"]


def test_a_state_that_cannot_be_read_is_an_error_and_not_an_empty_record(tmp_path: Path) -> None:
    (tmp_path / "host.json").mkdir()
    with pytest.raises(AgentError) as caught:
        FileStore(tmp_path).read()
    assert caught.value.kind is Kind.STORE
