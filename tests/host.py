"""A host for tests of the core: the real engine over fakes, in fake time."""

from __future__ import annotations

import random
from typing import Any

from fakes import (
    ME,
    FakeAutoScaling,
    FakeAws,
    FakeClock,
    FakeInstances,
    FakeMetadata,
    FakePostures,
    FakeProber,
    FakeSensor,
    FakeSlots,
    FakeStore,
    FakeSupervisor,
    arn,
    group,
)
from zdd_agent.engine.build import Outside, build_engine, build_reports
from zdd_agent.engine.doctor import Doctor
from zdd_agent.engine.status import Reporter, Snapshot
from zdd_agent.model.auto_scaling import LifecycleHook, Transition
from zdd_agent.model.aws import Identity, MinHealthy, Target, TargetGroup
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Operation, Outcome, Posture, Request, Verb
from zdd_agent.model.record import Record
from zdd_agent.model.states import Confirming, GoingBack
from zdd_agent.settings import Settings

# Turns of the loop after which a test gives up: a drain of 300 s takes about 80.
MANY_TURNS = 20_000


class Host:
    """One host. `restart` builds the daemon anew over what is on disk."""

    def __init__(
        self,
        *groups: TargetGroup,
        names: tuple[str, ...] = (),
        minimum: MinHealthy | None = None,
        aws: FakeAws | None = None,
        who: Identity = ME,
        until: Until = Until.UNUSED,
        fleet: FakeSlots | None = None,
        **settings: Any,
    ) -> None:
        self.clock = aws.clock if aws is not None else FakeClock()
        self.aws = aws if aws is not None else FakeAws(self.clock, groups)
        self.instances = FakeInstances()
        self.prober = FakeProber()
        self.metadata = FakeMetadata(who)
        self.sensor = FakeSensor(self.clock, in_service=self.is_registered)
        self.store = FakeStore()
        self.supervisor = FakeSupervisor()
        self.scaling = FakeAutoScaling(self.clock)
        self.slots = fleet if fleet is not None else FakeSlots(self.clock)
        self.postures = FakePostures()
        self.boot = "boot-1"
        minimum = minimum or MinHealthy()
        healthy = minimum.number if minimum.percent is None else f"{minimum.percent:g}%"
        drain = {"until": until, **settings.pop("drain", {})}
        self.settings = Settings(target_groups=names, min_healthy=healthy, drain=drain, **settings)
        self.restart()

    def restart(self, boot: str | None = None) -> None:
        """The daemon ends and starts again; with another boot ID the host does."""
        self.boot = boot or self.boot
        self.outside = Outside(
            clock=self.clock,
            metadata=self.metadata,
            aws=self.aws,
            instances=self.instances,
            prober=self.prober,
            sensor=self.sensor,
            store=self.store,
            postures=self.postures,
            auto_scaling=None if self.settings.auto_scaling.mode == "off" else self.scaling,
            slots=None if self.settings.slots is None else self.slots,
        )
        self.engine = build_engine(self.outside, self.supervisor, self.settings, self.boot, random.Random(1))
        self.ledger, self.observer, self.runner = self.engine.ledger, self.engine.observer, self.engine.runner

    def is_registered(self) -> bool:
        return any(target_id == self.metadata.who.instance_id for _, target_id, _ in self.aws.registered())

    def has_run_for(self, seconds: float) -> None:
        """The daemon has been up for this long now, and somebody has asked for its status once."""
        self.clock.time -= seconds
        self.status()
        self.rest(seconds)
        self.aws.calls.clear()

    def begin(self, verb: Verb, timeout: float | None = None, **more: Any) -> Operation:
        """Start the operation; `more` are fields of the request."""
        return self.ledger.begin(Request(verb, 0, timeout, **more))

    def do(
        self,
        verb: Verb,
        timeout: float | None = None,
        *,
        force: tuple[Check, ...] = (),
        wait: float = 0.0,
        until: Until | None = None,
    ) -> Operation:
        """Start the operation and run it to its end."""
        self.begin(verb, timeout, force=force, wait=wait, until=until)
        return self.finish()

    def turn(self) -> None:
        """One turn of the loop, and the wait after it."""
        operation = self.ledger.running()
        assert operation is not None
        seconds = self.runner.tick(operation)
        if seconds > 0:
            self.ledger.wake.clear()
            self.clock.wait(self.ledger.wake, min(seconds, 5.0))

    def finish(self) -> Operation:
        for _ in range(MANY_TURNS):
            if self.ledger.running() is None:
                operation = self.ledger.record().operation
                assert operation is not None
                return operation
            self.turn()
        raise AssertionError(f"still under way: {self.ledger.record().operation}")

    def rest(self, seconds: float) -> None:
        """This much time without an operation, or with what the agent begins by itself."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            if self.ledger.running() is not None:
                self.turn()
            elif (wait := self.runner.idle()) > 0:
                self.clock.time = min(self.clock.time + wait, end)

    def record(self) -> Record:
        return self.ledger.record()

    def status(self) -> Snapshot:
        return self.reporter().snapshot()

    def reporter(self) -> Reporter:
        return build_reports(self.outside, self.engine, self.settings)[0]

    def doctor(self, *local: Any) -> Doctor:
        return build_reports(self.outside, self.engine, self.settings, local=local)[1]

    def posture(self) -> Posture:
        return self.status().posture


def succeeded(operation: Operation) -> bool:
    return operation.outcome is Outcome.SUCCEEDED


def going_back(host: Host) -> Host:
    """A host in service whose drain has found that the other host does not serve any more."""
    host.begin(Verb.DRAIN)
    while not isinstance(host.record().state, Confirming):
        host.turn()
    host.aws.break_target(Target(arn("web"), "i-other", 8080), "Target.Timeout")
    while not isinstance(host.record().state, GoingBack):
        host.turn()
    return host


def in_a_group(**settings: Any) -> Host:
    """A host of an Auto Scaling group, in service."""
    host = Host(group(), auto_scaling={"mode": "watch", **settings.pop("auto_scaling", {})}, **settings)
    host.aws.put("web")
    host.metadata.state = "InService"
    return host


def terminated(host: Host) -> None:
    """Auto Scaling terminates the host: it deregisters it, waits for the delay, and then for the hook."""
    host.metadata.state = "Terminated"
    host.scaling.state = "Terminating"
    host.scaling.hook_names = {Transition.TERMINATION: [LifecycleHook("last-drain", 300.0)]}
    web = host.aws.groups[arn("web")]
    host.aws.deregister(web, [next(h.target for h in host.aws.health(web.arn) if h.target.id == "i-me")])
    host.scaling.waits_from = host.clock.now() + web.deregistration_delay
    host.aws.calls.clear()
