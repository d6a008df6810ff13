"""The command: its words, its exit codes, what it prints where."""

import json
import os
import signal
import subprocess
import sys
import threading
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from wire import agent
from zdd_agent.api.http1 import HttpRequest, HttpResponse
from zdd_agent.cli import commands
from zdd_agent.errors import AgentError, Kind

COMMANDS = [
    "drain",
    "rejoin",
    "status",
    "watch",
    "cancel",
    "forget",
    "slots",
    "run",
    "reboot",
    "doctor",
    "check-config",
    "serve",
]
EVIL = "\x1b[2J\x1b]0;owned\x07\r\n"
STATUS: dict[str, Any] = {
    "posture": "in_service",
    "instance_id": "i-me",
    "region": "eu-west-1",
    "zone": "eu-west-1a",
    "targets": [
        {"target_group": "web", "id": "i-me", "port": 8080, "state": "healthy", "reason": ""},
        {"target_group": "api", "id": "i-me", "port": 9090, "state": None, "reason": ""},
    ],
    "drained_since": None,
    "operation": None,
    "warnings": [],
}

PLAN: dict[str, Any] = {"verb": "rejoin", "dry_run": True, "targets": [], "refusal": None}


def operation(verb: str = "drain", **changed: Any) -> dict[str, Any]:
    plain = {
        "id": "4f",
        "verb": verb,
        "phase": "draining",
        "outcome": None,
        "message": "",
        "error": None,
        "age_seconds": 61,
        "events": [],
    }
    return {**plain, **changed}


def done(verb: str = "drain", message: str = "drained") -> dict[str, Any]:
    return operation(verb, outcome="succeeded", message=message)


