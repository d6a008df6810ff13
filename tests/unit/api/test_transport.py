"""Who gets a connection, who loses one, and what becomes of answers under way."""

import threading

import pytest

from wire import PATIENCE, Caller, agent, echo
from zdd_agent.api.http1 import HttpRequest, HttpResponse, Limits
from zdd_agent.errors import AgentError, Kind


class Gate:
    """An agent that holds every answer back until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.gone: dict[str, bool] = {}

    def handle(self, request: HttpRequest) -> HttpResponse:
        self.entered.release()
        assert self.open.wait(PATIENCE)
        self.gone[request.target] = request.gone()
        return echo(request)

    def wait_for(self, requests: int) -> None:
        for _ in range(requests):
            assert self.entered.acquire(timeout=PATIENCE)


def test_an_error_answer_of_the_agent_leaves_the_connection_usable() -> None:
    def refuse_once(request: HttpRequest) -> HttpResponse:
        if request.target == "/refused":
            raise AgentError(Kind.REFUSED, "cannot drain: too few would be left")
        return echo(request)

    with agent(refuse_once) as on, Caller(on.path) as caller:
        assert caller.get("/refused").error["kind"] == "refused"
        assert caller.get("/next").status == 200


def test_the_agent_can_tell_that_a_caller_has_hung_up() -> None:
    gate = Gate()
    with agent(gate.handle) as on, Caller(on.path) as leaving, Caller(on.path) as staying:
        leaving.send(b"GET /leaving HTTP/1.1\r\nHost: x\r\n\r\n")
        staying.send(b"GET /staying HTTP/1.1\r\nHost: x\r\n\r\n")
        gate.wait_for(2)
        leaving.socket.close()
        gate.open.set()
        assert staying.reply().status == 200
    assert gate.gone == {"/leaving": True, "/staying": False}


def test_a_defect_in_one_answer_is_a_500_and_a_line_in_the_log_and_not_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def defect(request: HttpRequest) -> HttpResponse:
        raise ZeroDivisionError(request.target)

    with agent(defect) as on, Caller(on.path) as caller:
        answers = [caller.get("/1"), caller.get("/2")]
    assert [(a.status, a.error["kind"]) for a in answers] == [(500, "failed"), (500, "failed")]
    assert "a defect of zdd-agent in GET /1" in caplog.text


def test_when_it_is_full_the_oldest_idle_connection_makes_room_for_an_honest_caller() -> None:
    with agent(echo, Limits(connections_per_user=3)) as on:
        idle = [Caller(on.path) for _ in range(3)]
        with Caller(on.path) as honest:
            assert honest.get().status == 200
        assert idle[0].ended()
        assert [caller.get().status for caller in idle[1:]] == [200, 200]
        for caller in idle:
            caller.socket.close()


def test_the_limit_for_all_users_holds_as_well() -> None:
    with agent(echo, Limits(connections=2)) as on, Caller(on.path) as first, Caller(on.path) as second:
        with Caller(on.path) as third:
            assert third.get().status == 200
        assert first.ended()
        assert second.get().status == 200


def test_a_caller_that_sends_half_a_request_to_keep_its_place_loses_it() -> None:
    with agent(echo, Limits(connections_per_user=1)) as on, Caller(on.path) as greedy:
        greedy.send(b"GET / HTTP/1.1\r\nHos")
        with Caller(on.path) as honest:
            assert honest.get().status == 200
        assert greedy.ended()


def test_when_every_connection_waits_for_an_answer_a_new_one_is_told_to_come_back() -> None:
    gate = Gate()
    with agent(gate.handle, Limits(connections_per_user=2)) as on:
        waiting = [Caller(on.path) for _ in range(2)]
        for caller in waiting:
            caller.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        gate.wait_for(2)
        with Caller(on.path) as refused:
            answer = refused.reply()
            assert (answer.status, answer.error["kind"]) == (503, "too_many_connections")
        gate.open.set()
        for caller in waiting:
            assert caller.reply().status == 200
            caller.socket.close()


def test_once_it_stops_accepting_an_open_connection_carries_no_further_request() -> None:
    asked: list[str] = []

    def note(request: HttpRequest) -> HttpResponse:
        asked.append(request.target)
        return echo(request)

    with agent(note) as on, Caller(on.path) as caller:
        assert caller.get("/first").status == 200
        on.transport.stop_accepting()
        caller.send(b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
        assert caller.ended()
    assert asked == ["/first"]


def test_close_lets_the_answers_under_way_leave() -> None:
    gate = Gate()
    with agent(gate.handle) as on, Caller(on.path) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        gate.wait_for(1)
        closing = threading.Thread(target=on.transport.close, args=(PATIENCE,))
        closing.start()
        gate.open.set()
        answer = caller.reply()
        closing.join()
        assert answer.status == 200
        assert caller.ended()


def test_close_does_not_wait_for_connections_that_ask_for_nothing() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        assert caller.get().status == 200
        on.transport.close(PATIENCE)
        assert caller.ended()


def test_close_gives_up_on_an_answer_that_does_not_come() -> None:
    gate = Gate()
    with agent(gate.handle) as on, Caller(on.path) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        gate.wait_for(1)
        on.transport.close(0.1)
        assert caller.ended()
        gate.open.set()
