"""One host of the explorer: the real record and the real decisions; only the calls to AWS are the explorer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fakes import arn, group
from zdd_agent.decide import drain, rejoin
from zdd_agent.decide.actions import Action, Begin, Deregister, Discover, Look, Refresh, Register, Wait
from zdd_agent.decide.apply import apply
from zdd_agent.decide.evidence import Evidence
from zdd_agent.decide.results import Done, Found, Refreshed, Result, Seen
from zdd_agent.decide.timing import DISCOVERY_SECONDS
from zdd_agent.model.aws import BalancerKind, Membership, MinHealthy, State, Target, TargetHealth
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Failure, Observation, Outcome, Request, Verb
from zdd_agent.model.record import Record
from zdd_agent.model.service import Rules
from zdd_agent.model.states import Departure, Drained, GoingBack, Out

POLL_SECONDS = 10
CALLS = (Discover, Refresh, Look, Register, Deregister)

# (record, evidence, now, rules) → action
Decide = Callable[[Record, Evidence, float, Rules], Action]


def decided(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """What the agent that ships decides."""
    assert record.underway is not None
    decide = drain.decide if record.underway.request.verb is Verb.DRAIN else rejoin.decide
    return decide(record, evidence, now, rules)


@dataclass(frozen=True, slots=True)
class Call:
    """A call to AWS that is under way since `began`. `took` effect: AWS has done it, and the answer is to come."""

    action: Action
    began: int
    took: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """What the explorer keeps of one host: a call is under way, or it waits, or nothing is under way.

    `todo` are the operations that it has not begun. It waits until `wake`, and is `then` this: nothing that others do
    changes a decision before the next look.
    """

    todo: tuple[Verb, ...]
    record: Record = field(default_factory=Record)
    evidence: Evidence = field(default_factory=Evidence)
    call: Call | None = None
    wake: int | None = None
    then: Host | None = None

    @property
    def drained(self) -> bool:
        """Its drain has answered 0, and nothing has begun since."""
        return isinstance(self.record.state, Drained)

    @property
    def refused(self) -> bool:
        """Its drain has answered 4."""
        last = self.record.last
        return self.record.underway is None and last is not None and last.outcome is Outcome.REFUSED

    @property
    def untouched(self) -> bool:
        """It has not begun anything."""
        return self.record == Record()

    @property
    def may_begin(self) -> bool:
        """Nothing is under way, and there is something to do."""
        return bool(self.todo) and self.record.underway is None

    @property
    def end(self) -> str:
        """How its last operation ended; `killed` where nothing ends it any more."""
        last = self.record.last
        return str(last.outcome) if self.record.underway is None and last is not None else "killed"

    def taken(self) -> Host:
        """AWS has carried out the call that is under way."""
        assert self.call is not None
        return replace(self, call=replace(self.call, took=True))


class Agents:
    """Steps of hosts: pure, seconds in, a new host out.

    Args:
        count: how many hosts there are.
        minimum: `min_healthy`.
        decide: what a host does next.
        delay: the group's deregistration delay, seconds.
        floor: `drain.floor_seconds`.
        wait: `--wait`, seconds.
        exact: keep also what no decision goes by.
    """

    def __init__(
        self, count: int, minimum: MinHealthy, decide: Decide, delay: int, floor: int, wait: int, *, exact: bool
    ) -> None:
        self.group = group(deregistration_delay=float(delay))
        self.targets = tuple(Target(arn("web"), f"i-{number}", 8080) for number in range(count))
        self.rules = Rules(minimum, Until.UNUSED, {BalancerKind.APPLICATION: float(floor)}, poll_seconds=POLL_SECONDS)
        self._decide = decide
        self._exact = exact
        self._wait = wait

    def begun(self, host: Host, now: int) -> Host:
        """The next operation has begun."""
        verb, *rest = host.todo
        wait, force = (self._wait, ()) if verb is Verb.DRAIN else (0, (Check.PROBE,))
        request = Request(verb, 0, force=force, wait=float(wait))
        record = apply(host.record, Begin(verb, request, now + DISCOVERY_SECONDS + wait), Done(), now)
        return self.settled(Host(tuple(rest), record), now)

    def settled(self, host: Host, now: int) -> Host:
        """Everything is done that needs no call: as `engine/runner` turns."""
        record, evidence = host.record, host.evidence
        while record.underway is not None:
            action = self._decide(record, evidence, now, self.rules)
            if isinstance(action, Wait):
                wake = action.until if action.wake is None else action.wake
                assert wake > now, f"waits for a moment that has passed: {action}"
                for meanwhile in range(now + 1, int(wake)):  # the runner asks every few seconds
                    assert isinstance(self._decide(record, evidence, meanwhile, self.rules), Wait)
                then = self.settled(Host(host.todo, record, evidence), int(wake))
                return Host(host.todo, record, wake=int(wake), then=then)
            if isinstance(action, CALLS):
                return self._bare(Host(host.todo, record, evidence, Call(action, now)))
            record = apply(record, action, Done(), now)
            evidence = evidence.after(action, Done(), now)
        return Host(host.todo, _over(record, forget=not host.todo))

    def done(self, host: Host, now: int) -> Host:
        """A call has been answered that tells nothing of the targets."""
        assert host.call is not None
        action = host.call.action
        result = Refreshed(host.record.membership, frozenset()) if isinstance(action, Refresh) else Done()
        return self._after(host, action, result, now)

    def told(self, number: int, host: Host, states: tuple[State | None, ...], now: int) -> Host:
        """A look has been answered: this is each target's state."""
        assert host.call is not None
        action, record = host.call.action, host.record
        listed = tuple(
            TargetHealth(target, state) for target, state in zip(self.targets, states, strict=True) if state is not None
        )
        known = {health.target.key for health in listed}
        absent: tuple[Target, ...] = ()
        if self.rules.min_healthy.percent is not None:  # as `engine/observer`: EC2 calls all of them running
            absent = tuple(t for t in record.listed if t.key not in known)
        seen = Observation(listed, frozenset(), host.call.began, now + POLL_SECONDS, absent=absent)
        if isinstance(action, Look):
            return self._after(host, action, Seen(seen), now)
        own = self.targets[number]
        found = Membership((self.group,), (own,)) if own.key in known else Membership()
        if record.left is not None:  # as `engine/observer`: what is out by an act of ours is kept
            found = record.membership.joined(found)
        return self._after(host, action, Found(found, seen), now)

    def killed(self, host: Host, restart_at: int | None) -> Host:
        """`kill -9`: what was only in memory is gone. None: nothing starts it again."""
        if restart_at is None:
            return Host((), host.record)
        return Host(
            host.todo, host.record, wake=restart_at, then=self.settled(Host(host.todo, host.record), restart_at)
        )

    def _after(self, host: Host, action: Action, result: Result, now: int) -> Host:
        record = host.record if isinstance(action, Look) else apply(host.record, action, result, now)
        evidence = host.evidence.after(action, result, now)
        return self.settled(Host(host.todo, record, evidence), now)

    def _bare(self, host: Host) -> Host:
        """Without what no later decision goes by, so that more hosts are the same.

        Of looks before the last one only the host's own targets count; the next call makes all of these earlier ones.
        Who was listed counts for a percentage. Of a
        host that goes back only what it registers counts.
        """
        if self._exact:
            return host
        own = {t.key for t in host.record.membership.targets}
        looks = tuple(
            replace(look, population=tuple(h for h in look.population if h.target.key in own), look_again_at=0.0)
            for look in host.evidence.looks
        )
        listed = host.record.listed if self.rules.min_healthy.percent is not None else ()
        record = replace(host.record, listed=listed)
        if isinstance(state := record.state, GoingBack):
            left = Departure(0.0, 0.0, state.left.targets)
            record = replace(record, state=GoingBack(state.before, left, Failure(state.failure.kind, "")))
        return replace(host, record=record, evidence=replace(host.evidence, looks=looks, looked_at=0.0))


def _over(record: Record, *, forget: bool) -> Record:
    """How it ended. Two hosts whose past differs in nothing that a later decision goes by are the same host."""
    assert record.last is not None
    last = replace(record.last, started_at=0, deadline=0, ended_at=0, message="", failure=None)
    if not forget:
        return replace(record, last=last)
    state = record.state
    if isinstance(state, Drained):
        state = Drained(Departure(0, 0), "", 0)
    elif isinstance(state, Out):
        state = Out(Departure(0, 0), state.why)
    return Record(state=state, last=last)
