"""An instance refresh: replaces a group's instances one by one, and waits for those in standby.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-instance-refresh.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STANDBY_WAIT = 3600.0  # s that it waits for instances in standby, then it fails [doc]


@dataclass(slots=True)
class InstanceRefresh:
    """Its standby behaviour is Wait, Ignore or Terminate. Moments are in s of the model's clock."""

    id: str
    started: float
    standby: str = "Wait"  # AWS's default [doc]
    old: set[str] = field(default_factory=set)  # instances that are to be replaced
    total: int = 0
    status: str = "Pending"
    reason: str | None = None
    ended: float | None = None
    blocked_since: float | None = None  # only instances in standby are left
    preferences: Mapping[str, Any] = field(default_factory=dict)  # as the API spells them

    @property
    def active(self) -> bool:
        return self.ended is None

    @property
    def percentage(self) -> int:
        if self.status == "Successful" or not self.total:
            return 100 if self.status == "Successful" else 0
        return 100 * (self.total - len(self.old)) // self.total

    def end(self, status: str, now: float, reason: str | None = None) -> None:
        self.status, self.ended, self.reason = status, now, reason

    def blocked(self, now: float) -> None:
        """Only instances in standby are left. Fails after an hour of that."""
        if self.blocked_since is None:
            self.blocked_since = now
            self.reason = "Waiting for instances in Standby to be returned to service."
        elif now - self.blocked_since >= STANDBY_WAIT:
            self.end("Failed", now, "The instance refresh timed out waiting for instances in Standby.")
