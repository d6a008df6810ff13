"""A service of this host: its name, and the settings that its operations go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zdd_agent.model.aws import BalancerKind, MinHealthy
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Request, Verb
from zdd_agent.model.slots import SlotRules

# A host without services of its own is one service.
HOST = "host"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the decisions of one service go by.

    Args:
        min_healthy: how many other targets of each group must stay healthy.
        until: what ends a drain, unless the caller says otherwise.
        floor_seconds: for this long after a deregistration new work may come, by the kind of load balancer.
        quiet_seconds: a connection without a byte for this long is quiet.
        poll_seconds: between two looks at AWS while something changes.
        strict: refuse a drain that outlasts what the Auto Scaling group of this host bears.
        standby: put this host into Standby in its Auto Scaling group while it is out.
        slots: how many hosts of the fleet may be out at once; None where nothing is said of that.
    """

    min_healthy: MinHealthy
    until: Until
    floor_seconds: Mapping[BalancerKind, float]
    quiet_seconds: float = 5.0
    poll_seconds: float = 10.0
    strict: bool = False
    standby: bool = False
    slots: SlotRules | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Spans from the settings, in seconds; None: derived from the target groups."""

    drain: float | None
    rejoin: float | None

    def of(self, request: Request) -> float | None:
        """What the caller gave, or the settings."""
        return request.timeout or (self.drain if request.verb is Verb.DRAIN else self.rejoin)
