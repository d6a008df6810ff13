"""Plays steps over a world, and looks after each turn of an agent whether a promise is broken."""

from __future__ import annotations

import random
from collections import Counter

from fakes import arn
from model import promises
from model.eyes import BrokenPromiseError, Key
from model.fleet import SPARE, Agent, World, ask_for, forgettable
from model.scaling import Scaling
from model.steps import STEPS, Step, faults_end
from model.truth import Truth
from zdd_agent.model.auto_scaling import TERMINATED
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Operation, Outcome, Request, Verb
from zdd_agent.model.record import Record

# Seconds after its deadline by which an operation must have ended: a last round of calls, and going back.
_LATE_SECONDS = 30.0


class Play:
    """One run."""

    def __init__(self, world: World) -> None:
        self.world = world
        rng = random.Random(world.seed + 7)
        self.truth = Truth(
            rng,
            kind=world.kind,
            lag=world.node_lag,
            takes_draining=world.takes_draining,
            cuts=world.cuts,
            busy=world.until is not Until.UNUSED,
        )
        for name, port in world.groups:
            self.truth.add_group(name, port, delay=world.delay, target_type=world.target_type, listened=True)
        if world.spare:
            self.truth.add_group(*SPARE, delay=world.delay, target_type=world.target_type, listened=False)
        ids = []  # what names the hosts
        for number in range(1, world.hosts + world.others + 1):
            self.truth.add_host(f"i-{number}", f"127.0.1.{number}")
            ids.append(f"i-{number}" if world.target_type == "instance" else f"127.0.1.{number}")
            for name, port in (*world.groups, *((SPARE,) if world.spare else ())):
                self.truth.register(arn(name), [(ids[-1], port)])
        self.truth.advance(60.0)
        instances = [f"i-{number + 1}" for number in range(len(ids))]
        self.group = Scaling(self.truth, instances, world.least) if world.scaling else None
        self.agents = [Agent(self.truth, world, number, group=self.group) for number in range(1, world.hosts + 1)]
        self.plain = ids[world.hosts :]  # hosts without agents
        self.meddled = False  # somebody else changed who is registered: how many stay is not the guard's doing alone
        self.deleted = False
        self.sick_at: dict[str, float] = {}  # when an app last changed, by instance
        self.touches: list[tuple[float, Key, bool]] = []  # what others registered (True) and deregistered
        self.ends: Counter[str] = Counter()
        self.asked_until: dict[str, Until] = {}  # the strictest wish of an operation's callers
        self.excused: set[str] = set()  # operations that may break the floor: they were told to
        self.unlooked: set[str] = set()  # hosts that are out by a drain that ended before its second look
        self.looking: set[str] = set()  # hosts that have left and whose second look is still to come
        self.known: dict[str, set[str]] = {}  # names of groups of the settings that each agent has known to exist
        self._told: set[tuple[str, float | None]] = set()
        self.run(30.0)  # a percentage knows its hosts

    def agent(self, number: int) -> Agent:
        return self.agents[number % len(self.agents)]

    def step(self, step: Step) -> None:
        name, number, which = step
        STEPS[name](self, self.agent(number), which)
        for agent in self.agents:
            self._look_at(agent)

    def ask(self, agent: Agent, request: Request) -> Operation | None:
        operation = agent.ask(request)
        if operation is not None:
            if request.until is Until.UNUSED:
                self.asked_until[operation.id] = Until.UNUSED
            if request.force or request.stopping:
                self.excused.add(operation.id)
        self._look_at(agent)
        return operation

    def run(self, seconds: float) -> None:
        """This much time, in which every agent turns when it is due."""
        end = self.truth.clock.time + seconds
        while True:
            agent = min(self.agents, key=lambda one: one.due)
            if agent.due > end:
                break
            self.truth.advance_to(agent.due)
            if self.group is not None:
                self.group.advance()
            agent.turn()
            self._look_at(agent)
        self.truth.advance_to(end)

    def touched(self, agent: Agent, key: Key, *, registered: bool) -> None:
        self.meddled = True
        agent.eyes.forget_answers()
        self.touches.append((self.truth.clock.time, key, registered))

    def broken(self, agent: Agent, what: str) -> None:
        """Raises BrokenPromiseError, always."""
        record = agent.host.ledger.record()
        when = self.truth.clock.time
        state = type(record.state).__name__
        raise BrokenPromiseError(f"{agent.me} at {when:.1f}, {state}: {what}\n  last: {record.last}")

    def ended(self, agent: Agent) -> Operation | None:
        """Let time pass until the operation under way has ended."""
        first = agent.host.ledger.running()
        while (operation := agent.host.ledger.running()) is not None and first is not None and operation.id == first.id:
            if agent.gone:
                break
            self.run(max(min(operation.deadline - self.truth.clock.time, 30.0), 1.0))
        return agent.host.ledger.record().last

    def calm(self) -> None:
        """Everything is well again. Now each verb has to work, and the records have to agree with the truth."""
        faults_end(self, self.agents[0], 0)
        if self.group is not None:
            self.group.group.min_size = 0  # room for whoever has to leave
        for app in self.truth.apps.values():
            app.well = True
        self.truth.app_changed()
        for agent in self.agents:
            self.ended(agent)
        self.run(60.0)
        for agent in self.staying():
            if not promises.registered_anywhere(self, agent):  # there is no port but its groups' own
                self.truth.apps[agent.me].ports = {8080, 9090}
            self._rejoin(agent)
        self.run(30.0)
        for agent in self.staying():
            promises.record_agrees(self, agent)
            promises.stands_where_it_believes(self, agent)
        self._drain_once_more()

    def _rejoin(self, agent: Agent) -> None:
        for _ in range(4):
            self.ended(agent)  # what the agent tries again by itself
            self.ask(agent, ask_for(Verb.REJOIN))
            last = self.ended(agent)
            assert last is not None, "it has just ended"
            if last.outcome is Outcome.SUCCEEDED or promises.belongs_nowhere(self, agent, last):
                return
            if promises.names_a_group_that_is_gone(self, last):
                agent.correct_settings(self.truth)
                continue
            if last.request.timeout is not None:  # a try of its own, with the little time that its caller gave
                continue
            stale = forgettable(last)
            if last.failure is not None and "`zdd-agent drain`, then" in last.failure.hint:
                self.ask(agent, ask_for(Verb.DRAIN, force=(Check.MIN_HEALTHY,)))
                self.ended(agent)
            for name, target_id, port in stale:
                if agent.host.ledger.record().membership.find(name, target_id, port) is not None:
                    agent.host.ledger.forget(name, target_id, port, 0)
            if not stale:
                break
        self.broken(agent, f"a rejoin does not succeed although everything is well: {last.message}")

    def _drain_once_more(self) -> None:
        """A host that the others can spare leaves, and comes back."""
        agent = next(iter(self.staying()), None)
        if agent is None or (self.group is not None and self.group.group.desired <= self.group.group.min_size):
            return
        if not promises.can_spare(self, agent):
            return
        self.ask(agent, ask_for(Verb.DRAIN))
        last = self.ended(agent)
        if last is not None and promises.names_a_group_that_is_gone(self, last):
            return
        if last is None or last.outcome is not Outcome.SUCCEEDED:
            self.broken(agent, "a drain does not succeed although the others can spare this host")
        self._rejoin(agent)
        promises.record_agrees(self, agent)

    def staying(self) -> list[Agent]:
        """The agents whose hosts will not be gone soon, for all that anybody may know."""
        there = [a for a in self.agents if not a.gone and not a.eyes.leaves()]
        return [a for a in there if a.metadata.state_now() not in TERMINATED]

    def _look_at(self, agent: Agent) -> None:
        if agent.gone:
            return
        record = agent.host.ledger.record()
        if record.owner.instance_id == agent.me:  # not that of the host whose image it is
            self.known.setdefault(agent.me, set()).update(record.membership.named)
        promises.note_unconfirmed(self, agent, record)
        promises.enough_stay(self)
        operation = record.underway
        by = operation.deadline if operation is not None else float("inf")
        if self.truth.clock.time > max(by, agent.started_at) + _LATE_SECONDS:
            self.broken(agent, f"hangs past its deadline of {by:.0f}")
        self._look_at_end(agent, record)

    def _look_at_end(self, agent: Agent, record: Record) -> None:
        last = record.last
        if last is None or (last.id, last.ended_at) in self._told:
            return
        self._told.add((last.id, last.ended_at))
        self.ends[f"{last.verb} {last.outcome}"] += 1
        promises.of_an_end(self, agent, record, last)
