"""The calls to Elastic Load Balancing, and how its answers are read."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from fakes import arn, group
from zdd_agent.adapters.elbv2 import Elbv2
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import BalancerKind, GroupMinimum, State, Target

WEB = arn("web")


class Stubbed:
    """The adapter over the SDK's own client, which checks each call against the API's model."""

    def __init__(self) -> None:
        client = boto3.client(
            "elbv2", region_name="eu-west-1", aws_access_key_id="AKIA", aws_secret_access_key="made-up"
        )
        self.stub = Stubber(client)
        self.aws = Elbv2(lambda: client)

    def expect(self, method: str, asked: dict[str, Any], answer: dict[str, Any]) -> None:
        self.stub.add_response(method, {"ResponseMetadata": {"HTTPHeaders": {}}, **answer}, asked)


@pytest.fixture
def elb() -> Iterator[Stubbed]:
    stubbed = Stubbed()
    with stubbed.stub:
        yield stubbed
    stubbed.stub.assert_no_pending_responses()


def entry(name: str = "web", **changed: Any) -> dict[str, Any]:
    plain = {
        "TargetGroupArn": arn(name),
        "TargetGroupName": name,
        "Protocol": "HTTP",
        "Port": 8080,
        "VpcId": "vpc-1",
        "HealthCheckProtocol": "HTTP",
        "HealthCheckPort": "traffic-port",
        "HealthCheckPath": "/healthz",
        "HealthCheckIntervalSeconds": 10,
        "HealthCheckTimeoutSeconds": 5,
        "HealthyThresholdCount": 2,
        "Matcher": {"HttpCode": "200-299"},
        "TargetType": "instance",
        "LoadBalancerArns": [],
    }
    return {**plain, **changed}


def balancer(kind: str) -> list[str]:
    return [f"arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/{kind}/lb/0123"]


def test_a_group_is_read_with_its_health_check(elb: Stubbed) -> None:
    elb.expect("describe_target_groups", {"Names": ["web"]}, {"TargetGroups": [entry()]})
    ((found,), missing) = elb.aws.named_groups(["web"])
    assert missing == ()
    assert (found.arn, found.name, found.port, found.vpc_id) == (WEB, "web", 8080, "vpc-1")
    check = found.health_check
    assert (check.protocol, check.port, check.path, check.matcher) == ("HTTP", "traffic-port", "/healthz", "200-299")
    assert (check.interval, check.timeout, check.healthy_threshold) == (10, 5, 2)


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"LoadBalancerArns": balancer("app")}, BalancerKind.APPLICATION),
        ({"LoadBalancerArns": balancer("net"), "Protocol": "TCP"}, BalancerKind.NETWORK),
        ({"LoadBalancerArns": balancer("gwy"), "Protocol": "GENEVE"}, BalancerKind.GATEWAY),
        ({"Protocol": "HTTPS"}, BalancerKind.APPLICATION),
        ({"Protocol": "TLS"}, BalancerKind.NETWORK),
        ({"Protocol": "TCP_UDP"}, BalancerKind.NETWORK),
        ({"Protocol": "GENEVE"}, BalancerKind.GATEWAY),
    ],
)
def test_the_kind_of_balancer_comes_from_its_arn_or_else_from_the_protocol(
    elb: Stubbed, changed: dict[str, Any], kind: BalancerKind
) -> None:
    elb.expect("describe_target_groups", {"Names": ["web"]}, {"TargetGroups": [entry(**changed)]})
    assert elb.aws.named_groups(["web"])[0][0].kind is kind


def test_names_and_arns_are_asked_for_apart_and_a_group_named_twice_comes_once(elb: Stubbed) -> None:
    elb.expect("describe_target_groups", {"TargetGroupArns": [WEB]}, {"TargetGroups": [entry()]})
    elb.expect("describe_target_groups", {"Names": ["web", "api"]}, {"TargetGroups": [entry(), entry("api")]})
    assert [g.name for g in elb.aws.named_groups(["web", WEB, "api"])[0]] == ["web", "api"]


def test_more_than_twenty_names_are_asked_for_in_several_calls(elb: Stubbed) -> None:
    names = [f"web-{n:02}" for n in range(45)]
    for part in (names[:20], names[20:40], names[40:]):
        elb.expect("describe_target_groups", {"Names": part}, {"TargetGroups": [entry(name) for name in part]})
    assert [g.name for g in elb.aws.named_groups(names)[0]] == names


def test_the_groups_of_a_vpc_are_found_over_every_page_and_those_of_others_left_out(elb: Stubbed) -> None:
    first = [entry("web"), entry("other", VpcId="vpc-2")]
    elb.expect("describe_target_groups", {}, {"TargetGroups": first, "NextMarker": "more"})
    elb.expect("describe_target_groups", {"Marker": "more"}, {"TargetGroups": [entry("api", TargetType="ip")]})
    assert [g.name for g in elb.aws.groups_in_vpc("vpc-1")] == ["web", "api"]


def test_groups_that_no_host_can_be_in_are_left_out(elb: Stubbed) -> None:
    function = {k: v for k, v in entry("fn", TargetType="lambda").items() if k not in ("Protocol", "Port", "VpcId")}
    elb.expect("describe_target_groups", {}, {"TargetGroups": [function, entry("nested", TargetType="alb"), entry()]})
    assert [g.name for g in elb.aws.groups_in_vpc("vpc-1")] == ["web"]


@pytest.mark.parametrize(("attributes", "delay"), [(["120"], 120.0), (["0"], 0.0), ([], 300.0)])
def test_the_deregistration_delay_is_the_groups_own_or_the_default_of_aws(
    elb: Stubbed, attributes: list[str], delay: float
) -> None:
    listed = [{"Key": "stickiness.enabled", "Value": "false"}]
    listed += [{"Key": "deregistration_delay.timeout_seconds", "Value": value} for value in attributes]
    elb.expect("describe_target_group_attributes", {"TargetGroupArn": WEB}, {"Attributes": listed})
    assert elb.aws.with_attributes(group()).deregistration_delay == delay


@pytest.mark.parametrize(("own", "crosses"), [("true", True), ("false", False)])
def test_cross_zone_is_the_groups_own_setting_where_it_has_one(elb: Stubbed, own: str, crosses: bool) -> None:
    listed = [{"Key": "load_balancing.cross_zone.enabled", "Value": own}]
    elb.expect("describe_target_group_attributes", {"TargetGroupArn": WEB}, {"Attributes": listed})
    found = elb.aws.with_attributes(group(kind=BalancerKind.NETWORK, balancers=tuple(balancer("net"))))
    assert found.cross_zone is crosses


@pytest.mark.parametrize(("balancers", "crosses"), [("true", True), ("false", False)])
def test_cross_zone_of_a_network_balancer_is_asked_of_the_balancer(elb: Stubbed, balancers: str, crosses: bool) -> None:
    listed = [{"Key": "load_balancing.cross_zone.enabled", "Value": "use_load_balancer_configuration"}]
    elb.expect("describe_target_group_attributes", {"TargetGroupArn": WEB}, {"Attributes": listed})
    listed = [{"Key": "load_balancing.cross_zone.enabled", "Value": balancers}]
    elb.expect("describe_load_balancer_attributes", {"LoadBalancerArn": balancer("net")[0]}, {"Attributes": listed})
    found = elb.aws.with_attributes(group(kind=BalancerKind.NETWORK, balancers=tuple(balancer("net"))))
    assert found.cross_zone is crosses


def test_an_application_balancer_crosses_zones_unless_the_group_says_otherwise(elb: Stubbed) -> None:
    elb.expect("describe_target_group_attributes", {"TargetGroupArn": WEB}, {"Attributes": []})
    assert elb.aws.with_attributes(group(balancers=tuple(balancer("app")))).cross_zone is True


def test_health_is_asked_without_a_filter_and_each_port_is_told_apart(elb: Stubbed) -> None:
    def described(port: int, state: str, **more: str) -> dict[str, Any]:
        target = {"Id": "i-me", "Port": port, "AvailabilityZone": "eu-west-1a"}
        return {"Target": target, "HealthCheckPort": "80", "TargetHealth": {"State": state, **more}}

    answer = [
        described(8080, "healthy"),
        described(8081, "draining", Reason="Target.DeregistrationInProgress", Description="in progress"),
        described(8082, "unhealthy.draining"),
    ]
    elb.expect("describe_target_health", {"TargetGroupArn": WEB}, {"TargetHealthDescriptions": answer})
    found = elb.aws.health(WEB)
    assert [(h.target, h.state) for h in found] == [
        (Target(WEB, "i-me", 8080, "eu-west-1a"), State.HEALTHY),
        (Target(WEB, "i-me", 8081, "eu-west-1a"), State.DRAINING),
        (Target(WEB, "i-me", 8082, "eu-west-1a"), State.UNHEALTHY_DRAINING),
    ]
    assert (found[0].reason, found[1].reason) == ("", "Target.DeregistrationInProgress")
    assert found[1].description == "in progress"


def test_a_state_that_aws_invents_later_proves_nothing(elb: Stubbed) -> None:
    described = {"Target": {"Id": "i-me", "Port": 80}, "TargetHealth": {"State": "hibernating", "Reason": "New"}}
    elb.expect("describe_target_health", {"TargetGroupArn": WEB}, {"TargetHealthDescriptions": [described]})
    (found,) = elb.aws.health(WEB)
    assert (found.state, found.reason) == (State.UNAVAILABLE, "New")


def test_register_names_id_and_port_of_every_target(elb: Stubbed) -> None:
    targets = [{"Id": "i-me", "Port": 8080}, {"Id": "i-me", "Port": 8081}]
    elb.expect("register_targets", {"TargetGroupArn": WEB, "Targets": targets}, {})
    elb.aws.register(group(), [Target(WEB, "i-me", 8080, "eu-west-1a"), Target(WEB, "i-me", 8081)])


def test_register_gives_the_zone_back_to_addresses_only(elb: Stubbed) -> None:
    targets = [{"Id": "10.0.0.1", "Port": 80, "AvailabilityZone": "all"}, {"Id": "10.0.0.2", "Port": 80}]
    elb.expect("register_targets", {"TargetGroupArn": WEB, "Targets": targets}, {})
    elb.aws.register(group(target_type="ip"), [Target(WEB, "10.0.0.1", 80, "all"), Target(WEB, "10.0.0.2", 80)])


def test_the_quic_server_id_comes_back_with_the_registration(elb: Stubbed) -> None:
    target = {"Id": "i-me", "Port": 443, "QuicServerId": "0xa1b2c3d4e5f65890"}
    described = {"Target": target, "TargetHealth": {"State": "healthy"}}
    elb.expect("describe_target_health", {"TargetGroupArn": WEB}, {"TargetHealthDescriptions": [described]})
    elb.expect("register_targets", {"TargetGroupArn": WEB, "Targets": [target]}, {})
    (found,) = elb.aws.health(WEB)
    elb.aws.register(group(protocol="QUIC"), [found.target])


@pytest.mark.parametrize(
    ("override", "shifted"),
    [
        ({"AdministrativeOverride": {"State": "zonal_shift_active"}}, True),
        ({"AdministrativeOverride": {"State": "zonal_shift_delegated_to_dns"}}, True),
        ({"AdministrativeOverride": {"State": "no_override"}}, False),
        ({}, False),
    ],
)
def test_a_target_under_a_zonal_shift_is_told_from_one_that_takes_work(
    elb: Stubbed, override: dict[str, Any], shifted: bool
) -> None:
    described = {"Target": {"Id": "i-me", "Port": 80}, "TargetHealth": {"State": "healthy"}, **override}
    elb.expect("describe_target_health", {"TargetGroupArn": WEB}, {"TargetHealthDescriptions": [described]})
    assert elb.aws.health(WEB)[0].shifted is shifted


@pytest.mark.parametrize(
    ("attributes", "minimum"),
    [
        ({}, GroupMinimum(1, None)),
        ({"dns_failover.minimum_healthy_targets.count": "off"}, GroupMinimum(1, None)),
        ({"dns_failover.minimum_healthy_targets.count": "3"}, GroupMinimum(3, None)),
        (
            {
                "unhealthy_state_routing.minimum_healthy_targets.count": "2",
                "unhealthy_state_routing.minimum_healthy_targets.percentage": "50",
                "dns_failover.minimum_healthy_targets.percentage": "20",
            },
            GroupMinimum(2, 50.0),
        ),
    ],
)
def test_the_groups_own_minimum_is_read_from_both_of_its_thresholds(
    elb: Stubbed, attributes: dict[str, str], minimum: GroupMinimum
) -> None:
    listed = [{"Key": f"target_group_health.{name}", "Value": value} for name, value in attributes.items()]
    elb.expect("describe_target_group_attributes", {"TargetGroupArn": WEB}, {"Attributes": listed})
    assert elb.aws.with_attributes(group()).minimum == minimum


@pytest.mark.parametrize(
    ("protocol", "target_type", "own", "preserves"),
    [
        ("TCP", "instance", [], True),
        ("TCP", "ip", [], False),
        ("UDP", "ip", [], True),
        ("TCP", "instance", ["false"], False),
    ],
)
def test_whether_client_addresses_are_preserved_is_the_groups_setting_or_the_default_of_aws(
    elb: Stubbed, protocol: str, target_type: str, own: list[str], preserves: bool
) -> None:
    listed = [{"Key": "load_balancing.cross_zone.enabled", "Value": "true"}]
    listed += [{"Key": "preserve_client_ip.enabled", "Value": value} for value in own]
    elb.expect("describe_target_group_attributes", {"TargetGroupArn": WEB}, {"Attributes": listed})
    network = group(kind=BalancerKind.NETWORK, protocol=protocol, target_type=target_type)
    assert elb.aws.with_attributes(network).preserve_client_ip is preserves


def test_the_family_of_a_groups_addresses_is_read(elb: Stubbed) -> None:
    answer = {"TargetGroups": [entry(TargetType="ip", IpAddressType="ipv6")]}
    elb.expect("describe_target_groups", {"Names": ["web"]}, answer)
    assert elb.aws.named_groups(["web"])[0][0].ip_address_type == "ipv6"


def test_the_doctor_asks_a_group_of_ipv6_addresses_about_an_ipv6_address(elb: Stubbed) -> None:
    elb.expect("register_targets", {"TargetGroupArn": WEB, "Targets": [{"Id": "2001:db8::1", "Port": 8080}]}, {})
    elb.expect("deregister_targets", {"TargetGroupArn": WEB, "Targets": [{"Id": "fd00::1", "Port": 1}]}, {})
    elb.aws.may_change(group(target_type="ip", ip_address_type="ipv6"), Target(WEB, "fd00::1", 1))


def test_a_name_of_no_group_costs_the_others_nothing(elb: Stubbed) -> None:
    elb.stub.add_client_error("describe_target_groups", "TargetGroupNotFound", "gone", 400)
    elb.stub.add_client_error("describe_target_groups", "TargetGroupNotFound", "gone", 400)
    elb.expect("describe_target_groups", {"Names": ["web"]}, {"TargetGroups": [entry()]})
    found, missing = elb.aws.named_groups(["old", "web"])
    assert ([g.name for g in found], missing) == (["web"], ("old",))


@pytest.mark.parametrize("target_type", ["instance", "ip"])
def test_deregister_names_id_and_port_and_nothing_else(elb: Stubbed, target_type: str) -> None:
    elb.expect("deregister_targets", {"TargetGroupArn": WEB, "Targets": [{"Id": "i-me", "Port": 8080}]}, {})
    elb.aws.deregister(group(target_type=target_type), [Target(WEB, "i-me", 8080, "eu-west-1a")])


def test_deregistering_from_a_group_that_is_gone_is_done(elb: Stubbed) -> None:
    elb.stub.add_client_error("deregister_targets", "TargetGroupNotFound", "gone", 400)
    elb.aws.deregister(group(), [Target(WEB, "i-me", 8080)])


@pytest.mark.parametrize(
    ("call", "action"),
    [
        ("describe_target_groups", "DescribeTargetGroups"),
        ("describe_target_group_attributes", "DescribeTargetGroupAttributes"),
        ("describe_target_health", "DescribeTargetHealth"),
        ("register_targets", "RegisterTargets"),
        ("deregister_targets", "DeregisterTargets"),
    ],
)
def test_every_call_that_is_denied_names_its_action(elb: Stubbed, call: str, action: str) -> None:
    elb.stub.add_client_error(call, "AccessDenied", "no", 403)
    does: dict[str, Any] = {
        "describe_target_groups": lambda: elb.aws.groups_in_vpc("vpc-1"),
        "describe_target_group_attributes": lambda: elb.aws.with_attributes(group()),
        "describe_target_health": lambda: elb.aws.health(WEB),
        "register_targets": lambda: elb.aws.register(group(), [Target(WEB, "i-me", 80)]),
        "deregister_targets": lambda: elb.aws.deregister(group(), [Target(WEB, "i-me", 80)]),
    }
    with pytest.raises(AgentError) as caught:
        does[call]()
    assert (caught.value.kind, caught.value.value) == (Kind.AWS_DENIED, f"elasticloadbalancing:{action}")


@pytest.mark.parametrize("kind", ["lambda", "alb"])
def test_a_named_group_that_cannot_hold_a_host_is_refused_by_its_name(elb: Stubbed, kind: str) -> None:
    elb.expect("describe_target_groups", {"Names": ["web"]}, {"TargetGroups": [entry(TargetType=kind)]})
    with pytest.raises(AgentError) as caught:
        elb.aws.named_groups(["web"])
    assert caught.value.kind is Kind.CONFIGURATION
    assert f"cannot use target group web: its targets are of type {kind}" in caught.value.message
