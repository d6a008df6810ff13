"""The health check that this host makes against its own app, over real sockets on loopback."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fakes import ME, FakeMetadata, arn, group
from h2_app import h2_app
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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """For a server that speaks HTTP/2, self-signed: ELB does not check certificates either."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    path = tmp_path_factory.mktemp("tls") / "app.pem"
    own = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*own) + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.set_alpn_protocols(["h2"])
    return context


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


def test_an_app_that_drips_its_answer_byte_by_byte_is_held_to_the_groups_timeout() -> None:
    ended = threading.Event()
    with socket.create_server((ADDRESS, 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
                    connection.send(bytes((byte,)))
                    if ended.wait(0.05):
                        return

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        result = check(server.getsockname()[1], timeout=0.5)
        taken = time.monotonic() - began
        ended.set()
    assert not result.passed
    assert "no answer in time" in result.said
    assert taken < 30  # all the bytes take 500 s


def test_a_group_of_http2_is_asked_in_http2_from_the_first_byte() -> None:
    with h2_app(ADDRESS) as app:
        assert check(app.port, version="HTTP2", path="/up?x=1").passed
    (asked,) = app.asked
    assert (asked[":method"], asked[":scheme"], asked[":path"]) == ("GET", "http", "/up?x=1")
    assert asked["user-agent"] == "ELB-HealthChecker/2.0"
    assert app.bodies == [b""]


def test_and_in_tls_after_alpn(certificate: ssl.SSLContext) -> None:
    with h2_app(ADDRESS, tls=certificate) as app:
        assert check(app.port, version="HTTP2", protocol="HTTPS").passed
    assert (app.alpn, app.asked[0][":scheme"]) == (["h2"], "https")


def test_a_code_over_http2_that_the_matcher_does_not_want_fails() -> None:
    with h2_app(ADDRESS, 503) as app:
        result = check(app.port, version="HTTP2", path="/up", matcher="200")
    assert (result.passed, result.said) == (False, f"GET /up on port {app.port} answered 503, wanted 200")


def test_an_app_of_http_1_fails_in_a_group_of_http2() -> None:
    with app() as (port, _):
        result = check(port, version="HTTP2")
    assert not result.passed
    assert "not HTTP/2" in result.said


def test_an_app_of_http2_that_never_answers_is_held_to_the_groups_timeout() -> None:
    with socket.create_server((ADDRESS, 0)) as silent:
        result = check(silent.getsockname()[1], version="HTTP2", timeout=0.2)
    assert (result.passed, "no answer in time" in result.said) == (False, True)


@pytest.mark.parametrize(
    ("status", "matcher", "passed"),
    [("12", "", True), ("0", "", False), ("0", "0", True), ("7", "0-12", True), ("14", "0,12", False)],
)
def test_grpc_is_called_as_its_load_balancer_does(status: str, matcher: str, passed: bool) -> None:
    with h2_app(ADDRESS, trailers=[("grpc-status", status)]) as app:
        result = check(app.port, version="GRPC", path="", matcher=matcher)
    assert result.passed is passed
    (asked,) = app.asked
    assert (asked[":method"], asked[":path"]) == ("POST", "/AWS.ALB/healthcheck")
    assert (asked["content-type"], asked["te"]) == ("application/grpc", "trailers")
    assert app.bodies == [bytes(5)]
    assert f"answered gRPC status {status}" in result.said


def test_an_answer_without_a_grpc_status_is_none_of_grpc() -> None:
    with h2_app(ADDRESS) as app:
        result = check(app.port, version="GRPC", matcher="0-99")
    assert not result.passed
    assert "no gRPC status" in result.said


def test_a_group_of_ipv6_addresses_is_checked_at_the_ipv6_address() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        of = group(ip_address_type="ipv6", health_check=replace(group().health_check, protocol="TCP"))
        prober = LocalProbe(FakeMetadata(replace(ME, addresses=(ADDRESS, "::1"))))
        assert prober.check(of, Target(arn("web"), "i-me", server.getsockname()[1])).passed


def test_a_host_without_such_an_address_fails_the_check_and_says_so() -> None:
    result = check(1, ip_address_type="ipv6")
    assert not result.passed
    assert "no IPv6 address" in result.said


def test_the_daemon_does_without_the_library_of_http2_until_a_group_speaks_it() -> None:
    code = "import sys, zdd_agent.adapters.probe, zdd_agent.daemon; sys.exit('h2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("matcher", "code", "fits"),
    [("200", 200, True), ("200", 201, False), ("200,202", 202, True), ("200-299", 299, True), ("200-299", 300, False)],
)
def test_matchers_are_codes_lists_and_ranges(matcher: str, code: int, fits: bool) -> None:
    assert matches(matcher, code) is fits
