"""The health check that this host makes against its own app, over real sockets on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fakes import ME, FakeMetadata, arn, group
from zdd_agent.adapters.probe import LocalProbe, matches
from zdd_agent.model.aws import Target, TargetGroup
from zdd_agent.model.operation import ProbeResult

ADDRESS = "127.93.7.11"


@contextmanager
def app(code: int = 200) -> Iterator[tuple[int, list[tuple[str, str, str]]]]:
    """An app that answers with this code; what it was asked: path, user agent, peer."""
    asked: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["User-Agent"], self.client_address[0]))
            self.send_response(code)
            self.end_headers()

        def log_message(self, format: str, *words: object) -> None:  # noqa: A002  the base class's name
            pass

    server = HTTPServer((ADDRESS, 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()


def check_port(port: str) -> ProbeResult:
    of = group(health_check=replace(group().health_check, port=port))
    return LocalProbe(FakeMetadata(replace(ME, addresses=(ADDRESS,)))).check(of, Target(arn("web"), "i-me", 1))


def check(port: int, **changed: object) -> ProbeResult:
    plain = group().health_check
    known = {key: value for key, value in changed.items() if key in plain.__slots__}
    rest = {key: value for key, value in changed.items() if key not in known}
    of: TargetGroup = group(health_check=replace(plain, **{"timeout": 1.0, **known}), **rest)
    prober = LocalProbe(FakeMetadata(replace(ME, addresses=(ADDRESS,))))
    return prober.check(of, Target(arn("web"), "i-me", port))


def test_it_asks_the_groups_path_as_the_health_checker_does_and_from_the_hosts_own_address() -> None:
    with app() as (port, asked):
        assert check(port, path="/up?x=1").passed
    assert asked == [("/up?x=1", "ELB-HealthChecker/2.0", ADDRESS)]


def test_a_code_that_the_matcher_does_not_want_fails_with_what_was_found_and_wanted() -> None:
    with app(503) as (port, _):
        result = check(port, matcher="200-299")
    assert not result.passed
    assert result.said == f"GET /healthz on port {port} answered 503, wanted 200-299"


def test_a_check_on_a_port_of_its_own_goes_there() -> None:
    with app() as (port, asked):
        assert check_port(str(port)).passed
    assert asked


def test_a_dead_app_fails_with_the_cause() -> None:
    with app() as (port, _):
        pass
    assert check(port).said == f"port {port}: Connection refused"


def test_an_app_that_does_not_answer_fails_within_the_groups_timeout() -> None:
    with socket.create_server((ADDRESS, 0)) as silent:
        result = check(silent.getsockname()[1], timeout=0.2)
    assert not result.passed
    assert "no answer in time" in result.said


def test_an_app_that_does_not_speak_http_fails() -> None:
    with socket.create_server((ADDRESS, 0)) as server:

        def babble() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-hello\r\n\r\n")
            connection.close()

        threading.Thread(target=babble, daemon=True).start()
        result = check(server.getsockname()[1])
    assert not result.passed
    assert "not HTTP" in result.said


def test_a_tcp_check_passes_when_the_port_accepts() -> None:
    with socket.create_server((ADDRESS, 0)) as server:
        assert check(server.getsockname()[1], protocol="TCP").passed


def test_grpc_is_not_probed_and_says_so() -> None:
    result = check(1, version="GRPC")
    assert result.passed
    assert "not probed" in result.said


@pytest.mark.parametrize(
    ("matcher", "code", "fits"),
    [("200", 200, True), ("200", 201, False), ("200,202", 202, True), ("200-299", 299, True), ("200-299", 300, False)],
)
def test_matchers_are_codes_lists_and_ranges(matcher: str, code: int, fits: bool) -> None:
    assert matches(matcher, code) is fits
