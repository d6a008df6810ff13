"""Pure: what a host does next that will be gone soon: drain, keep its group waiting, let its group go on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zdd_agent.decide.again import AGAIN_SECONDS
from zdd_agent.decide.timing import longest_delay
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Outcome, Request, Verb
from zdd_agent.model.record import Leaving, Record

# Seconds between two calls that Auto Scaling refuses: the hook's state starts only after the group's own
# deregistration delay, and IMDS does not tell when.
REFUSED_SECONDS = 10.0
# Seconds between two tries around the moment at which the hook's state should start, and how far around it that is.
SOON_SECONDS = 1.0
AROUND_SECONDS = 15.0
# Seconds between two tries where the role lacks a permission: somebody may grant it yet.
DENIED_SECONDS = 60.0
# Seconds after the moment at which the hook's state should start from which nobody counts on it any more: the hook was
# deleted, or somebody else has completed it.
_LATE_SECONDS = 600.0
# Of a hook's time-out, how much passes between two heartbeats. The shortest time-out is 30 s.
_PART = 3.0
# Seconds before the end of an instance at which its drain gives up, and the least that it gets.
_SPARE_SECONDS = 5.0
_LEAST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Hook:
    """How it stands with the group's hook for a termination. Moments are seconds since the epoch.

    Args:
        heartbeat: its time-out in seconds; None where it is not known.
        beat_at: before this moment no heartbeat is due.
        complete_at: before this moment it is not worth trying to complete it.
        completed: it is.
    """

    heartbeat: float | None = None
    beat_at: float = 0.0
    complete_at: float = 0.0
    completed: bool = False

    def beaten(self, now: float, *, answered: bool) -> Hook:
        """After a heartbeat that AWS took, or refused because the hook does not run yet; or that it did not answer.

        A hook that begins right after a refusal has its whole time-out: the next heartbeat is in time for it.
        """
        span = self.heartbeat / _PART if answered and self.heartbeat is not None else REFUSED_SECONDS
        return Hook(self.heartbeat, now + span, self.complete_at)

    def refused(self, now: float, starts_at: float | None) -> Hook:
        """After a completion that AWS refused; `starts_at` is when the hook's state should start, as far as known."""
        if starts_at is None:
            again = now + REFUSED_SECONDS
        elif abs(now - starts_at) < AROUND_SECONDS:
            again = now + SOON_SECONDS
        elif now > starts_at + _LATE_SECONDS:
            again = now + DENIED_SECONDS
        else:  # not a moment later than where the short steps begin
            begins = starts_at - AROUND_SECONDS
            again = min(now + REFUSED_SECONDS, begins + SOON_SECONDS) if now < begins else now + REFUSED_SECONDS
        return Hook(self.heartbeat, self.beat_at, again)

    def denied(self, now: float, *, beat: bool) -> Hook:
        """After a call that the role may not make. A missing permission for one call does not hold up the other."""
        again = now + DENIED_SECONDS
        return replace(self, beat_at=again) if beat else replace(self, complete_at=again)


@dataclass(frozen=True, slots=True)
class DrainAway:
    """Drain, whatever the guard says: nothing can prevent this end."""

    request: Request


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Work is left: keep the group waiting."""


@dataclass(frozen=True, slots=True)
class Complete:
    """No work is left: let the group go on."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is due before this moment, seconds since the epoch; None where nothing more is to be done."""

    until: float | None


Step = DrainAway | Heartbeat | Complete | Rest


def next_step(record: Record, hook: Hook | None, now: float, uid: int) -> Step:
    """What is due.

    Args:
        record: as it stands on disk, of a host that leaves.
        hook: the group's; None where there is none to be answered.
        now: seconds since the epoch.
        uid: of the agent, which asks for the drain.
    """
    leaving = record.leaving
    if leaving is None:
        return Rest(None)
    if is_empty(record):
        if hook is None or hook.completed:
            return Rest(None)
        return Complete() if now >= hook.complete_at else Rest(hook.complete_at)
    if (due := _drain_at(record, leaving)) is not None and now >= due:
        return DrainAway(_request(leaving, now, uid))
    if hook is None:
        return Rest(due)
    # From the first moment on: after the final notice of a spot instance the hook does not wait for the deregistration,
    # and the group may have begun that long before this agent heard of it.
    if now >= hook.beat_at:
        return Heartbeat()
    return Rest(min(hook.beat_at, due) if due is not None else hook.beat_at)


def is_empty(record: Record) -> bool:
    """Whether a drain that ended since this host leaves has proved that no work is left."""
    last, leaving = record.last, record.leaving
    if leaving is None or record.underway is not None or last is None or last.id == leaving.earlier:
        return False
    return last.verb is Verb.DRAIN and last.outcome is Outcome.SUCCEEDED


def hook_starts_at(record: Record) -> float | None:
    """When the hook's state should start: the group has waited for its own deregistration, which began no later."""
    if record.left is None or not record.membership.groups:
        return None
    return record.left.accepted_at + longest_delay(record.membership)


def _drain_at(record: Record, leaving: Leaving) -> float | None:
    """When a drain is due; None while one is under way that goes on whatever the guard says."""
    one, last = record.underway, record.last
    if one is not None:
        return None if one.request.verb is Verb.DRAIN and one.request.stopping else 0.0
    # Another caller's drain that has ended without proof is no reason to wait.
    if last is None or last.id == leaving.earlier or last.request.reason != leaving.why or last.ended_at is None:
        return 0.0
    return last.ended_at + AGAIN_SECONDS


def _request(leaving: Leaving, now: float, uid: int) -> Request:
    if leaving.deadline is None:
        return Request(Verb.DRAIN, uid, reason=leaving.why, stopping=True)
    # Whoever is cut off in two minutes sheds what it can: connections that are only kept open do not hold it.
    left = max(leaving.deadline - _SPARE_SECONDS - now, _LEAST_SECONDS)
    return Request(Verb.DRAIN, uid, left, leaving.why, until=Until.IDLE, stopping=True)
