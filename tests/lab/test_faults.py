"""Faults on request: the table, and what a real SDK client sees of each."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from zdd_lab.hosts.host import Host
from zdd_lab.model.faults import BadFaultError, Fault, FaultKind, FaultTable
from zdd_lab.threaded import ThreadedLab


def test_a_fault_strikes_only_the_action_and_the_client_that_it_names():
    table = FaultTable()
    table.add(Fault(FaultKind.THROTTLING, action="RegisterTargets", client="h1"))
    assert table.take(FaultKind.THROTTLING, action="RegisterTargets", client="h2") is None
    assert table.take(FaultKind.THROTTLING, action="DescribeTargetHealth", client="h1") is None
    assert table.take(FaultKind.ACCESS_DENIED, action="RegisterTargets", client="h1") is None
    assert table.take(FaultKind.THROTTLING, action="RegisterTargets", client="h1") is not None


def test_a_fault_strikes_as_often_as_it_was_asked_for():
    table = FaultTable()
    table.add(Fault(FaultKind.THROTTLING, count=2))
    assert [table.take(FaultKind.THROTTLING) is not None for _ in range(4)] == [True, True, False, False]


def test_a_fault_without_a_count_strikes_until_it_is_cleared():
    table = FaultTable()
    kept = table.add(Fault(FaultKind.LATENCY))
    cleared = table.add(Fault(FaultKind.THROTTLING))
    assert all(table.take(FaultKind.THROTTLING) for _ in range(9))
    table.clear(cleared.id)
    assert table.all() == (kept,)
    table.clear()
    assert table.all() == ()


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "nonsense"},
        {},
        {"kind": "latency", "more": 1},
        {"kind": "latency", "count": "2"},
        {"kind": "latency", "seconds": True},
        {"kind": "zone_down"},
        {"kind": "error"},
        {"kind": "latency", "count": 0},
        {"kind": "latency", "seconds": -1},
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_what_is_accepted(wanted: dict[str, Any]):
    with pytest.raises(BadFaultError):
        Fault.parse(wanted)


class Bench:
    """A lab, and its control API as a test would call it."""

    def __init__(self, running: ThreadedLab) -> None:
        self.running, self.lab = running, running.lab
        self.group = running.lab.front.group

    def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            reply = session.request(method, self.lab.control_url + path, json=body, timeout=20)
            reply.raise_for_status()
            return reply.json()

    def fault(self, kind: str, **rest: Any) -> None:
        self.control("POST", "/faults", {"kind": kind, **rest})

    def elb(self, host: Host | None = None, read_timeout: float = 20) -> Any:
        """A client without retries; as a host, with the keys that its metadata hands out."""
        key = host.identity.access_key if host else "AKIAZDDLABPERSON0000"
        config = Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout)
        session = boto3.session.Session(key, "made-up", region_name="us-east-1")
        return session.client("elbv2", endpoint_url=self.lab.endpoint_url, config=config)

    def target(self, number: int) -> dict[str, Any]:
        return {"Id": self.lab.hosts[number].identity.instance_id, "Port": 8080}

    def state_of(self, number: int) -> str:
        wanted = self.lab.hosts[number].identity.instance_id
        return next(one["state"] for one in self.lab.state()["targets"] if one["id"] == wanted)

    def refusal(self, call: Callable[[], object]) -> tuple[str, int, str]:
        with pytest.raises(ClientError) as caught:
            call()
        told: Any = caught.value.response
        return told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Message"]


@pytest.fixture
def bench(running: ThreadedLab) -> Iterator[Bench]:
    bench = Bench(running)
    yield bench
    bench.control("DELETE", "/faults")
    group, targets = bench.group, [bench.target(0), bench.target(1)]
    bench.elb().register_targets(TargetGroupArn=group, Targets=targets)
    running.run(running.lab.wait_until_healthy())


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("throttling", "Throttling", 400),
        ("expired_token", "ExpiredToken", 403),
        ("service_unavailable", "ServiceUnavailable", 503),
        ("internal_failure", "InternalFailure", 500),
        ("access_denied", "AccessDenied", 403),
    ],
)
def test_a_refusal_has_the_code_and_the_status_of_aws(bench: Bench, kind: str, code: str, status: int):
    bench.fault(kind, count=1)
    client = bench.elb()
    assert bench.refusal(client.describe_target_groups)[:2] == (code, status)
    assert client.describe_target_groups()["TargetGroups"]


def test_access_denied_names_the_caller_the_action_and_the_resource(bench: Bench):
    host = bench.lab.hosts[0]
    bench.fault("access_denied", action="DeregisterTargets", client="h1")
    call = {"TargetGroupArn": bench.group, "Targets": [bench.target(0)]}
    code, _, message = bench.refusal(lambda: bench.elb(host).deregister_targets(**call))
    assert code == "AccessDenied"
    assert message.startswith(
        f"User: arn:aws:sts::123456789012:assumed-role/zdd-host/{host.identity.instance_id} is not authorized to "
        f"perform: elasticloadbalancing:DeregisterTargets on resource: {bench.group}"
    )
    assert bench.state_of(0) == "healthy"


def test_a_denied_describe_call_names_every_resource_because_it_cannot_be_scoped(bench: Bench):
    bench.fault("access_denied", action="DescribeTargetHealth")
    message = bench.refusal(lambda: bench.elb().describe_target_health(TargetGroupArn=bench.group))[2]
    assert " on resource: * because " in message


@pytest.mark.parametrize(
    ("code", "status"),
    [("HealthUnavailable", 500), ("TooManyTargets", 400), ("TooManyRegistrationsForTargetId", 400)],
)
def test_any_error_of_aws_can_be_asked_for_by_its_code(bench: Bench, code: str, status: int):
    bench.fault("error", code=code, count=1)
    assert bench.refusal(bench.elb().describe_target_groups)[:2] == (code, status)


def test_a_fault_of_one_host_spares_the_others(bench: Bench):
    bench.fault("throttling", client="h1")
    assert bench.refusal(bench.elb(bench.lab.hosts[0]).describe_target_groups)[0] == "Throttling"
    assert bench.elb(bench.lab.hosts[1]).describe_target_groups()["TargetGroups"]


def test_other_services_spell_the_same_refusal_their_own_way(bench: Bench):
    bench.fault("access_denied", action="DescribeInstances")
    bench.fault("access_denied", action="ListTables")
    config = Config(retries={"total_max_attempts": 1})
    session = boto3.session.Session("AKIAZDDLABPERSON0000", "made-up", region_name="us-east-1")
    ec2 = session.client("ec2", endpoint_url=bench.lab.endpoint_url, config=config)
    dynamodb = session.client("dynamodb", endpoint_url=bench.lab.endpoint_url, config=config)
    assert bench.refusal(ec2.describe_instances)[:2] == ("UnauthorizedOperation", 403)
    assert bench.refusal(dynamodb.list_tables)[:2] == ("AccessDeniedException", 400)


def test_latency_makes_the_answer_late(bench: Bench):
    bench.fault("latency", seconds=0.7, count=1)
    began = time.monotonic()
    assert bench.elb().describe_target_groups()["TargetGroups"]
    assert time.monotonic() - began >= 0.7


def test_a_time_out_after_the_effect_changes_the_targets_and_answers_nothing(bench: Bench):
    bench.fault("timeout_after_effect", action="DeregisterTargets", count=1)
    with pytest.raises(ReadTimeoutError):
        bench.elb(read_timeout=0.5).deregister_targets(TargetGroupArn=bench.group, Targets=[bench.target(0)])
    assert bench.state_of(0) == "draining"


def test_a_time_out_before_the_effect_changes_nothing_and_answers_nothing(bench: Bench):
    bench.fault("timeout_before_effect", action="DeregisterTargets", count=1)
    with pytest.raises(ReadTimeoutError):
        bench.elb(read_timeout=0.5).deregister_targets(TargetGroupArn=bench.group, Targets=[bench.target(0)])
    assert bench.state_of(0) == "healthy"


def test_a_zone_that_is_down_refuses_connections_and_the_other_one_serves(bench: Bench):
    url_a, url_b = bench.lab.urls
    bench.control("POST", "/zones/a", {"down": True})
    with pytest.raises(requests.ConnectionError):
        requests.get(url_a, timeout=5)
    assert requests.get(url_b, timeout=5).status_code == 200
    bench.control("POST", "/zones/a", {"down": False})
    assert requests.get(url_a, timeout=5).status_code == 200


def test_a_host_whose_metadata_is_down_is_told_by_the_control_api(bench: Bench):
    url = f"{bench.lab.hosts[0].imds_url}/latest/api/token"
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    bench.control("POST", "/hosts/1/imds", {"down": True})
    with pytest.raises(requests.ConnectionError):
        requests.put(url, headers=headers, timeout=5)
    bench.control("POST", "/hosts/1/imds", {"down": False})
    assert requests.put(url, headers=headers, timeout=5).status_code == 200


def test_calls_are_counted_by_client_and_action(bench: Bench):
    before = bench.control("GET", "/state")["calls"].get("h2", {}).get("DescribeTargetHealth", 0)
    client = bench.elb(bench.lab.hosts[1])
    for _ in range(3):
        client.describe_target_health(TargetGroupArn=bench.group)
    assert bench.control("GET", "/state")["calls"]["h2"]["DescribeTargetHealth"] == before + 3


def test_an_app_is_restarted_as_another_version(bench: Bench):
    bench.control("POST", "/hosts/h2/app", {"version": "v2"})
    url = bench.lab.hosts[1].state()["app"]["url"]
    assert requests.get(url, timeout=5).json() == {"host": "h2", "version": "v2"}


@pytest.mark.parametrize("path", ["/hosts/99/app", "/zones/z", "/nowhere"])
def test_what_the_control_api_does_not_know_is_404(bench: Bench, path: str):
    assert requests.post(bench.lab.control_url + path, json={}, timeout=5).status_code == 404
