from __future__ import annotations

import socket
from pathlib import Path

from zdd_agent.cli.calling_unit import EXTENSION_SECONDS, Unit


def test_a_unit_that_waits_is_given_time_and_told_what_is_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "n"))
        told.settimeout(5)
        Unit({"NOTIFY_SOCKET": str(tmp_path / "n")}).wait("drain: draining")
        said = told.recv(4096).decode()
    assert said == f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}\nSTATUS=drain: draining"


def test_without_a_unit_nothing_is_said() -> None:
    Unit({}).wait("drain: draining")


def test_a_unit_that_does_not_listen_any_more_is_no_error(tmp_path: Path) -> None:
    Unit({"NOTIFY_SOCKET": str(tmp_path / "gone")}).wait()
