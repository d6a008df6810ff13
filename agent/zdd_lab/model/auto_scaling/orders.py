"""What Auto Scaling asks of EC2."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """Launch an instance for a group in a zone, and report it with `AutoScaling.launched`."""

    group: str
    zone: str
    activity: str


@dataclass(frozen=True, slots=True)
class TerminateOrder:
    """Terminate an instance, and report it with `AutoScaling.terminated`."""

    instance_id: str


Order = LaunchOrder | TerminateOrder
