"""What a decision can ask the loop to do next."""

from __future__ import annotations

from dataclasses import dataclass

from zdd_agent.model import Failure, Outcome, Phase, Target


@dataclass(frozen=True, slots=True)
class Discover:
    """Find the membership afresh."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask AWS for the health of every target of the membership's groups."""


@dataclass(frozen=True, slots=True)
class Deregister:
    """Deregister these targets, then go on draining."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Register:
    """Register these targets, then go on warming."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """Go on to this phase."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can change before this moment (seconds since the epoch)."""

    until: float
    note: str


@dataclass(frozen=True, slots=True)
class End:
    """The operation is over."""

    outcome: Outcome
    message: str
    failure: Failure | None = None


Action = Discover | Look | Deregister | Register | Move | Wait | End
