"""The one loop: observe, decide, persist, act, wait; and go on after a restart."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from zdd_agent.errors import AgentError, Kind
from zdd_agent.model import Evidence, Failure, Operation, Outcome, Phase, Verb
from zdd_agent.operation import drain, rejoin, timing
from zdd_agent.operation.actions import (
    Action,
    Confirm,
    Deregister,
    Discover,
    End,
    Look,
    Move,
    Probe,
    Register,
    Return,
    Wait,
)
from zdd_agent.operation.diagnosis import LOOKS
from zdd_agent.operation.ledger import Ledger
from zdd_agent.operation.observer import Observer
from zdd_agent.operation.rejoin import counted
from zdd_agent.ports import Clock, LoadBalancing, Prober, Supervisor
from zdd_agent.targets import Floor, Membership, Target, TargetGroup

log = logging.getLogger(__name__)

# Seconds between two signs of life: what feeds systemd's watchdog comes from this loop, so no wait is longer.
HEARTBEAT_SECONDS = 5.0
# Seconds before a failed call is tried again, doubling up to the poll interval, with jitter.
FIRST_RETRY_SECONDS = 1.0


Change = Callable[[TargetGroup, tuple[Target, ...]], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are asked, in seconds.

    `interval` is AWS's, `jitter` is drawn at random and added to it, `probe` is between two probes of the app.
    """

    interval: float
    jitter: float
    probe: float


