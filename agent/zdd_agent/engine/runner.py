"""The one loop: observe, decide, persist, act, wait; and go on after a restart."""

from __future__ import annotations

import logging
import random

from zdd_agent.decide import drain, rejoin
from zdd_agent.decide.actions import Action, End, Wait
from zdd_agent.decide.evidence import SAMPLE_SECONDS, Evidence
from zdd_agent.engine.effects import Acts, Pace
from zdd_agent.engine.events import EventId, fields
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.sampler import Lookout
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.operation import Failure, Operation, Outcome, Phase, Verb
from zdd_agent.ports import Clock, Supervisor

log = logging.getLogger(__name__)

# Seconds between two signs of life: what feeds systemd's watchdog comes from this loop, so no wait is longer.
HEARTBEAT_SECONDS = 5.0
# Seconds before a failed call is tried again, doubling up to the poll interval, with jitter.
FIRST_RETRY_SECONDS = 1.0


class Runner:
    """Carries out the operation of the ledger. Everything runs in the thread that calls `run`, but for `stop`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        acts: Acts,
        lookout: Lookout,
        clock: Clock,
        supervisor: Supervisor,
        pace: Pace,
        rules: drain.Rules,
        drained_warning_seconds: float,
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._acts = acts
        self._lookout = lookout
        self._clock = clock
        self._supervisor = supervisor
        self._pace = pace
        self._rules = rules
        self._drained_warning_seconds = drained_warning_seconds
        self._warned_at = float("-inf")
        self._rng = rng
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
                self._clock.wait(self._ledger.wake, self._idle())
            else:
                self._supervisor.alive(f"{operation.verb}: {operation.phase}")
                if (seconds := self.tick(operation)) > 0:
                    self._clock.wait(self._ledger.wake, min(seconds, HEARTBEAT_SECONDS))

    def tick(self, operation: Operation) -> float:
        """One decision of the operation under way and its effect; answers how long to wait (seconds)."""
        if operation.id != self._evidence_for:
            self._evidence, self._evidence_for, self._failures = Evidence(), operation.id, 0
        try:
            if operation.cancelled_by is not None and not _awaits_second_look(operation):
                self._end(_cancelled(operation))
                return 0.0
            action = self._decide(operation)
            if isinstance(action, Wait):
                self._ledger.say(action.note, action.until)
                wake = action.until if action.wake is None else action.wake
                return max(wake - self._clock.now(), 0.0)
            self._evidence = self._acts.perform(operation, action, self._evidence)
        except AgentError as error:
            return self._failed(operation, error)
        except Exception as error:
            log.exception("a defect of zdd-agent ended %s %s", operation.verb, operation.id)
            return self._failed(operation, AgentError(Kind.FAILED, f"cannot {operation.verb}: {error!r}"))
        self._failures = 0
        if isinstance(action, End):
            self._lookout.rest()
        return 0.0

    def _decide(self, operation: Operation) -> Action:
        record, now = self._ledger.record(), self._clock.now()
        if operation.verb is Verb.DRAIN:
            return drain.decide(record, self._evidence, now, self._rules)
        return rejoin.decide(record, self._evidence, now, self._pace.interval)

    def _idle(self) -> float:
        """Between operations; answers how long to wait (seconds)."""
        record = self._ledger.record()
        now = self._clock.now()
        if record.out_since is None:
            self._warned_at = now
        elif now - max(record.out_since, self._warned_at) > self._drained_warning_seconds:
            log.warning("this host has been out for %d s: `zdd-agent rejoin` puts it back", now - record.out_since)
            self._warned_at = now
        if not self._lookout.adaptive or record.membership is None or record.out_since is not None:
            return HEARTBEAT_SECONDS
        self._lookout.idle(record.membership)
        return SAMPLE_SECONDS

    def _end(self, end: End) -> None:
        self._ledger.end(end)
        self._lookout.rest()

    def _failed(self, operation: Operation, error: AgentError) -> float:
        """End the operation, or answer how long to wait before another try, when that may help."""
        now = self._clock.now()
        if operation.cancelled_by is not None:
            self._end(_cancelled(operation))
            return 0.0
        if error.transient and now < operation.deadline:
            self._failures += 1
            limit = min(FIRST_RETRY_SECONDS * 2.0 ** min(self._failures - 1, 10), self._pace.interval)
            wait = limit * self._rng.uniform(0.5, 1.0)
            self._ledger.say(f"{error.message}; trying again")
            return min(wait, operation.deadline - now)
        self._end(_ended_by(operation, error))
        return 0.0


def _awaits_second_look(operation: Operation) -> bool:
    """Whether another host may count on this one to go back; a cancel comes after that look, seconds later."""
    return operation.verb is Verb.DRAIN and operation.phase is Phase.DRAINING and not operation.confirmed


def _cancelled(operation: Operation) -> End:
    message = f"{operation.verb} cancelled by uid {operation.cancelled_by} at {operation.phase}"
    hint = "run `zdd-agent status` to see where the host stands"
    return End(Outcome.CANCELLED, message, Failure(Kind.CANCELLED.wire, message, hint))


def _ended_by(operation: Operation, error: AgentError) -> End:
    if error.transient and error.kind is not Kind.AWS_DENIED:
        span = operation.deadline - operation.started_at
        message = f"cannot finish the {operation.verb} in {span:.0f} s: {error.message}"
        return End(Outcome.TIMED_OUT, message, Failure(Kind.TIMED_OUT.wire, message, error.hint))
    value = None if error.value is None else str(error.value)
    return End(Outcome.FAILED, error.message, Failure(error.kind.wire, error.message, error.hint, value))
