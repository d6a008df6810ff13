"""The record of one service on disk, its operation, and the operation's events. Safe to use from any thread."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace

from zdd_agent.decide import asked
from zdd_agent.decide.actions import Action, Asked, Attach, Begin, Boot, Cancel, Discover, End, Forget, Identify, Leave
from zdd_agent.decide.apply import apply
from zdd_agent.decide.results import Done, Found, Result
from zdd_agent.decide.timing import DISCOVERY_SECONDS
from zdd_agent.engine.journal_fields import EventId, fields
from zdd_agent.engine.progress import EventLog
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, Target
from zdd_agent.model.operation import Event, Operation, Outcome, Request, Verb
from zdd_agent.model.record import PHASES, Probing, Record
from zdd_agent.model.service import HOST, Timeouts
from zdd_agent.ports import Clock, Store

# Ended operations kept in memory: whoever waits for one learns how it ended even after the next has begun.
_KEPT = 16

log = logging.getLogger(__name__)


class Ledger:
    """One operation at a time, on disk before anything acts on it.

    Args:
        store: where the record is kept.
        clock: the time.
        timeouts: of the settings.
        boot_id: of this boot of the host; empty where it is not known.
        name: of the service.
    """

    def __init__(self, store: Store, clock: Clock, timeouts: Timeouts, boot_id: str = "", name: str = HOST) -> None:
        self._store = store
        self._clock = clock
        self._timeouts = timeouts
        self._boot_id = boot_id
        self.name = name
        self._lock = threading.RLock()
        self._ended: deque[Operation] = deque(maxlen=_KEPT)
        self._counts: Counter[tuple[Verb, Outcome]] = Counter()
        self._log = EventLog(int(clock.now() * 1000), self._lock)
        self._closed = False
        self._asked_here = ""
        self.wake = threading.Event()
        read = store.read()
        # A boot ID is random: the same one means the same boot of the same instance; there is no need to ask anybody.
        self.identified = bool(read.owner.instance_id and boot_id and read.owner.boot_id == boot_id)
        now = clock.now()
        self._record = apply(read, Boot(boot_id, now + DISCOVERY_SECONDS), Done(), now)
        if self._record.last is not read.last and self._record.last is not None:
            log.warning("%s", self._record.last.message)

    # What callers ask for

    def begin(self, request: Request) -> Operation:
        """Start an operation, or join the one of the same verb that is under way. A drain supersedes a rejoin.

        Raises:
            AgentError: BUSY for a rejoin while a drain is under way, REFUSED for one of a host that leaves, STORE when
                it cannot be put on disk.
        """
        with self._lock:
            current = self.running()
            if current is not None and current.verb is request.verb:
                return self._join(request, current)
            if request.verb is Verb.REJOIN and self._record.leaving is not None:
                raise asked.no_rejoin(self._record.leaving)
            if current is not None and request.verb is Verb.REJOIN:
                raise _busy(f"cannot {request.verb}", current)
            now = self._clock.now()
            timeout = self._timeouts.of(request)
            deadline = now + (DISCOVERY_SECONDS + request.wait if timeout is None else timeout)
            begin = Begin(secrets.token_hex(6), replace(request, timeout=timeout), deadline)
            self._change(begin)
            self._asked_here = begin.id
            operation = self._underway()
        extra = fields(EventId.STARTED, operation)
        log.info("%s %s started by uid %d: %r", request.verb, operation.id, request.uid, request.reason, extra=extra)
        _log_forced(operation, request)
        self.say(f"{request.verb} started")
        self.wake.set()
        return operation

    def cancel(self, uid: int) -> Operation:
        """Ask the operation under way to stop where it is.

        Raises:
            AgentError: NOT_FOUND when none is under way.
        """
        with self._lock:
            if self.running() is None:
                raise AgentError(Kind.NOT_FOUND, "cannot cancel: no operation is under way")
            self._change(Cancel(uid))
            current = self._underway()
        extra = {**fields(EventId.CANCELLED, current), "ZDD_CALLER_UID": uid}
        log.info("%s %s cancelled by uid %d", current.verb, current.id, uid, extra=extra)
        self.wake.set()
        return current

    def forget(self, target_group: str, target_id: str, port: int, uid: int) -> None:
        """Take a target out of the membership: no rejoin registers it any more.

        Args:
            target_group: its name or ARN.
            target_id: an instance ID or an address.
            port: of the target.
            uid: who asks.

        Raises:
            AgentError: NOT_FOUND when the membership has no such target, BUSY while an operation needs it.
        """
        with self._lock:
            current = self.running()
            if current is not None and not isinstance(self._record.state, Probing):
                raise _busy(f"cannot forget {target_group} {target_id}:{port}", current)
            known = self._record.membership.find(target_group, target_id, port)
            if known is None:
                said = f"cannot forget {target_group} {target_id}:{port}: this host has no such target"
                raise AgentError(Kind.NOT_FOUND, said, hint="`zdd-agent status` lists its targets")
            self._change(Forget(known.key))
        log.warning("uid %d made this host forget %s", uid, known)
        self.wake.set()

    def record(self) -> Record:
        """What is on disk."""
        with self._lock:
            return self._record

    def running(self) -> Operation | None:
        """The operation under way."""
        record = self.record()
        return None if record.underway is None else record.operation

    def operation(self, operation_id: str) -> Operation:
        """The operation of this ID. Raises AgentError NOT_FOUND."""
        with self._lock:
            known = (self._record.operation, self._record.last, *self._ended)
        for operation in known:
            if operation is not None and operation.id == operation_id:
                return operation
        raise AgentError(Kind.NOT_FOUND, f"cannot show operation {operation_id[:32]!r}: there is none")

    def events(self, operation_id: str, after: int, seconds: float) -> tuple[Operation, tuple[Event, ...]]:
        """Long poll: the operation and its events after `after`, at once if there are any or it has ended."""
        self.operation(operation_id)
        events = self._log.after(after, seconds, lambda: self.operation(operation_id).outcome is not None)
        return self.operation(operation_id), tuple(e for e in events if e.operation == operation_id)

    def counts(self) -> Mapping[tuple[Verb, Outcome], int]:
        """How many operations have ended since the daemon started, by verb and outcome."""
        return dict(self._counts)

    @property
    def closed(self) -> bool:
        """Whether the daemon is stopping: then every wait is over."""
        return self._closed

    def close(self) -> None:
        """End every wait: the daemon is stopping."""
        self._closed = True
        self._log.close()
        self.wake.set()

    # What the loop reports

    def identify(self, identity: Identity) -> None:
        """Take in who this host is, from the metadata service. A record of another instance is set aside.

        Raises:
            AgentError: STORE when that cannot be put on disk.
        """
        with self._lock:
            action = Identify(identity.instance_id, identity.addresses, self._boot_id, self._asked_here)
            if not asked.is_ours(self._record, action):
                owner = self._record.owner.instance_id or "another instance"
                self._store.set_aside(f"it is the record of {owner}, and this is {identity.instance_id}")
            self._change(action)
            self.identified = True

    def step(self, operation_id: str, action: Action, result: Result) -> bool:
        """Fold the result of an action into the record, on disk; False when that operation is no longer under way.

        An end counts even when it cannot be put on disk: after a restart the operation goes on from its last state.

        Raises:
            AgentError: STORE; then nothing of it counts, and the action may be repeated.
        """
        with self._lock:
            one = self._record.underway
            if one is None or one.id != operation_id:
                return False
            before = self._record
            self._change(action, result)
            now = self._record
        phase = PHASES.get(type(now.state))
        if phase is not None and phase is not PHASES.get(type(before.state)):
            operation = self._underway()
            extra = fields(EventId.PHASE, operation, now.membership.targets)
            log.info("%s %s: %s", operation.verb, operation.id, phase, extra=extra)
            self.say(phase)
        return True

    def leave(self, action: Leave) -> None:
        """This instance will be gone soon. Raises AgentError STORE when that cannot be put on disk."""
        with self._lock:
            known = self._record.leaving
            self._change(action)
            changed = self._record.leaving != known
        if changed:
            log.warning("this host is leaving: %s", action.why, extra={"MESSAGE_ID": EventId.LEAVING.value})
            self.say(f"this host is leaving: {action.why}")

    def list(self, found: Found) -> None:
        """Record which hosts belong, from a look between operations. Raises AgentError STORE."""
        with self._lock:
            if self.running() is None:
                self._change(Discover(), found)

    def changed(self, text: str, targets: tuple[Target, ...]) -> None:
        """Tell whoever watches, and the log, that AWS has been asked to change these."""
        if (operation := self.running()) is not None:
            extra = fields(EventId.CHANGED, operation, targets)
            log.info("%s %s: %s", operation.verb, operation.id, text, extra=extra)
        self.say(text)

    def say(self, text: str, until: float | None = None) -> None:
        """Tell whoever watches. `until`: nothing can change before this moment."""
        if (operation := self.running()) is not None:
            self._log.add(operation, text, self._clock.now(), until)

    def _join(self, request: Request, current: Operation) -> Operation:
        self._change(Attach(request))
        joined = self._underway()
        log.info("uid %d joins %s %s: %r", request.uid, joined.verb, joined.id, request.reason)
        _log_forced(joined, replace(request, force=tuple(c for c in request.force if c not in current.request.force)))
        self.say(f"uid {request.uid} joins the {joined.verb} that is under way")
        for sentence in asked.not_to_be_had(self._record, request):
            self.say(f"uid {request.uid} joins the {joined.verb} that is under way; {sentence}")
        self.wake.set()
        return joined

    def _underway(self) -> Operation:
        operation = self._record.operation
        assert operation is not None  # noqa: S101  what mypy needs
        return operation

    def _change(self, action: Action | Asked, result: Result = Done()) -> None:  # noqa: B008  frozen
        record = apply(self._record, action, result, self._clock.now())
        if record == self._record:
            return
        try:
            self._store.write(record)
        except AgentError as error:
            if not isinstance(action, End):
                raise
            log.error("cannot put the outcome on disk: %s", error)  # noqa: TRY400  not a defect of ours
        over = record.last if record.last is not self._record.last else None
        self._record = record
        if over is not None and over.outcome is not None:
            self._ended.append(over)
            self._counts[over.verb, over.outcome] += 1
            extra = fields(EventId.ENDED, over, record.membership.targets)
            log.info("%s %s %s: %s", over.verb, over.id, over.outcome, over.message, extra=extra)
            self._log.add(over, over.message, self._clock.now())


def _busy(cannot: str, current: Operation) -> AgentError:
    said = f"{cannot}: a {current.verb} is under way ({current.phase})"
    hint = "wait for it with `zdd-agent watch`, or stop it with `zdd-agent cancel`"
    return AgentError(Kind.BUSY, said, hint=hint, value=current.id)


def _log_forced(operation: Operation, request: Request) -> None:
    if request.force:
        checks = ", ".join(request.force)
        log.warning("%s %s skips %s: forced by uid %d", operation.verb, operation.id, checks, request.uid)
