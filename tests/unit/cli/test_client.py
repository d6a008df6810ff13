"""The caller's side of the socket, against real sockets that behave, misbehave or are not there."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wire import agent
from zdd_agent.api.http1 import HttpRequest, HttpResponse, Limits
from zdd_agent.cli.client import PAUSE_SECONDS, REPEATS, Client
from zdd_agent.errors import AgentError, Kind

OPERATION = {"id": "4f", "verb": "drain", "outcome": None, "error": None, "events": [], "message": ""}
DONE = {**OPERATION, "outcome": "succeeded", "message": "drained"}


def answers(*documents: object, status: int = 200) -> Any:
    left = list(documents)
    return lambda _: HttpResponse(status, json.dumps(left.pop(0)).encode())


def refusal(path: str | Path, method: str = "GET", target: str = "/v1/status") -> AgentError:
    with pytest.raises(AgentError) as caught:
        Client(str(path)).call(method, target)
    return caught.value


@contextmanager
def says(folder: Path, *answers: bytes) -> Iterator[str]:
    """A listener at this path gives each caller in turn one of these answers, and hangs up."""
    path = os.path.relpath(folder / "s")  # short enough for a socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            for raw in answers:
                connected, _ = listener.accept()
                with connected:
                    connected.recv(65536)
                    connected.sendall(raw)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            thread.join()


def test_a_call_is_a_request_and_its_answer() -> None:
    seen: list[HttpRequest] = []

    def note(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        return HttpResponse(202, b'{"id": "4f"}')

    with agent(note) as on:
        assert Client(on.path).call("POST", "/v1/drain", {"reason": "Größe"}) == {"id": "4f"}
    assert (seen[0].method, seen[0].target, json.loads(seen[0].body)) == ("POST", "/v1/drain", {"reason": "Größe"})


def test_an_error_of_the_agent_arrives_as_it_was_raised() -> None:
    def busy(_: HttpRequest) -> HttpResponse:
        raise AgentError(Kind.BUSY, "cannot drain: a rejoin is under way", hint="zdd-agent watch", value="4f")

    with agent(busy) as on:
        error = refusal(on.path, "POST", "/v1/drain")
    assert (error.kind, error.message) == (Kind.BUSY, "cannot drain: a rejoin is under way")
    assert (error.hint, error.value) == ("zdd-agent watch", "4f")


def test_a_kind_of_a_newer_agent_is_a_failure_with_its_message() -> None:
    newer = {"error": {"kind": "invented_later", "message": "cannot drain: a new reason"}}
    with agent(answers(newer, status=409)) as on:
        error = refusal(on.path)
    assert (error.kind, error.message, error.hint) == (Kind.FAILED, "cannot drain: a new reason", "")


def test_an_operation_that_did_not_succeed_is_an_answer_and_no_error() -> None:
    failed = {**DONE, "outcome": "failed", "error": {"kind": "aws_denied", "message": "cannot"}}
    with agent(answers(failed, status=502)) as on:
        assert Client(on.path).call("POST", "/v1/drain?wait=1") == failed


def test_without_an_agent_the_command_that_starts_it_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path / "no.sock")
    assert error.kind is Kind.UNREACHABLE
    assert "sudo systemctl start zdd-agent" in error.hint


def test_a_socket_that_nobody_serves_is_no_agent(tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    assert refusal(path).kind is Kind.UNREACHABLE


def test_an_agent_that_hangs_and_whose_queue_is_full_is_given_up_on(tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as waiting:
        hung.bind(path)
        hung.listen(0)
        waiting.connect(path)
        error = refusal(path)
    assert (error.kind, "does not answer" in error.message) == (Kind.UNREACHABLE, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 \r\n\r\n[]",
        b"HTTP/1.1 500 \r\n\r\n<html>",
        b"\xff\x00",
    ],
)
def test_an_answer_that_is_cut_off_or_of_something_else_is_no_answer(raw: bytes, tmp_path: Path) -> None:
    with says(tmp_path, raw) as path:
        error = refusal(path)
    assert error.kind is Kind.UNREACHABLE
    assert error.hint


def test_an_agent_that_hangs_up_without_a_word_is_asked_again_since_it_may_be_restarting(tmp_path: Path) -> None:
    good = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"id": "1"}'
    with says(tmp_path, b"", b"", good) as path:
        assert Client(path).call("GET", "/v1/status") == {"id": "1"}


def test_an_agent_that_always_hangs_up_is_given_up(tmp_path: Path) -> None:
    with says(tmp_path, *[b""] * (REPEATS + 1)) as path:
        error = refusal(path)
    assert error.kind is Kind.UNREACHABLE


def test_a_refusal_that_comes_before_the_request_is_read_is_told_as_it_is() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(_: HttpRequest) -> HttpResponse:
        entered.set()
        leave.wait()
        return HttpResponse(200, b"{}")

    with agent(hold, Limits(connections_per_user=1)) as on:
        first = threading.Thread(target=Client(on.path).call, args=("GET", "/"))
        first.start()
        entered.wait()
        error = refusal(on.path)
        leave.set()
        first.join()
    assert error.kind is Kind.TOO_MANY_CONNECTIONS


def test_a_body_over_the_limit_is_refused_in_the_agents_own_words() -> None:
    with agent(answers({})) as on, pytest.raises(AgentError) as caught:
        Client(on.path).call("POST", "/v1/drain", {"reason": "a" * 100_000})
    assert caught.value.kind is Kind.TOO_LARGE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_a_socket_that_this_user_may_not_use_is_told_with_the_way_in() -> None:
    with agent(answers({})) as on:
        Path(on.path).chmod(0)
        assert refusal(on.path).kind is Kind.FORBIDDEN


def test_following_asks_after_the_last_event_that_it_knows_and_shows_each_once() -> None:
    targets: list[str] = []
    left = [
        {**OPERATION, "events": [{"seq": 7, "text": "one"}, {"seq": 9, "text": "two"}]},
        OPERATION,
        {**DONE, "events": [{"seq": 11, "text": "three"}]},
    ]

    def note(request: HttpRequest) -> HttpResponse:
        targets.append(request.target)
        return HttpResponse(200, json.dumps(left.pop(0)).encode())

    shown: list[str] = []
    with agent(note) as on:
        end = Client(on.path).follow(OPERATION, lambda event, _: shown.append(event["text"]))
    assert shown == ["one", "two", "three"]
    assert [target.split("after=")[1] for target in targets] == ["0", "9", "9"]
    assert end["outcome"] == "succeeded"


def test_following_survives_a_restart_of_the_agent() -> None:
    calls = 0

    def restarting(_: HttpRequest) -> HttpResponse:
        nonlocal calls
        calls += 1
        if calls == 2:
            on.transport.close(0)  # it stops in the middle of its answer
        return HttpResponse(200, json.dumps(OPERATION).encode())

    with agent(restarting) as on:
        following: list[Any] = []
        thread = threading.Thread(target=lambda: following.append(Client(on.path).follow(OPERATION, lambda *_: None)))
        thread.start()
        while calls < 2:
            threading.Event().wait(0.01)
        Path(on.path).unlink()
        with agent(answers(*[DONE] * 3)) as again:
            Path(on.path).symlink_to(again.path)
            thread.join()
    assert following[0]["outcome"] == "succeeded"


def test_following_pauses_after_an_answer_without_news_since_an_agent_that_stops_answers_at_once() -> None:
    with agent(answers(*[OPERATION] * 3, DONE)) as on:
        began = time.monotonic()
        Client(on.path).follow(OPERATION, lambda *_: None)
    assert time.monotonic() - began >= 3 * PAUSE_SECONDS


def test_following_ends_with_an_error_that_waiting_cannot_cure() -> None:
    def forgot(_: HttpRequest) -> HttpResponse:
        raise AgentError(Kind.NOT_FOUND, "cannot show operation '4f': there is none")

    with agent(forgot) as on, pytest.raises(AgentError) as caught:
        Client(on.path).follow(OPERATION, lambda *_: None)
    assert caught.value.kind is Kind.NOT_FOUND
