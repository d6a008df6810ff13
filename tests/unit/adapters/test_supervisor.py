"""What systemd is told, read from a real NOTIFY_SOCKET."""

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from zdd_agent.adapters.supervisor import Systemd


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = f"zdd-notify-{os.getpid()}"
        listener.bind(f"\0{address}")
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{address}")
        yield listener


def test_the_first_sign_of_life_says_ready_and_each_one_feeds_the_watchdog(told: socket.socket) -> None:
    systemd = Systemd()
    systemd.alive("waiting for a command")
    systemd.alive("drain: draining")
    assert told.recv(4096) == b"READY=1\nWATCHDOG=1\nSTATUS=waiting for a command"
    assert told.recv(4096) == b"WATCHDOG=1\nSTATUS=drain: draining"


def test_stopping_is_told(told: socket.socket) -> None:
    Systemd().stopping()
    assert told.recv(4096).startswith(b"STOPPING=1\n")


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Systemd().alive("waiting")
    Systemd().stopping()


def test_a_supervisor_that_went_away_does_not_end_an_operation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with caplog.at_level(logging.WARNING):
        Systemd().alive("drain: draining")
    assert "cannot tell systemd" in caplog.text
