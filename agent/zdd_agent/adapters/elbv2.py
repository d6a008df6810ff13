"""Elastic Load Balancing v2 through boto3.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from zdd_agent.adapters.aws import mapped
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import BalancerKind, HealthCheck, State, Target, TargetGroup, TargetHealth

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

# Seconds; what AWS takes when the attribute is not set.
DEFAULT_DELAY_SECONDS = 300.0
# What no account has: the call gets as far as AWS's check of the target, behind its check of permissions.
_NO_INSTANCE = "i-00000000000000000"
_NO_ADDRESS = "192.0.2.1"  # RFC 5737: for documentation only, in no VPC
_CROSS_ZONE = "load_balancing.cross_zone.enabled"
_DELAY = "deregistration_delay.timeout_seconds"
_BY_ARN = {"app": BalancerKind.APPLICATION, "net": BalancerKind.NETWORK, "gwy": BalancerKind.GATEWAY}
# AWS takes at most this many names in one DescribeTargetGroups.
_NAMES_A_CALL = 20


class Elbv2:
    """The calls that the agent makes, and no others."""

    def __init__(self, client: Callable[[], ElasticLoadBalancingv2Client]) -> None:
        self._client = client
        self._skew: float | None = None

    def named_groups(self, names: Sequence[str]) -> tuple[tuple[TargetGroup, ...], tuple[str, ...]]:
        """The groups of these names or ARNs, whatever their VPC, without their attributes; and the names of none."""
        arns = [name for name in names if name.startswith("arn:")]
        plain = [name for name in names if not name.startswith("arn:")]
        groups: list[TargetGroup] = []
        missing: list[str] = []
        for key, words in (("TargetGroupArns", arns), ("Names", plain)):
            for start in range(0, len(words), _NAMES_A_CALL):
                some = words[start : start + _NAMES_A_CALL]
                found, none = self._named(key, some)
                groups += found
                missing += none
        return tuple({group.arn: group for group in groups}.values()), tuple(missing)

    def _named(self, key: str, words: list[str]) -> tuple[list[TargetGroup], list[str]]:
        """One name that does not exist fails the whole call: then each is asked for on its own."""
        try:
            return self._groups(refuse_others=True, **{key: words}), []
        except AgentError as error:
            if error.kind is not Kind.TARGET_GROUP_NOT_FOUND:
                raise
            if len(words) == 1:
                return [], words
        groups: list[TargetGroup] = []
        missing: list[str] = []
        for word in words:
            found, none = self._named(key, [word])
            groups += found
            missing += none
        return groups, missing

    def groups_in_vpc(self, vpc_id: str) -> tuple[TargetGroup, ...]:
        """All groups of the VPC, without their attributes (see `with_attributes`)."""
        return tuple(group for group in self._groups() if group.vpc_id == vpc_id)

    def with_attributes(self, group: TargetGroup) -> TargetGroup:
        """The same group with its deregistration delay and cross-zone setting filled in."""
        with _mapped("DescribeTargetGroupAttributes"):
            answer = self._client().describe_target_group_attributes(TargetGroupArn=group.arn)
        values = {item.get("Key"): item.get("Value", "") for item in answer["Attributes"]}
        delay = float(values.get(_DELAY) or DEFAULT_DELAY_SECONDS)
        own = values.get(_CROSS_ZONE, "")
        cross_zone = own == "true" if own in ("true", "false") else self._balancers_cross_zones(group)
        return replace(group, deregistration_delay=delay, cross_zone=cross_zone)

    def health(self, group: str) -> tuple[TargetHealth, ...]:
        """Every target of the group, unfiltered: only so is each port told apart."""
        with _mapped("DescribeTargetHealth"):
            answer = self._client().describe_target_health(TargetGroupArn=group)
        self._skew = _skew(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""), time.time())
        return tuple(_health(group, item) for item in answer["TargetHealthDescriptions"])

    def register(self, group: TargetGroup, targets: Sequence[Target]) -> None:
        """Register these targets, each with Id and Port. Safe to repeat."""
        with _mapped("RegisterTargets"):
            self._client().register_targets(
                TargetGroupArn=group.arn, Targets=[_register_entry(group, t) for t in targets]
            )

    def deregister(self, group: TargetGroup, targets: Sequence[Target]) -> None:
        """Deregister these targets, each with Id and Port. Safe to repeat.

        Without the port the call answers 200 and does nothing for a target that was registered on another one.
        A group that does not exist any more holds nobody: that counts as done.
        """
        try:
            with _mapped("DeregisterTargets"):
                self._client().deregister_targets(
                    TargetGroupArn=group.arn, Targets=[{"Id": t.id, "Port": t.port} for t in targets]
                )
        except AgentError as error:
            if error.kind is not Kind.TARGET_GROUP_NOT_FOUND:
                raise

    def may_change(self, group: TargetGroup, unregistered: Target) -> None:
        """Find out whether this host may register and deregister, changing nothing.

        AWS looks at permissions first. Behind that, deregistering what is not registered succeeds and does nothing,
        and registering what cannot be a target is refused: so these two calls ask without doing.

        Args:
            group: the group to be asked about.
            unregistered: a target that the group does not have.

        Raises:
            AgentError: AWS_DENIED with the missing action; or that AWS cannot be asked.
        """
        nobody = _NO_INSTANCE if group.target_type == "instance" else _NO_ADDRESS
        try:
            with _mapped("RegisterTargets"):
                self._client().register_targets(TargetGroupArn=group.arn, Targets=[{"Id": nobody, "Port": group.port}])
        except AgentError as error:
            if error.kind is not Kind.FAILED:  # InvalidTarget and its like: the permission is there
                raise
        self.deregister(group, [unregistered])

    def clock_skew(self) -> float | None:
        """Seconds by which this host's clock was ahead of AWS's at the last answer; None before the first."""
        return self._skew

    def _balancers_cross_zones(self, group: TargetGroup) -> bool:
        if group.kind is BalancerKind.APPLICATION:  # always on at the balancer, off only for a group
            return True
        with _mapped("DescribeLoadBalancerAttributes"):
            for arn in group.balancers:
                answer = self._client().describe_load_balancer_attributes(LoadBalancerArn=arn)
                values = {item.get("Key"): item.get("Value") for item in answer["Attributes"]}
                if values.get(_CROSS_ZONE) != "true":
                    return False
        return True

    def _groups(self, *, refuse_others: bool = False, **wanted: Any) -> list[TargetGroup]:
        with _mapped("DescribeTargetGroups"):
            pages = self._client().get_paginator("describe_target_groups").paginate(**wanted)
            items = [item for page in pages for item in page["TargetGroups"]]
        others = [item for item in items if item.get("TargetType") not in ("instance", "ip")]
        if others and refuse_others:
            name, kind = others[0]["TargetGroupName"], others[0].get("TargetType")
            raise AgentError(
                Kind.CONFIGURATION,
                f"cannot use target group {name}: its targets are of type {kind}, not instance or ip",
                hint="take it out of `target_groups`",
                value="target_groups",
            )
        return [_group(item) for item in items if item not in others]


def _mapped(operation: str) -> AbstractContextManager[None]:
    return mapped("elasticloadbalancing", operation)


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
        deregistration_delay=DEFAULT_DELAY_SECONDS,
        health_check=HealthCheck(
            protocol=item.get("HealthCheckProtocol", ""),
            port=str(item.get("HealthCheckPort", "traffic-port")),
            path=item.get("HealthCheckPath", ""),
            interval=float(item.get("HealthCheckIntervalSeconds", 30)),
            timeout=float(item.get("HealthCheckTimeoutSeconds", 10)),
            healthy_threshold=int(item.get("HealthyThresholdCount", 5)),
            matcher=matcher.get("HttpCode") or "",
        ),
        version=item.get("ProtocolVersion", "HTTP1"),
        balancers=tuple(item.get("LoadBalancerArns", ())),
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
        Target(group, target["Id"], target["Port"], target.get("AvailabilityZone")),
        _state(health["State"]),
        health.get("Reason", ""),
        health.get("Description", ""),
    )


def _state(said: str) -> State:
    try:
        return State(said)
    except ValueError:  # newer than this agent: proves neither that a target is out nor that it is in
        return State.UNAVAILABLE


def _register_entry(group: TargetGroup, target: Target) -> Any:
    entry: dict[str, object] = {"Id": target.id, "Port": target.port}
    if group.target_type == "ip" and target.zone is not None:
        # Taken for addresses only: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html
        entry["AvailabilityZone"] = target.zone
    return entry
