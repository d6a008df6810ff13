"""Elastic Load Balancing v2 through boto3.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zdd_agent.errors import AgentError, Kind
from zdd_agent.model import (
    BalancerKind,
    HealthCheck,
    State,
    Target,
    TargetGroup,
    TargetHealth,
)

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

# Seconds; what AWS takes when the attribute is not set.
DEFAULT_DELAY_SECONDS = 300.0
_DELAY = "deregistration_delay.timeout_seconds"
_BY_ARN = {"app": BalancerKind.APPLICATION, "net": BalancerKind.NETWORK, "gwy": BalancerKind.GATEWAY}
# AWS takes at most this many names in one DescribeTargetGroups.
_NAMES_A_CALL = 20


class Elbv2:
    """The calls that the agent makes, and no others."""

    def __init__(self, client: Callable[[], ElasticLoadBalancingv2Client]) -> None:
        self._client = client

    def named_groups(self, names: Sequence[str]) -> tuple[TargetGroup, ...]:
        """The groups of these names or ARNs. Raises TARGET_GROUP_NOT_FOUND."""
        arns = [name for name in names if name.startswith("arn:")]
        plain = [name for name in names if not name.startswith("arn:")]
        groups: list[TargetGroup] = []
        for key, words in (("TargetGroupArns", arns), ("Names", plain)):
            for start in range(0, len(words), _NAMES_A_CALL):
                groups += self._groups(**{key: words[start : start + _NAMES_A_CALL]})
        return tuple({group.arn: group for group in groups}.values())

    def groups_in_vpc(self, vpc_id: str) -> tuple[TargetGroup, ...]:
        """All groups of the VPC, without their deregistration delays (see `with_delay`)."""
        return tuple(group for group in self._groups() if group.vpc_id == vpc_id)

    def with_delay(self, group: TargetGroup) -> TargetGroup:
        """The same group with its deregistration delay filled in."""
        with _mapped("DescribeTargetGroupAttributes"):
            answer = self._client().describe_target_group_attributes(TargetGroupArn=group.arn)
        values = {item.get("Key"): item.get("Value", "") for item in answer["Attributes"]}
        return replace(group, deregistration_delay=float(values.get(_DELAY) or DEFAULT_DELAY_SECONDS))

    def health(self, group: str) -> tuple[TargetHealth, ...]:
        """Every target of the group, unfiltered: only so is each port told apart."""
        with _mapped("DescribeTargetHealth"):
            answer = self._client().describe_target_health(TargetGroupArn=group)
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

    def _groups(self, **wanted: Any) -> list[TargetGroup]:
        with _mapped("DescribeTargetGroups"):
            pages = self._client().get_paginator("describe_target_groups").paginate(**wanted)
            return [
                _group(item)
                for page in pages
                for item in page["TargetGroups"]
                if item.get("TargetType") in ("instance", "ip")
            ]


@contextmanager
def _mapped(operation: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  loaded with the client

    from zdd_agent.adapters.aws_errors import mapped  # noqa: PLC0415

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise mapped(error, "elasticloadbalancing", operation) from error


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
            matcher=matcher.get("HttpCode") or matcher.get("GrpcCode") or "",
        ),
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
        State(health["State"]),
        health.get("Reason", ""),
        health.get("Description", ""),
    )


def _register_entry(group: TargetGroup, target: Target) -> Any:
    entry: dict[str, object] = {"Id": target.id, "Port": target.port}
    if group.target_type == "ip" and target.zone is not None:
        # Taken for addresses only: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html
        entry["AvailabilityZone"] = target.zone
    return entry
