"""The record on disk, the operation in it, and what is said of it. Safe to use from any thread."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from zdd_agent.decide import timing
from zdd_agent.decide.actions import End
from zdd_agent.engine.events import EventId, fields
from zdd_agent.engine.progress import Journal
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Membership, Target, group_name
from zdd_agent.model.operation import FIRST_PHASE, LAST_PHASE, Event, Operation, Outcome, Record, Request, Verb
from zdd_agent.ports import Clock, Store

# Ended operations kept in memory: whoever waits for one learns its end even when the next has begun.
_KEPT = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Spans from the settings, in seconds; None for what the target groups say."""

    drain: float | None
    rejoin: float | None

    def of(self, request: Request) -> float | None:
        """What the caller gave, or the settings."""
        return request.timeout or (self.drain if request.verb is Verb.DRAIN else self.rejoin)


class Ledger:
    """One operation at a time, on disk before anything acts on it."""

    def __init__(self, store: Store, clock: Clock, timeouts: Timeouts) -> None:
        self._store = store
        self._clock = clock
        self._timeouts = timeouts
        self._lock = threading.RLock()
        self._record = _not_of_the_future(store.read(), clock.now())
        self._ended: deque[Operation] = deque(maxlen=_KEPT)
        self._counts: Counter[tuple[Verb, Outcome]] = Counter()
        self._journal = Journal(first_seq=int(clock.now() * 1000))
        self._closed = False
        self.wake = threading.Event()

    # What callers ask for

    def begin(self, request: Request) -> Operation:
        """Start an operation, or join the one of the same verb that is under way.

        Raises:
            AgentError: BUSY when the other verb is under way, STORE when it cannot be put on disk.
        """
        with self._lock:
            current = self.running()
            if current is not None:
                if current.verb is request.verb:
                    return current
                raise AgentError(
                    Kind.BUSY,
                    f"cannot {request.verb}: a {current.verb} is under way ({current.phase})",
                    hint="wait for it with `zdd-agent watch`, or stop it with `zdd-agent cancel`",
                    value=current.id,
                )
            now = self._clock.now()
            operation = Operation(
                id=secrets.token_hex(6),
                request=request,
                phase=FIRST_PHASE[request.verb],
                started_at=now,
                deadline=now + (self._timeouts.of(request) or timing.DISCOVERY_SECONDS),
            )
            self._write(replace(self._record, operation=operation))
        log.info(
            "%s %s started by uid %d: %r",
            request.verb,
            operation.id,
            request.uid,
            request.reason,
            extra=fields(EventId.STARTED, operation),
        )
        if request.force:
            checks = ", ".join(request.force)
            log.warning("%s %s skips %s: forced by uid %d", request.verb, operation.id, checks, request.uid)
        self.say(f"{request.verb} started")
        self.wake.set()
        return operation

    def cancel(self, uid: int) -> Operation:
        """Ask the operation under way to stop where it is.

        Raises:
            AgentError: NOT_FOUND when none is under way.
        """
        with self._lock:
            current = self.running()
            if current is None:
                raise AgentError(Kind.NOT_FOUND, "cannot cancel: no operation is under way")
            current = replace(current, cancelled_by=uid)
            self._write(replace(self._record, operation=current))
        extra = {**fields(EventId.CANCELLED, current), "ZDD_CALLER_UID": uid}
        log.info("%s %s cancelled by uid %d", current.verb, current.id, uid, extra=extra)
        self.wake.set()
        return current

    def forget(self, target_group: str, target_id: str, port: int, uid: int) -> None:
        """Drop a target from the membership: this host has it no more, and a rejoin is not to register it.

        Args:
            target_group: the group's name.
            target_id: an instance ID or an address, as the membership has it.
            port: the target's.
            uid: who asked.

        Raises:
            AgentError: BUSY while an operation is under way, NOT_FOUND when the membership has no such target, STORE.
        """
        name = f"{target_group} {target_id}:{port}"
        with self._lock:
            if (current := self.running()) is not None:
                hint = "wait for it with `zdd-agent watch`, or stop it with `zdd-agent cancel`"
                message = f"cannot forget {name}: a {current.verb} is under way ({current.phase})"
                raise AgentError(Kind.BUSY, message, hint=hint, value=current.id)
            known = self._record.membership or Membership()
            left = tuple(
                t for t in known.targets if (group_name(t.group), t.id, t.port) != (target_group, target_id, port)
            )
            if len(left) == len(known.targets):
                hint = "`zdd-agent status` shows the targets that are known"
                raise AgentError(Kind.NOT_FOUND, f"cannot forget {name}: it is not in the membership", hint=hint)
            groups = tuple(g for g in known.groups if any(t.group == g.arn for t in left))
            self._write(replace(self._record, membership=Membership(groups, left)))
        log.warning("%s is forgotten: asked by uid %d", name, uid)

    def record(self) -> Record:
        """What is on disk."""
        with self._lock:
            return self._record

    def running(self) -> Operation | None:
        """The operation under way."""
        operation = self.record().operation
        return operation if operation is not None and operation.outcome is None else None

    def operation(self, operation_id: str) -> Operation:
        """The operation of this ID. Raises AgentError NOT_FOUND."""
        with self._lock:
            known = (self._record.operation, *self._ended)
        for operation in known:
            if operation is not None and operation.id == operation_id:
                return operation
        raise AgentError(Kind.NOT_FOUND, f"cannot show operation {operation_id[:32]!r}: there is none")

    def events(self, operation_id: str, after: int, seconds: float) -> tuple[Operation, tuple[Event, ...]]:
        """Long poll: the operation and its events after `after`, at once if there are any or it has ended."""
        self.operation(operation_id)
        events = self._journal.after(after, seconds, lambda: self.operation(operation_id).outcome is not None)
        return self.operation(operation_id), tuple(e for e in events if e.operation == operation_id)

    def counts(self) -> Mapping[tuple[Verb, Outcome], int]:
        """How many operations ended how since the daemon started."""
        return dict(self._counts)

    @property
    def closed(self) -> bool:
        """Whether the daemon is on its way out; whoever waits is let go."""
        return self._closed

    def close(self) -> None:
        """Let everybody who waits go."""
        self._closed = True
        self._journal.close()
        self.wake.set()

    # What the loop reports

    def timeout(self, request: Request) -> float | None:
        """The timeout that was asked for, in seconds; None when it is to be derived."""
        return self._timeouts.of(request)

    def persist(self, record: Record, operation: Operation) -> None:
        """Put both on disk; a cancellation that came meanwhile is kept. Raises AgentError STORE."""
        with self._lock:
            current = self._record.operation
            if current is not None and current.cancelled_by is not None:
                operation = replace(operation, cancelled_by=current.cancelled_by)
            self._write(replace(record, operation=operation))
        if current is None or current.phase is not operation.phase:
            targets = record.membership.targets if record.membership else ()
            extra = fields(EventId.PHASE, operation, targets)
            log.info("%s %s: %s", operation.verb, operation.id, operation.phase, extra=extra)

    def end(self, end: End) -> None:
        """The operation under way is over. A drain leaves the host out, a rejoin brings it back."""
        with self._lock:
            operation = self.running()
            if operation is None:
                return
            good = end.outcome is Outcome.SUCCEEDED
            ended = replace(
                operation,
                phase=LAST_PHASE[operation.verb] if good else operation.phase,
                outcome=end.outcome,
                message=end.message or (end.failure.message if end.failure else ""),
                failure=end.failure,
                ended_at=self._clock.now(),
            )
            record = replace(self._record, operation=ended)
            if good:
                out_since = record.out_since or self._clock.now() if ended.verb is Verb.DRAIN else None
                record = replace(record, out_since=out_since, settled=ended.verb is Verb.DRAIN)
            self._record = record
            self._ended.append(ended)
            self._counts[ended.verb, end.outcome] += 1
            try:
                self._store.write(record)
            except AgentError as error:
                # The outcome stands in memory; after a restart the operation goes on from its last phase.
                log.error("cannot put the outcome on disk: %s", error)  # noqa: TRY400  no defect of ours
        targets = record.membership.targets if record.membership else ()
        extra = fields(EventId.ENDED, ended, targets)
        log.info("%s %s %s: %s", ended.verb, ended.id, end.outcome, ended.message, extra=extra)
        self._journal.add(ended, ended.message, self._clock.now())

    def changed(self, text: str, targets: tuple[Target, ...]) -> None:
        """AWS was told to change these; said to whoever watches, and logged."""
        if (operation := self.running()) is not None:
            extra = fields(EventId.CHANGED, operation, targets)
            log.info("%s %s: %s", operation.verb, operation.id, text, extra=extra)
        self.say(text)

    def say(self, text: str, until: float | None = None) -> None:
        """Tell whoever watches. `until`: nothing can change before this moment."""
        if (operation := self.running()) is not None:
            self._journal.add(operation, text, self._clock.now(), until)

    def _write(self, record: Record) -> None:
        self._store.write(record)
        self._record = record


def _not_of_the_future(record: Record, now: float) -> Record:
    """The record with the operation under way brought back to now, where the clock was set back since it was written.

    What waits for a moment would wait that much longer.
    """
    operation = record.operation
    if operation is None or operation.outcome is not None:
        return record
    moments = {
        name: moment
        for name in ("started_at", "deadline", "accepted_at", "guarded_at", "relied_at")
        if (moment := getattr(operation, name)) is not None
    }
    ahead = max(moment for name, moment in moments.items() if name != "deadline") - now
    if ahead <= 0:
        return record
    log.warning("the clock was set back: %s %s is of the future by %.0f s", operation.verb, operation.id, ahead)
    operation = replace(operation, **{name: moment - ahead for name, moment in moments.items()})
    out_since = record.out_since
    if out_since is not None and out_since > now:
        out_since -= ahead
    return replace(record, operation=operation, out_since=out_since)
