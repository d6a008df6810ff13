"""The one place where SDK clients are built, and how each call through them ends."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from fakes import ME, FakeMetadata, arn, group
from metadata import Metadata, metadata_service
from zdd_agent.adapters.aws import Aws, Service
from zdd_agent.adapters.elbv2 import Elbv2
from zdd_agent.adapters.imds import InstanceMetadata
from zdd_agent.adapters.limit import Limit
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, Target


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMADEUP")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_nothing_is_asked_and_nothing_built_before_the_first_use() -> None:
    metadata = FakeMetadata(errors=[AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask")])
    Aws(metadata, {})
    assert metadata.errors


def test_a_client_is_built_once_however_many_threads_ask() -> None:
    aws = Aws(FakeMetadata(), {})
    clients: list[object] = []
    threads = [threading.Thread(target=lambda: clients.append(aws.elbv2())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 4
    assert len({id(client) for client in clients}) == 1


def test_timeouts_and_retries_are_explicit() -> None:
    config = Aws(FakeMetadata(), {}).elbv2().meta.config
    assert (config.connect_timeout, config.read_timeout) == (3.0, 10.0)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}


def test_the_region_is_the_hosts_own() -> None:
    metadata = FakeMetadata(who=Identity("i-me", "ap-south-2", "ap-south-2a", "vpc-1", ()))
    assert Aws(metadata, {}).elbv2().meta.region_name == "ap-south-2"


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_of_the_environment_comes_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "eu-north-1")
    assert Aws(FakeMetadata(), {name: "eu-north-1"}).elbv2().meta.region_name == "eu-north-1"


def test_the_endpoint_of_the_environment_works_as_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert Aws(FakeMetadata(), {}).elbv2().meta.endpoint_url == "http://127.0.0.1:4566"


def test_without_a_region_the_client_waits_for_the_metadata_service_and_is_built_then() -> None:
    metadata = FakeMetadata(errors=[AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask", transient=True)])
    aws = Aws(metadata, {})
    with pytest.raises(AgentError):
        aws.elbv2()
    assert aws.elbv2().meta.region_name == ME.region


@contextmanager
def instance_profile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """Only the metadata service has credentials."""
    with metadata_service() as service:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
        yield service


def key(aws: Aws) -> str:
    return str(aws.elbv2()._request_signer._credentials.access_key)  # type: ignore[attr-defined]  what it signs with


def host() -> Aws:
    """As the daemon builds it."""
    return Aws(InstanceMetadata(os.environ), os.environ)


def refused(aws: Aws) -> AgentError:
    with pytest.raises(AgentError) as caught:
        Service("elasticloadbalancing", Limit()).call("DescribeTargetHealth", aws.elbv2)
    return caught.value


def test_credentials_come_from_the_instance_profile_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with instance_profile(monkeypatch) as service:
        assert key(host()) == "ASIAMADEUP"
    assert service.with_token
    assert service.without_token == []


def test_the_sdk_never_falls_back_to_version_1_of_the_metadata_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with instance_profile(monkeypatch) as service:
        service.tokens_work = False
        assert refused(host()).transient
    assert (service.with_token, service.without_token) == ([], [])


def test_a_role_that_is_attached_late_is_taken_up_without_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    with instance_profile(monkeypatch) as service:
        aws = host()
        service.role_attached = False
        error = refused(aws)
        assert (error.kind, error.transient) == (Kind.AWS_DENIED, True)
        service.role_attached = True
        assert key(aws) == "ASIAMADEUP"


@contextmanager
def http_server(answer: object = None) -> Iterator[tuple[str, list[tuple[str, dict[str, str], str]]]]:
    """A server that answers 200 with this document to everything; what it saw: request line, headers, body."""
    seen: list[tuple[str, dict[str, str], str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            seen.append((self.requestline, {name.lower(): value for name, value in self.headers.items()}, body))
            text = answer if isinstance(answer, str) else json.dumps(answer)
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_PUT = do_POST = do_GET  # noqa: N815  the base class calls them so

        def log_message(self, format: str, *words: object) -> None:  # noqa: A002  the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_proxy_sees_nothing_of_the_metadata_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server("token-of-the-proxy") as (proxy, seen), instance_profile(monkeypatch):
        use_proxy(monkeypatch, proxy)
        assert key(host()) == "ASIAMADEUP"
    assert seen == []


@pytest.mark.parametrize("region", ["region = eu-west-1\n", ""])  # without one: the host's own
def test_nor_with_a_profile_that_takes_the_instances_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, region: str
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[default]\n{region}role_arn = arn:aws:iam::123456789012:role/other\ncredential_source = Ec2InstanceMetadata\n"
    )
    with http_server("what STS says") as (proxy, seen), instance_profile(monkeypatch) as service:
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.example")
        use_proxy(monkeypatch, proxy)
        with pytest.raises(AgentError) as caught:  # the SDK does not ask STS before it signs a call
            Elbv2(host().elbv2).health(arn("web"))
    assert caught.value.transient
    assert "/latest/meta-data/iam/security-credentials/web" in service.with_token
    assert {line for line, _, _ in seen} == {"POST http://sts.example/ HTTP/1.1"}
    assert not any("x-aws-ec2-metadata-token" in headers for _, headers, _ in seen)


def test_no_default_of_the_sdk_that_is_found_out_takes_the_token_to_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server("token-of-the-proxy") as (proxy, seen), instance_profile(monkeypatch):
        monkeypatch.setenv("AWS_DEFAULTS_MODE", "auto")
        use_proxy(monkeypatch, proxy)
        host().elbv2()
    assert seen == []


def test_calls_to_aws_go_through_the_proxy_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server("who knows") as (proxy, seen):
        use_proxy(monkeypatch, proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elb.example")
        with pytest.raises(AgentError):
            Elbv2(Aws(FakeMetadata(), {}).elbv2).health(arn("web"))
    assert {line for line, _, _ in seen} == {"POST http://elb.example/ HTTP/1.1"}


def test_every_other_source_of_credentials_comes_before_the_instance_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = tmp_path / "credentials"
    shared.write_text("[default]\naws_access_key_id = AKIASHARED\naws_secret_access_key = made-up\n")
    granted = {
        "AccessKeyId": "ASIACONTAINER",
        "SecretAccessKey": "made-up",
        "Token": "made-up",
        "Expiration": "2099-01-01T00:00:00Z",
    }
    with http_server(granted) as (container, _), instance_profile(monkeypatch) as service:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", container)
        assert key(host()) == "ASIACONTAINER"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
        assert key(host()) == "AKIASHARED"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
        assert key(host()) == "AKIAENVIRONMENT"
    assert not any("/iam/" in path for path in service.with_token)


@pytest.mark.parametrize("page", ["<html>Please log in</html>", "no markup at all", "", "<a><b/></a>"])
def test_an_answer_that_is_not_of_aws_is_waited_out(monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    with http_server(page) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(AgentError) as caught:
            Elbv2(Aws(FakeMetadata(), {}).elbv2).health(arn("web"))
    assert (caught.value.kind, caught.value.transient) == (Kind.AWS_UNAVAILABLE, True)
    assert "what answered is not AWS" in caught.value.message


ENTRY = Target(arn("web"), "i-me", 8080)
ANSWER = """<{0}Response xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><{0}Result>
<TargetHealthDescriptions/></{0}Result></{0}Response>"""


def actions(seen: list[tuple[str, dict[str, str], str]]) -> list[str]:
    return [parse_qs(body)["Action"][0] for _, _, body in seen]


@contextmanager
def dead_name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Names are not resolved until the event is set."""
    answers = threading.Event()
    look_up = socket.getaddrinfo

    def getaddrinfo(*words: object, **options: object) -> object:
        answers.wait()
        return look_up(*words, **options)  # type: ignore[arg-type]  as it came

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield answers
    finally:
        answers.set()


