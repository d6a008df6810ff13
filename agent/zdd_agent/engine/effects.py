"""Carries out one action through the ports, and hands back what came of it. No decision is made here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdd_agent.decide.actions import (
    Action,
    Deregister,
    Discover,
    EnterStandby,
    ExitStandby,
    Launch,
    Look,
    Probe,
    Refresh,
    Register,
    Sense,
)
from zdd_agent.decide.evidence import Evidence, Sensed
from zdd_agent.decide.results import Done, Found, NotTaken, Probed, Refreshed, Result, Seen
from zdd_agent.decide.slot_actions import AskHolders, ClaimSlot, LookAtSlots, PassOver, StandInLine
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.observer import Observer
from zdd_agent.engine.sampler import Sampler
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import TERMINATED, ScalingPlace, Transition
from zdd_agent.model.aws import Membership, Target, TargetGroup
from zdd_agent.model.operation import ProbeResult, Request, Verb
from zdd_agent.model.record import Guarding, Record, Warming
from zdd_agent.model.service import Rules
from zdd_agent.ports import Clock, LoadBalancing, Metadata, Prober, Supervisor

if TYPE_CHECKING:
    from zdd_agent.engine.scaling import Scaling
    from zdd_agent.engine.slots import SlotHolding


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are asked, in seconds.

    `interval` is between two looks at AWS, plus at most `jitter`; `probe` is between two probes of the app.
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
        scaling: Scaling | None = None,
        slots: SlotHolding | None = None,
        rules: Rules,
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
        self._scaling = scaling
        self._slots = slots
        self._rules = rules

    def perform(self, record: Record, action: Action, evidence: Evidence) -> Result | Sensed:
        """Do it.

        Args:
            record: as it stands on disk.
            action: what to do. One that changes nothing but the record is done already.
            evidence: what is known.

        Raises:
            AgentError: then it does not count, and may be repeated.
        """
        membership = record.membership
        match action:
            case Discover():
                return self._discover(record)
            case Refresh():
                known, gone = self._observer.refreshed(membership)
                return Refreshed(known, gone, self._metadata.lifecycle_state() in TERMINATED)
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
                return self._perform_elsewhere(action)

    def _perform_elsewhere(self, action: Action) -> Result:
        match action:
            case Launch():
                return self._launch()
            case EnterStandby() | ExitStandby():
                return self._move(action)
            case LookAtSlots() | ClaimSlot() | StandInLine() | PassOver() | AskHolders():
                assert self._slots is not None  # noqa: S101  what mypy needs: only rules with slots ask for these
                self._supervisor.alive("asking DynamoDB about the slots")
                return self._slots.perform(action)
            case _:
                return Done()

    def _discover(self, record: Record) -> Found:
        assert record.underway is not None  # noqa: S101  what mypy needs
        verb = record.underway.request.verb
        terminating = verb is Verb.REJOIN and self._metadata.lifecycle_state() in TERMINATED
        pace, by, out = self._pace_to_next_look(), self._by(record), record.left is not None
        membership, seen = self._observer.discover(verb, record.membership, record.listed, pace, by, out=out)
        return Found(membership, seen, terminating, self._place(record.underway.request))

    def _place(self, request: Request) -> ScalingPlace | None:
        if self._scaling is None:
            return None
        try:
            return self._scaling.place(0.0) if self._rules.standby else self._scaling.place()
        except AgentError as error:
            needed = self._rules.strict or self._rules.standby
            if needed and request.verb is Verb.DRAIN and not request.stopping:
                raise
            self._ledger.say(f"{error.message}; going on without")
            return None

    def _sense(self, record: Record, evidence: Evidence) -> Sensed:
        senses = self._sampler.sense(evidence.senses, record.membership)
        if isinstance(record.state, Guarding | Warming):  # a host that is out need not be checked
            senses = self._sampler.judged(senses)
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
                refused = error  # a group that refuses does not hold up the others
        self._sampler.registered()
        return Done() if refused is None else NotTaken(refused)

    def _launch(self) -> Done:
        """Let the group go on with the launch; it registers this host by itself."""
        place = self._scaling.place(0.0) if self._scaling is not None else None
        if self._scaling is None or place is None or not place.is_launching:
            return Done()  # completed before a restart, or by somebody else
        hook = self._scaling.hook(Transition.LAUNCH)
        if hook is None:
            return Done()
        if place.waits_for_launch:
            self._scaling.complete(hook)
            self._sampler.registered()
            self._ledger.changed(f"completed the lifecycle hook {hook.name}", ())
        elif place.state == "Pending":
            raise AgentError(Kind.REFUSED, f"the group does not wait for {hook.name} yet", transient=True)
        return Done()

    def _move(self, action: EnterStandby | ExitStandby) -> Done | NotTaken:
        if self._scaling is None:
            raise AgentError(
                Kind.CONFIGURATION,
                f"cannot leave Standby in the Auto Scaling group {action.group}: `auto_scaling.mode` is off",
                hint='set `auto_scaling.mode = "standby"`, or use `aws autoscaling exit-standby` and rejoin again',
                value="auto_scaling.mode",
            )
        enters = isinstance(action, EnterStandby)
        self._supervisor.alive(f"asking Auto Scaling about {action.group}")
        try:
            (self._scaling.enter_standby if enters else self._scaling.exit_standby)(action.group)
        except AgentError as error:
            # Where the way in is denied, too, the host has to go back: it has left its target groups by now.
            if error.kind is Kind.REFUSED or (enters and error.kind is Kind.AWS_DENIED):
                return NotTaken(error)
            raise
        self._ledger.say(f"{'entered' if enters else 'left'} Standby in {action.group}")
        return Done()

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