class Runner:
    """Carries out the operation of the ledger. Everything runs in the thread that calls `run`, but for `stop`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        observer: Observer,
        aws: LoadBalancing,
        prober: Prober,
        clock: Clock,
        supervisor: Supervisor,
        pace: Pace,
        floor: Floor,
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._observer = observer
        self._aws = aws
        self._prober = prober
        self._clock = clock
        self._supervisor = supervisor
        self._pace = pace
        self._floor = floor
        self._rng = rng
        self._stopping = False
        self._failures = 0
        # What is known since the last change; forgotten when another operation starts.
        self._evidence = Evidence()
        self._evidence_for = ""

    def stop(self) -> None:
        """End `run` soon; an operation under way stays on disk and goes on after the next start."""
        self._stopping = True
        self._ledger.close()

    def run(self) -> None:
        """Turn until `stop`. The only place that acts and the only one that sleeps."""
        if (operation := self._ledger.running()) is not None:
            log.warning("resuming %s %s at %s", operation.verb, operation.id, operation.phase)
            self._ledger.say(f"resumed after a restart, at {operation.phase}")
        while not self._stopping:
            self._ledger.wake.clear()
            operation = self._ledger.running()
            if operation is None:
                self._supervisor.alive("waiting for a command")
                self._clock.wait(self._ledger.wake, HEARTBEAT_SECONDS)
            else:
                self._supervisor.alive(f"{operation.verb}: {operation.phase}")
                if (seconds := self.tick(operation)) > 0:
                    self._clock.wait(self._ledger.wake, min(seconds, HEARTBEAT_SECONDS))

    def tick(self, operation: Operation) -> float:
        """One decision of the operation under way and its effect; answers how long to wait (seconds)."""
        if operation.id != self._evidence_for:
            self._evidence, self._evidence_for, self._failures = Evidence(), operation.id, 0
        try:
            if operation.cancelled_by is not None:
                self._ledger.end(_cancelled(operation))
                return 0.0
            action = self._decide(operation)
            if isinstance(action, Wait):
                self._ledger.say(action.note, action.until)
                return max(action.until - self._clock.now(), 0.0)
            self._act(operation, action)
        except AgentError as error:
            return self._failed(operation, error)
        except Exception as error:
            log.exception("a defect of zdd-agent ended %s %s", operation.verb, operation.id)
            return self._failed(operation, AgentError(Kind.FAILED, f"cannot {operation.verb}: {error!r}"))
        self._failures = 0
        return 0.0

    def _decide(self, operation: Operation) -> Action:
        record, now = self._ledger.record(), self._clock.now()
        if operation.verb is Verb.DRAIN:
            return drain.decide(record, self._evidence, now, self._floor)
        return rejoin.decide(record, self._evidence, now, self._pace.interval)

    def _act(self, operation: Operation, action: Action) -> None:
        match action:
            case Discover():
                self._discover(operation)
            case Look():
                self._look()
            case Probe(targets):
                self._probe(operation, targets)
            case Deregister(targets, guarded, guarded_at):
                claimed = replace(operation, guarded=guarded, guarded_at=guarded_at, confirmed=not targets)
                self._change(claimed, Phase.DRAINING, targets, self._aws.deregister, "deregistered")
            case Confirm():
                self._ledger.persist(self._ledger.record(), replace(operation, confirmed=True))
            case Return(targets, failure):
                self._return(operation, targets, failure)
            case Register(targets):
                self._change(operation, Phase.WARMING, targets, self._aws.register, "registered")
            case Move(phase):
                self._move(operation, phase)
            case End():
                self._ledger.end(action)

    def _discover(self, operation: Operation) -> None:
        record = self._ledger.record()
        old = record.membership if record.out_since is not None else None
        now = self._clock.now()
        membership, seen = self._observer.discover(operation.verb, old, now, self._until_next_look())
        self._ledger.persist(replace(record, membership=membership), self._timed(operation, membership))
        self._evidence = Evidence(
            seen
        )  # only now: what was seen means nothing beside a membership that is not the one on disk

    def _look(self) -> None:
        membership = self._ledger.record().membership or Membership()
        seen = self._observer.look(membership, self._clock.now(), self._until_next_look())
        old = self._evidence
        earlier = (old.seen, *old.earlier)[:LOOKS] if old.seen is not None else ()
        self._evidence = replace(old, seen=seen, earlier=earlier)

    def _probe(self, operation: Operation, targets: tuple[Target, ...]) -> None:
        membership = self._ledger.record().membership or Membership()
        results = tuple(self._prober.check(membership.group(t.group), t) for t in targets)
        evidence = self._evidence
        if operation.phase is Phase.PROBING:
            again = self._clock.now() + self._pace.probe
            self._evidence = replace(evidence, tallies=counted(evidence.tallies, results), probe_again_at=again)
        elif evidence.seen is not None:
            self._evidence = replace(evidence, seen=replace(evidence.seen, probes=results))

    def _return(self, operation: Operation, targets: tuple[Target, ...], failure: Failure) -> None:
        self._each_group(targets, self._aws.register, "registered again")
        self._ledger.persist(replace(self._ledger.record(), out_since=None), operation)
        self._ledger.end(End(Outcome.REFUSED, "", failure))

    def _move(self, operation: Operation, phase: Phase) -> None:
        record = self._ledger.record()
        if phase is Phase.DEREGISTERING and record.out_since is None:
            record = replace(record, out_since=self._clock.now())
        if operation.phase is Phase.PROBING:
            operation = self._timed(operation, record.membership or Membership())
        self._ledger.persist(record, operation.moved(phase))
        self._ledger.say(phase)

    def _change(
        self,
        operation: Operation,
        then: Phase,
        targets: tuple[Target, ...],
        call: Change,
        done: str,
    ) -> None:
        self._each_group(targets, call, done)
        # Nothing to change means that it was changed before, at a moment that is not known here.
        accepted_at = self._clock.now() if targets else operation.accepted_at
        self._ledger.persist(self._ledger.record(), replace(operation.moved(then), accepted_at=accepted_at))
        self._evidence = Evidence()

    def _each_group(self, targets: tuple[Target, ...], call: Change, done: str) -> None:
        for group in (self._ledger.record().membership or Membership()).groups:
            own = tuple(t for t in targets if t.group == group.arn)
            if own:
                call(group, own)
                self._ledger.say(f"{done} {', '.join(map(str, own))}")

    def _failed(self, operation: Operation, error: AgentError) -> float:
        """End the operation, or answer how long to wait before another try, when that may help."""
        now = self._clock.now()
        if error.transient and now < operation.deadline:
            self._failures += 1
            limit = min(FIRST_RETRY_SECONDS * 2.0 ** min(self._failures - 1, 10), self._pace.interval)
            wait = limit * self._rng.uniform(0.5, 1.0)
            self._ledger.say(f"{error.message}; trying again")
            return min(wait, operation.deadline - now)
        self._ledger.end(_ended_by(operation, error))
        return 0.0

    def _timed(self, operation: Operation, membership: Membership) -> Operation:
        """The operation with the deadline that its target groups ask for, unless one was given."""
        if self._ledger.timeout(operation.request) is not None:
            return operation
        derive = timing.drain_timeout if operation.verb is Verb.DRAIN else timing.rejoin_timeout
        return replace(operation, deadline=operation.started_at + derive(membership))

    def _until_next_look(self) -> float:
        return self._pace.interval + self._rng.uniform(0.0, self._pace.jitter)


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
