"""`zdd-agent slots`: what it shows, and how it releases one."""

import json
import time
from argparse import Namespace
from typing import Any

import pytest

from wire import agent
from zdd_agent.api.http1 import HttpRequest, HttpResponse
from zdd_agent.cli import commands
from zdd_agent.errors import EXIT_OK, Kind

EVIL = "\x1b[2J\r\n"


def shown() -> dict[str, Any]:
    now = time.time()
    holder = {"since": now - 303, "seen": now - 12, "who": "uid 0"}
    return {
        "service": "web",
        "limit": "25%",
        "holders": [
            {**holder, "instance": "i-1", "alive": True, "reason": "release 7" + EVIL},
            {**holder, "instance": "i-2", "alive": False, "reason": "", "seen": now - 3725},
        ],
        "waiters": [{"instance": "i-3", "since": now - 40, "seen": now - 4, "who": "uid 7"}],
    }


def command(answer: Any, *words: str) -> tuple[int, list[tuple[str, Any]]]:
    """The exit code, and what the agent was asked."""
    asked: list[tuple[str, Any]] = []

    def answers(request: HttpRequest) -> HttpResponse:
        asked.append((f"{request.method} {request.target}", json.loads(request.body) if request.body else None))
        return HttpResponse(200, json.dumps(answer).encode())

    def nothing_local(_: Namespace) -> int:
        raise AssertionError("not a local command")

    with agent(answers) as on:
        return commands.main(["slots", "--socket", on.path, *words], nothing_local), asked


def test_slots_show_who_holds_for_how_long_and_why_and_who_waits(capsys: pytest.CaptureFixture[str]) -> None:
    code, asked = command(shown())
    assert (code, asked) == (EXIT_OK, [("GET /v1/slots", None)])
    assert capsys.readouterr().out.splitlines() == [
        "web  2 slots taken, limit 25%",
        "  i-1  for 5 min 3 s, sign of life 12 s ago, uid 0: release 7?[2J  ",
        "  i-2  for 5 min 3 s, sign of life 1 h 2 min ago (its agent is silent), uid 0: no reason given",
        "  waiting, place 1: i-3  for 40 s, uid 7",
    ]


def test_slots_as_json_are_what_the_agent_answered(capsys: pytest.CaptureFixture[str]) -> None:
    answer = shown()
    assert command(answer, "--json")[0] == EXIT_OK
    assert json.loads(capsys.readouterr().out) == answer


@pytest.mark.parametrize("force", [[], ["alive"]])
def test_a_release_names_the_instance_and_the_reason(force: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for check in force for word in ("--force", check)]
    done = {"service": "web", "instance": "i-1"}
    code, asked = command(done, "release", "i-1", "--reason", "its disk died", *words)
    body = {"instance": "i-1", "reason": "its disk died"} | ({"force": force} if force else {})
    assert (code, asked) == (EXIT_OK, [("POST /v1/slots/release", body)])
    assert capsys.readouterr().out == "released the slot of web that i-1 held\n"


@pytest.mark.parametrize(
    "words",
    [
        ["release"],
        ["release", "i-1"],
        ["release", "--reason", "x"],
        ["release", "i-1", "--reason", ""],
        ["--reason", "x"],
        ["--force", "alive"],
        ["release", "i-1", "--reason", "x", "--force", "slot"],
        ["relaese", "i-1", "--reason", "x"],
    ],
)
def test_anything_else_is_wrong_usage_and_asks_the_agent_nothing(words: list[str]) -> None:
    code, asked = command({}, *words)
    assert (code, asked) == (Kind.USAGE.exit_code, [])
