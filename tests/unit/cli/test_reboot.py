"""The command `reboot`: what it asks for in which order, and each of its exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unit.cli.test_commands import Scripted, done, operation
from wire import agent
from zdd_agent.api.http1 import HttpRequest, HttpResponse
from zdd_agent.cli import commands
from zdd_agent.cli import reboot as command
from zdd_agent.errors import AgentError, Kind


class FakeMachine(command.Machine):
    """A machine that does as it is told, and notes what was done."""

    def __init__(self, *, root: bool = True, required: bool | AgentError = True, failure: str = "") -> None:
        super().__init__()
        self.did: list[str] = []
        self.time = 1000.0
        self._root, self._required, self._failure = root, required, failure

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds

    def is_root(self) -> bool:
        return self._root

    def needs_reboot(self) -> tuple[bool, str]:
        if isinstance(self._required, AgentError):
            raise self._required
        return self._required, "the fake says so"

    def reboot(self) -> str:
        self.did.append("reboot")
        return self._failure


def asked(**more: Any) -> Namespace:
    return Namespace(**{"if_required": False, "wait": 0.0, "force": [], "json": False, **more})


def rebooting(machine: FakeMachine, *, code: int = 0, **more: Any) -> int:
    def drain(seconds: float) -> int:
        machine.did.append(f"drain {seconds:g}")
        return code

    def put_back() -> int:
        machine.did.append("rejoin")
        return 0

    return command.reboot(asked(**more), machine, drain, put_back)


def test_it_drains_and_then_reboots() -> None:
    machine = FakeMachine()
    assert rebooting(machine) == 0
    assert machine.did == ["drain 0", "reboot"]


def test_whoever_is_not_root_ends_with_8_before_anything_is_drained() -> None:
    machine = FakeMachine(root=False)
    with pytest.raises(AgentError, match="only root can") as caught:
        rebooting(machine)
    assert caught.value.kind.exit_code == 8
    assert "sudo" in caught.value.hint
    assert machine.did == []


def test_where_no_update_requires_a_reboot_it_says_so_and_drains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    machine = FakeMachine(required=False)
    assert rebooting(machine, if_required=True) == 0
    assert machine.did == []
    assert capsys.readouterr().out == "no reboot is required: the fake says so\n"


def test_where_an_update_requires_it_or_nobody_asks_for_one_it_reboots() -> None:
    for required, if_required in ((True, True), (False, False)):
        machine = FakeMachine(required=required)
        assert rebooting(machine, if_required=if_required) == 0
        assert machine.did == ["drain 0", "reboot"]


def test_where_nothing_can_tell_whether_a_reboot_is_required_nothing_is_drained() -> None:
    machine = FakeMachine(required=AgentError(Kind.FAILED, "cannot tell"))
    with pytest.raises(AgentError, match="cannot tell"):
        rebooting(machine, if_required=True)
    assert machine.did == []


@pytest.mark.parametrize("code", [1, 3, 4, 6, 130])
def test_a_drain_that_does_not_succeed_stops_the_reboot_and_its_code_is_the_exit(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = FakeMachine()
    assert rebooting(machine, code=code) == code
    assert machine.did == ["drain 0"]
    assert capsys.readouterr().err == "no reboot follows\n"


def test_a_reboot_that_does_not_come_puts_the_host_back_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    machine = FakeMachine(failure="systemctl reboot ended with 1: access denied")
    assert rebooting(machine) == 1
    assert machine.did == ["drain 0", "reboot", "rejoin"]
    assert "cannot reboot: systemctl reboot ended with 1: access denied" in capsys.readouterr().err


def test_a_host_that_was_out_before_is_not_put_back_by_a_reboot_that_does_not_come(
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = FakeMachine(failure="no")
    assert rebooting(machine, force=["drained"]) == 1
    assert machine.did == ["drain 0", "reboot"]
    assert "this host stays out" in capsys.readouterr().err


def test_json_says_whether_a_reboot_comes(capsys: pytest.CaptureFixture[str]) -> None:
    rebooting(FakeMachine(), json=True)
    rebooting(FakeMachine(required=False), json=True, if_required=True)
    assert [json.loads(line)["reboot"] for line in capsys.readouterr().out.splitlines()] == [True, False]


# Other work on this host


def busy_for(times: int) -> tuple[Callable[[float], int], list[float]]:
    waits: list[float] = []

    def drain(seconds: float) -> int:
        waits.append(seconds)
        if len(waits) <= times:
            raise AgentError(Kind.BUSY, "cannot reboot: a rejoin is under way")
        return 0

    return drain, waits


def test_other_work_on_this_host_is_waited_for_within_the_same_wait(capsys: pytest.CaptureFixture[str]) -> None:
    machine = FakeMachine()
    drain, waits = busy_for(2)
    assert command.reboot(asked(wait=60.0), machine, drain, lambda: 0) == 0
    assert machine.did == ["reboot"]
    assert waits == [60, 55, 50]
    assert capsys.readouterr().err == "waiting: cannot reboot: a rejoin is under way\n", "once, not each time"


@pytest.mark.parametrize(("wait", "waits"), [(0.0, [0]), (12.0, [12, 7, 2, 0])])
def test_other_work_that_outlasts_the_wait_ends_with_7_and_nothing_is_rebooted(wait: float, waits: list[float]) -> None:
    machine = FakeMachine()
    drain, tries = busy_for(1000)
    with pytest.raises(AgentError) as caught:
        command.reboot(asked(wait=wait), machine, drain, lambda: 0)
    assert caught.value.kind.exit_code == 7
    assert tries == waits
    assert machine.did == []


def test_what_waiting_does_not_cure_is_not_waited_for() -> None:
    def leaving(_: float) -> int:
        raise AgentError(Kind.REFUSED, "cannot reboot: this instance is being terminated")

    machine = FakeMachine()
    with pytest.raises(AgentError, match="terminated"):
        command.reboot(asked(wait=600.0), machine, leaving, lambda: 0)
    assert machine.time == FakeMachine().time


# The whole command, with stubs of systemctl and needs-restarting


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH; `systemctl` notes its words there, and ends with $REBOOT_ENDS."""
    folder = tmp_path / "bin"
    folder.mkdir()
    stub(folder / "systemctl", f'echo "$@" >>{tmp_path}/called; [ "$1" = reboot ] || {{ echo "$STATE"; exit 0; }}\n'
         'echo "no, not now" >&2; exit ${REBOOT_ENDS:-0}')  # fmt: skip
    monkeypatch.setenv("PATH", str(folder))
    return folder


