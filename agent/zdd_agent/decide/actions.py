"""What a decision can ask for, and what callers can ask of the record."""

from __future__ import annotations

from dataclasses import dataclass

from zdd_agent.decide.slot_actions import NoteSlot, SlotCall, WantSlot
from zdd_agent.model.aws import Target, TargetKey
from zdd_agent.model.operation import Failure, Outcome, Request
from zdd_agent.model.record import Claim, Ending

# Asked of the world: effects carry these out. `results` holds what comes of them.


@dataclass(frozen=True, slots=True)
class Discover:
    """Find the membership afresh."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Read the settings of the membership's groups again: a health check may have changed, a group may be gone."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask AWS for the health of every target of the membership's groups."""


@dataclass(frozen=True, slots=True)
class Sense:
    """Ask the kernel for the app's connections."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the app on this host what the load balancer's health check asks, once for each of these targets."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Deregister:
    """Deregister these targets. `claim` is what the guard went by."""

    targets: tuple[Target, ...]
    claim: Claim


@dataclass(frozen=True, slots=True)
class Register:
    """Register these targets."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """Complete the launch hook of the Auto Scaling group, which then registers this host."""


@dataclass(frozen=True, slots=True)
class EnterStandby:
    """Put this instance into Standby in this Auto Scaling group, and lower the group's desired capacity by one."""

    group: str


@dataclass(frozen=True, slots=True)
class ExitStandby:
    """Take this instance out of Standby in this Auto Scaling group, which raises its desired capacity by one."""

    group: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before `wake`, or before `until` where that is None; moments, seconds since the epoch.

    `until` is for people: by then the operation knows more.
    """

    until: float
    note: str
    wake: float | None = None


# Steps of the record alone: nothing outside is asked.


@dataclass(frozen=True, slots=True)
class MakeClaim:
    """The host may leave: put the intent on disk.

    Args:
        targets: what it will deregister.
        spare: those of its targets that are not in use.
        nodes: the addresses that check it.
        deadline: of the drain that now begins, seconds since the epoch.
        note: for people: what ends the drain, and a refusal that it passes over.
    """

    targets: tuple[Target, ...]
    spare: tuple[Target, ...]
    nodes: tuple[str, ...]
    claim: Claim
    ending: Ending
    deadline: float
    note: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Nothing is registered, and no proof of an earlier drain holds: wait for the proof.

    Args:
        accepted_at: the latest moment at which AWS can have accepted the deregistration, seconds since the epoch.
        nodes: the addresses that had checked this host.
        note: for people: what ends the drain.
    """

    accepted_at: float
    nodes: tuple[str, ...]
    ending: Ending
    deadline: float
    note: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """No other host left at the same moment: this one may stay out."""


@dataclass(frozen=True, slots=True)
class GoBack:
    """This host is needed: register what the drain deregistered."""

    failure: Failure
    deadline: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Back in service, and the caller still wants to wait: ask the guard again, until this deadline."""

    deadline: float


@dataclass(frozen=True, slots=True)
class Join:
    """The app passes: register, or let the group that launches this host do it; be healthy by then (seconds)."""

    deadline: float
    launching: bool = False


@dataclass(frozen=True, slots=True)
class Extend:
    """The operation has until this moment (seconds since the epoch)."""

    deadline: float


@dataclass(frozen=True, slots=True)
class Drop:
    """These groups (ARNs) do not exist any more: the membership goes on without them."""

    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class End:
    """The operation is over."""

    outcome: Outcome
    message: str
    failure: Failure | None = None


_Calls = Deregister | Register | Launch | EnterStandby | ExitStandby
_Outside = Discover | Refresh | Look | Sense | Probe | _Calls | SlotCall | Wait
_Inside = WantSlot | MakeClaim | Resume | Confirm | GoBack | Retry | Join | Extend | Drop | End
Action = _Outside | _Inside

# Asked by callers, and by the daemon's start.


@dataclass(frozen=True, slots=True)
class Begin:
    """Start an operation. A drain supersedes a rejoin that is under way.

    `boot_id` is of this boot of the host; empty where it is not known.
    """

    id: str
    request: Request
    deadline: float
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Attach:
    """A second caller asks for the verb that is under way: the operation does what the stricter of the two wants.

    `boot_id` as in `Begin`.
    """

    request: Request
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the operation under way where it is."""

    uid: int


@dataclass(frozen=True, slots=True)
class Forget:
    """This target is no part of the membership any more."""

    target: TargetKey


@dataclass(frozen=True, slots=True)
class Boot:
    """The daemon has read the record.

    Args:
        boot_id: of this boot of the host; empty where it is not known.
        deadline: of a rejoin that an earlier boot did not finish, seconds since the epoch.
    """

    boot_id: str
    deadline: float


@dataclass(frozen=True, slots=True)
class Identify:
    """The instance metadata service has said who this host is.

    Args:
        instance_id: of this instance.
        addresses: this instance's.
        boot_id: of this boot of the host; empty where it is not known.
        asked_here: the ID of the operation that was asked of this very daemon; empty where there is none.
    """

    instance_id: str
    addresses: tuple[str, ...]
    boot_id: str = ""
    asked_here: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """This instance will be gone soon, at `deadline` (seconds since the epoch) where somebody says so."""

    why: str
    deadline: float | None = None


Asked = Begin | Attach | Cancel | Forget | Boot | Identify | Leave | NoteSlot
