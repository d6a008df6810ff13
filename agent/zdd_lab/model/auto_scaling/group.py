"""An Auto Scaling group: its sizes, hooks, instances and history."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_lab.model.auto_scaling.activity import Activity
from zdd_lab.model.auto_scaling.instance_refresh import InstanceRefresh
from zdd_lab.model.auto_scaling.lifecycle_hook import LifecycleHook
from zdd_lab.model.auto_scaling.member import COUNTED, IN_STANDBY, LifecycleState, Member
from zdd_lab.model.aws_error import AwsError

PROCESSES = (
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
)


@dataclass(slots=True)
class ScalingGroup:
    """Spans are in s, moments in s of the model's clock."""

    name: str
    arn: str
    min_size: int
    max_size: int
    desired: int
    zones: tuple[str, ...]
    target_groups: list[str] = field(default_factory=list)  # ARNs
    health_check_type: str = "EC2"  # or ELB, or several with commas
    grace: float = 0.0
    capacity_rebalance: bool = False
    protects_new: bool = False
    retains_on_abandon: bool = False  # InstanceLifecyclePolicy: TerminateHookAbandon
    operator: str | None = None  # the service that manages the group
    told: Mapping[str, Any] = field(default_factory=dict)  # what the API repeats and the model does not act on
    launches_from: Mapping[str, Any] = field(default_factory=dict)  # launch template or configuration, as in the API
    created: float = 0.0
    hooks: dict[str, LifecycleHook] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    members: dict[str, Member] = field(default_factory=dict)  # by instance
    launching: dict[str, str] = field(default_factory=dict)  # activity -> zone, of launches without an instance yet
    activities: list[Activity] = field(default_factory=list)  # oldest first
    refreshes: list[InstanceRefresh] = field(default_factory=list)  # oldest first
    extra: int = 0  # instances above the desired capacity, while new ones come before old ones go
    uneven_since: float | None = None
    checked_at: float | None = None  # when its health check looked last
    deleting: bool = False

    def __post_init__(self) -> None:
        self.refuse_sizes(self.min_size, self.desired, self.max_size)

    @staticmethod
    def refuse_sizes(least: int, desired: int, most: int) -> None:
        """Raises AwsError: ValidationError for sizes that contradict each other."""
        if least > most:
            raise AwsError("ValidationError", f"Max bound, {most}, must be greater than or equal to min bound, {least}")
        if not least <= desired <= most:
            text = f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}"
            raise AwsError("ValidationError", text)

    @property
    def capacity(self) -> int:
        """Instances that count, launches under way included. Those in standby do not count."""
        return len(self.launching) + sum(one.state in COUNTED for one in self.members.values())

    @property
    def in_service(self) -> list[Member]:
        return [one for one in self.members.values() if one.state is LifecycleState.IN_SERVICE]

    @property
    def in_standby(self) -> list[Member]:
        return [one for one in self.members.values() if one.state in IN_STANDBY]

    def runs(self, process: str) -> bool:
        return process not in self.suspended

    def member(self, instance_id: str) -> Member:
        """Raises AwsError: ValidationError for an instance of nobody or of another group."""
        found = self.members.get(instance_id)
        if found is None:
            text = f"The instance {instance_id} is not part of Auto Scaling group {self.name}."
            raise AwsError("ValidationError", text)
        return found

    def spread(self) -> dict[str, int]:
        """How many instances that count each zone has, launches under way included."""
        found = dict.fromkeys(self.zones, 0)
        for zone in self._zones_in_use():
            found[zone] = found.get(zone, 0) + 1
        return found

    def _zones_in_use(self) -> Iterator[str]:
        yield from self.launching.values()
        yield from (one.zone for one in self.members.values() if one.state in COUNTED)

    def refuse_size(self, count: int, verb: str) -> AwsError:
        """The refusal of a step for which min or max leave no room. `verb` is AWS's, such as `place into standby`."""
        sizes = f"min-size={self.min_size}, max-size={self.max_size}, and desired-size={self.desired}"
        what = f"{count} instance" + ("s" if count != 1 else "")
        text = f"AutoScalingGroup {self.name} has {sizes}. To {verb} {what}, please update the AutoScalingGroup sizes "
        return AwsError("ValidationError", text + "appropriately.")
