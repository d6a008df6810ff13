"""Where the host stands, for whoever asks; and what an operation would do, without doing it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from zdd_agent.decide import guard, scaling, standby
from zdd_agent.decide.again import again_at
from zdd_agent.decide.population import absent, keys, registered
from zdd_agent.engine.observer import Observer
from zdd_agent.errors import AgentError
from zdd_agent.model.auto_scaling import ScalingPlace
from zdd_agent.model.aws import Identity, Membership, MinHealthy, State, Target
from zdd_agent.model.operation import Check, Failure, Observation, Posture, Verb
from zdd_agent.model.record import Record
from zdd_agent.model.states import Drained
from zdd_agent.ports import Clock, Metadata

if TYPE_CHECKING:
    from zdd_agent.engine.scaling import Scaling

# Seconds that a caller waits while another caller's question to AWS is under way: an answer takes well under one.
PATIENCE_SECONDS = 2.0
# Seconds for which a membership found for `status` is believed; a drain always finds it afresh.
MEMBERSHIP_SECONDS = 300.0
# Seconds after which a question to AWS on behalf of a caller is given up: the caller's own patience.
PLAN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `status` shows. `warnings` are whole sentences; `scaling` says where the host stands in its group."""

    posture: Posture
    identity: Identity | None
    membership: Membership
    seen: Observation | None
    record: Record
    now: float
    warnings: tuple[str, ...]
    scaling: str = ""

    @property
    def out_since(self) -> float | None:
        """None while every target is healthy: a drain that was ended before it deregistered took nobody out."""
        return None if self.posture is Posture.IN_SERVICE else self.record.out_since


@dataclass(frozen=True, slots=True)
class Plan:
    """What an operation would register or deregister, and why a guard would refuse it."""

    targets: tuple[Target, ...]
    refusal: Failure | None


def posture(record: Record, membership: Membership, seen: Observation | None) -> Posture:
    """Where the host stands, from what is on disk and what AWS said last."""
    if record.leaving is not None:
        return Posture.LEAVING
    if record.underway is not None:
        return Posture.DRAINING if record.underway.request.verb is Verb.DRAIN else Posture.REJOINING
    if seen is not None and membership.targets and _all(State.HEALTHY, membership, seen):
        return Posture.IN_SERVICE
    if record.left is not None:
        gone = seen is not None and all(seen.of(t) is None for t in membership.targets)
        back = seen is not None and (bool(registered(membership, seen)) or _on_another_port(membership, seen))
        proved = gone or isinstance(record.state, Drained)
        return Posture.DRAINED if proved and not back else Posture.OUT_OF_SERVICE
    return Posture.UNKNOWN if seen is None else Posture.OUT_OF_SERVICE


