"""An instance of an Auto Scaling group, with its place in the lifecycle.

States: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from zdd_lab.model.auto_scaling.activity import Activity
from zdd_lab.model.auto_scaling.lifecycle_hook import HookWait


class LifecycleState(StrEnum):
    """Spelt as in DescribeAutoScalingInstances."""

    PENDING = "Pending"
    PENDING_WAIT = "Pending:Wait"
    PENDING_PROCEED = "Pending:Proceed"
    IN_SERVICE = "InService"
    TERMINATING = "Terminating"
    TERMINATING_WAIT = "Terminating:Wait"
    TERMINATING_PROCEED = "Terminating:Proceed"
    TERMINATING_RETAINED = "Terminating:Retained"
    ENTERING_STANDBY = "EnteringStandby"
    STANDBY = "Standby"
    DETACHING = "Detaching"


STARTING = frozenset({LifecycleState.PENDING, LifecycleState.PENDING_WAIT, LifecycleState.PENDING_PROCEED})
# They make up the capacity that is compared with the desired one.
COUNTED = STARTING | {LifecycleState.IN_SERVICE}
IN_STANDBY = frozenset({LifecycleState.ENTERING_STANDBY, LifecycleState.STANDBY})
ENDING = frozenset(
    {
        LifecycleState.TERMINATING,
        LifecycleState.TERMINATING_WAIT,
        LifecycleState.TERMINATING_PROCEED,
        LifecycleState.TERMINATING_RETAINED,
    }
)


@dataclass(slots=True)
class Member:
    """One instance. Moments are in s of the model's clock."""

    instance_id: str
    zone: str
    launched_at: float
    activity: Activity  # the one that brought it where it is
    state: LifecycleState = LifecycleState.PENDING
    health: str = "Healthy"  # or Unhealthy
    in_service_at: float | None = None  # the grace period begins here
    pending_until: float = 0.0
    runs_hooks: bool = True  # not for an instance that is attached, or on its way back from standby [doc]
    protected: bool = False  # from scale-in
    at_risk: bool = False  # EC2 recommends to replace this spot instance
    final_notice: bool = False  # the spot notice: its termination hook does not wait for the deregistration
    waits: list[HookWait] = field(default_factory=list)
    instance_type: str = "t3.micro"
    launched_from: Mapping[str, Any] = field(default_factory=dict)  # of the group at the launch, as the API spells it
