"""Elastic Load Balancing v2 through boto3.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from zdd_agent.adapters import group_attributes
from zdd_agent.adapters.aws import Service
from zdd_agent.adapters.limit import Limit
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import BalancerKind, HealthCheck, State, Target, TargetGroup, TargetHealth

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

# What no account has: the call gets as far as AWS's check of the target, which comes after its check of permissions.
_NO_INSTANCE = "i-00000000000000000"
# For documentation only, in no VPC: RFC 5737, RFC 3849.
_NO_ADDRESS = {"ipv4": "192.0.2.1", "ipv6": "2001:db8::1"}
_BY_ARN = {"app": BalancerKind.APPLICATION, "net": BalancerKind.NETWORK, "gwy": BalancerKind.GATEWAY}
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_AdministrativeOverride.html
_SHIFTED = ("zonal_shift_active", "zonal_shift_delegated_to_dns")
# AWS takes at most this many names in one DescribeTargetGroups.
_NAMES_A_CALL = 20


class Elbv2:
    """The calls that the agent makes, and no others."""

    def __init__(self, client: Callable[[], ElasticLoadBalancingv2Client], limit: Limit | None = None) -> None:
        self._client = client
        self._service = Service("elasticloadbalancing", limit or Limit())
        self._skew: float | None = None

    def named_groups(self, names: Sequence[str]) -> tuple[tuple[TargetGroup, ...], tuple[str, ...]]:
        """The groups of these names or ARNs, in any VPC, without their attributes; and the names that no group has."""
        return self._service.call("DescribeTargetGroups", lambda: self._named(names))

    def groups_in_vpc(self, vpc_id: str) -> tuple[TargetGroup, ...]:
        """All groups of the VPC, without their attributes (see `with_attributes`)."""
        groups = self._service.call("DescribeTargetGroups", self._groups)
        return tuple(group for group in groups if group.vpc_id == vpc_id)

    def with_attributes(self, group: TargetGroup) -> TargetGroup:
        """The same group with its attributes filled in, such as the deregistration delay."""

        def ask() -> TargetGroup:
            answer = self._client().describe_target_group_attributes(TargetGroupArn=group.arn)
            values = {item["Key"]: item["Value"] for item in answer["Attributes"]}
            cross_zone = group_attributes.cross_zone(values)
            if cross_zone is None:
                cross_zone = self._balancers_cross_zones(group)
            return group_attributes.filled_in(group, values, cross_zone=cross_zone)

        return self._service.call("DescribeTargetGroupAttributes", ask)

    def health(self, group: str) -> tuple[TargetHealth, ...]:
        """Every target of the group. Do not filter: a filtered answer merges ports."""

        def ask() -> tuple[TargetHealth, ...]:
            answer = self._client().describe_target_health(TargetGroupArn=group)
            self._skew = _skew(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""), time.time())
            return tuple(_health(group, item) for item in answer["TargetHealthDescriptions"])

        return self._service.call("DescribeTargetHealth", ask)

    def register(self, group: TargetGroup, targets: Sequence[Target]) -> None:
        """Register these targets, each with Id and Port. Safe to repeat."""
        self._register(group, [_register_entry(group, t) for t in targets])

    def deregister(self, group: TargetGroup, targets: Sequence[Target]) -> None:
        """Deregister these targets, each with Id and Port. Safe to repeat.

        Without the port the call answers 200 and does nothing for a target that was registered on another one.
        A group that does not exist any more holds nobody: that counts as done.
        """

        def ask() -> None:
            self._client().deregister_targets(
                TargetGroupArn=group.arn, Targets=[{"Id": t.id, "Port": t.port} for t in targets]
            )

        try:
            self._service.call("DeregisterTargets", ask, changes=True)
        except AgentError as error:
            if error.kind is not Kind.TARGET_GROUP_NOT_FOUND:
                raise

    def may_change(self, group: TargetGroup, unregistered: Target) -> None:
        """Find out whether this host may register and deregister, changing nothing.

        AWS looks at permissions first. After that, deregistering what is not registered succeeds and does nothing,
        and registering what cannot be a target is refused: so these two calls ask without changing anything.

        Args:
            group: the group to ask about.
            unregistered: a target that the group does not have.

        Raises:
            AgentError: AWS_DENIED with the missing action; or that AWS cannot be asked.
        """
        nobody = _NO_INSTANCE if group.target_type == "instance" else _NO_ADDRESS[group.ip_address_type]
        try:
            self._register(group, [{"Id": nobody, "Port": group.port}])
        except AgentError as error:
            if error.kind is not Kind.FAILED:  # InvalidTarget and its like: the permission is there
                raise
        self.deregister(group, [unregistered])

    def clock_skew(self) -> float | None:
        """Seconds by which this host's clock was ahead of AWS's at the last answer; None before the first."""
        return self._skew

    def _register(self, group: TargetGroup, entries: list[Any]) -> None:
        def ask() -> None:
            self._client().register_targets(TargetGroupArn=group.arn, Targets=entries)

        self._service.call("RegisterTargets", ask, changes=True)

    def _balancers_cross_zones(self, group: TargetGroup) -> bool:
        if group.kind is BalancerKind.APPLICATION:  # always on for the balancer; only a group can turn it off
            return True
        with self._service.mapped("DescribeLoadBalancerAttributes"):
            for arn in group.balancers:
                answer = self._client().describe_load_balancer_attributes(LoadBalancerArn=arn)
                if not group_attributes.cross_zone({item["Key"]: item["Value"] for item in answer["Attributes"]}):
                    return False
        return True

    def _named(self, names: Sequence[str]) -> tuple[tuple[TargetGroup, ...], tuple[str, ...]]:
        arns = [name for name in names if name.startswith("arn:")]
        plain = [name for name in names if not name.startswith("arn:")]
        groups: dict[str, TargetGroup] = {}
        missing: list[str] = []
        for key, words in (("TargetGroupArns", arns), ("Names", plain)):
            for start in range(0, len(words), _NAMES_A_CALL):
                found, absent = self._some(key, words[start : start + _NAMES_A_CALL])
                groups |= {group.arn: group for group in found}
                missing += absent
        return tuple(groups.values()), tuple(missing)

    def _some(self, key: str, words: list[str]) -> tuple[list[TargetGroup], list[str]]:
        """AWS refuses the whole call if one group does not exist; then ask for each group alone."""
        try:
            return self._groups(refuse_others=True, **{key: words}), []
        except AgentError as error:
            if error.kind is not Kind.TARGET_GROUP_NOT_FOUND:
                raise
        if len(words) == 1:
            return [], words
        answers = [self._some(key, [word]) for word in words]
        return [group for found, _ in answers for group in found], [word for _, absent in answers for word in absent]

    def _groups(self, *, refuse_others: bool = False, **wanted: Any) -> list[TargetGroup]:
        with self._service.mapped("DescribeTargetGroups"):
            pages = self._client().get_paginator("describe_target_groups").paginate(**wanted)
            items = [item for page in pages for item in page["TargetGroups"]]
            others = [item for item in items if item.get("TargetType") not in ("instance", "ip")]
            groups = [_group(item) for item in items if item not in others]
        if others and refuse_others:
            name, kind = others[0]["TargetGroupName"], others[0].get("TargetType")
            raise AgentError(
                Kind.CONFIGURATION,
                f"cannot use target group {name}: its targets are of type {kind}, not instance or ip",
                hint="take it out of `target_groups`",
                value="target_groups",
            )
        return groups


def _skew(date: str, now: float) -> float | None:
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def _group(item: Any) -> TargetGroup:
    matcher = item.get("Matcher", {})
    return TargetGroup(
        arn=item["TargetGroupArn"],
        name=item["TargetGroupName"],
        kind=_kind(item),
        target_type=item["TargetType"],
        protocol=item.get("Protocol", ""),
        port=item.get("Port", 0),
        vpc_id=item.get("VpcId", ""),
        deregistration_delay=group_attributes.DEFAULT_DELAY_SECONDS,
        health_check=HealthCheck(
            protocol=item.get("HealthCheckProtocol", ""),
            port=str(item.get("HealthCheckPort", "traffic-port")),
            path=item.get("HealthCheckPath", ""),
            interval=float(item.get("HealthCheckIntervalSeconds", 30)),
            timeout=float(item.get("HealthCheckTimeoutSeconds", 10)),
            healthy_threshold=int(item.get("HealthyThresholdCount", 5)),
            matcher=matcher.get("HttpCode") or matcher.get("GrpcCode") or "",
        ),
        version=item.get("ProtocolVersion", "HTTP1"),
        balancers=tuple(item.get("LoadBalancerArns", ())),
        ip_address_type=item.get("IpAddressType", "ipv4"),
    )


def _kind(item: Any) -> BalancerKind:
    for arn in item.get("LoadBalancerArns", ()):
        # arn:aws:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/app/NAME/ID
        return _BY_ARN.get(arn.split("/")[1], BalancerKind.APPLICATION)
    protocol = item.get("Protocol", "")
    if protocol == "GENEVE":
        return BalancerKind.GATEWAY
    return BalancerKind.APPLICATION if protocol in ("HTTP", "HTTPS") else BalancerKind.NETWORK


def _health(group: str, item: Any) -> TargetHealth:
    target = item["Target"]
    health = item["TargetHealth"]
    return TargetHealth(
        Target(group, target["Id"], target["Port"], target.get("AvailabilityZone"), target.get("QuicServerId")),
        _state(health["State"]),
        health.get("Reason", ""),
        health.get("Description", ""),
        item.get("AdministrativeOverride", {}).get("State") in _SHIFTED,
    )


def _state(said: str) -> State:
    try:
        return State(said)
    except ValueError:  # newer than this agent: proves neither that a target is out nor that it is in
        return State.UNAVAILABLE


def _register_entry(group: TargetGroup, target: Target) -> Any:
    entry: dict[str, object] = {"Id": target.id, "Port": target.port}
    if target.quic_server_id is not None:
        entry["QuicServerId"] = target.quic_server_id
    if group.target_type == "ip" and target.zone is not None:
        # For addresses only: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html
        entry["AvailabilityZone"] = target.zone
    return entry
