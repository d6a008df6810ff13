"""The one loop: observe, decide, persist, act, wait; and go on after a restart."""

from __future__ import annotations

import logging
import random
from math import inf
from typing import TYPE_CHECKING

from zdd_agent.decide import drain, rejoin
from zdd_agent.decide.actions import Action, End, Look, MakeClaim, Probe, Resume, Sense, Wait
from zdd_agent.decide.again import again_at
from zdd_agent.decide.evidence import Evidence, Sensed, Senses
from zdd_agent.decide.reboot import after_reboot
from zdd_agent.decide.results import Found
from zdd_agent.decide.timing import DISCOVERY_SECONDS, MARGIN_SECONDS, longest_delay
from zdd_agent.engine.effects import Effects, Pace
from zdd_agent.engine.journal_fields import EventId, fields
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.observer import Observer
from zdd_agent.engine.sampler import Sampler
from zdd_agent.engine.status import posture
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.operation import Failure, Operation, Outcome, Request, Verb
from zdd_agent.model.record import Drained, InService, Record, Warming
from zdd_agent.model.service import Rules
from zdd_agent.ports import Clock, Metadata, Postures, Supervisor

if TYPE_CHECKING:
    from zdd_agent.engine.lifecycle import Lifecycle
    from zdd_agent.engine.slots import SlotHolding

log = logging.getLogger(__name__)

# Seconds between two signs of life: what feeds systemd's watchdog comes from this loop, so no wait is longer.
HEARTBEAT_SECONDS = 5.0
# Seconds before a failed call is tried again, doubling up to the poll interval, with jitter.
FIRST_RETRY_SECONDS = 1.0
# Seconds before a look that only the percentage of `min_healthy` needs is tried again.
_LISTING_RETRY_SECONDS = 300.0


