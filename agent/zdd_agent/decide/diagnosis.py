"""Pure: what is wrong with a target that does not become healthy, when waiting cannot cure it.

Reasons: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from zdd_agent.decide.evidence import API_LAG_SECONDS
from zdd_agent.model.aws import Membership, Target, TargetGroup, TargetHealth
from zdd_agent.model.operation import Observation, ProbeResult

# Looks in a row that must agree: a reason can be left over from the moment before.
LOOKS = 3


@dataclass(frozen=True, slots=True)
class Cause:
    """What is wrong with one target, and what would fix it. It must stand for so many `seconds`, or it may pass."""

    target: Target
    message: str
    hint: str
    seconds: float = 0.0


def believed(membership: Membership, looks: Sequence[Observation]) -> tuple[Cause, ...]:
    """The causes that the last `LOOKS` looks agree on, and those before them for as long as each has to stand.

    Args:
        membership: the targets and their groups.
        looks: the looks since the registration, the latest first.
    """
    if not looks:
        return ()
    found = [_causes(membership, seen) for seen in looks]
    return tuple(cause for key, cause in found[0].items() if _stands(key, cause, found, looks))


def _stands(
    key: tuple[Target, str],
    cause: Cause,
    found: Sequence[dict[tuple[Target, str], Cause]],
    looks: Sequence[Observation],
) -> bool:
    agreed = [seen for seen, _ in takewhile(lambda pair: key in pair[1], zip(looks, found, strict=True))]
    return len(agreed) >= LOOKS and looks[0].seen_at - agreed[-1].seen_at >= cause.seconds


def _causes(membership: Membership, seen: Observation) -> dict[tuple[Target, str], Cause]:
    found = {}
    for target in membership.targets:
        health = seen.of(target)
        probe = next((p for p in seen.probes if p.target == target), None)
        cause = _cause(membership.group(target.group), health, probe) if health is not None else None
        if health is not None and cause is not None:
            found[target, health.reason] = cause
    return found


def _cause(group: TargetGroup, health: TargetHealth, probe: ProbeResult | None) -> Cause | None:
    target, check = health.target, group.health_check
    # From `unhealthy` a target comes back after that many passing checks in a row; and an answer can be late.
    passing = (check.interval + check.timeout) * check.healthy_threshold + API_LAG_SECONDS
    match health.reason:
        case "Target.NotInUse":
            return Cause(
                target,
                f"{group.name} is on no listener, or the load balancer's zone of this host is not enabled",
                "attach the group to a listener, or enable this host's zone on the load balancer",
            )
        case "Target.InvalidState":
            return Cause(target, "the instance is stopping or stopped", "check the instance in the EC2 console")
        case "Target.IpUnusable":
            return Cause(
                target,
                f"{target.id} cannot be a target: a load balancer uses that address",
                "register another address of this host",
            )
        case "Target.Timeout" if probe is not None and probe.passed:
            return Cause(
                target,
                f"the app answers on this host, but the load balancer's check of port {_port(group, target)} times out",
                f"allow port {_port(group, target)} from the load balancer in this host's security group",
                passing,
            )
        case "Target.ResponseCodeMismatch" if probe is not None and probe.passed:
            return Cause(
                target,
                f"the load balancer's check of {check.path} wants {check.matcher} and got something else: "
                f"{health.description or 'AWS names no code'}, though the app passes our own check: {probe.said}",
                "make the app answer alike for every Host header and address, or change the group's matcher",
                passing,
            )
        case _:
            return None


def _port(group: TargetGroup, target: Target) -> str:
    return str(target.port) if group.health_check.port == "traffic-port" else group.health_check.port
