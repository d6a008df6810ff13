"""Random interleavings of everything that can happen to several hosts of one group, over the real core in fake time."""

from __future__ import annotations

import itertools
import logging
import secrets
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fakes import FakeAws, FakeClock, arn, group
from faults.rig import SOAK, Row, write_rows
from host import Host
from troubles import ACTIONS, Killed, MortalStore, away, full
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, MinHealthy, State
from zdd_agent.model.operation import Check, Operation, Outcome, Phase, Posture, Verb
from zdd_agent.model.states import Claiming, Confirming, GoingBack

STEPS = 1_000_000 if SOAK else 10_000
_STEPS_AN_EXAMPLE = 100
# Examples after which hypothesis starts anew: it remembers each of them, and a million steps would take gigabytes.
_EXAMPLES_AT_ONCE = 100
_GROUPS = (("web", 8080), ("second", 8080), ("second", 9090))
NUMBERS = st.integers(0, 3)


# A drain in these states has left, or may have, and has not looked again yet.
_UNCONFIRMED = (Claiming, Confirming, GoingBack)


class Fleet(RuleBasedStateMachine):
    """Two to four hosts in two groups, on three ports each. Nobody but the agents changes anything."""

    steps: ClassVar[int] = 0
    ends: ClassVar[dict[str, int]] = {}

    @initialize(
        count=st.integers(2, 4), floor=st.integers(1, 2), delay=st.sampled_from((0, 20, 60)), warm=st.integers(0, 12)
    )
    def build(self, count: int, floor: int, delay: int, warm: int) -> None:
        self.clock = FakeClock()
        names = {name for name, _ in _GROUPS}
        self.aws = FakeAws(self.clock, [group(name, deregistration_delay=float(delay)) for name in sorted(names)])
        self.aws.warm_seconds = float(warm)
        self.floor = floor
        self.hosts: list[Host] = []
        self.forced: set[str] = set()  # operations that may break the floor: they were told to
        self.seen_ended: set[str] = set()
        self.looking: set[int] = set()  # hosts that have left and whose second look is still to come
        self.unlooked: set[int] = set()  # hosts that are out by a drain that ended before its second look
        for number in range(count):
            who = Identity(f"i-{number}", "eu-west-1", "eu-west-1a", "vpc-1", (f"10.0.0.{number}",))
            for name, port in _GROUPS:
                self.aws.put(name, who.instance_id, port)
            host = Host(aws=self.aws, who=who, minimum=MinHealthy(floor))
            host.store = MortalStore()
            host.restart()
            self.hosts.append(host)

    def host(self, number: int) -> Host:
        return self.hosts[number % len(self.hosts)]

    def own(self, host: Host) -> set[tuple[str, str, int]]:
        return {(arn(name), host.metadata.who.instance_id, port) for name, port in _GROUPS}

    def registered(self, host: Host) -> set[tuple[str, str, int]]:
        return self.aws.registered() & self.own(host)

    def states(self, host: Host) -> dict[tuple[str, int], State]:
        """The own targets, draining ones too, without a call that a fault could strike."""
        asked, self.aws.errors = self.aws.errors, {}
        own = host.metadata.who.instance_id
        found = {
            (h.target.group, h.target.port): h.state
            for name in self.aws.groups
            for h in self.aws.health(name)
            if h.target.id == own
        }
        self.aws.errors = asked
        return found

    # What happens

    @rule(number=NUMBERS, timeout=st.sampled_from((None, 3.0, 30.0)), wait=st.sampled_from((0.0, 30.0)))
    def drain(self, number: int, timeout: float | None, wait: float) -> None:
        self.ask(self.host(number), Verb.DRAIN, timeout, wait=wait)

    @rule(number=NUMBERS)
    def drain_by_force(self, number: int) -> None:
        self.ask(self.host(number), Verb.DRAIN, None, force=(Check.MIN_HEALTHY,))

    @rule(number=NUMBERS, timeout=st.sampled_from((None, 3.0, 30.0)))
    def rejoin(self, number: int, timeout: float | None) -> None:
        self.ask(self.host(number), Verb.REJOIN, timeout)

    def ask(self, host: Host, verb: Verb, timeout: float | None, **more: Any) -> None:
        with_force = bool(more.get("force"))  # also where it joins a drain: that one is forced from now on
        try:
            operation = host.begin(verb, timeout, **more)
        except AgentError as error:
            if error.kind not in (Kind.BUSY, Kind.STORE):
                raise
        except Killed:
            host.restart()
            operation_now = host.ledger.running()
            if operation_now is not None and with_force:
                self.forced.add(operation_now.id)
        else:
            if with_force:
                self.forced.add(operation.id)

    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        host = self.host(number)
        try:
            host.ledger.cancel(0)
        except AgentError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.STORE):
                raise
        except Killed:
            host.restart()

    @rule(number=NUMBERS, turns=st.integers(1, 12), seconds=st.sampled_from((0.01, 0.2, 1.5)))
    def turn(self, number: int, turns: int, seconds: float) -> None:
        """Some turns of one host's loop, each call taking so long."""
        host = self.host(number)
        for _ in range(turns):
            operation = host.ledger.running()
            if operation is None:
                return
            try:
                waits = host.runner.tick(operation)
            except Killed:
                host.restart()
                waits = 0.0
            self.look_at(host)
            self.clock.time += seconds
            if waits > 0:
                return

    @rule(turns=st.integers(1, 20))
    def everybody_turns(self, turns: int) -> None:
        for _ in range(turns):
            for number in range(len(self.hosts)):
                self.turn(number, 1, 0.02)
            self.clock.time += 0.5

    @rule(seconds=st.sampled_from((1.0, 5.0, 30.0, 200.0)))
    def time_passes(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(number=NUMBERS)
    def kill(self, number: int) -> None:
        self.host(number).restart()

    @rule(action=st.sampled_from(ACTIONS), after=st.booleans(), times=st.integers(1, 4), fatal=st.booleans())
    def aws_fault(self, action: str, after: bool, times: int, fatal: bool) -> None:
        """The next calls fail, or whoever makes them is killed, before or behind their effect."""
        table = self.aws.errors_after if after else self.aws.errors
        table[action] = [Killed() if fatal else away() for _ in range(times)]  # type: ignore[misc]  what a list takes

    @rule(number=NUMBERS, after=st.booleans(), times=st.integers(1, 3), fatal=st.booleans())
    def store_fault(self, number: int, after: bool, times: int, fatal: bool) -> None:
        store: Any = self.host(number).store
        if after:
            store.after = [Killed()]
        else:
            store.errors = [Killed() if fatal else full() for _ in range(times)]

    @rule()
    def faults_end(self) -> None:
        self.aws.errors.clear()
        self.aws.errors_after.clear()
        for host in self.hosts:
            host.store.errors.clear()
            host.store.after.clear()  # type: ignore[attr-defined]  a MortalStore

    @rule(number=NUMBERS)
    def status(self, number: int) -> None:
        host = self.host(number)
        try:
            shot = host.status()
        except Killed:
            host.restart()
            return
        if shot.warnings or shot.seen is None or shot.seen.seen_at != self.clock.now() or host.ledger.running():
            return
        states = self.states(host)
        if shot.posture is Posture.IN_SERVICE:
            assert set(states.values()) == {State.HEALTHY}
        if shot.posture is Posture.DRAINED:
            assert self.left_by_a_drain(states)
            assert shot.record.out_since is not None

    # What must hold

    def left_by_a_drain(self, states: dict[tuple[str, int], State]) -> bool:
        return not states

    def look_at(self, host: Host) -> None:
        """Right after a turn: what an end of an operation promises."""
        self.note_unconfirmed(host)
        operation = host.ledger.record().operation
        if operation is None or operation.outcome is None or operation.id in self.seen_ended:
            return
        self.seen_ended.add(operation.id)
        said = f"{operation.verb} {operation.outcome}"
        self.ends[said] = self.ends.get(said, 0) + 1
        assert operation.failure is None or operation.failure.kind != "failed", operation.failure
        self.promised(host, operation)

    def note_unconfirmed(self, host: Host) -> None:
        """Remember who has left and not looked again yet: an end from outside is then one without a look."""
        number, record = self.hosts.index(host), host.ledger.record()
        if record.underway is not None:
            (self.looking.add if isinstance(record.state, _UNCONFIRMED) else self.looking.discard)(number)
        elif number in self.looking:
            self.looking.discard(number)
            if record.last is not None and record.last.outcome is not Outcome.SUCCEEDED and record.left is not None:
                self.unlooked.add(number)

    def promised(self, host: Host, operation: Operation) -> None:
        states = self.states(host)
        if operation.outcome is Outcome.SUCCEEDED and operation.verb is Verb.DRAIN:
            assert not states, f"drained, yet {states}"
        if operation.outcome is Outcome.SUCCEEDED and operation.verb is Verb.REJOIN:
            assert self.registered(host) == self.own(host)
            assert set(states.values()) == {State.HEALTHY}
        if operation.outcome is Outcome.REFUSED and operation.phase is not Phase.GUARDING:  # it went back
            assert self.registered(host) == self.own(host)
            assert host.ledger.record().out_since is None

    @invariant()
    def counted(self) -> None:
        Fleet.steps += 1

    @precondition(lambda self: hasattr(self, "hosts"))
    @invariant()
    def whoever_is_out_has_it_on_disk(self) -> None:
        for host in self.hosts:
            out = self.own(host) - self.registered(host)
            if out:
                record = host.store.read()
                assert record.out_since is not None
                assert record.membership is not None
                assert {(t.group, t.id, t.port) for t in record.membership.targets} >= out

    @precondition(lambda self: hasattr(self, "hosts"))
    @invariant()
    def the_floor_is_kept(self) -> None:
        """Hosts that serve or warm, and those whose second look is still to come, are as many as must stay.

        Those count too that were forced out, and those whose drain was ended from outside (a cancel, a time-out)
        before its second look: nobody looks on their behalf.
        """
        excused = 0
        for number, host in enumerate(self.hosts):
            record = host.store.read()
            operation = record.operation
            drained = operation is not None and operation.verb is Verb.DRAIN
            left = isinstance(record.state, _UNCONFIRMED)
            if self.registered(host) == self.own(host):
                self.unlooked.discard(number)
            forced = operation is not None and operation.id in self.forced
            if forced and drained and operation.outcome is not Outcome.REFUSED:
                self.unlooked.add(number)
            if self.registered(host) != self.own(host) and (left or number in self.unlooked):
                excused += 1
        serving = sum(self.registered(host) == self.own(host) for host in self.hosts)
        assert serving + excused >= min(self.floor, len(self.hosts)), f"{serving} serve, {excused} are excused"


class Meddled(Fleet):
    """The same while others register, deregister and break these hosts by hand: only a host's own promises hold."""

    # What others do takes time, or `status` would seem to have looked at the moment behind it.

    @rule(number=NUMBERS, which=st.integers(0, 2))
    def somebody_registers(self, number: int, which: int) -> None:
        self.clock.time += 0.01
        name, port = _GROUPS[which]
        self.aws.put(name, self.host(number).metadata.who.instance_id, port)

    @rule(number=NUMBERS, which=st.integers(0, 2))
    def somebody_deregisters(self, number: int, which: int) -> None:
        self.clock.time += 0.01
        name, port = _GROUPS[which]
        target = self.aws.put(name, self.host(number).metadata.who.instance_id, port)
        asked, self.aws.errors = self.aws.errors, {}
        after, self.aws.errors_after = self.aws.errors_after, {}
        self.aws.deregister(self.aws.groups[arn(name)], [target])
        self.aws.errors, self.aws.errors_after = asked, after

    @rule(number=NUMBERS, said=st.sampled_from(("", "answered 503")))
    def the_app_changes(self, number: int, said: str) -> None:
        self.host(number).prober.said = said

    def left_by_a_drain(self, states: dict[tuple[str, int], State]) -> bool:
        # A target that others registered and took out again between two looks reads as the drain's own does.
        return set(states.values()) <= {State.DRAINING}

    def promised(self, host: Host, operation: Operation) -> None:
        record = host.ledger.record()
        if operation.outcome is Outcome.SUCCEEDED and operation.verb is Verb.REJOIN:
            assert record.out_since is None
        if operation.outcome is Outcome.SUCCEEDED and operation.verb is Verb.DRAIN:
            assert record.out_since is not None or not (record.membership and record.membership.targets)

    def whoever_is_out_has_it_on_disk(self) -> None:
        pass

    def the_floor_is_kept(self) -> None:
        pass


@pytest.mark.parametrize("machine", [Fleet, Meddled])
def test_no_interleaving_breaks_a_promise(machine: type[Fleet], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # a full disk says so at every write
    Fleet.steps, Fleet.ends = 0, {}
    wanted = STEPS if machine is Fleet else STEPS // 4
    profile = settings(
        max_examples=_EXAMPLES_AT_ONCE,
        stateful_step_count=_STEPS_AN_EXAMPLE,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    first = secrets.randbits(32) if SOAK else 0
    for number in itertools.count(first):
        chosen = type(machine.__name__, (machine,), {})
        run_state_machine_as_test(seed(number)(chosen), settings=profile)
        if Fleet.steps >= wanted:
            break
    ends = "; ".join(f"{said}: {times}" for said, times in sorted(Fleet.ends.items()))
    what = {Fleet: "kills, faults, cancels, races", Meddled: "the same, and somebody who meddles by hand"}[machine]
    repeat = f"tests/faults/test_model.py -k {machine.__name__}" + (" with ZDD_SOAK=1" if SOAK else "")
    row = Row(f"model: {what}", "all", Fleet.steps, ends, repeat)
    write_rows(f"model_{machine.__name__.lower()}", [row])
