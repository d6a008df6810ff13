"""What Amazon EC2 Auto Scaling knows of this instance, and the notices that EC2 gives it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# IMDS `autoscaling/target-lifecycle-state` of an instance that its group is about to terminate:
# https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html
TERMINATED = frozenset({"Terminated", "Warmed:Terminated"})
# The only lifecycle state from which an instance may enter Standby.
IN_SERVICE = "InService"
# Those of an instance in Standby, or on its way there, which cannot be turned back.
IN_STANDBY = frozenset({"Standby", "EnteringStandby"})


class Transition(StrEnum):
    """What a lifecycle hook holds up."""

    LAUNCH = "autoscaling:EC2_INSTANCE_LAUNCHING"
    TERMINATION = "autoscaling:EC2_INSTANCE_TERMINATING"


@dataclass(frozen=True, slots=True)
class LifecycleHook:
    """A lifecycle hook. `heartbeat` is its time-out in seconds; None where only its name is known."""

    name: str
    heartbeat: float | None = None


@dataclass(frozen=True, slots=True)
class ScalingGroup:
    """An Auto Scaling group, as far as an agent on one of its instances needs to know it.

    Args:
        name: of the group.
        health_check: what can make the group replace an instance: `EC2`, `ELB`, or several, joined by commas.
        minimum: its MinSize.
        desired: its desired capacity.
        target_groups: the ARNs of the target groups that it registers its instances with.
        operator: the service that alone may change the group; empty without one.
        tags: the names of its tags.

    Source: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AutoScalingGroup.html
    """

    name: str
    health_check: str = "EC2"
    minimum: int = 0
    desired: int = 0
    target_groups: tuple[str, ...] = ()
    operator: str = ""
    tags: frozenset[str] = frozenset()

    @property
    def uses_balancer_health(self) -> bool:
        """Whether the group replaces an instance that its load balancer calls unhealthy."""
        return "ELB" in self.health_check.split(",")


@dataclass(frozen=True, slots=True)
class ScalingPlace:
    """Where this instance stands in its group: the current lifecycle state, as Auto Scaling spells it."""

    group: ScalingGroup
    state: str

    @property
    def is_launching(self) -> bool:
        """Whether the group has not registered it yet, and will."""
        return self.state.startswith("Pending")

    @property
    def waits_for_launch(self) -> bool:
        """Whether the group waits for its launch hook, which runs on the way into a warm pool, and on the way out."""
        return self.state in ("Pending:Wait", "Warmed:Pending:Wait")

    @property
    def hook_comes(self) -> bool:
        """Whether the group may wait for its launch hook soon."""
        return self.state in ("Pending", "Warmed:Pending")

    @property
    def is_warmed(self) -> bool:
        """Whether it stands in a warm pool, or is on its way there."""
        return self.state.startswith("Warmed")

    @property
    def enters_pool(self) -> bool:
        """Whether it is on its way into a warm pool, where its launch hook runs for the first time.

        https://docs.aws.amazon.com/autoscaling/ec2/userguide/warm-pool-instance-lifecycle.html
        """
        return self.state in ("Warmed:Pending", "Warmed:Pending:Wait")


class NoticeKind(StrEnum):
    """What EC2 announces."""

    SPOT = "spot"
    REBALANCE = "rebalance"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Notice:
    """One announcement. Two that are equal are the same one.

    Args:
        kind: of the notice.
        what: is announced, as EC2 spells it: `terminate`, `system-reboot`, …
        at: when it happens, seconds since the epoch; of a rebalance recommendation, when it was given.
        event: the ID of a maintenance event.
    """

    kind: NoticeKind
    what: str
    at: float
    event: str = ""
