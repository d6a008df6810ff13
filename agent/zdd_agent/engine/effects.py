"""Carries out one action of a decision, through the ports; persists before it acts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from zdd_agent.decide import timing
from zdd_agent.decide.actions import (
    Action,
    Confirm,
    Deregister,
    Discover,
    End,
    Look,
    Move,
    Probe,
    Register,
    Rely,
    Return,
    Sample,
)
from zdd_agent.decide.diagnosis import LOOKS
from zdd_agent.decide.evidence import Evidence
from zdd_agent.decide.rejoin import counted
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.observer import Observer
from zdd_agent.engine.sampler import Lookout
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import BalancerKind, Membership, Target, TargetGroup
from zdd_agent.model.operation import Failure, Operation, Outcome, Phase, ProbeResult, Record, Verb
from zdd_agent.ports import Clock, LoadBalancing, Prober, Supervisor


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are asked, in seconds.

    `interval` is AWS's, `jitter` is drawn at random and added to it, `probe` is between two probes of the app.
    """

    interval: float
    jitter: float
    probe: float


class Acts:
    """The hands of the loop: no decision is made here."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        observer: Observer,
        aws: LoadBalancing,
        prober: Prober,
        lookout: Lookout,
        clock: Clock,
        supervisor: Supervisor,
        pace: Pace,
        floor_seconds: Mapping[BalancerKind, float],
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._observer = observer
        self._aws = aws
        self._prober = prober
        self._lookout = lookout
        self._clock = clock
        self._supervisor = supervisor
        self._pace = pace
        self._floor_seconds = floor_seconds
        self._rng = rng

    def perform(self, operation: Operation, action: Action, evidence: Evidence) -> Evidence:  # noqa: C901  one case each
        """Do it; answers what is known afterwards.

        Raises:
            AgentError: then nothing of it counts, and it may be repeated.
        """
        match action:
            case Discover():
                return self._discover(operation, evidence)
            case Look():
                return self._look(evidence)
            case Probe(targets):
                return self._probe(operation, targets, evidence)
            case Sample():
                return replace(evidence, senses=self._lookout.sense(evidence.senses, self._membership()))
            case Rely():
                return self._rely(operation, action, evidence)
            case Deregister(targets, guarded, guarded_at):
                self._each_group(targets, self._aws.deregister, "deregistered")
                confirmed = not targets and (operation.confirmed or self._was_out_before(operation))
                claimed = replace(operation, guarded=guarded, guarded_at=guarded_at, confirmed=confirmed)
                return self._changed(claimed, Phase.DRAINING, targets, evidence)
            case Register(targets):
                return self._register(operation, targets, evidence)
            case Confirm():
                self._ledger.persist(self._ledger.record(), replace(operation, confirmed=True))
            case Return(targets, failure):
                self._return(operation, targets, failure)
            case Move(phase):
                self._move(operation, phase)
            case End():
                self._ledger.end(action)
        return evidence

    def _discover(self, operation: Operation, evidence: Evidence) -> Evidence:
        record = self._ledger.record()
        old = record.membership if record.out_since is not None else None
        now = self._clock.now()
        membership, seen = self._observer.discover(operation.verb, old, now, self._until_next_look())
        self._ledger.persist(replace(record, membership=membership), self._timed(operation, membership))
        # Only now: what was seen means nothing beside a membership that is not the one on disk.
        return replace(evidence, seen=seen)

    def _look(self, evidence: Evidence) -> Evidence:
        seen = self._observer.look(self._membership(), self._clock.now(), self._until_next_look())
        earlier = (evidence.seen, *evidence.earlier)[:LOOKS] if evidence.seen is not None else ()
        return replace(evidence, seen=seen, earlier=earlier)

    def _probe(self, operation: Operation, targets: tuple[Target, ...], evidence: Evidence) -> Evidence:
        membership = self._membership()
        results = tuple(self._probe_one(membership.group(t.group), t) for t in targets)
        if operation.phase is Phase.PROBING:
            again = self._clock.now() + self._pace.probe
            return replace(evidence, tallies=counted(evidence.tallies, results), probe_again_at=again)
        if evidence.seen is not None:
            return replace(evidence, seen=replace(evidence.seen, probes=results))
        return evidence

    def _probe_one(self, group: TargetGroup, target: Target) -> ProbeResult:
        # An app that hangs takes its whole time-out; several of them would outlast systemd's watchdog.
        self._supervisor.alive(f"probing {target}")
        return self._prober.check(group, target)

    def _rely(self, operation: Operation, action: Rely, evidence: Evidence) -> Evidence:
        senses = self._lookout.demands(evidence.senses, self._membership())
        watch = senses.watch
        nodes = tuple(sorted({peer for peer, _ in watch.heard})) if watch is not None else ()
        relied = replace(operation, until=action.until, doubt=action.doubt, relied_at=self._clock.now())
        self._ledger.persist(replace(self._ledger.record(), nodes=nodes), relied)
        self._ledger.say(f"the drain ends when {_ENDS[action.until]}{action.doubt}")
        return replace(evidence, senses=senses)

    def _register(self, operation: Operation, targets: tuple[Target, ...], evidence: Evidence) -> Evidence:
        refused: AgentError | None = None
        for group in self._membership().groups:
            try:
                self._each_group(tuple(t for t in targets if t.group == group.arn), self._aws.register, "registered")
            except AgentError as error:
                if error.transient or error.kind is not Kind.FAILED:
                    raise
                refused = error
        if refused is None:
            return self._changed(operation, Phase.WARMING, targets, evidence)
        # Perhaps because a target still drains: that is for the decision, which looks first.
        self._ledger.persist(self._ledger.record(), self._prolonged(operation))
        return replace(evidence.outdated(), refused=refused)

    def _prolonged(self, operation: Operation) -> Operation:
        """The operation with time for a deregistration delay before all else, unless a time-out was given."""
        if self._ledger.timeout(operation.request) is not None:
            return operation
        membership = self._membership()
        drained = self._clock.now() + max(group.deregistration_delay for group in membership.groups)
        return replace(operation, deadline=max(operation.deadline, drained + timing.rejoin_timeout(membership)))

    def _changed(self, operation: Operation, then: Phase, targets: tuple[Target, ...], evidence: Evidence) -> Evidence:
        # Nothing to change means that it was changed before, at a moment that is not known here.
        accepted_at = self._clock.now() if targets else operation.accepted_at
        self._ledger.persist(self._ledger.record(), replace(operation.moved(then), accepted_at=accepted_at))
        return evidence.outdated()

    def _return(self, operation: Operation, targets: tuple[Target, ...], failure: Failure) -> None:
        self._each_group(targets, self._aws.register, "registered again")
        self._ledger.persist(replace(self._ledger.record(), out_since=None, settled=False), operation)
        self._ledger.end(End(Outcome.REFUSED, "", failure))

    def _move(self, operation: Operation, phase: Phase) -> None:
        record = self._ledger.record()
        if phase is Phase.DEREGISTERING:
            record = replace(record, out_since=record.out_since or self._clock.now(), settled=False)
        if phase is Phase.REGISTERING:
            record = replace(record, settled=False)
        if operation.phase is Phase.PROBING:
            operation = self._timed(operation, record.membership or Membership())
        self._ledger.persist(record, operation.moved(phase))
        self._ledger.say(phase)

    def _was_out_before(self, operation: Operation) -> bool:
        """Out by an earlier drain; if not, a daemon that was killed had deregistered, and nobody has looked again."""
        out_since = self._ledger.record().out_since
        return out_since is not None and out_since < operation.started_at

    def _each_group(
        self, targets: tuple[Target, ...], call: Callable[[TargetGroup, tuple[Target, ...]], None], done: str
    ) -> None:
        for group in self._membership().groups:
            own = tuple(t for t in targets if t.group == group.arn)
            if own:
                call(group, own)
                self._ledger.changed(f"{done} {', '.join(map(str, own))}", own)

    def _timed(self, operation: Operation, membership: Membership) -> Operation:
        """The operation with the deadline that its target groups ask for, unless one was given."""
        if self._ledger.timeout(operation.request) is not None:
            return operation
        if operation.verb is Verb.DRAIN:
            # The wait to be let go is no part of the time that a drain has once it goes.
            span = operation.request.wait + timing.drain_timeout(membership, self._floor_seconds)
        else:
            span = timing.rejoin_timeout(membership)
        return replace(operation, deadline=operation.started_at + span)

    def _membership(self) -> Membership:
        record: Record = self._ledger.record()
        return record.membership or Membership()

    def _until_next_look(self) -> float:
        return self._pace.interval + self._rng.uniform(0.0, self._pace.jitter)


_ENDS = {
    "unused": "the API says `unused`",
    "closed": "no connection is left",
    "idle": "no connection has work on it",
}
