"""Schedules what each node learns of each target."""

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
    """Commands, each with the moment when it is due, in s of the model's clock."""

    _pending: list[tuple[float, Command]] = field(default_factory=list)

    def put(self, at: float, command: Command) -> None:
        self._pending.append((at, command))

    def cancel(self, node: str, key: TargetKey) -> set[Action]:
        """Drop what this node has not learned yet of this target; say what that was."""
        dropped = {c.action for _, c in self._pending if (c.node, c.key) == (node, key)}
        self._pending = [one for one in self._pending if (one[1].node, one[1].key) != (node, key)]
        return dropped

    def take(self, now: float) -> list[Command]:
        """Commands due until now, oldest first. Those of one moment stay in the order in which they were put."""
        ready = sorted((one for one in self._pending if one[0] <= now), key=lambda one: one[0])
        self._pending = [one for one in self._pending if one[0] > now]
        return [command for _, command in ready]

    def next_at(self) -> float | None:
        return min((at for at, _ in self._pending), default=None)
