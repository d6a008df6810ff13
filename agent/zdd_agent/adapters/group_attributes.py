"""What the attributes of a target group mean, with AWS's defaults where one is not set.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from zdd_agent.model.aws import BalancerKind, GroupMinimum, TargetGroup

# Seconds; what AWS takes when the attribute is not set.
DEFAULT_DELAY_SECONDS = 300.0
_MINIMA = (
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets",
    "target_group_health.dns_failover.minimum_healthy_targets",
)


def cross_zone(values: Mapping[str, str]) -> bool | None:
    """Whether each zone's targets serve all zones; None where the group leaves it to its load balancer."""
    return {"true": True, "false": False}.get(values.get("load_balancing.cross_zone.enabled", ""))


def filled_in(group: TargetGroup, values: Mapping[str, str], *, cross_zone: bool) -> TargetGroup:
    """The group with what its attributes say. Raises ValueError when a number cannot be read."""
    return replace(
        group,
        deregistration_delay=float(values.get("deregistration_delay.timeout_seconds") or DEFAULT_DELAY_SECONDS),
        cross_zone=cross_zone,
        minimum=_minimum(values),
        connection_termination=_is_on(
            values, "deregistration_delay.connection_termination.enabled", default=group.protocol in ("UDP", "TCP_UDP")
        ),
        preserve_client_ip=_is_on(values, "preserve_client_ip.enabled", default=_preserves_by_default(group)),
        slow_start=float(values.get("slow_start.duration_seconds") or 0),
    )


def _minimum(values: Mapping[str, str]) -> GroupMinimum:
    counts = [_number(values.get(f"{name}.count", "1")) for name in _MINIMA]
    percents = [_number(values.get(f"{name}.percentage", "off")) for name in _MINIMA]
    return GroupMinimum(int(max(counts)), max(percents) or None)


def _number(value: str) -> float:
    return 0.0 if value == "off" else float(value)


def _is_on(values: Mapping[str, str], name: str, *, default: bool) -> bool:
    return values[name] == "true" if name in values else default


def _preserves_by_default(group: TargetGroup) -> bool:
    """Network Load Balancers only.

    Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html
    """
    if group.kind is not BalancerKind.NETWORK:
        return False
    return group.target_type == "instance" or group.protocol not in ("TCP", "TLS")
