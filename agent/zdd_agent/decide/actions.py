"""What a decision can ask the loop to do next."""

from __future__ import annotations

from dataclasses import dataclass

from zdd_agent.model.aws import Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Failure, Outcome, Phase


@dataclass(frozen=True, slots=True)
class Discover:
    """Find the membership afresh."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask AWS for the health of every target of the membership's groups."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Ask the kernel for the app's connections."""


@dataclass(frozen=True, slots=True)
class Rely:
    """What ends this drain is decided; `doubt` says why it is not what was asked for."""

    until: Until
    doubt: str


@dataclass(frozen=True, slots=True)
class Deregister:
    """Deregister these targets, then go on draining.

    `guarded` and `guarded_at` are the claim: which other targets were healthy, and when that was seen.
    """

    targets: tuple[Target, ...]
    guarded: tuple[Target, ...] = ()
    guarded_at: float | None = None


@dataclass(frozen=True, slots=True)
class Confirm:
    """The second look found that this host may stay out."""


@dataclass(frozen=True, slots=True)
class Return:
    """Register these targets again, then end as refused."""

    targets: tuple[Target, ...]
    failure: Failure


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the app on this host what the load balancer's health check asks, once for each of these targets."""

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
    """Nothing is to be done before `wake`, or before `until` where that is None; moments, seconds since the epoch.

    `until` is for people: by then the operation knows more.
    """

    until: float
    note: str
    wake: float | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The operation is over."""

    outcome: Outcome
    message: str
    failure: Failure | None = None


Action = Discover | Look | Probe | Sample | Rely | Deregister | Confirm | Return | Register | Move | Wait | End
