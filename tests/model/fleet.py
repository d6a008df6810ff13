"""Hosts with their agents over one truth, each agent turning when its own wait is over."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

from fakes import FakeInstances, arn
from host import Host
from model.eyes import BrokenPromiseError, Eyes, Kernel, Key, Prober
from model.scaling import GroupEyes, Metadata, Scaling
from model.truth import Truth
from troubles import Killed, MortalStore
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, MinHealthy
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Operation, Outcome, Request, Verb
from zdd_agent.model.states import Draining, Ending, GoingBack
from zdd_lab.model.aws_error import AwsError

# Name, port of the group; what it is for stands in `World.groups`.
GROUPS = (("web", 8080), ("second", 9090))
SPARE = ("spare", 8080)


@dataclass(frozen=True)
class World:
    """What one run of the model is set up with. Spans are seconds."""

    seed: int
    hosts: int = 2  # with agents
    others: int = 1  # without
    groups: tuple[tuple[str, int], ...] = GROUPS
    spare: bool = False  # a group on no listener holds every host, too
    kind: str = "application"
    target_type: str = "instance"
    delay: float = 20.0
    node_lag: float = 25.0
    api_lag: float = 9.9
    rare_lag: float = 0.0  # of one answer in minutes; beyond what the agent reckons with, so it may be deceived
    minimum: MinHealthy = field(default_factory=MinHealthy)
    until: Until = Until.UNUSED
    named: bool = False  # the settings name the groups
    takes_draining: bool = True
    cuts: bool = True
    scaling: str = ""  # the mode of `auto_scaling`; without it the hosts are in no group
    least: int = 0  # the group's minimum size


class Agent:
    """One host with its daemon."""

    def __init__(
        self,
        truth: Truth,
        world: World,
        number: int,
        *,
        clone_of: Agent | None = None,
        group: Scaling | None = None,
    ) -> None:
        self.truth = truth
        self.group = group
        self.me = f"i-{number}"
        self.address = f"127.0.1.{number}"
        self.id = self.me if world.target_type == "instance" else self.address
        if clone_of is not None:
            truth.add_host(self.me, self.address)
        self.eyes = Eyes(
            truth, (self.me, self.address), (world.api_lag, world.rare_lag), random.Random(world.seed * 1000 + number)
        )
        names = tuple(name for name, _ in world.groups) if world.named else ()
        identity = Identity(self.me, "eu-west-1", "eu-west-1a", "vpc-1", (self.address,))
        minimum = world.minimum
        floors = {"drain": {"until": world.until, "floor_seconds": {"network": 30.0}}}
        self.host = Host(aws=self.eyes, who=identity, minimum=minimum, names=names)  # type: ignore[arg-type]  of the port
        settings = self.host.settings.model_dump()
        if world.scaling:
            floors |= {"auto_scaling": {"mode": world.scaling}, "notices": {"spot": "drain", "rebalance": "drain"}}
        self.host.settings = type(self.host.settings).model_validate({**settings, **floors})
        self.metadata = self.host.metadata = Metadata(identity, group)
        if group is not None:
            self.asks = GroupEyes(group, self.me, self._against_completing)
            self.host.scaling = self.asks  # type: ignore[assignment]  of the same port
        self.eyes.leaves = lambda: self.metadata.seen_terminated or self.host.ledger.record().leaving is not None
        self.host.store = MortalStore()
        if clone_of is not None:
            self.host.store.written = list(clone_of.host.store.written)
        self.host.prober = Prober(truth, self.me)  # type: ignore[assignment]  of the same port
        self.host.sensor = Kernel(truth, (self.id,))  # type: ignore[assignment]  of the same port
        self.host.instances = FakeInstances()
        self.boots = 0
        self._operation = ""
        self.due = self.started_at = truth.clock.time
        self.ending: Ending | None = None  # of its last drain
        self.restart(boot=True)

    @property
    def disk(self) -> MortalStore:
        assert isinstance(self.host.store, MortalStore)
        return self.host.store

    @property
    def gone(self) -> bool:
        """Whether EC2 has ended this instance."""
        return self.group is not None and self.me in self.group.ended

    def _against_completing(self, hook: str) -> str:
        last = self.host.ledger.record().last
        if hook == "ready":
            return "" if last is None or last.verb is Verb.REJOIN or self.host.ledger.running() else "nobody asked"
        if last is None or last.verb is not Verb.DRAIN or last.outcome is not Outcome.SUCCEEDED:
            return f"its last operation is {last}"
        work = self.truth.at_work((self.id,)) if self.ending is not None and not self.ending.doubt else []
        sensed = self.ending is not None and self.ending.until is not Until.UNUSED
        return f"{len(work)} requests are under way" if work and sensed else ""

    def keys(self, world: World) -> set[Key]:
        """What it is registered as from the start."""
        groups = (*world.groups, *((SPARE,) if world.spare else ()))
        return {(arn(name), self.id, port) for name, port in groups}

    def restart(self, *, boot: bool = False) -> None:
        """The daemon ends and starts again; or the whole host does."""
        self.boots += boot
        self.eyes.forget_answers()
        self.host.sensor.close()
        for _ in range(8):  # a start may be killed as well, but not for ever
            try:
                self.host.restart(f"{self.me}-boot-{self.boots}")
                break
            except Killed:
                continue
        self.due = self.started_at = self.truth.clock.time

    def ask(self, request: Request) -> Operation | None:
        """Ask for it; None where it was refused, or the daemon died of it."""
        self.due = self.truth.clock.time
        try:
            operation = self.host.ledger.begin(request)
        except Killed:
            self.restart()
            return self.host.ledger.running()
        except AgentError as error:
            leaves = error.kind is Kind.REFUSED and self.host.ledger.record().leaving is not None
            if error.kind is Kind.STORE or ((error.kind is Kind.BUSY or leaves) and request.verb is Verb.REJOIN):
                return None
            raise BrokenPromiseError(f"a {request.verb} is refused: {error.message}") from error
        self._note_operation()
        return operation

    def _note_operation(self) -> None:
        operation = self.host.ledger.running()
        if operation is not None and operation.id != self._operation:
            self._operation = operation.id
            self.eyes.forget_operation()

    def turn(self) -> None:
        """One turn of its loop, at the moment when it is due."""
        ledger = self.host.ledger
        if self.gone:
            self.due = float("inf")
            return
        operation = ledger.running()
        self._note_operation()
        state = ledger.record().state
        going_back = isinstance(state, GoingBack)
        self.ending = state.ending if isinstance(state, Draining) else self.ending
        self.eyes.may_register_only = self.eyes.deregistered if going_back and self.eyes.deregistered else None
        full = bool(self.disk.errors)
        if going_back:  # what it may not have deregistered at all it registers, to be sure
            self.eyes.forget_answers()
        try:
            waits = self.host.runner.idle() if operation is None else self.host.runner.tick(operation)
        except Killed:
            self.restart()
            return
        except AgentError as error:
            raise BrokenPromiseError(f"the daemon's loop ends: {error.message}") from error
        if full:  # what it could not put on disk it does again, also where this was the last write that failed
            self.eyes.forget_answers()
        if operation is None and waits > 0 and not self.awake:
            waits = max(waits, 60.0)
        self.due = self.truth.clock.time + waits

    def correct_settings(self, truth: Truth) -> None:
        """Take what does not exist out of `target_groups`, and restart, as the hint says."""
        there = {group.name for group in truth.elb.topology.groups.values()}
        named = tuple(name for name in self.host.settings.target_groups if name in there)
        self.host.settings = self.host.settings.model_copy(update={"target_groups": named})
        self.restart()

    @property
    def awake(self) -> bool:
        """Whether something may be due by itself soon."""
        record = self.host.ledger.record()
        if self.metadata.standing or self.eyes.leaves():
            return True
        tries = record.last is not None and record.last.request.keep_trying
        return tries or not self.host.ledger.identified


def others_change(truth: Truth, agent: Agent, key: Key, *, register: bool) -> bool:
    """Somebody's plain `aws` call; False where AWS does not take it."""
    group, target_id, port = key
    try:
        (truth.register if register else truth.deregister)(group, [(target_id, port)])
    except AwsError:
        return False
    agent.eyes.touched[key] = truth.clock.time
    return True


def forgettable(operation: Operation) -> list[tuple[str, str, int]]:
    """The targets that the hint of a failed operation tells people to forget: (group's name, Id, port)."""
    hint = operation.failure.hint if operation.failure is not None else ""
    found = re.findall(r"zdd-agent forget '(\S+) (\S+):(\d+)'", hint)
    return [(name, target_id, int(port)) for name, target_id, port in found]


def ask_for(verb: Verb, **more: Any) -> Request:
    return Request(verb, 0, **more)