class Scripted:
    """An agent that answers each path as it was told, and notes what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._answers = answers

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.target.removeprefix("/v1/").partition("/")[0]
        body = json.loads(request.body) if request.body else None
        self.asked.append((f"{request.method} {name}", body))
        answer = self._answers[name]
        if isinstance(answer, AgentError):
            raise answer
        if isinstance(answer, list):
            answer = answer.pop(0)
        return HttpResponse(200, json.dumps(answer).encode())


def nothing_local(_: Namespace) -> int:
    raise AssertionError("not a local command")


def command(agent_does: Scripted, *words: str) -> int:
    with agent(agent_does) as on:
        name, *rest = words
        return commands.main([name, "--socket", on.path, *rest], nothing_local)


def slip(*words: str) -> int:
    return commands.main(words, nothing_local)


# What a typo gets


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["drian"], "did you mean drain?"),
        (["rejion"], "did you mean rejoin?"),
        (["checkconfig"], "did you mean check-config?"),
        (["drain", "--jsn"], "did you mean --json?"),
        (["drain", "--time=5"], "did you mean --timeout?"),
        (["status", "--sock", "/x"], "did you mean --socket?"),
        (["rejoin", "--detatch"], "did you mean --detach?"),
        (["run", "--reson", "x", "--", "true"], "did you mean --reason?"),
        (["--json", "status"], "write --json after the command"),
        (["--jsn", "status"], "did you mean --json?"),
        (["status", "extra"], "see `zdd-agent status --help`"),
        (["status", ""], "see `zdd-agent status --help`"),
        (["it's"], "see `zdd-agent --help`"),
        ([], "see `zdd-agent --help`"),
        (["drain", "--timeout"], "see `zdd-agent drain --help`"),
        (["drain", "--timeout", "soon"], "see `zdd-agent drain --help`"),
        (["drain", "--timeout", "0"], "see `zdd-agent drain --help`"),
        (["drain", "--timeout", "nan"], "see `zdd-agent drain --help`"),
        (["drain", "--timeout", "172801"], "see `zdd-agent drain --help`"),
        (["forget"], "see `zdd-agent forget --help`"),
    ],
)
def test_an_unknown_word_ends_with_2_and_names_the_nearest(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slip(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("zdd-agent: cannot read the command: ")
    assert err.splitlines()[-1] == f"  {hint}"


@pytest.mark.parametrize("words", [["rejoin", "--stopping"], ["run", "--stopping", "--", "true"]])
def test_a_stop_that_cannot_be_prevented_is_for_a_drain_alone(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert slip(*words) == 2
    assert "unrecognized arguments: --stopping" in capsys.readouterr().err


def test_flags_are_never_guessed_from_their_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert slip("drain", "--dry") == 2
    assert "did you mean --dry-run?" in capsys.readouterr().err


def test_run_without_a_command_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert slip("run", "--") == 2
    assert "zdd-agent run -- CMD" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        slip(name, "--help")
    assert caught.value.code == 0
    assert {"--json", "--socket"} <= set(capsys.readouterr().out.replace("[", " ").replace("]", " ").split())


def test_the_help_lists_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        slip("--help")
    out = capsys.readouterr().out
    assert all(f" {code} " in out for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 130))
    assert all(name in out for name in COMMANDS)


# Exit codes


@pytest.mark.parametrize("kind", Kind)
def test_an_error_of_the_agent_ends_with_the_code_of_its_kind(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    refused = AgentError(kind, "cannot drain: because", hint="zdd-agent watch")
    assert command(Scripted(drain=refused), "drain") == kind.exit_code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "zdd-agent: cannot drain: because\n  zdd-agent watch\n")


@pytest.mark.parametrize("kind", Kind)
def test_an_operation_that_did_not_succeed_ends_with_the_code_of_its_kind(
    kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    why = {"kind": kind.wire, "message": "cannot finish the drain: because", "hint": "look"}
    ended = operation(outcome="failed", error=why)
    assert command(Scripted(drain=operation(), operations=ended), "drain") == kind.exit_code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "zdd-agent: cannot finish the drain: because\n  look\n")


@pytest.mark.parametrize("name", ["drain", "rejoin", "status", "watch", "cancel"])
def test_without_an_agent_it_ends_with_5_and_the_command_that_starts_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slip(name, "--socket", str(tmp_path / "no.sock")) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "sudo systemctl start zdd-agent" in err


def test_the_socket_is_also_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(Scripted(status=STATUS)) as on:
        monkeypatch.setenv("ZDD_AGENT_SOCKET", on.path)
        assert slip("status") == 0
    assert "in_service" in capsys.readouterr().out


def test_serve_and_check_config_need_no_agent() -> None:
    def local(arguments: Namespace) -> int:
        return {"serve": 41, "check-config": 42}[arguments.command]

    assert [commands.main([name], local) for name in ("serve", "check-config")] == [41, 42]


def test_bad_settings_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    def local(_: Namespace) -> int:
        raise AgentError(Kind.CONFIGURATION, "cannot use the settings: because", hint="fix them")

    assert commands.main(["serve"], local) == 2
    assert capsys.readouterr().err == "zdd-agent: cannot use the settings: because\n  fix them\n"


# What is printed where


def test_a_drain_says_its_progress_on_stderr_and_its_result_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    event = {"seq": 1, "at": 0.0, "phase": "draining", "text": "deregistered web i-me:8080", "until": None}
    does = Scripted(drain=operation(), operations=[operation(events=[event]), done(message="drained in 5 s")])
    assert command(does, "drain", "--timeout", "60", "--reason", "release 7") == 0
    assert capsys.readouterr() == ("drained in 5 s\n", "drain: deregistered web i-me:8080\n")
    assert does.asked[0] == ("POST drain", {"reason": "release 7", "timeout": 60})


def test_the_end_is_printed_once_where_stdout_and_stderr_are_one_as_in_a_ci_log() -> None:
    end = {"seq": 2, "at": 0.0, "phase": "settled", "text": "drained in 5 s", "until": None}
    does = Scripted(drain=operation(), operations={**done(message="drained in 5 s"), "events": [end]})
    with agent(does) as on, started(on.path, "drain", stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        log, _ = process.communicate()
    assert log == "drained in 5 s\n"


def test_the_end_of_an_operation_that_fails_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = "cannot finish the drain in 60 s: web i-me:8080 is draining"
    why = {"kind": "timed_out", "message": text, "hint": "look"}
    end = {"seq": 2, "at": 0.0, "phase": "draining", "text": text, "until": None}
    ended = operation(outcome="timed_out", message=text, error=why, events=[end])
    assert command(Scripted(drain=operation(), operations=ended), "drain") == 3
    assert capsys.readouterr() == ("", f"zdd-agent: {text}\n  look\n")


def test_a_message_of_several_lines_is_told_on_one(capsys: pytest.CaptureFixture[str]) -> None:
    refused = AgentError(Kind.FAILED, "cannot drain: it answered\r\n<html>\n\t<body>")
    assert command(Scripted(drain=refused), "drain") == 1
    assert capsys.readouterr().err == "zdd-agent: cannot drain: it answered  <html>  <body>\n"


def test_detach_starts_it_and_says_how_to_follow(capsys: pytest.CaptureFixture[str]) -> None:
    does = Scripted(rejoin=operation("rejoin"))
    assert command(does, "rejoin", "--detach") == 0
    assert capsys.readouterr().out == "rejoin started: follow it with `zdd-agent watch`\n"
    assert does.asked == [("POST rejoin", {"reason": "", "keep_trying": True})]


def test_only_a_rejoin_that_is_not_waited_for_is_tried_again_by_the_agent() -> None:
    drains, rejoins = Scripted(drain=operation()), Scripted(rejoin=operation("rejoin"), operations=done("rejoin"))
    assert command(drains, "drain", "--detach") == command(rejoins, "rejoin") == 0
    assert (drains.asked[0][1], rejoins.asked[0][1]) == ({"reason": ""}, {"reason": ""})


def test_a_dry_run_says_what_would_be_done_and_asks_for_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    does = Scripted(drain={"verb": "drain", "dry_run": True, "targets": STATUS["targets"], "refusal": None})
    assert command(does, "drain", "--dry-run") == 0
    assert capsys.readouterr().out == "would deregister web i-me:8080, api i-me:9090\n"
    assert does.asked == [("POST drain", {"reason": "", "dry_run": True})]


def test_a_dry_run_that_would_be_refused_ends_as_the_drain_itself_would(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"kind": "refused", "message": "cannot drain: web would be empty", "hint": "retry later"}
    does = Scripted(drain={**PLAN, "verb": "drain", "targets": STATUS["targets"], "refusal": refusal})
    assert command(does, "drain", "--dry-run") == 4
    assert "web would be empty" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["web i-me:9090"], ["web", "i-me:9090"], ["web/i-me:9090"]])
def test_forget_takes_a_target_as_status_shows_it_quoted_or_not_or_with_a_slash(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    does = Scripted(forget={"target": "web i-me:9090"})
    assert command(does, "forget", *words) == 0
    assert capsys.readouterr().out == "forgot web i-me:9090\n"
    assert does.asked == [("POST forget", {"target": "web i-me:9090"})]


def test_a_drain_for_a_stop_that_cannot_be_prevented_says_so_to_the_agent() -> None:
    does = Scripted(drain=operation(), operations=done())
    assert command(does, "drain", "--stopping", "--wait", "20") == 0
    assert does.asked[0] == ("POST drain", {"reason": "", "retry_seconds": 20, "stopping": True})


def test_doctor_shows_each_finding_and_ends_with_1_when_one_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        {"name": "state file", "ok": True, "said": "writable", "hint": ""},
        {"name": "role", "ok": False, "said": "cannot find one" + EVIL, "hint": "attach one" + EVIL},
    ]
    assert command(Scripted(doctor={"ok": True, "findings": findings[:1]}), "doctor") == 0
    assert command(Scripted(doctor={"ok": False, "findings": findings}), "doctor") == 1
    out = capsys.readouterr().out
    assert "attach one" in out
    assert all(character.isprintable() or character == "\n" for character in out)


def test_status_shows_where_the_host_stands(capsys: pytest.CaptureFixture[str]) -> None:
    running = {**STATUS, "posture": "draining", "operation": operation(), "warnings": ["cannot ask AWS"]}
    assert command(Scripted(status=running), "status") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "draining  i-me in eu-west-1a",
        "  web i-me:8080  healthy",
        "  api i-me:9090  not asked yet",
        "  drain under way for 1 min 1 s: draining",
    ]
    assert err == "warning: cannot ask AWS\n"


def test_watch_follows_what_is_under_way_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    does = Scripted(status={**STATUS, "operation": operation()}, operations=done())
    assert command(does, "watch") == 0
    assert capsys.readouterr().out == "drained\n"


def test_watch_with_nothing_under_way_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(Scripted(status={**STATUS, "operation": done()}), "watch") == 0
    assert capsys.readouterr().out == "no operation is under way\n"


def test_cancel_waits_until_it_has_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    ended = operation(outcome="cancelled", message="drain cancelled by uid 0 at draining")
    does = Scripted(cancel=operation(), operations=[operation(), ended])
    assert command(does, "cancel") == 0
    assert capsys.readouterr().out == "drain cancelled by uid 0 at draining\n"


@pytest.mark.parametrize(
    ("words", "answers", "document"),
    [
        (["status"], {"status": STATUS}, STATUS),
        (["drain"], {"drain": operation(), "operations": done()}, done()),
        (["drain", "--detach"], {"drain": operation()}, operation()),
        (["rejoin", "--dry-run"], {"rejoin": PLAN}, PLAN),
        (["watch"], {"status": STATUS}, {}),
        (["cancel"], {"cancel": operation(), "operations": done()}, done()),
    ],
)
def test_json_is_one_document_on_stdout(
    words: list[str], answers: Any, document: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(Scripted(**answers), *words, "--json") == 0
    assert json.loads(capsys.readouterr().out) == document


def test_json_tells_errors_too(capsys: pytest.CaptureFixture[str]) -> None:
    refused = AgentError(Kind.BUSY, "cannot drain: busy", hint="zdd-agent watch")
    assert command(Scripted(drain=refused), "drain", "--json") == 7
    assert json.loads(capsys.readouterr().out) == {
        "error": {"kind": "busy", "message": "cannot drain: busy", "hint": "zdd-agent watch"}
    }


def test_text_from_the_agent_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil_target = {"target_group": EVIL, "id": EVIL, "port": EVIL, "state": EVIL, "reason": EVIL}
    evil_operation = operation(EVIL, phase=EVIL, message=EVIL)
    evil_end = operation(EVIL, outcome="failed", error={"kind": "failed", "message": EVIL, "hint": EVIL})
    event = {"seq": 1, "at": 0.0, "phase": EVIL, "text": EVIL, "until": None}
    status = {
        "posture": EVIL,
        "instance_id": EVIL,
        "zone": EVIL,
        "targets": [evil_target],
        "drained_since": 0,
        "operation": evil_operation,
        "warnings": [EVIL],
    }
    command(Scripted(status=status), "status")
    command(Scripted(status=status), "status", "--json")
    command(
        Scripted(drain={"verb": EVIL, "targets": [evil_target], "refusal": evil_end["error"]}), "drain", "--dry-run"
    )
    command(Scripted(drain=evil_operation, operations=[{**evil_operation, "events": [event]}, evil_end]), "drain")
    command(Scripted(drain=AgentError(Kind.FAILED, EVIL, hint=EVIL)), "drain")
    slip(EVIL)
    out, err = capsys.readouterr()
    assert all(character.isprintable() or character == "\n" for character in out + err)


# run -- CMD


def running(*argv: str, rejoin: Any = None, posture: str = "drained") -> tuple[int, Scripted]:
    does = Scripted(
        drain=operation(), rejoin=rejoin or operation("rejoin"), operations=[done(), done("rejoin", "rejoined")],
        status={"posture": posture},
    )  # fmt: skip
    return command(does, "run", "--reason", "release 7", *argv), does


def test_run_drains_runs_and_rejoins_in_this_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, does = running("--", "touch", str(tmp_path / "ran"))
    assert code == 0
    assert (tmp_path / "ran").exists()
    drains, rejoins = ["POST drain", "GET operations"], ["POST rejoin", "GET operations"]
    assert [what for what, _ in does.asked] == [*drains, "GET status", *rejoins]
    assert does.asked[0][1] == does.asked[3][1] == {"reason": "release 7"}
    assert capsys.readouterr().out == "drained\nrejoined\n"


def test_flags_after_the_command_belong_to_it(capfd: pytest.CaptureFixture[str]) -> None:
    code, _ = running("--", "echo", "--json", "--", "--timeout")
    assert code == 0
    assert "--json -- --timeout\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["/nonexistent/deploy"], 127),
        (["/etc/hostname"], 126),
    ],
)
def test_a_command_that_fails_leaves_the_host_out_and_its_status_is_the_exit(
    argv: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, does = running("--", *argv)
    assert code == status
    assert [what for what, _ in does.asked] == ["POST drain", "GET operations", "GET status"]
    err = capsys.readouterr().err
    assert f"the command ended with {status}: this host stays out" in err
    assert "zdd-agent rejoin" in err


def test_run_does_not_run_the_command_when_the_host_is_not_drained(tmp_path: Path) -> None:
    does = Scripted(drain=AgentError(Kind.REFUSED, "cannot drain: too few would be left"))
    assert command(does, "run", "--", "touch", str(tmp_path / "ran")) == 4
    assert not (tmp_path / "ran").exists()


def test_run_does_not_deploy_to_a_host_that_is_leaving(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, does = running("--", "touch", str(tmp_path / "ran"), posture="leaving")
    assert code == 4
    assert not (tmp_path / "ran").exists()
    assert "this host is leaving" in capsys.readouterr().err
    assert "POST rejoin" not in [what for what, _ in does.asked]


def test_run_ends_with_the_code_of_a_rejoin_that_fails() -> None:
    code, _ = running("--", "true", rejoin=AgentError(Kind.AWS_DENIED, "cannot rejoin: denied"))
    assert code == 6


# Real processes: signals and pipes


def started(
    path: str, *words: str, interrupt: signal.Handlers = signal.SIG_DFL, **more: Any
) -> "subprocess.Popen[str]":
    """The command in its own process, as from a terminal, or with SIGINT ignored as from a script's `… &`."""
    environ = {**os.environ, "ZDD_AGENT_SOCKET": path, "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, "-m", "zdd_agent", *words]
    # A child inherits ignored signals, and whoever started these tests may have ignored this one.
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        return subprocess.Popen(argv, env=environ, text=True, **{"stderr": subprocess.PIPE, **more})
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_command_with_130_and_says_that_the_drain_goes_on() -> None:
    asked, leave = threading.Event(), threading.Event()

    def wait(request: HttpRequest) -> HttpResponse:
        if request.method == "GET":
            asked.set()
            leave.wait()
        return HttpResponse(200, json.dumps(operation()).encode())

    with agent(wait) as on, started(on.path, "drain") as process:
        assert asked.wait(10)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        leave.set()
    assert process.returncode == 130
    assert "the drain goes on" in err
    assert "`zdd-agent watch`" in err
    assert "`zdd-agent cancel`" in err
    assert "Traceback" not in err


def test_ctrl_c_lets_the_command_of_run_end_in_its_own_way_and_leaves_the_host_out(tmp_path: Path) -> None:
    script = 'trap "sleep 0.5; touch cleaned-up; exit 0" INT; touch ready; while :; do sleep 0.05; done'
    does = Scripted(drain=operation(), operations=[done()], status={"posture": "drained"})
    with (
        agent(does) as on,
        started(on.path, "run", "--", "sh", "-c", script, cwd=tmp_path, start_new_session=True) as process,
    ):
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the command as well
        _, err = process.communicate()
    assert process.returncode == 130
    assert (tmp_path / "cleaned-up").exists()
    assert "this host stays out" in err
    assert [what for what, _ in does.asked] == ["POST drain", "GET operations", "GET status"]


def test_a_run_in_the_background_that_ignores_ctrl_c_goes_on_and_so_does_its_command(tmp_path: Path) -> None:
    # The subshell is a child: only an inherited "ignore" protects it.
    script = "touch ready; (sleep 0.5; touch cleaned-up); [ -e cleaned-up ]"
    ends = [done(), done("rejoin")]
    does = Scripted(drain=operation(), rejoin=operation("rejoin"), operations=ends, status={"posture": "drained"})
    with (
        agent(does) as on,
        started(
            on.path, "run", "--", "sh", "-c", script, interrupt=signal.SIG_IGN, cwd=tmp_path, start_new_session=True
        ) as process,
    ):
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert (tmp_path / "cleaned-up").exists()
    assert [what for what, _ in does.asked][3:] == ["POST rejoin", "GET operations"]


@pytest.mark.parametrize(("outcome", "code"), [("succeeded", 0), ("timed_out", 3)])
def test_a_reader_that_left_changes_neither_the_exit_code_nor_is_it_spoken_of(outcome: str, code: int) -> None:
    error = {"kind": outcome, "message": "because", "hint": ""} if code else None
    reading, writing = os.pipe()
    os.close(reading)
    does = Scripted(drain=operation(), operations=operation(outcome=outcome, error=error))
    with agent(does) as on, started(on.path, "drain", "--json", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate()
    assert process.returncode == code
    assert "BrokenPipe" not in err


def test_a_reader_that_left_is_not_spoken_of_by_check_config_either(tmp_path: Path) -> None:
    environ = {**os.environ, "ZDD_AGENT_STATE_DIRECTORY": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "zdd_agent", "check-config"]
    done = subprocess.run(argv, env=environ, text=True, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_loads_nothing_but_the_standard_library() -> None:
    look = "import sys; from zdd_agent import __main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"boto3", "botocore", "requests", "pydantic", "systemd", "h11", "urllib3", "subprocess", "asyncio"}
    assert "zdd_agent.cli.commands" in loaded
    assert not heavy & set(loaded)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (0, "0 s"), (59.9, "59 s"), (303, "5 min 3 s"), (7440, "2 h 4 min")]
)
def test_a_span_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert commands.span(seconds) == text


def test_the_checks_that_the_command_can_force_are_those_of_the_core() -> None:
    from zdd_agent.cli import arguments  # noqa: PLC0415  the command itself never loads the core
    from zdd_agent.model.operation import FORCIBLE  # noqa: PLC0415  likewise

    checks = {verb.value: tuple(check.value for check in checks) for verb, checks in FORCIBLE.items()}
    assert checks == {**arguments._CHECKS, "drain": arguments._REBOOT_CHECKS}
