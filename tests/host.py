"""A host for tests of the core: the real ledger, observer and loop over fakes, in fake time."""

from __future__ import annotations

import random

from fakes import ME, FakeAws, FakeClock, FakeInstances, FakeMetadata, FakeProber, FakeSensor, FakeStore, FakeSupervisor
from zdd_agent.decide.drain import Rules
from zdd_agent.engine.effects import Acts, Pace
from zdd_agent.engine.ledger import Ledger, Timeouts
from zdd_agent.engine.observer import Observer
from zdd_agent.engine.runner import Runner
from zdd_agent.engine.sampler import Lookout
from zdd_agent.engine.status import Reporter, Snapshot
from zdd_agent.model.aws import BalancerKind, Floor, Identity, TargetGroup
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Operation, Outcome, Posture, Record, Request, Verb

# Turns of the loop after which a test gives up: a drain of 300 s takes about 80.
MANY_TURNS = 20_000


class Host:
    """One host. `restart` builds the daemon anew over what is on disk."""

    def __init__(
        self,
        *groups: TargetGroup,
        names: tuple[str, ...] = (),
        timeouts: Timeouts | None = None,
        floor: Floor | None = None,
        aws: FakeAws | None = None,
        who: Identity = ME,
        until: Until = Until.UNUSED,
    ) -> None:
        self.clock = aws.clock if aws is not None else FakeClock()
        self.aws = aws if aws is not None else FakeAws(self.clock, groups)
        self.instances = FakeInstances()
        self.prober = FakeProber()
        self.floor = floor if floor is not None else Floor()
        self.metadata = FakeMetadata(who)
        self.sensor = FakeSensor(self.clock)
        self.rules = Rules(self.floor, until, dict(zip(BalancerKind, (30.0, 300.0, 300.0), strict=True)), False, 5.0)
        self.store = FakeStore()
        self.supervisor = FakeSupervisor()
        self._names = names
        self._timeouts = timeouts or Timeouts(None, None)
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(self.store, self.clock, self._timeouts)
        self.observer = Observer(self.aws, self.instances, self.metadata, self._names)
        lookout = Lookout(self.sensor, self.metadata, adaptive=False, quiet_seconds=5.0)
        pace, rng = Pace(10.0, 5.0, 1.0), random.Random(1)
        acts = Acts(
            ledger=self.ledger,
            observer=self.observer,
            aws=self.aws,
            prober=self.prober,
            lookout=lookout,
            clock=self.clock,
            supervisor=self.supervisor,
            pace=pace,
            floor_seconds=self.rules.floor_seconds,
            rng=rng,
        )
        self.runner = Runner(
            ledger=self.ledger,
            acts=acts,
            lookout=lookout,
            clock=self.clock,
            supervisor=self.supervisor,
            pace=pace,
            rules=self.rules,
            drained_warning_seconds=3600.0,
            rng=rng,
        )

    def begin(
        self, verb: Verb, timeout: float | None = None, *, force: tuple[Check, ...] = (), wait: float = 0.0
    ) -> Operation:
        return self.ledger.begin(Request(verb, 0, timeout, force=force, wait=wait))

    def do(
        self, verb: Verb, timeout: float | None = None, *, force: tuple[Check, ...] = (), wait: float = 0.0
    ) -> Operation:
        """Start the operation and run it to its end."""
        self.begin(verb, timeout, force=force, wait=wait)
        return self.finish()

    def turn(self) -> None:
        """One turn of the loop, and the wait behind it."""
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

    def record(self) -> Record:
        return self.ledger.record()

    def status(self) -> Snapshot:
        return self.reporter().snapshot()

    def reporter(self) -> Reporter:
        return Reporter(
            observer=self.observer,
            metadata=self.metadata,
            clock=self.clock,
            record=self.ledger.record,
            notices=tuple,
            poll_seconds=10.0,
            drained_warning_seconds=3600.0,
            floor=self.floor,
        )

    def posture(self) -> Posture:
        return self.status().posture


def succeeded(operation: Operation) -> bool:
    return operation.outcome is Outcome.SUCCEEDED
