"""One Protocol for each outside thing, with only the calls that are used."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import Protocol

from zdd_agent.model import Identity, Record, Target, TargetGroup, TargetHealth


class Metadata(Protocol):
    """The instance metadata service, version 2."""

    def identity(self) -> Identity:
        """Who this host is. Raises AgentError METADATA_UNAVAILABLE, transient."""


class LoadBalancing(Protocol):
    """Elastic Load Balancing v2. Every call raises AgentError; `transient` tells whether to ask again."""

    def named_groups(self, names: Sequence[str]) -> tuple[TargetGroup, ...]:
        """The groups of these names or ARNs. Raises TARGET_GROUP_NOT_FOUND."""

    def groups_in_vpc(self, vpc_id: str) -> tuple[TargetGroup, ...]:
        """All groups of the VPC, without their deregistration delays (see `with_delay`)."""

    def with_delay(self, group: TargetGroup) -> TargetGroup:
        """The same group with its deregistration delay filled in."""

    def health(self, group: str) -> tuple[TargetHealth, ...]:
        """Every target of the group, unfiltered: only so is each port told apart."""

    def register(self, group: TargetGroup, targets: Sequence[Target]) -> None:
        """Register these targets, each with Id and Port. Safe to repeat."""

    def deregister(self, group: TargetGroup, targets: Sequence[Target]) -> None:
        """Deregister these targets, each with Id and Port. Safe to repeat."""


class Store(Protocol):
    """The file that outlives the daemon."""

    def read(self) -> Record:
        """What was written last; an empty record on a new host."""

    def write(self, record: Record) -> None:
        """Returns when the record and its folder are synced. Raises AgentError STORE, transient."""


class Clock(Protocol):
    """Time, and the only way to wait."""

    def now(self) -> float:
        """Seconds since the epoch; never jumps while the daemon lives."""

    def wait(self, wake: Event, seconds: float) -> None:
        """Sleep for at most so long; `wake` cuts it short."""


class Supervisor(Protocol):
    """Whoever started the daemon: systemd, or nobody."""

    def alive(self, status: str) -> None:
        """The loop still turns, and this is what it does."""