class Runner:
    """Carries out the operation of the ledger. Everything runs in the thread that calls `run`, except for `stop`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        effects: Effects,
        observer: Observer,
        metadata: Metadata,
        sampler: Sampler,
        clock: Clock,
        supervisor: Supervisor,
        pace: Pace,
        rules: Rules,
        drained_warning_seconds: float,
        rng: random.Random,
        lifecycle: Lifecycle | None = None,
        slots: SlotHolding | None = None,
        postures: Postures | None = None,
    ) -> None:
        self._ledger = ledger
        self._effects = effects
        self._observer = observer
        self._metadata = metadata
        self._sampler = sampler
        self._clock = clock
        self._supervisor = supervisor
        self._pace = pace
        self._rules = rules
        self._drained_warning_seconds = drained_warning_seconds
        self._warned_at = float("-inf")
        self._list_at = float("-inf")
        self._rng = rng
        self._lifecycle = lifecycle
        self._slots = slots
        self._postures = postures
        self._stopping = False
        self._failures = 0
        # Of the operation under way; forgotten when another one starts.
        self._evidence = Evidence()
        self._evidence_for = ""

    def stop(self) -> None:
        """End `run` soon; an operation under way stays on disk and goes on after the next start."""
        self._stopping = True
        self._ledger.close()

    def run(self) -> None:
        """Turn until `stop`. The only place that acts and the only one that sleeps."""
        if (operation := self._ledger.running()) is not None:
            extra = fields(EventId.RESUMED, operation)
            log.warning("resuming %s %s at %s", operation.verb, operation.id, operation.phase, extra=extra)
            self._ledger.say(f"resumed after a restart, at {operation.phase}")
        while not self._stopping:
            self._ledger.wake.clear()
            operation = self._ledger.running()
            if operation is None:
                self._supervisor.alive("waiting for a command")
                self._clock.wait(self._ledger.wake, self.idle())
            else:
                self._supervisor.alive(f"{operation.verb}: {operation.phase}")
                if (seconds := self.tick(operation)) > 0:
                    self._clock.wait(self._ledger.wake, min(seconds, HEARTBEAT_SECONDS))

    def tick(self, operation: Operation) -> float:
        """One decision of the operation under way and its effect; answers how long to wait (seconds)."""
        due = self._attend()
        current = self._ledger.running()
        if current is None or current.id != operation.id:
            return 0.0  # a drain has superseded it
        return min(self._turn(operation), due)

    def _turn(self, operation: Operation) -> float:
        if operation.id != self._evidence_for:
            watched = isinstance(self._ledger.record().resting, Drained)
            senses = self._evidence.senses if watched else Senses()
            self._evidence, self._evidence_for, self._failures = Evidence(senses=senses), operation.id, 0
        try:
            if not self._ledger.identified:
                self._ledger.identify(self._metadata.identity())
                return 0.0
            record = self._ledger.record()
            action = self._decide(record)
            if isinstance(action, Wait):
                self._ledger.say(action.note, action.until)
                wake = action.until if action.wake is None else action.wake
                return max(min(wake - self._clock.now(), self._listen(record)), 0.0)
            self._perform(operation, record, action)
        except AgentError as error:
            return self._failed(operation, error)
        except Exception as error:
            log.exception("a defect of zdd-agent ended %s %s", operation.verb, operation.id)
            return self._failed(operation, AgentError(Kind.FAILED, _defect(operation.verb, error)))
        self._failures = 0
        return 0.0

    def idle(self) -> float:
        """What is due between operations; answers how long to wait (seconds)."""
        due = self._attend()
        return 0.0 if self._ledger.running() is not None else min(self._rest(), due)

    def _attend(self) -> float:
        due = self._lifecycle.attend() if self._lifecycle is not None else HEARTBEAT_SECONDS
        if self._slots is not None:
            due = min(due, self._slots.attend())
        if self._postures is not None:
            record = self._ledger.record()
            membership, seen = self._observer.latest() or (record.membership, None)
            self._postures.show(self._ledger.name, posture(record, membership, seen))
        return due

    def _rest(self) -> float:
        record, now = self._ledger.record(), self._clock.now()
        if not self._ledger.identified and not isinstance(record.state, InService):
            self._identify()
            record = self._ledger.record()
        self._warn(record, now)
        if self._ledger.identified and (back := after_reboot(record)) is not None:
            log.info("this host has rebooted and comes back, as uid %d asked", back.uid)
            return self._begin(back)
        due = again_at(record)
        if due is not None and record.last is not None and now >= due:
            log.warning("trying the rejoin again that %s: %s", record.last.outcome, record.last.message)
            return self._begin(record.last.request)
        self._list(record, now)
        self._watch_on(record, now)
        return min(self._listen(record), HEARTBEAT_SECONDS)

    def _decide(self, record: Record) -> Action:
        assert record.underway is not None  # noqa: S101  what mypy needs
        decide = drain.decide if record.underway.request.verb is Verb.DRAIN else rejoin.decide
        return decide(record, self._evidence, self._clock.now(), self._rules)

    def _perform(self, operation: Operation, record: Record, action: Action) -> None:
        result = self._effects.perform(record, action, self._evidence)
        if not isinstance(action, Look | Probe | Sense) and not isinstance(result, Sensed):
            # On disk first: what was seen means nothing beside a record that is not the one on disk.
            if not self._ledger.step(operation.id, action, result):
                return  # a drain has superseded it meanwhile
            if isinstance(action, MakeClaim | Resume):
                self._ledger.say(action.note)
        self._evidence = self._evidence.after(action, result, self._clock.now())
        if isinstance(action, End) and not isinstance(self._ledger.record().state, Drained):
            self._sampler.rest()

    def _identify(self) -> None:
        try:
            self._ledger.identify(self._metadata.identity())
        except AgentError as error:
            log.warning("cannot tell yet whose record this is: %s", error.message)

    def _begin(self, rejoin: Request) -> float:
        try:
            self._ledger.begin(rejoin)
        except AgentError as error:
            log.warning("cannot begin the rejoin yet: %s", error.message)
            return HEARTBEAT_SECONDS
        return 0.0

    def _warn(self, record: Record, now: float) -> None:
        """Say now and then that the host is out."""
        if record.out_since is None:
            self._warned_at = now
        elif now - max(record.out_since, self._warned_at) > self._drained_warning_seconds:
            log.warning("this host has been out for %d s: `zdd-agent rejoin` puts it back", now - record.out_since)
            self._warned_at = now

    def _watch_on(self, record: Record, now: float) -> None:
        """Go on watching a drained host for as long as AWS shows it draining: a second drain then need not wait."""
        senses = self._evidence.senses
        if not isinstance(record.state, Drained) or senses.watch is None or senses.blind:
            return
        if now < record.state.left.accepted_at + longest_delay(record.membership) + MARGIN_SECONDS:
            self._evidence = Evidence(senses=self._sampler.sense(senses, record.membership))
        else:
            self._evidence = Evidence()
            self._sampler.rest()

    def _listen(self, record: Record) -> float:
        """Look for health checks while this host is in service, so that no drain need wait for them.

        Answers how long to wait for the next time (seconds).
        """
        if not isinstance(record.resting, InService) and not isinstance(record.state, Warming):
            return inf
        latest = self._observer.latest()
        known = record.membership if record.membership.targets or latest is None else latest[0]
        return self._sampler.listen(known)

    def _list(self, record: Record, now: float) -> None:
        """Know the hosts that belong before the first of them leaves: a percentage is of them.

        And know which targets are this host before its end is announced. Its group deregisters it then, and a target
        that drains need not be checked any more: the health checks that make the sensor trusted must be seen before.
        """
        wanted = self._rules.min_healthy.percent is not None or self._lifecycle is not None
        if not wanted or record.listed or not isinstance(record.state, InService) or now < self._list_at:
            return
        self._list_at = now + _LISTING_RETRY_SECONDS
        try:
            found, seen = self._observer.discover(
                Verb.DRAIN, record.membership, (), self._pace.interval, now + DISCOVERY_SECONDS
            )
            self._ledger.list(Found(found, seen))
        except AgentError as error:
            log.info("cannot tell yet which target groups hold this host: %s", error.message)

    def _failed(self, operation: Operation, error: AgentError) -> float:
        """End the operation, or answer how long to wait before another try, when that may help."""
        now = self._clock.now()
        record = self._ledger.record()
        if record.underway is None or record.underway.id != operation.id:
            return 0.0
        if record.underway.cancelled_by is not None:
            self._end(operation, drain.cancelled(record))
            return 0.0
        deadline = record.underway.deadline
        if error.transient and now < deadline:
            self._failures += 1
            limit = min(FIRST_RETRY_SECONDS * 2.0 ** min(self._failures - 1, 10), self._pace.interval)
            wait = limit * self._rng.uniform(0.5, 1.0)
            self._ledger.say(f"{error.message}; trying again")
            return min(wait, deadline - now)
        self._end(operation, _ended_by(operation, error, deadline))
        return 0.0

    def _end(self, operation: Operation, end: End) -> None:
        self._perform(operation, self._ledger.record(), end)


def _defect(verb: Verb, error: Exception) -> str:
    said = " ".join(str(error).split()) or "no more is known"
    return f"cannot {verb}: a defect of zdd-agent, see its log: {type(error).__name__}: {said}"


def _ended_by(operation: Operation, error: AgentError, deadline: float) -> End:
    if error.transient and error.kind is not Kind.AWS_DENIED:
        span = deadline - operation.started_at
        message = f"cannot finish the {operation.verb} in {span:.0f} s: {error.message}"
        return End(Outcome.TIMED_OUT, message, Failure(Kind.TIMED_OUT.wire, message, error.hint))
    value = None if error.value is None else str(error.value)
    return End(Outcome.FAILED, error.message, Failure(error.kind.wire, error.message, error.hint, value))