def stub(file: Path, body: str) -> None:
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def test_a_reboot_that_systemd_takes_does_not_fail(stubs: Path) -> None:
    assert command.Machine().reboot() == ""
    assert (stubs.parent / "called").read_text() == "reboot\n"


def test_a_reboot_that_systemd_does_not_take_is_told_with_its_reason(
    stubs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REBOOT_ENDS", "1")
    monkeypatch.setenv("STATE", "running")
    assert command.Machine().reboot() == "systemctl reboot ended with 1: no, not now"


def test_a_shutdown_that_broke_the_connection_of_systemctl_is_a_reboot_all_the_same(
    stubs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REBOOT_ENDS", "1")
    monkeypatch.setenv("STATE", "stopping")
    assert command.Machine().reboot() == ""


def test_a_host_without_systemctl_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.Machine().reboot() == "systemctl: No such file or directory"


def test_the_mark_of_debian_requires_a_reboot_whatever_else_is_there(stubs: Path, tmp_path: Path) -> None:
    mark = tmp_path / "reboot-required"
    mark.touch()
    stub(stubs / "needs-restarting", "exit 0")
    assert command.Machine(mark).needs_reboot() == (True, f"{mark} exists")


@pytest.mark.parametrize(
    ("body", "required"),
    [
        ("echo 'Reboot should not be necessary.'; exit 0", False),
        ("echo '  * kernel'; echo; echo 'Reboot is required to fully utilize these updates.'; exit 1", True),
        ("echo 'Reboot is required to ensure that your system benefits from these updates.'; exit 1", True),
    ],
)
def test_needs_restarting_tells_whether_a_reboot_is_required(
    body: str, required: bool, stubs: Path, tmp_path: Path
) -> None:
    stub(stubs / "needs-restarting", f'[ "$*" = -r ] && [ "$LC_ALL" = C ] || exit 9\n{body}')
    assert command.Machine(tmp_path / "none").needs_reboot()[0] is required


@pytest.mark.parametrize("status", [1, 2])
def test_a_needs_restarting_that_fails_requires_no_reboot_and_is_told(status: int, stubs: Path, tmp_path: Path) -> None:
    stub(stubs / "needs-restarting", f"echo 'Error: the rpm database is locked' >&2; exit {status}")
    with pytest.raises(AgentError, match=f"ended with {status}: Error: the rpm database is locked") as caught:
        command.Machine(tmp_path / "none").needs_reboot()
    assert caught.value.kind.exit_code == 1


def test_a_host_with_neither_says_that_it_cannot_tell(stubs: Path, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="this host has no needs-restarting") as caught:
        command.Machine(tmp_path / "none", debian=tmp_path / "none").needs_reboot()
    assert "dnf install dnf-utils" in caught.value.hint
    debian = tmp_path / "debian_version"
    debian.touch()
    assert command.Machine(tmp_path / "none", debian=debian).needs_reboot() == (False, f"there is no {tmp_path}/none")


root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may reboot: run the tests as root")


@root
def test_the_agent_is_told_that_a_reboot_follows_and_systemd_asked_for_it(
    stubs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    does = Scripted(drain=operation(), operations=done())
    words = ["--wait", "20", "--force", "min-healthy", "--reason", "kernel", "--timeout", "60", "--until", "idle"]
    assert whole(does, *words) == 0
    sent = {"reason": "kernel", "timeout": 60, "force": ["min-healthy"], "until": "idle", "reboot": True}
    body = does.asked[0][1]
    assert 19 < body.pop("retry_seconds") <= 20
    assert body == sent
    assert (stubs.parent / "called").read_text() == "reboot\n"
    assert capsys.readouterr().out == "drained\nrebooting: the agent puts this host back after the boot\n"


@root
def test_a_refused_drain_asks_systemd_for_nothing(stubs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {"kind": "refused", "message": "cannot drain: web would be empty", "hint": "retry later"}
    does = Scripted(drain=operation(), operations=operation(outcome="refused", error=refused))
    assert whole(does) == 4
    assert not (stubs.parent / "called").exists()
    assert capsys.readouterr() == (
        "",
        "zdd-agent: cannot drain: web would be empty\n  retry later\nno reboot follows\n",
    )


@root
def test_the_agent_puts_the_host_back_and_goes_on_trying_when_systemd_refuses(
    stubs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REBOOT_ENDS", "1")
    does = Scripted(drain=operation(), operations=done(), rejoin=operation("rejoin"))
    assert whole(does, "--force", "min-healthy", "--timeout", "9") == 1
    assert does.asked[-1] == ("POST rejoin", {"reason": "", "keep_trying": True})
    out, err = capsys.readouterr()
    assert out == "drained\nrejoin started: follow it with `zdd-agent watch`\n"
    assert "cannot reboot: systemctl reboot ended with 1: no, not now" in err


@root
def test_without_an_agent_nothing_is_rebooted(stubs: Path, tmp_path: Path) -> None:
    assert commands.main(["reboot", "--socket", str(tmp_path / "no.sock")], lambda _: 0) == 5
    assert not (stubs.parent / "called").exists()


@root
def test_ctrl_c_before_the_reboot_leaves_the_drain_and_no_reboot_follows(stubs: Path) -> None:
    seen, leave = threading.Event(), threading.Event()

    def wait(request: HttpRequest) -> HttpResponse:
        if request.method == "GET":
            seen.set()
            leave.wait()
        return HttpResponse(200, json.dumps(operation()).encode())

    with agent(wait) as on:
        environ = {**os.environ, "ZDD_AGENT_SOCKET": on.path}
        argv = [sys.executable, "-m", "zdd_agent", "reboot"]
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(argv, env=environ, text=True, stderr=subprocess.PIPE)
        signal.signal(signal.SIGINT, before)
        assert seen.wait(10)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        leave.set()
    assert process.returncode == 130
    assert "the drain goes on" in err
    assert "no reboot follows" in err
    assert not (stubs.parent / "called").exists()


def whole(does: Scripted, *words: str) -> int:
    with agent(does) as on:
        return commands.main(["reboot", "--socket", on.path, *words], lambda _: 0)
