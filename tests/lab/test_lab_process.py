"""`zdd-lab up` as a process: what it prints, how it ends, that nothing outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import free_prefix
from zdd_lab.processes.children import bare_environment

LAB = [sys.executable, "-m", "zdd_lab"]


def command(prefix: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [*LAB, *arguments, "--prefix", prefix]
    return subprocess.run(argv, env=bare_environment(), capture_output=True, text=True, timeout=30, check=False)


class Up:
    """A lab with one host, no agent, in its own process."""

    def __init__(self, state: Path) -> None:
        self.prefix = free_prefix()
        argv = [*LAB, "up", "--hosts", "1", "--no-agents", "--auto-scaling", "--prefix", self.prefix]
        argv += ["--state", str(state)]
        self.process = subprocess.Popen(argv, env=bare_environment(), stdout=subprocess.PIPE, text=True)
        self.told = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told += line
            if "Ctrl-C" in line:
                break

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


def until_done(lab: Up) -> Iterator[Up]:
    yield lab
    if lab.process.poll() is None:
        lab.end(signal.SIGKILL)
    if lab.process.stdout is not None:
        lab.process.stdout.close()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Up]:
    """A lab for one test, which may end it."""
    yield from until_done(Up(tmp_path / "state"))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A lab for all tests that leave it running."""
    yield from until_done(Up(tmp_path_factory.mktemp("lab")))


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_up_prints_what_to_export_for_a_person_and_for_each_host(up: Up):
    assert f"export AWS_ENDPOINT_URL=http://{up.prefix}.1:4566" in up.told
    assert "export AWS_REGION=us-east-1" in up.told
    assert f"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{up.prefix}.11:1338" in up.told
    assert "ZDD_AGENT_SOCKET=" in up.told
    assert f"http://{up.prefix}.2:8080" in up.told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_lab(mortal: Up, number: signal.Signals):
    children = mortal.children()
    assert len(children) == 2  # moto and one app
    status = mortal.end(number)
    assert status == (0 if number is not signal.SIGKILL else -signal.SIGKILL)
    end = time.monotonic() + 5
    while any(alive(pid) for pid in children):
        assert time.monotonic() < end, "a child outlived the lab"
        time.sleep(0.05)


def test_the_commands_talk_to_a_lab_that_runs(up: Up):
    assert command(up.prefix, "fault", "timeout-after-effect", "--action", "RegisterTargets").returncode == 0
    told = json.loads(command(up.prefix, "state").stdout)
    assert [(one["kind"], one["action"]) for one in told["faults"]] == [("timeout_after_effect", "RegisterTargets")]
    assert json.loads(command(up.prefix, "clear").stdout) == {"faults": []}
    restarted = command(up.prefix, "restart-app", "--host", "1", "--version", "v2")
    assert json.loads(restarted.stdout)["app"]["version"] == "v2"
    refused = command(up.prefix, "fault", "nonsense")
    assert refused.returncode == 2
    assert "accepted are" in refused.stderr


def test_the_commands_scale_terminate_and_announce(up: Up):
    def state() -> dict[str, Any]:
        return dict(json.loads(command(up.prefix, "state").stdout))

    def states() -> list[str]:
        return sorted(state()["groups"][0]["instances"].values())

    def until(wanted: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not wanted():
            assert time.monotonic() < end, state()["groups"]
            time.sleep(0.2)

    def hosts() -> list[str]:
        return [host["name"] for host in state()["hosts"]]

    (group,) = state()["groups"]
    assert (group["name"], group["min"], group["max"]) == ("web", 1, 2)
    assert json.loads(command(up.prefix, "scale", "--desired", "2").stdout)["desired"] == 2
    until(lambda: states() == ["InService", "InService"])
    told = command(up.prefix, "scale", "--desired", "3")
    assert (told.returncode, "above max value 2" in told.stderr) == (2, True)
    assert command(up.prefix, "announce", "maintenance", "--host", "2").returncode == 0
    assert command(up.prefix, "announce", "spot", "--host", "2", "--seconds", "1").returncode == 0
    until(lambda: hosts() == ["h1", "h3"])  # EC2 took h2 back, and the group replaced it
    assert command(up.prefix, "terminate", "--host", "2").returncode == 2
    until(lambda: states() == ["InService", "InService"])
    assert command(up.prefix, "terminate", "--host", "3").returncode == 0
    until(lambda: states() == ["InService", "InService", "Terminating"])


def test_a_second_lab_on_the_same_prefix_is_refused_and_leaves_the_first_alone(up: Up):
    second = command(up.prefix, "up", "--no-agents")
    assert second.returncode == 1
    assert "use another --prefix" in second.stderr
    assert json.loads(command(up.prefix, "state").stdout)["hosts"][0]["app"]["pid"]


def test_a_command_without_a_lab_says_how_to_start_one():
    done = command(free_prefix(), "state")
    assert done.returncode == 1
    assert "zdd-lab up" in done.stderr


def test_the_environment_of_a_child_has_no_setting_and_no_proxy_of_ours(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_PROFILE", "ZDD_AGENT_SOCKET", "https_proxy", "MOTO_PORT"):
        monkeypatch.setenv(name, "x")
    assert not {"AWS_PROFILE", "ZDD_AGENT_SOCKET", "https_proxy", "MOTO_PORT"} & set(bare_environment())
    assert bare_environment()["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
