"""Who this host is: asked with a token or not at all."""

from collections.abc import Iterator
from math import inf

import pytest
import requests
import responses

from zdd_agent.adapters.imds import ADDRESS_SECONDS, PAUSES_SECONDS, InstanceMetadata, endpoint
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import Notice, NoticeKind

HOST = "http://127.0.0.1:1338"
TOKEN = f"{HOST}/latest/api/token"
MAC = "0e:00:00:00:00:01"


def url(path: str) -> str:
    return f"{HOST}/latest/meta-data/{path}"


class Time:
    """Passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def metadata(time: Time) -> InstanceMetadata:
    return InstanceMetadata(
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{HOST}/"}, monotonic=time.monotonic, pause=time.pauses.append
    )


def asked(web: responses.RequestsMock) -> list[str]:
    """Method, path, and the token that went with it."""
    token = "X-aws-ec2-metadata-token"
    return [
        " ".join(filter(None, (c.request.method, str(c.request.path_url), c.request.headers.get(token))))
        for c in web.calls
    ]


def test_a_token_is_fetched_first_and_goes_with_every_request(
    web: responses.RequestsMock, metadata: InstanceMetadata
) -> None:
    web.put(TOKEN, "t1")
    web.get(url("instance-id"), "i-me")
    assert [metadata.get("instance-id"), metadata.get("instance-id")] == ["i-me", "i-me"]
    assert asked(web) == ["PUT /latest/api/token", *["GET /latest/meta-data/instance-id t1"] * 2]
    assert web.calls[0].request.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "3600"


def test_without_a_token_nothing_is_asked(web: responses.RequestsMock, metadata: InstanceMetadata) -> None:
    web.put(TOKEN, status=403)
    web.get(url("instance-id"), "i-me")
    with pytest.raises(AgentError) as caught:
        metadata.get("instance-id")
    assert (caught.value.kind, caught.value.transient) == (Kind.METADATA_UNAVAILABLE, True)
    assert asked(web) == ["PUT /latest/api/token"]


def test_a_token_is_renewed_before_it_runs_out(
    web: responses.RequestsMock, metadata: InstanceMetadata, time: Time
) -> None:
    web.put(TOKEN, "t1")
    web.put(TOKEN, "t2")
    web.get(url("mac"), MAC)
    for time.now in (0.0, 3299.0, 3300.0, 3400.0):  # of a life of 3600 s
        metadata.get("mac")
    assert [line.split()[-1] for line in asked(web) if line.startswith("GET")] == ["t1", "t1", "t2", "t2"]


def test_a_token_that_is_refused_is_dropped_and_the_request_tried_once_more(
    web: responses.RequestsMock, metadata: InstanceMetadata
) -> None:
    web.put(TOKEN, "t1")
    web.put(TOKEN, "t2")
    web.get(url("mac"), status=401)
    web.get(url("mac"), MAC)
    assert metadata.get("mac") == MAC
    assert asked(web) == [
        "PUT /latest/api/token",
        "GET /latest/meta-data/mac t1",
        "PUT /latest/api/token",
        "GET /latest/meta-data/mac t2",
    ]


def test_a_second_refusal_is_an_error_and_not_a_loop(web: responses.RequestsMock, metadata: InstanceMetadata) -> None:
    web.put(TOKEN, "t")
    web.get(url("mac"), status=401)
    with pytest.raises(AgentError, match="401"):
        metadata.get("mac")
    assert len(web.calls) == 4


@pytest.mark.parametrize("status", [429, 500, 503])
def test_throttling_and_faults_are_backed_off_from_and_waited_out(
    status: int, web: responses.RequestsMock, metadata: InstanceMetadata, time: Time
) -> None:
    web.put(TOKEN, status=status)
    web.put(TOKEN, "t1")
    web.get(url("mac"), status=status)
    web.get(url("mac"), status=status)
    web.get(url("mac"), MAC)
    assert metadata.get("mac") == MAC
    assert time.pauses == [PAUSES_SECONDS[0], PAUSES_SECONDS[0], PAUSES_SECONDS[1]]


@pytest.mark.parametrize("silence", [requests.ConnectTimeout(), requests.ReadTimeout(), requests.ConnectionError()])
def test_silence_is_backed_off_from_and_then_told_as_something_that_may_pass(
    silence: Exception, web: responses.RequestsMock, metadata: InstanceMetadata, time: Time
) -> None:
    web.put(TOKEN, body=silence)
    with pytest.raises(AgentError) as caught:
        metadata.get("mac")
    assert (caught.value.kind, caught.value.transient) == (Kind.METADATA_UNAVAILABLE, True)
    assert "firewall" in caught.value.hint
    assert time.pauses == list(PAUSES_SECONDS)
    assert list(PAUSES_SECONDS) == sorted(PAUSES_SECONDS)


def test_where_there_is_nothing_there_is_none(web: responses.RequestsMock, metadata: InstanceMetadata) -> None:
    web.put(TOKEN, "t1")
    web.get(url("spot/instance-action"), status=404)
    assert metadata.get("spot/instance-action") is None


def test_a_redirect_is_not_followed_so_that_the_token_stays_on_the_host(
    web: responses.RequestsMock, metadata: InstanceMetadata
) -> None:
    web.put(TOKEN, "t1")
    web.get(url("mac"), status=302, headers={"Location": "http://127.0.0.2/elsewhere"})
    web.get("http://127.0.0.2/elsewhere", "stolen")
    with pytest.raises(AgentError):
        metadata.get("mac")
    assert len(web.calls) == 2


def everything(web: responses.RequestsMock) -> None:
    web.put(TOKEN, "t1")
    interface = f"network/interfaces/macs/{MAC}"
    leaves = {
        "mac": MAC,
        "instance-id": "i-me",
        "placement/region": "eu-west-1",
        "placement/availability-zone": "eu-west-1a",
        "local-ipv4": "10.0.0.1",
        "network/interfaces/macs/": f"{MAC}/",
        f"{interface}/vpc-id": "vpc-1",
        f"{interface}/local-ipv4s": "10.0.0.1\n10.0.0.2",
    }
    for path, text in leaves.items():
        web.get(url(path), text)


def test_the_identity_is_gathered_with_every_address_once_and_the_primary_first(
    web: responses.RequestsMock, metadata: InstanceMetadata
) -> None:
    everything(web)
    web.get(url(f"network/interfaces/macs/{MAC}/ipv6s"), "fd00::1\nfd00::2")
    who = metadata.identity()
    assert (who.instance_id, who.region, who.zone, who.vpc_id) == ("i-me", "eu-west-1", "eu-west-1a", "vpc-1")
    assert who.addresses == ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2")


def test_the_identity_is_asked_once(web: responses.RequestsMock, metadata: InstanceMetadata) -> None:
    everything(web)
    web.get(url(f"network/interfaces/macs/{MAC}/ipv6s"), status=404)
    first = metadata.identity()
    calls = len(web.calls)
    assert metadata.identity() == first
    assert len(web.calls) == calls


def test_addresses_that_change_are_seen_within_seconds_and_at_once_by_who_asks_for_it(
    web: responses.RequestsMock, metadata: InstanceMetadata, time: Time
) -> None:
    everything(web)
    web.get(url(f"network/interfaces/macs/{MAC}/ipv6s"), status=404)
    assert metadata.identity().addresses == ("10.0.0.1", "10.0.0.2")
    other = "0e:00:00:00:00:02"
    web.replace("GET", url("network/interfaces/macs/"), f"{other}/\n{MAC}/")
    web.get(url(f"network/interfaces/macs/{other}/local-ipv4s"), "10.0.1.9")
    web.get(url(f"network/interfaces/macs/{other}/ipv6s"), "fd00::9")
    time.now = ADDRESS_SECONDS + 1
    assert metadata.identity(inf).addresses == ("10.0.0.1", "10.0.0.2")
    assert metadata.identity().addresses == ("10.0.0.1", "10.0.0.2", "10.0.1.9", "fd00::9")


@pytest.mark.parametrize("said", ["Terminated", "InService"])
def test_where_auto_scaling_wants_this_instance_is_told(
    web: responses.RequestsMock, metadata: InstanceMetadata, said: str
) -> None:
    web.put(TOKEN, "t1")
    web.get(url("autoscaling/target-lifecycle-state"), f"{said}\n")
    assert metadata.lifecycle_state() == said


def test_an_instance_in_no_auto_scaling_group_has_no_lifecycle_state(
    web: responses.RequestsMock, metadata: InstanceMetadata
) -> None:
    web.put(TOKEN, "t1")
    web.get(url("autoscaling/target-lifecycle-state"), status=404)
    assert metadata.lifecycle_state() is None


SPOT = '{"action": "terminate", "time": "2017-09-18T08:22:00Z"}'
REBALANCE = '{"noticeTime": "2020-10-27T08:22:00Z"}'
MAINTENANCE = """[
  {"NotBefore": "21 Jan 2019 09:00:43 GMT", "Code": "system-reboot", "Description": "scheduled reboot",
   "EventId": "instance-event-0d59937288b749b32", "NotAfter": "21 Jan 2019 09:17:23 GMT", "State": "active"},
  {"NotBefore": "22 Jan 2019 09:00:43 GMT", "Code": "instance-stop", "EventId": "e-2", "State": "canceled"}
]"""


def test_each_notice_is_read_as_ec2_writes_it(web: responses.RequestsMock, metadata: InstanceMetadata) -> None:
    web.put(TOKEN, "t1")
    web.get(url("spot/instance-action"), SPOT)
    web.get(url("events/recommendations/rebalance"), REBALANCE)
    web.get(url("events/maintenance/scheduled"), MAINTENANCE)
    assert metadata.notices(tuple(NoticeKind)) == (
        Notice(NoticeKind.SPOT, "terminate", 1505722920.0),
        Notice(NoticeKind.REBALANCE, "rebalance", 1603786920.0),
        Notice(NoticeKind.MAINTENANCE, "system-reboot", 1548061243.0, "instance-event-0d59937288b749b32"),
    )


def test_only_the_kinds_that_somebody_heeds_are_asked_for(
    web: responses.RequestsMock, metadata: InstanceMetadata
) -> None:
    web.put(TOKEN, "t1")
    web.get(url("spot/instance-action"), status=404)
    assert metadata.notices((NoticeKind.SPOT,)) == ()
    assert asked(web)[-1] == "GET /latest/meta-data/spot/instance-action t1"
    assert len(web.calls) == 2


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"action": "stop"}', '{"action": "stop", "time": "soon"}']
)
def test_a_notice_that_cannot_be_read_is_none(
    web: responses.RequestsMock, metadata: InstanceMetadata, text: str
) -> None:
    web.put(TOKEN, "t1")
    web.get(url("spot/instance-action"), text)
    assert metadata.notices((NoticeKind.SPOT,)) == ()


def test_an_identity_that_could_not_be_asked_is_asked_again(
    web: responses.RequestsMock, metadata: InstanceMetadata
) -> None:
    broken = web.put(TOKEN, status=403)
    with pytest.raises(AgentError):
        metadata.identity()
    web.remove(broken)
    everything(web)
    web.get(url(f"network/interfaces/macs/{MAC}/ipv6s"), status=404)
    assert metadata.identity().instance_id == "i-me"


def test_a_part_of_the_identity_that_is_missing_is_named(
    web: responses.RequestsMock, metadata: InstanceMetadata
) -> None:
    web.put(TOKEN, "t1")
    web.get(url("mac"), status=404)
    with pytest.raises(AgentError, match="it has no mac"):
        metadata.identity()


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "http://169.254.169.254"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv4"}, "http://169.254.169.254"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv6"}, "http://[fd00:ec2::254]"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": HOST}, HOST),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{HOST}/"}, HOST),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": HOST, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv6"}, HOST),
        ({"AWS_EC2_METADATA_DISABLED": "false"}, "http://169.254.169.254"),
    ],
)
def test_the_endpoint_is_the_one_that_the_sdks_own_variables_name(environ: dict[str, str], address: str) -> None:
    assert endpoint(environ) == address


@pytest.mark.parametrize(
    "environ", [{"AWS_EC2_METADATA_DISABLED": "True"}, {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv5"}]
)
def test_a_variable_that_leaves_no_endpoint_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(AgentError) as caught:
        endpoint(environ)
    assert caught.value.kind is Kind.CONFIGURATION
    assert caught.value.value == next(iter(environ))


def test_a_proxy_never_sees_the_token(
    web: responses.RequestsMock, metadata: InstanceMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.9:3128")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.9:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    web.put(TOKEN, "t1")
    web.get(url("mac"), MAC)
    metadata.get("mac")
    kwargs = [call.request.req_kwargs for call in web.calls]  # type: ignore[union-attr]  responses adds it
    assert [dict(k["proxies"]) for k in kwargs] == [{}, {}]
    assert [k["timeout"] for k in kwargs] == [2.0, 2.0]
