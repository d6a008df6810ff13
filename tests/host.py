"""A host for tests of the core: the real ledger, observer and loop over fakes, in fake time."""

from __future__ import annotations

import random

from fakes import FakeAws, FakeClock, FakeMetadata, FakeStore, FakeSupervisor

from zdd_agent.model import Operation, Outcome, Posture, Record, Request, TargetGroup, Verb
from zdd_agent.operation.ledger import Ledger, Timeouts
from zdd_agent.operation.observer import Observer
from zdd_agent.operation.runner import Pace, Runner
from zdd_agent.operation.status import Reporter, Snapshot

# Turns of the loop after which a test gives up: a drain of 300 s takes about 80.
MANY_TURNS = 20_000


class Host:
    """One host. `restart` builds the daemon anew over what is on disk."""

    def __init__(self, *groups: TargetGroup, names: tuple[str, ...] = (), timeouts: Timeouts | None = None) -> None:
        self.clock = FakeClock()
        self.aws = FakeAws(self.clock, groups)
        self.metadata = FakeMetadata()
        self.store = FakeStore()
        self.supervisor = FakeSupervisor()
        self._names = names
        self._timeouts = timeouts or Timeouts(None, None)
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(self.store, self.clock, self._timeouts)
        self.observer = Observer(self.aws, self.metadata, self._names)
        self.runner = Runner(
            ledger=self.ledger,
            observer=self.observer,
            aws=self.aws,
            clock=self.clock,
            supervisor=self.supervisor,
            pace=Pace(10.0, 5.0),
            rng=random.Random(1),
        )

    def begin(self, verb: Verb, timeout: float | None = None) -> Operation:
        return self.ledger.begin(Request(verb, 0, timeout))

    def do(self, verb: Verb, timeout: float | None = None) -> Operation:
        """Start the operation and run it to its end."""
        self.begin(verb, timeout)
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
        return Reporter(self.observer, self.metadata, self.clock, self.ledger.record, 10.0, tuple).snapshot()

    def posture(self) -> Posture:
        return self.status().posture


def succeeded(operation: Operation) -> bool:
    return operation.outcome is Outcome.SUCCEEDED
