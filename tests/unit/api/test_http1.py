"""One connection against a caller that is slow, broken or greedy: it gets a 4xx in our shape, and the agent goes on."""

import socket

import pytest

from wire import Caller, agent, echo
from zdd_agent.api.http1 import HttpResponse, Limits

QUICK = Limits(head_seconds=0.2, body_seconds=0.2)


def test_a_request_reaches_the_agent_whole_and_its_answer_comes_back() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(b"POST /v1/drain?wait=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        answer = caller.reply()
        assert answer.status == 200
        assert answer.json == {"method": "POST", "target": "/v1/drain?wait=1", "body": "hello"}
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "raw",
    [
        b"what is this?\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # the first bytes of TLS
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: x\r\nbroken header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot a number\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_a_broken_request_gets_a_400_in_our_error_shape_and_a_clean_end(raw: bytes) -> None:
    with agent(echo) as on:
        with Caller(on.path) as caller:
            caller.send(raw)
            answer = caller.reply()
            assert (answer.status, answer.error["kind"]) == (400, "usage")
            assert answer.headers["connection"] == "close"
            assert caller.ended()
        with Caller(on.path) as next_caller:
            assert next_caller.get().status == 200


@pytest.mark.parametrize("size", [9 * 1024, 200 * 1024])
def test_an_oversized_head_gets_a_413_however_it_is_cut_into_pieces(size: int) -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Much: " + b"a" * size + b"\r\n\r\n")
        answer = caller.reply()
        assert (answer.status, answer.error["kind"]) == (413, "too_large")
        assert caller.ended()


def test_an_oversized_body_gets_a_413_before_it_is_sent() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 16385\r\nExpect: 100-continue\r\n\r\n")
        answer = caller.reply()
        assert (answer.status, answer.error["kind"]) == (413, "too_large")


def test_a_body_of_unknown_length_gets_a_413_once_it_is_over_the_limit() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        caller.send((b"1000\r\n" + b"a" * 4096 + b"\r\n") * 5)
        answer = caller.reply()
        assert (answer.status, answer.error["kind"]) == (413, "too_large")


def test_a_refused_caller_that_sent_all_of_its_body_still_reads_why_and_then_a_clean_end() -> None:
    with agent(echo, Limits(linger_seconds=0.2)) as on, Caller(on.path) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000)
        caller.wait_for_the_end()
        assert caller.reply().error["kind"] == "too_large"
        assert caller.ended()


def test_the_largest_body_is_taken() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 16384\r\n\r\n" + b"a" * 16_384)
        assert len(caller.reply().json["body"]) == 16_384


@pytest.mark.parametrize(
    "part", [b"GET / HTTP/1.1\r\nHos", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_a_request_that_stops_half_way_gets_a_408(part: bytes) -> None:
    with agent(echo, QUICK) as on, Caller(on.path) as caller:
        caller.send(part)
        answer = caller.reply()
        assert (answer.status, answer.error["kind"]) == (408, "too_slow")


def test_a_head_that_trickles_gets_no_more_time_than_one_that_stops() -> None:
    limits = Limits(head_seconds=0.3)
    with agent(echo, limits) as on, Caller(on.path) as caller:
        caller.send(b"GET / HTTP/1.1\r\n")
        caller.socket.settimeout(0.05)
        for _ in range(100):
            caller.send(b"X-More: 1\r\n")
            try:
                status_line = caller.socket.recv(12)
                break
            except TimeoutError:
                continue
        assert status_line == b"HTTP/1.1 408"


def test_a_kept_alive_connection_without_a_request_ends_without_a_word() -> None:
    with agent(echo, Limits(idle_seconds=0.1)) as on, Caller(on.path) as caller:
        assert caller.get().status == 200
        assert caller.ended()


def test_a_connection_carries_one_request_after_another() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        assert [caller.get(path).json["target"] for path in ("/a", "/b", "/c")] == ["/a", "/b", "/c"]


def test_requests_sent_at_once_are_answered_in_their_order() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
            b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answers = [caller.reply().json for _ in range(3)]
        assert [(a["target"], a["body"]) for a in answers] == [("/1", ""), ("/2", "hi"), ("/3", "")]
        assert caller.ended()


def test_a_caller_that_closed_its_sending_half_still_gets_its_answer_and_does_not_count_as_gone() -> None:
    with (
        agent(lambda request: HttpResponse(200, b"gone" if request.gone() else b"there")) as on,
        Caller(on.path) as caller,
    ):
        caller.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        caller.send(b"\r\n")
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.reply().body == b"there"
        assert caller.ended()


def test_expect_100_continue_is_told_to_go_on() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert caller.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        caller.send(b"hi")
        assert caller.reply().json["body"] == "hi"


def test_http_1_0_is_answered_and_closed() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(b"GET / HTTP/1.0\r\n\r\n")
        assert caller.reply().status == 200
        assert caller.ended()


def test_head_gets_the_header_of_the_answer_and_no_body() -> None:
    with agent(echo) as on, Caller(on.path) as caller:
        caller.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert caller.reply(has_body=False).status == 200
        assert caller.get("/next").json["target"] == "/next"
