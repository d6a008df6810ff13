"""The one place where SDK clients are built."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fakes import ME, FakeMetadata
from metadata import Metadata, metadata_service
from zdd_agent.adapters.aws import Aws, mapped
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity


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
    """Nothing but the metadata service has credentials."""
    with metadata_service() as service:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
        yield service


def key(aws: Aws) -> str:
    return str(aws.elbv2()._request_signer._credentials.access_key)  # type: ignore[attr-defined]  what it signs with


def test_credentials_come_from_the_instance_profile_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with instance_profile(monkeypatch) as service:
        assert key(Aws(FakeMetadata(), {})) == "ASIAMADEUP"
    assert service.with_token
    assert service.without_token == []


def test_the_sdk_never_falls_back_to_version_1_of_the_metadata_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with instance_profile(monkeypatch) as service:
        service.tokens_work = False
        with pytest.raises(AgentError) as caught, mapped("elasticloadbalancing", "DescribeTargetHealth"):
            Aws(FakeMetadata(), {}).elbv2()
    assert caught.value.transient
    assert (service.with_token, service.without_token) == ([], [])


def test_a_role_that_is_attached_late_is_taken_up_without_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws(FakeMetadata(), {})
    with instance_profile(monkeypatch) as service:
        service.role_attached = False
        with pytest.raises(AgentError) as caught, mapped("elasticloadbalancing", "DescribeTargetHealth"):
            aws.elbv2()
        assert (caught.value.kind, caught.value.transient) == (Kind.AWS_DENIED, True)
        service.role_attached = True
        assert key(aws) == "ASIAMADEUP"