class Reporter:
    """Answers `status` and dry runs. Asks AWS at most once in `poll_seconds`, however many callers there are."""

    def __init__(
        self,
        *,
        observer: Observer,
        metadata: Metadata,
        clock: Clock,
        record: Callable[[], Record],
        notices: Callable[[], tuple[str, ...]],
        poll_seconds: float,
        drained_warning_seconds: float,
        min_healthy: MinHealthy,
        scaling: Scaling | None = None,
    ) -> None:
        self._observer = observer
        self._metadata = metadata
        self._clock = clock
        self._record = record
        self._poll_seconds = poll_seconds
        self._notices = notices
        self._drained_warning_seconds = drained_warning_seconds
        self._min_healthy = min_healthy
        self._scaling = scaling
        self._ask_group_at = -inf
        self._place: ScalingPlace | None = None
        self._doubt = ""
        self._refreshing = threading.Lock()
        self._found_at = float("-inf")

    def snapshot(self) -> Snapshot:
        """The host's posture and targets; an outside thing that fails becomes a warning, never an error."""
        warnings: list[str] = []
        identity = None
        # One caller asks; the others are told what is known rather than queue behind a service that is silent.
        if self._refreshing.acquire(timeout=PATIENCE_SECONDS):
            try:
                identity = self._metadata.identity(inf)  # shown, not searched for
                self._ask_group()
                self._refresh()
            except AgentError as error:
                warnings.append(_said(error))
            finally:
                self._refreshing.release()
        else:
            warnings.append("AWS has not answered yet; this is what was known before")
        record = self._record()
        latest = self._observer.latest()
        membership, seen = latest if latest is not None else (record.membership, None)
        where = posture(record, membership, None if warnings else seen)
        now = self._clock.now()
        if (again := again_at(record)) is not None and record.last is not None:
            warnings.append(f"{record.last.message}; trying the rejoin again in {max(again - now, 0):.0f} s")
        in_group, doubts = self._group(record, membership, now)
        warnings += doubts
        if record.leaving is not None:
            warnings.append(f"this host is leaving, and no rejoin puts it back: {record.leaving.why}")
        elif record.reboot is not None and record.left is not None:
            warnings.append(f"uid {record.reboot.uid} asked for a reboot: this host comes back by itself after it")
        shot = Snapshot(where, identity, membership, seen, record, now, (*self._notices(), *warnings), in_group)
        if shot.out_since is not None and now - shot.out_since > self._drained_warning_seconds:
            said = f"this host has been out for {now - shot.out_since:.0f} s: `zdd-agent rejoin` puts it back"
            shot = replace(shot, warnings=(*shot.warnings, said))
        return shot

    def plan(self, verb: Verb, force: tuple[Check, ...]) -> Plan:
        """What this operation would do now. Changes nothing."""
        record, now = self._record(), self._clock.now()
        by = now + PLAN_SECONDS
        if verb is Verb.REJOIN and record.left is not None and record.membership.targets:
            # As in the rejoin itself: what a drain took out is what comes back.
            membership = record.membership
            seen = self._observer.look(membership, record.listed, self._poll_seconds, by)
            return Plan(absent(membership, seen), None)
        out = record.left is not None
        membership, seen = self._observer.discover(
            verb, record.membership, record.listed, self._poll_seconds, by, out=out
        )
        if verb is Verb.REJOIN:
            return Plan(absent(membership, seen), None)
        refusal = self._refused_by_group() or guard.refusal(membership, seen, self._min_healthy, force)
        return Plan(registered(membership, seen), refusal)

    def _refused_by_group(self) -> Failure | None:
        place = self._scaling.place() if self._scaling is not None else None
        if place is None or self._scaling is None:
            return None
        return scaling.owned(place.group) or (standby.no_room(place) if self._scaling.standby else None)

    def _ask_group(self) -> None:
        """Ask for the Auto Scaling group, at most once in `poll_seconds`, whatever comes of it."""
        now = self._clock.now()
        if self._scaling is None or now < self._ask_group_at:
            return
        self._ask_group_at = now + self._poll_seconds
        try:
            self._place, self._doubt = self._scaling.place(), ""
        except AgentError as error:
            self._place, self._doubt = None, _said(error)

    def _group(self, record: Record, membership: Membership, now: float) -> tuple[str, tuple[str, ...]]:
        """Where the host stands in its Auto Scaling group, and what the operator should know of that."""
        place = self._place
        if place is None:
            asked = self._ask_group_at > -inf and not self._doubt
            return ("in no Auto Scaling group" if asked else ""), ((self._doubt,) if self._doubt else ())
        delay, left = scaling.replaced_after(place, membership), record.left
        said = scaling.described(place, membership, standby=self._scaling is not None and self._scaling.standby)
        if delay is None or left is None or left.standby:
            return said, ()
        after = left.accepted_at + delay - now
        when = f"in {after:.0f} s" if after > 0 else "at any moment"
        may = f"the Auto Scaling group {place.group.name} may replace this host {when}"
        return said, (f"{may}: `zdd-agent rejoin` prevents it",)

    def _refresh(self) -> None:
        now = self._clock.now()
        record = self._record()
        latest = self._observer.latest()
        if record.underway is not None or (latest is not None and now - latest[1].seen_at < self._poll_seconds):
            return
        known = record.membership if record.left is not None else None
        if known is None and latest is not None and now - self._found_at < MEMBERSHIP_SECONDS:
            known = latest[0]
        by = now + PLAN_SECONDS
        if known is not None and known.targets:
            self._observer.look(known, record.listed, self._poll_seconds, by)
        else:
            self._observer.discover(Verb.DRAIN, record.membership, record.listed, self._poll_seconds, by)
            self._found_at = now


def _said(error: AgentError) -> str:
    return error.message + (f" ({error.hint})" if error.hint else "")


def _on_another_port(membership: Membership, seen: Observation) -> bool:
    """Whether others have registered this host in these groups on a port that the drain did not know."""
    known = keys(membership.targets)
    ids = {t.id for t in membership.targets}
    return any(h.target.id in ids and h.target.key not in known for h in seen.population)


def _all(state: State, membership: Membership, seen: Observation) -> bool:
    return all((h := seen.of(t)) is not None and h.state is state for t in membership.targets)