def ready(limit: Limit) -> Elbv2:
    """The adapter over a client that is already built: loading the SDK takes seconds on a busy machine."""
    clients = Aws(FakeMetadata(), {})
    clients.elbv2()
    return Elbv2(clients.elbv2, limit)


def test_a_name_server_that_never_answers_holds_no_call_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9")
    with dead_name_server(monkeypatch):
        elb = ready(Limit(2.0))
        began = time.monotonic()
        with pytest.raises(AgentError) as caught:
            elb.health(arn("web"))
        assert time.monotonic() - began < 10
    assert (caught.value.kind, caught.value.transient) == (Kind.AWS_UNAVAILABLE, True)
    assert caught.value.message == "cannot call DescribeTargetHealth: no answer within 2 s"


def test_a_change_that_was_given_up_is_never_sent_after_a_later_look(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server(ANSWER.format("DescribeTargetHealth")) as (url, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url.replace("127.0.0.1", "localhost"))
        elb = ready(Limit(2.0))
        with dead_name_server(monkeypatch) as answers:
            with pytest.raises(AgentError, match="no answer within"):
                elb.register(group(), [ENTRY])
            with pytest.raises(AgentError, match="an earlier call, which was given up, has not ended yet"):
                elb.health(arn("web"))
            assert seen == []
            answers.set()
            assert elb.health(arn("web")) == ()
    assert actions(seen) == ["RegisterTargets", "DescribeTargetHealth"]


def test_the_sdk_does_not_try_again_what_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        taking = threading.Thread(target=lambda: accepted.append(silent.accept()[0]), daemon=True)
        taking.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        elb = ready(Limit(2.0))
        with pytest.raises(AgentError, match="no answer within"):
            elb.register(group(), [ENTRY])
        taking.join(10.0)
        accepted[0].close()  # the SDK takes that for a network fault, and would try again
        with pytest.raises(AgentError):
            elb.health(arn("web"))
        silent.settimeout(2.0)
        again, _ = silent.accept()
        with again:
            again.settimeout(2.0)
            assert b"Action=DescribeTargetHealth" in request_of(again)


def request_of(connection: socket.socket) -> bytes:
    """The whole request, its body included."""
    data = b""
    while b"Action=" not in data:
        data += connection.recv(65536)
    return data
