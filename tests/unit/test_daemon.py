"""The daemon as a process: how it starts, what it refuses, how it stops."""

import grp
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metadata import metadata_service
from wire import PATIENCE, Caller
from zdd_agent.cli.client import Client
from zdd_agent.errors import AgentError

# Seconds after which a signal handler that never returns, or an agent that waits for ever, fails the test.
GIVE_UP_SECONDS = 20


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="zdd"))  # not tmp_path: a socket's path has at most 108 bytes
    (path / "state").mkdir()
    yield path
    shutil.rmtree(path)


def environ(folder: Path, **more: str) -> dict[str, str]:
    """Everything that the daemon knows of this machine; AWS and the metadata service are not there."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2] / "agent"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "ZDD_AGENT_CONFIG": str(folder / "config.toml"),
        "ZDD_AGENT_SOCKET": str(folder / "agent.sock"),
        "ZDD_AGENT_STATE_DIRECTORY": str(folder / "state"),
        **more,
    }


def refused(folder: Path, config: str = "", command: str = "serve", **more: str) -> str:
    """What a daemon that does not start says; it ends with 2."""
    (folder / "config.toml").write_text(config)
    argv = [sys.executable, "-m", "zdd_agent", command]
    done = subprocess.run(
        argv, env=environ(folder, **more), capture_output=True, text=True, check=False, timeout=GIVE_UP_SECONDS
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@contextmanager
def serving(folder: Path, config: str = "", **more: str) -> Iterator["subprocess.Popen[str]"]:
    """A daemon that has said that it listens. It is killed at the end, unless it has ended."""
    (folder / "config.toml").write_text(config)
    argv = [sys.executable, "-m", "zdd_agent", "serve"]
    with subprocess.Popen(argv, env=environ(folder, **more), stderr=subprocess.PIPE, text=True) as process:
        try:
            said = log_until(process, "listens on")
            assert str(folder / "agent.sock") in said
            yield process
        finally:
            process.kill()


def log_until(process: "subprocess.Popen[str]", words: str) -> str:
    assert process.stderr is not None
    said = ""
    too_late = threading.Timer(GIVE_UP_SECONDS, process.kill)
    too_late.start()
    try:
        while words not in said:
            line = process.stderr.readline()
            assert line, f"it ended: {said}"
            said += line
    finally:
        too_late.cancel()
    return said


def status(folder: Path) -> dict[str, object]:
    return Client(str(folder / "agent.sock")).call("GET", "/v1/status")


def refused_at_systemds_socket(folder: Path, config: str) -> None:
    """The same for a daemon that systemd started because of callers; they are still there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "agent.sock"))
        listener.listen(128)
        listener.setblocking(False)
        with Caller(folder / "agent.sock") as asking, Caller(folder / "agent.sock") as silent:
            asking.send(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
            (folder / "config.toml").write_text(config)
            passed = f"exec 3<&{listener.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec {sys.executable} -m zdd_agent serve"
            done = subprocess.run(
                ["bash", "-c", passed], env=environ(folder), pass_fds=[listener.fileno()], capture_output=True,
                text=True, check=False, timeout=GIVE_UP_SECONDS,
            )  # fmt: skip
            assert done.returncode == 2, done.stderr
            for caller in (asking, silent):
                answer = caller.reply()
                assert (answer.status, answer.error["kind"]) == (500, "configuration")
                assert answer.error["message"] in done.stderr
        with pytest.raises(BlockingIOError):  # if a caller were left there, systemd would start it again for ever
            listener.accept()


# Settings


def test_callers_who_wait_at_systemds_socket_get_what_is_wrong_with_the_settings_and_none_is_left(folder: Path) -> None:
    refused_at_systemds_socket(folder, "[poll]\ninterval_seconds = 'often'")


def test_they_get_any_other_reason_for_which_it_does_not_start(folder: Path) -> None:
    (folder / "state").rmdir()
    try:
        refused_at_systemds_socket(folder, "")
    finally:
        (folder / "state").mkdir()


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_a_bad_setting_ends_it_with_2_before_anything_starts(command: str, folder: Path) -> None:
    said = refused(folder, "[poll]\ninterval_seconds = 'often'", command)
    assert f"{folder}/config.toml: `poll.interval_seconds` is 'often': must be seconds" in said
    assert not (folder / "agent.sock").exists()
    assert list((folder / "state").iterdir()) == []


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_an_unknown_setting_is_named_with_the_nearest(command: str, folder: Path) -> None:
    said = refused(folder, "target_group = ['web']", command)
    assert f"{folder}/config.toml: unknown setting `target_group`: did you mean target_groups?" in said


def test_check_config_prints_what_the_daemon_would_use(folder: Path) -> None:
    (folder / "config.toml").write_text("[poll]\ninterval_seconds = 12")
    argv = [sys.executable, "-m", "zdd_agent", "check-config", "--json"]
    done = subprocess.run(argv, env=environ(folder), capture_output=True, text=True, check=True)
    settings = json.loads(done.stdout)
    assert (settings["poll"]["interval_seconds"], settings["socket"]) == (12, str(folder / "agent.sock"))


def test_check_config_and_doctor_say_what_the_adaptive_floor_means_now(folder: Path) -> None:
    adaptive, meaning = "[drain]\nfloor = 'adaptive'", '`drain.floor = "adaptive"` now means "fixed"'
    with serving(folder, adaptive):
        findings = Client(str(folder / "agent.sock")).call("POST", "/v1/doctor")["findings"]
        argv = [sys.executable, "-m", "zdd_agent", "check-config"]
        checked = subprocess.run(argv, env=environ(folder), capture_output=True, text=True, check=True)
    assert [(one["ok"], meaning in one["said"]) for one in findings if one["name"] == "settings"] == [(True, True)]
    assert meaning in checked.stderr


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_a_state_directory_that_cannot_be_used_ends_it_with_2(command: str, folder: Path) -> None:
    (folder / "a-file").touch()
    for path in (folder / "nowhere", folder / "a-file"):
        said = refused(folder, command=command, ZDD_AGENT_STATE_DIRECTORY=str(path))
        assert f"cannot use {path}: " in said
        assert "set `state_directory`" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("command", ["serve", "check-config"])
@pytest.mark.parametrize("unusable", ["state", "state/lock"])
def test_a_state_directory_that_is_somebody_elses_ends_it_with_2(command: str, unusable: str, folder: Path) -> None:
    (folder / "config.toml").write_text("")
    (folder / "state" / "lock").touch(0o600)
    folder.chmod(0o755)
    if unusable == "state":
        (folder / "state" / "lock").unlink()
    else:
        os.chown(folder / "state", 54321, 54321)
    os.chown(folder, 54321, 54321)
    become = f"""
import os
from zdd_agent import __main__, daemon
os.setgroups([]); os.setgid(54321); os.setuid(54321)
from zdd_agent.cli import commands
raise SystemExit(commands.main([{command!r}], __main__._local))
"""
    done = subprocess.run(
        [sys.executable, "-c", become],
        env=environ(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=GIVE_UP_SECONDS,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot use {folder / 'state'}: Permission denied" in done.stderr


def test_check_config_leaves_the_lock_of_a_running_daemon_alone_and_makes_none_of_its_own(folder: Path) -> None:
    argv = [sys.executable, "-m", "zdd_agent", "check-config"]
    (folder / "config.toml").write_text("")
    subprocess.run(argv, env=environ(folder), capture_output=True, check=True)
    assert list((folder / "state").iterdir()) == []
    with serving(folder):
        subprocess.run(argv, env=environ(folder), capture_output=True, check=True)
        assert status(folder)["posture"] == "unknown"


# The socket


def test_only_the_owner_and_its_group_may_connect(folder: Path) -> None:
    with serving(folder):
        found = (folder / "agent.sock").stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o660


def test_a_socket_that_a_dead_daemon_left_is_replaced(folder: Path) -> None:
    with serving(folder) as process:
        process.kill()
        process.wait()
    assert (folder / "agent.sock").is_socket()
    with serving(folder):
        assert status(folder)["posture"] == "unknown"


def test_a_second_daemon_is_refused_and_the_first_goes_on(folder: Path) -> None:
    with serving(folder):
        assert "another zdd-agent serves it" in refused(folder)
        assert status(folder)["posture"] == "unknown"


def test_a_second_daemon_is_refused_even_while_the_first_is_stopped(folder: Path) -> None:
    with serving(folder) as process:
        process.send_signal(signal.SIGSTOP)
        waiting = []
        try:
            while True:  # until its queue is full
                caller = socket.socket(socket.AF_UNIX)
                waiting.append(caller)
                caller.setblocking(False)
                caller.connect(str(folder / "agent.sock"))
        except BlockingIOError:
            assert "another zdd-agent serves it" in refused(folder)
        finally:
            for caller in waiting:
                caller.close()
            process.send_signal(signal.SIGCONT)


def test_a_file_that_is_no_socket_is_never_removed(folder: Path) -> None:
    (folder / "agent.sock").write_text("precious")
    assert "is not a socket" in refused(folder)
    assert (folder / "agent.sock").read_text() == "precious"


@pytest.mark.parametrize("path", ["gone/agent.sock", "a" * 120])
def test_a_socket_that_cannot_be_made_names_the_setting(path: str, folder: Path) -> None:
    said = refused(folder, ZDD_AGENT_SOCKET=str(folder / path))
    assert f"cannot listen on {folder / path}" in said
    assert "`socket`" in said


# Access


def test_the_agents_own_user_may_operate(folder: Path) -> None:
    with serving(folder), Caller(folder / "agent.sock") as caller:
        caller.send(b"POST /v1/cancel HTTP/1.1\r\nHost: x\r\n\r\n")
        assert caller.reply().error["kind"] == "not_found"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    ("group", "method", "expected"),
    [(54324, b"POST", 404), (54325, b"POST", 403), (54325, b"GET", 405), (1, b"GET", 403)],
)
def test_the_extra_groups_of_a_peer_count(group: int, method: bytes, expected: int, folder: Path) -> None:
    config = "[access]\noperator_groups = ['54324']\nreader_groups = ['54325']"
    with serving(folder, config):
        folder.chmod(0o755)
        (folder / "agent.sock").chmod(0o666)
        become = f"""
import os, socket
os.setgroups([{group}]); os.setgid(54322); os.setuid(54321)
caller = socket.socket(socket.AF_UNIX)
caller.connect({str(folder / "agent.sock")!r})
caller.sendall({method + b" /v1/cancel HTTP/1.1"!r} + b"\\r\\nHost: x\\r\\n\\r\\n")
print(caller.recv(12).decode())
"""
        answer = subprocess.run([sys.executable, "-c", become], capture_output=True, text=True, check=True).stdout
    assert answer.split()[1] == str(expected)


def test_a_group_that_is_not_there_is_said_and_lets_nobody_in(folder: Path) -> None:
    config = "[access]\noperator_groups = ['no-such-group']"
    (folder / "config.toml").write_text(config)
    argv = [sys.executable, "-m", "zdd_agent", "serve"]
    with subprocess.Popen(argv, env=environ(folder), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "'no-such-group'" in log_until(process, "listens on")
        finally:
            process.kill()


@pytest.mark.parametrize(("config", "warned"), [("", False), ("[access]\noperator_groups = ['zdd-agent']", True)])
def test_the_default_group_may_be_missing_without_a_word_and_one_that_the_settings_name_may_not(
    config: str, warned: bool, folder: Path
) -> None:
    if any(group.gr_name == "zdd-agent" for group in grp.getgrall()):
        pytest.skip("the group zdd-agent exists: run it on a host without the package")
    (folder / "config.toml").write_text(config)
    argv = [sys.executable, "-m", "zdd_agent", "serve"]
    with subprocess.Popen(argv, env=environ(folder), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert ("no user or group" in log_until(process, "listens on")) is warned
        finally:
            process.kill()


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_0(number: signal.Signals, folder: Path) -> None:
    with serving(folder) as process:
        process.send_signal(number)
        assert process.wait(GIVE_UP_SECONDS) == 0
        assert process.stderr is not None
        assert "stopped" in process.stderr.read()


def test_a_stop_answers_whoever_waits_and_the_next_daemon_goes_on_with_the_operation(folder: Path) -> None:
    with metadata_service() as service:
        service.tokens_work = False  # the drain cannot get far, and tries again
        more = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url}
        with serving(folder, **more) as process, Caller(folder / "agent.sock") as caller:
            caller.send(b"POST /v1/drain?wait=3600 HTTP/1.1\r\nHost: x\r\n\r\n")
            log_until(process, "started by uid")
            process.send_signal(signal.SIGTERM)
            answer = caller.reply()
            assert (answer.status, answer.json["outcome"]) == (202, None)
            assert process.wait(GIVE_UP_SECONDS) == 0
        with serving(folder, **more) as process:
            log_until(process, f"resuming drain {answer.json['id']}")


def test_a_stop_lets_go_of_whoever_waits_and_takes_no_new_request_while_the_loop_is_still_in_a_call(
    folder: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a metadata service that never answers
        silent.settimeout(PATIENCE)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        more = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}
        with serving(folder, **more) as process, Caller(folder / "agent.sock") as waiting:
            waiting.send(b"POST /v1/drain?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
            call, _ = silent.accept()  # the loop is in its call, and will be for seconds
            process.send_signal(signal.SIGTERM)
            assert waiting.reply().headers["connection"] == "close"
            with call, Caller(folder / "agent.sock") as late:
                late.socket.settimeout(1)
                late.send(b"GET /v1/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                with pytest.raises(TimeoutError):
                    late.socket.recv(1)


def test_a_supervisor_hears_ready_the_watchdog_and_stopping(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(folder / "notify"))
        told.settimeout(PATIENCE)
        with serving(folder, NOTIFY_SOCKET=str(folder / "notify")) as process:
            assert told.recv(4096) == b"READY=1\nWATCHDOG=1\nSTATUS=waiting for a command"
            process.send_signal(signal.SIGTERM)
            heard = b""
            while b"STOPPING=1" not in heard:
                heard = told.recv(4096)
            assert process.wait(GIVE_UP_SECONDS) == 0


# The state file


def test_a_damaged_state_file_is_set_aside_said_loudly_and_shown_by_status(folder: Path) -> None:
    (folder / "state" / "host.json").write_text("{")
    (folder / "config.toml").write_text("")
    argv = [sys.executable, "-m", "zdd_agent", "serve"]
    with subprocess.Popen(argv, env=environ(folder), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "CRITICAL the state file was damaged" in log_until(process, "listens on")
            warnings = status(folder)["warnings"]
        finally:
            process.kill()
    (aside,) = (folder / "state").glob("host.json.damaged-*")
    assert aside.read_text() == "{"
    assert re.search(re.escape(str(aside)), str(warnings))


def test_a_damaged_state_file_of_a_daemon_that_runs_is_left_alone_by_a_second_one(folder: Path) -> None:
    with serving(folder):
        (folder / "state" / "host.json").write_text("{")
        refused(folder)
        assert sorted(path.name for path in (folder / "state").iterdir()) == ["host.json", "lock"]


def test_a_second_daemon_on_the_same_state_folder_is_refused_whatever_its_socket(folder: Path) -> None:
    with serving(folder):
        said = refused(folder, ZDD_AGENT_SOCKET=str(folder / "other.sock"))
    assert "another zdd-agent uses it" in said


# What may end this instance.


def test_what_is_off_is_not_even_imported() -> None:
    off = "engine.lifecycle engine.scaling decide.leaving decide.notices adapters.auto_scaling adapters.imds_notices"
    names = [f"zdd_agent.{name}" for name in (*off.split(), "adapters.posture_files")]
    code = f"import sys, zdd_agent.daemon; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_daemon_whose_instance_is_terminated_says_so_keeps_it_and_shows_it_as_a_file(folder: Path) -> None:
    (folder / "posture").mkdir()
    with metadata_service() as service:
        service.more["autoscaling/target-lifecycle-state"] = "Terminated"
        env = {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url,
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # nobody listens there
            "RUNTIME_DIRECTORY": str(folder / "posture"),
            "ZDD_AGENT_AUTO_SCALING__MODE": "watch",
        }
        with serving(folder, **env) as process:
            log_until(process, "this host is leaving: Auto Scaling is about to terminate this instance")
            log_until(process, "drain")
            assert status(folder)["posture"] == "leaving"
            with pytest.raises(AgentError, match="cannot rejoin"):
                Client(str(folder / "agent.sock")).call("POST", "/v1/rejoin", {})
        with serving(folder, **env):
            assert status(folder)["posture"] == "leaving"
            assert [path.name for path in (folder / "posture").rglob("*") if path.is_file()] == ["leaving"]


def test_without_a_container_in_the_settings_nothing_of_it_is_imported() -> None:
    script = (
        "import sys; from zdd_agent.daemon import _opener, _sensor; from zdd_agent.adapters.clock import SystemClock;"
        "from zdd_agent.settings import Settings; _sensor(SystemClock(), Settings(), _opener(Settings()));"
        "print([name for name in sys.modules if 'opener' in name or 'container_sensor' in name])"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "[]\n"
