"""What each node will learn, and when."""

from dataclasses import dataclass, field
from typing import Literal

from zdd_lab.model.target import TargetKey

Action = Literal["register", "deregister", "cut"]


@dataclass(frozen=True, slots=True)
class Command:
    """What a node learns of a target."""

    node: str
    action: Action
    key: TargetKey


@dataclass(slots=True)
class Schedule:
    """Commands with the moment at which each is due; moments are those of the model's clock."""

    _pending: list[tuple[float, Command]] = field(default_factory=list)

    def put(self, at: float, command: Command) -> None:
        self._pending.append((at, command))

    def cancel(self, node: str, key: TargetKey) -> None:
        """Drop whatever this node has still to learn of this target."""
        self._pending = [one for one in self._pending if (one[1].node, one[1].key) != (node, key)]

    def take(self, now: float) -> list[Command]:
        """Commands due by now, oldest first; at one moment, in the order in which they were put."""
        ready = sorted((one for one in self._pending if one[0] <= now), key=lambda one: one[0])
        self._pending = [one for one in self._pending if one[0] > now]
        return [command for _, command in ready]

    def next_at(self) -> float | None:
        return min((at for at, _ in self._pending), default=None)
