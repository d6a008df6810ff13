"""Carries out one action through the ports, and hands back what came of it. No decision is made here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from zdd_agent.decide.actions import (
    Action,
    Deregister,
    Discover,
    Done,
    Found,
    Look,
    NotTaken,
    Probe,
    Probed,
    Refresh,
    Refreshed,
    Register,
    Result,
    Seen,
    Sense,
)
from zdd_agent.decide.evidence import Evidence, Sensed
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.observer import Observer
from zdd_agent.engine.sampler import Sampler
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Membership, Target, TargetGroup
from zdd_agent.model.operation import ProbeResult, Verb
from zdd_agent.model.record import Guarding, Record
from zdd_agent.ports import Clock, LoadBalancing, Metadata, Prober, Supervisor


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are asked, in seconds.

    `interval` is AWS's, `jitter` is drawn at random and added to it, `probe` is between two probes of the app.
    """

    interval: float
    jitter: float
    probe: float


class Effects:
    """Calls the ports. For the loop's thread alone."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        observer: Observer,
        aws: LoadBalancing,
        metadata: Metadata,
        prober: Prober,
        sampler: Sampler,
        clock: Clock,
        supervisor: Supervisor,
        pace: Pace,
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._observer = observer
        self._aws = aws
        self._metadata = metadata
        self._prober = prober
        self._sampler = sampler
        self._clock = clock
        self._supervisor = supervisor
        self._pace = pace
        self._rng = rng

    def perform(self, record: Record, action: Action, evidence: Evidence) -> Result | Sensed:
        """Do it.

        Args:
            record: as it stands on disk.
            action: what to do. One that changes nothing but the record is done already.
            evidence: what is known.

        Raises:
            AgentError: then nothing of it counts, and it may be repeated.
        """
        membership = record.membership
        match action:
            case Discover():
                return self._discover(record)
            case Refresh():
                known, gone = self._observer.refreshed(membership)
                return Refreshed(known, gone, self._metadata.being_terminated())
            case Look():
                return Seen(self._observer.look(membership, record.listed, self._pace_to_next_look(), self._by(record)))
            case Probe(targets):
                results = tuple(self._probe(membership.group(t.group), t) for t in targets)
                return Probed(results, self._clock.now() + self._pace.probe)
            case Sense():
                return self._sense(record, evidence)
            case Deregister(targets):
                self._each_group(membership, targets, self._aws.deregister, "deregistered")
                return Done()
            case Register(targets):
                return self._register(membership, targets)
            case _:
                return Done()

    def _discover(self, record: Record) -> Found:
        assert record.underway is not None  # noqa: S101  what mypy needs
        verb = record.underway.request.verb
        terminating = verb is Verb.REJOIN and self._metadata.being_terminated()
        pace, by, out = self._pace_to_next_look(), self._by(record), record.left is not None
        membership, seen = self._observer.discover(verb, record.membership, record.listed, pace, by, out=out)
        return Found(membership, seen, terminating)

    def _sense(self, record: Record, evidence: Evidence) -> Sensed:
        senses = self._sampler.sense(evidence.senses, record.membership)
        if isinstance(record.state, Guarding):  # only before the deregistration does the nodes' past tell anything
            senses = self._sampler.demands(senses, record.membership)
        return Sensed(senses)

    def _probe(self, group: TargetGroup, target: Target) -> ProbeResult:
        # An app that hangs takes its whole time-out; several of them would outlast systemd's watchdog.
        self._supervisor.alive(f"probing {target}")
        return self._prober.check(group, target)

    def _register(self, membership: Membership, targets: tuple[Target, ...]) -> Done | NotTaken:
        refused: AgentError | None = None
        for group in membership.groups:
            own = tuple(t for t in targets if t.group == group.arn)
            try:
                self._each_group(membership, own, self._aws.register, "registered")
            except AgentError as error:
                if error.kind is Kind.TARGET_GROUP_NOT_FOUND:
                    continue  # the next look says so, too: the membership goes on without it
                if error.transient or error.kind is not Kind.FAILED:
                    raise
                refused = error  # one group that refuses keeps no other group waiting
        return Done() if refused is None else NotTaken(refused)

    def _each_group(
        self,
        membership: Membership,
        targets: tuple[Target, ...],
        call: Callable[[TargetGroup, tuple[Target, ...]], None],
        done: str,
    ) -> None:
        for group in membership.groups:
            own = tuple(t for t in targets if t.group == group.arn)
            if own:
                self._supervisor.alive(f"asking AWS about {group.name}")
                call(group, own)
                self._ledger.changed(f"{done} {', '.join(map(str, own))}", own)

    def _pace_to_next_look(self) -> float:
        return self._pace.interval + self._rng.uniform(0.0, self._pace.jitter)

    def _by(self, record: Record) -> float:
        assert record.underway is not None  # noqa: S101  what mypy needs
        return record.underway.deadline
