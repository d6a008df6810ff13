"""The posture as a file: one at a time, and never in the way."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from zdd_agent.adapters.posture_files import PostureFiles, given_folder
from zdd_agent.model.operation import Posture


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_exactly_one_file_exists_and_it_names_the_posture(tmp_path: Path) -> None:
    shown = PostureFiles(tmp_path)
    for posture in (Posture.IN_SERVICE, Posture.DRAINING, Posture.DRAINED, Posture.DRAINED, Posture.LEAVING):
        shown.show("host", posture)
        assert files(tmp_path) == [f"host/{posture}"]


def test_everybody_may_look_whatever_the_mask(tmp_path: Path) -> None:
    PostureFiles(tmp_path).show("host", Posture.DRAINED)
    assert (tmp_path / "host").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "host" / "drained").stat().st_mode & 0o777 == 0o644


def test_what_an_earlier_daemon_left_is_kept_where_it_is_true_and_goes_where_not(tmp_path: Path) -> None:
    PostureFiles(tmp_path).show("host", Posture.DRAINED)
    before = (tmp_path / "host" / "drained").stat()
    (tmp_path / "host" / "draining").touch()
    PostureFiles(tmp_path).show("host", Posture.DRAINED)
    after = (tmp_path / "host" / "drained").stat()
    assert files(tmp_path) == ["host/drained"]
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_agent_that_restarts_and_has_not_looked_yet_takes_nothing_back(tmp_path: Path) -> None:
    PostureFiles(tmp_path).show("host", Posture.IN_SERVICE)
    again = PostureFiles(tmp_path)
    again.show("host", Posture.UNKNOWN)
    assert files(tmp_path) == ["host/in_service"]
    again.show("host", Posture.DRAINING)
    assert files(tmp_path) == ["host/draining"]


def test_a_host_of_which_nothing_is_known_is_unknown(tmp_path: Path) -> None:
    PostureFiles(tmp_path).show("host", Posture.UNKNOWN)
    assert files(tmp_path) == ["host/unknown"]


def test_a_folder_that_is_gone_is_said_once_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shown = PostureFiles(tmp_path / "gone" / "too")
    with caplog.at_level(logging.WARNING):
        shown.show("host", Posture.DRAINING)
        shown.show("host", Posture.DRAINED)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, None),
        ({"RUNTIME_DIRECTORY": ""}, None),
        ({"RUNTIME_DIRECTORY": "/run/zdd-agent/posture"}, Path("/run/zdd-agent/posture")),
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, Path("/run/a")),
    ],
)
def test_the_folder_is_the_one_that_systemd_gives(environ: dict[str, str], folder: Path | None) -> None:
    assert given_folder(environ) == folder
