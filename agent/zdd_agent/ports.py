"""One Protocol for each outside thing, with only the calls that are used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from threading import Event
from typing import Protocol

from zdd_agent.model.auto_scaling import LifecycleHook, Notice, NoticeKind, ScalingGroup, Transition
from zdd_agent.model.aws import Identity, Target, TargetGroup, TargetHealth
from zdd_agent.model.kernel import EndedConnections, Sample
from zdd_agent.model.operation import Posture, ProbeResult
from zdd_agent.model.record import Record
from zdd_agent.model.slots import Holder, SlotTable, Waiter


class Metadata(Protocol):
    """The instance metadata service, version 2. Every call raises AgentError METADATA_UNAVAILABLE, transient."""

    def identity(self, max_age: float = 5.0) -> Identity:
        """Who this host is, with addresses that were asked at most `max_age` seconds ago."""

    def lifecycle_state(self) -> str | None:
        """Where this instance's Auto Scaling group wants it to be; None for one that is in no group."""

    def notices(self, kinds: Collection[NoticeKind]) -> tuple[Notice, ...]:
        """What EC2 announces to this instance, of these kinds."""

    def role(self) -> str:
        """The ARN of this host's instance profile. Raises AgentError AWS_DENIED when it has none."""


class LoadBalancing(Protocol):
    """Elastic Load Balancing v2. Every call raises AgentError; `transient` tells whether to ask again."""

    def named_groups(self, names: Sequence[str]) -> tuple[tuple[TargetGroup, ...], tuple[str, ...]]:
        """The groups of these names or ARNs, in any VPC, without their attributes; and the names that no group has."""

    def groups_in_vpc(self, vpc_id: str) -> tuple[TargetGroup, ...]:
        """All groups of the VPC, without their attributes (see `with_attributes`)."""

    def with_attributes(self, group: TargetGroup) -> TargetGroup:
        """The same group with its attributes filled in, such as the deregistration delay."""

    def health(self, group: str) -> tuple[TargetHealth, ...]:
        """Every target of the group, each port on its own."""

    def register(self, group: TargetGroup, targets: Sequence[Target]) -> None:
        """Register these targets, each with Id and Port. Safe to repeat."""

    def deregister(self, group: TargetGroup, targets: Sequence[Target]) -> None:
        """Deregister these targets, each with Id and Port. Safe to repeat."""

    def may_change(self, group: TargetGroup, unregistered: Target) -> None:
        """Find out whether this host may register and deregister, changing nothing. Raises AWS_DENIED."""

    def clock_skew(self) -> float | None:
        """Seconds by which this host's clock was ahead of AWS's at its last answer; None before the first."""


class Instances(Protocol):
    """Amazon EC2, for target groups that balance each zone on its own."""

    def zones(self, instance_ids: Sequence[str]) -> Mapping[str, str]:
        """The Availability Zone of each of these instances that EC2 knows. Raises AgentError."""

    def running(self, instance_ids: Sequence[str]) -> frozenset[str]:
        """The running ones of these instances. Raises AgentError; AWS_DENIED when the role may not ask."""

    def terminated(self, instance_ids: Sequence[str]) -> frozenset[str]:
        """Those of them that EC2 lists as terminated; it lists one for about an hour. Raises like `running`."""


class Slots(Protocol):
    """The slots of one service, which all its hosts share. Every call raises AgentError. Moments are whole seconds."""

    def table(self) -> SlotTable:
        """Who holds one and who waits, not staler than the call. Makes the entry of the service where there is none."""

    def claim(self, holder: Holder, limit: int | None) -> bool:
        """Take a slot unless `limit` are taken (None: in any case), and leave the line; False: none is free.

        Safe to repeat. Who holds one already takes it anew, with its new `since`: a release that was meant for the old
        one may arrive late, and must not end this one.
        """

    def renew(self, instance: str, seen: float) -> bool:
        """Give a sign of life as a holder; False where this instance holds none."""

    def release(self, instance: str, since: float) -> bool:
        """Give back the slot that was taken at that very moment (seconds), and leave the line; False where it was not.

        Safe to repeat. It names the moment since a call can take effect long after it was given up, on a later slot.
        """

    def stand_in_line(self, waiter: Waiter, places: int) -> bool:
        """Take a place in the line unless `places` are taken; False: all are."""

    def wait_on(self, instance: str, seen: float) -> bool:
        """Give a sign of life in the line; False where this instance has no place there."""

    def pass_over(self, waiter: Waiter) -> None:
        """Take a waiter out of the line unless it has given a sign of life since."""


class AutoScaling(Protocol):
    """Amazon EC2 Auto Scaling. Every call raises AgentError."""

    def instance(self, instance_id: str) -> tuple[str, str] | None:
        """The instance's group and its current lifecycle state; None for an instance that is in no group."""

    def group(self, name: str) -> ScalingGroup:
        """The group of this name."""

    def hooks(self, group: str, transition: Transition) -> tuple[LifecycleHook, ...]:
        """The lifecycle hooks of the group for this transition."""

    def heartbeat(self, hook: str, group: str, instance_id: str) -> None:
        """Start the hook's time-out anew. Raises REFUSED, transient, unless the instance waits for it."""

    def complete(self, hook: str, group: str, instance_id: str) -> None:
        """Let the group go on. Raises REFUSED, transient, unless the instance waits for the hook."""

    def enter_standby(self, group: str, instance_id: str) -> None:
        """Put it into Standby with one desired instance less. Safe to repeat. Raises REFUSED where AWS refuses it."""

    def exit_standby(self, group: str, instance_id: str) -> None:
        """Take it out of Standby. Safe to repeat. Raises REFUSED, transient, as long as it is not in Standby yet."""


class Sensor(Protocol):
    """The kernel's view of the app's connections."""

    def sample(self, ports: frozenset[int], addresses: frozenset[str]) -> Sample:
        """The connections of these ports with peers outside this host. Raises AgentError FAILED, transient."""

    def ended(self, ports: frozenset[int], addresses: frozenset[str]) -> EndedConnections:
        """Those of them that ended since the last call of `sample` or `ended`. Raises like `sample`."""

    def close(self) -> None:
        """Stop watching; the next sample starts afresh."""


class Prober(Protocol):
    """The app on this host."""

    def check(self, group: TargetGroup, target: Target) -> ProbeResult:
        """What the group's own health check gets from the app, asked once, from this host."""


class Store(Protocol):
    """The file that outlives the daemon."""

    def read(self) -> Record:
        """What was written last; an empty record on a new host."""

    def write(self, record: Record) -> None:
        """Returns when the record and its folder are synced. Raises AgentError STORE, transient."""

    def set_aside(self, cause: str) -> None:
        """Keep the file under another name, and log that. Raises AgentError STORE, transient."""


class Postures(Protocol):
    """Whoever acts on the posture of a service."""

    def show(self, service: str, posture: Posture) -> None:
        """From now on the service has this posture. Never raises, and takes no time."""


class Clock(Protocol):
    """Time, and the only way to wait."""

    def now(self) -> float:
        """Seconds since the epoch; never jumps while the daemon lives."""

    def wait(self, wake: Event, seconds: float) -> None:
        """Sleep for at most this long; `wake` cuts it short."""


class Supervisor(Protocol):
    """Whoever started the daemon: systemd, or nobody."""

    def alive(self, status: str) -> None:
        """The loop still turns, and this is what it does."""
