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
from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.operation import Failure, Operation, Outcome, Phase, Record, Request, Verb

DRAIN = Operation(
    id="4f",
    request=Request(Verb.DRAIN, 1000, 42.5, "release 7"),
    phase=Phase.DRAINING,
    started_at=START,
    deadline=START + 300,
    accepted_at=START + 1,
    outcome=Outcome.FAILED,
    failure=Failure("aws_denied", "cannot", "allow it", "x:Y"),
    cancelled_by=0,
)
RECORD = Record(
    membership=Membership(
        (group(), group("api", target_type="ip")),
        (Target(arn("web"), "i-me", 8080), Target(arn("api"), "10.0.0.1", 9090, "all")),
    ),
    out_since=START,
    operation=DRAIN,
)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow: what a full disk does to a write, without a disk of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def damaged(folder: Path) -> list[Path]:
    return sorted(folder.glob("state.json.damaged-*"))


def test_what_was_written_is_read_again_to_the_last_field_by_the_next_daemon(tmp_path: Path) -> None:
    FileStore(tmp_path).write(RECORD)
    assert FileStore(tmp_path).read() == RECORD


def test_a_new_host_has_an_empty_record(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    assert store.read() == Record()
    assert store.notices() == ()


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    FileStore(tmp_path).write(RECORD)
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


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
    assert steps == ["sync state.new", "state.new becomes state.json", f"sync {tmp_path.name}"]


def test_a_full_disk_is_an_error_that_may_pass_and_the_earlier_state_stays(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write(RECORD)
    with full_disk(), pytest.raises(AgentError) as caught:
        store.write(replace(RECORD, out_since=None))
    assert (caught.value.kind, caught.value.transient) == (Kind.STORE, True)
    assert str(tmp_path / "state.json") in caught.value.message
    assert "free space" in caught.value.hint
    assert store.read() == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        FileStore(tmp_path / "gone").write(RECORD)
    assert caught.value.kind is Kind.STORE
    assert str(tmp_path / "gone") in caught.value.hint


def test_a_write_that_a_crash_cut_off_is_no_part_of_the_state(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write(RECORD)
    (tmp_path / "state.new").write_text('{"version": 1, "rec')
    assert FileStore(tmp_path).read() == RECORD
    store.write(replace(RECORD, out_since=None))
    assert FileStore(tmp_path).read() == replace(RECORD, out_since=None)


def test_the_write_does_not_follow_a_link_that_somebody_left_there(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "state.new").symlink_to(tmp_path / "victim")
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
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_file_or_one_of_another_version_is_set_aside_whole_and_said_loudly(
    raw: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state.json").write_bytes(raw)
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
    whole = (tmp_path / "state.json").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "state.json").write_bytes(whole[:length])
        assert FileStore(tmp_path).read() == Record()
        damaged(tmp_path)[-1].unlink()


def test_a_second_damaged_file_does_not_take_the_place_of_the_first(tmp_path: Path) -> None:
    for raw in (b"first", b"second"):
        (tmp_path / "state.json").write_bytes(raw)
        FileStore(tmp_path).read()
    assert sorted(path.read_bytes() for path in damaged(tmp_path)) == [b"first", b"second"]


def test_a_state_that_cannot_be_read_is_an_error_and_not_an_empty_record(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(AgentError) as caught:
        FileStore(tmp_path).read()
    assert caught.value.kind is Kind.STORE


def test_the_file_says_its_version(tmp_path: Path) -> None:
    FileStore(tmp_path).write(RECORD)
    assert json.loads((tmp_path / "state.json").read_text())["version"] == 1
