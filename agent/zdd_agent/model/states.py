"""What a host is between operations and in them: one state at a time, with exactly its own data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from zdd_agent.model.aws import Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Failure, Phase


@dataclass(frozen=True, slots=True)
class Claim:
    """What the guard went by when it allowed this host to leave.

    Args:
        counted: the other targets that were healthy.
        at: the moment of that look, seconds.
    """

    counted: tuple[Target, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Departure:
    """How this host left. Moments are seconds since the epoch.

    Args:
        since: when the intent to leave was put on disk, or when an earlier drain did so.
        accepted_at: the latest moment at which AWS can have accepted the deregistration; the floor starts here.
        targets: what this drain deregistered. Going back registers these and nothing else.
        nodes: the load balancer's addresses that had checked this host before; empty where the sensor was not trusted.
        standby: the Auto Scaling group in whose Standby this host is; empty where it is in none.
    """

    since: float
    accepted_at: float
    targets: tuple[Target, ...] = ()
    nodes: tuple[str, ...] = ()
    standby: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a drain: decided before the deregistration. `doubt` says why it is not what was asked for.

    `standby` is the Auto Scaling group whose Standby this drain has yet to enter; empty where it does not.
    """

    until: Until
    doubt: str = ""
    standby: str = ""


# Where a host rests between operations.


@dataclass(frozen=True, slots=True)
class InService:
    """This agent has not taken the host out."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Out, with the proof on which the drain ended; `at` is that moment (seconds since the epoch)."""

    left: Departure
    proof: str
    at: float


@dataclass(frozen=True, slots=True)
class Out:
    """Out, or partly out, without proof; `why` says for what reason. A new drain proves it."""

    left: Departure
    why: str


Resting = InService | Drained | Out

# The states of a drain.


@dataclass(frozen=True, slots=True)
class Guarding:
    """May this host leave? Nothing is changed yet."""

    before: Resting


@dataclass(frozen=True, slots=True)
class Claiming:
    """It may leave: the intent is on disk. Next, it deregisters `targets`."""

    before: Resting
    since: float
    targets: tuple[Target, ...]
    nodes: tuple[str, ...]
    claim: Claim
    ending: Ending


@dataclass(frozen=True, slots=True)
class Confirming:
    """Deregistered. Next comes the second look: did other hosts leave at the same moment?"""

    before: Resting
    left: Departure
    claim: Claim
    ending: Ending


@dataclass(frozen=True, slots=True)
class Draining:
    """It may stay out, and waits for the proof that no work is left and none can come."""

    left: Departure
    ending: Ending

    @property
    def departure(self) -> Departure:
        """How it left; in the Standby, too, that it has yet to enter: AWS may have done that, its answer being lost."""
        return replace(self.left, standby=self.left.standby or self.ending.standby)


@dataclass(frozen=True, slots=True)
class GoingBack:
    """It registers what it deregistered, then ends with `failure`; or leaves again for whoever skips the guard."""

    before: Resting
    left: Departure
    failure: Failure
    again: bool = False


# The states of a rejoin.


@dataclass(frozen=True, slots=True)
class Probing:
    """Does the app pass its health check? Nothing is registered yet."""

    before: Resting


@dataclass(frozen=True, slots=True)
class Joining:
    """The registration comes next, or is under way.

    `launching`: it is the Auto Scaling group that registers this host, once its launch hook is completed.
    """

    before: Resting
    launching: bool = False


@dataclass(frozen=True, slots=True)
class Warming:
    """Registered at `accepted_at`; waits until every target is healthy. Not `called`: all were registered already."""

    before: Resting
    accepted_at: float
    called: bool


State = (
    InService | Drained | Out | Guarding | Claiming | Confirming | Draining | GoingBack | Probing | Joining | Warming
)

PHASES: Mapping[type, Phase] = MappingProxyType(
    {
        Guarding: Phase.GUARDING,
        Claiming: Phase.DEREGISTERING,
        Confirming: Phase.DRAINING,
        Draining: Phase.DRAINING,
        GoingBack: Phase.DRAINING,
        Probing: Phase.PROBING,
        Joining: Phase.REGISTERING,
        Warming: Phase.WARMING,
    }
)


def departure(state: Claiming, accepted_at: float) -> Departure:
    """The departure of a host whose deregistration was accepted at this moment (seconds)."""
    standby = "" if isinstance(state.before, InService) else state.before.left.standby
    return Departure(state.since, accepted_at, state.targets, state.nodes, standby)
