"""What the samples prove, and what they do not: simulated ones, so that every moment is chosen."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fakes import START, group
from kernel import PORT, Kernel
from zdd_agent.decide.traffic.health_checks import Schedule, schedules
from zdd_agent.decide.traffic.quiet import Proof, described, left_of, proof
from zdd_agent.decide.traffic.watch import Watch
from zdd_agent.model.aws import HealthCheck, Membership, Target
from zdd_agent.model.kernel import Until

STEP = 0.25
CHECKS = {PORT: (Schedule(interval=10.0, timeout=5.0),)}


class Drain:
    """A drain that was accepted at START, with a floor; samples come four times a second."""

    def __init__(self, kernel: Kernel, checks: dict[int, tuple[Schedule, ...]] | None = None, floor: float = 30.0):
        self.kernel = kernel
        self.now = START
        self.floor_ends_at = START + floor
        self.told = True
        self.watch = Watch.begin(kernel.sample(START, lost=True), checks or {}, 5.0)

    def step(self, *, lost: bool = False) -> None:
        self.now += STEP
        self.watch = self.watch.after(self.kernel.sample(self.now, lost=lost))

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.step()

    def finding(self, until: Until = Until.CLOSED) -> Proof:
        return proof(
            self.watch,
            until=until,
            told=self.told,
            let_go_at=START,
            floor_ends_at=self.floor_ends_at,
            now=self.now,
        )

    def ends_after(
        self, until: Until = Until.CLOSED, limit: float = 600.0, happens: Callable[[float], None] | None = None
    ) -> float | None:
        """Seconds from START to the proof; None when it does not come within the limit."""
        while self.now < START + limit:
            if self.finding(until).proved:
                return self.now - START
            if happens is not None:
                happens(self.now)
            self.step()
        return None


def kept_alive(kernel: Kernel, at: float, *, answer_after: float = 0.05) -> int:
    cookie = kernel.connect(at)
    kernel.receive(cookie, at)
    kernel.send(cookie, at + answer_after)
    return cookie


# The three parts of the proof.


def test_a_quiet_host_is_proved_at_the_end_of_the_floor() -> None:
    drain = Drain(Kernel())
    assert drain.ends_after() == 30.0
    assert drain.finding().said == "no connection left, nothing received for 30 s, 30 s after deregistering"


def test_nothing_is_proved_until_every_target_reads_draining() -> None:
    drain = Drain(Kernel())
    drain.told = False
    assert drain.ends_after(limit=100) is None
    assert drain.finding().said == "not every target reads `draining` yet"


def test_unused_is_left_to_the_api() -> None:
    drain = Drain(Kernel())
    assert drain.ends_after(Until.UNUSED, limit=100) is None


def test_an_old_look_proves_nothing() -> None:
    drain = Drain(Kernel())
    drain.run(40)
    drain.now += 3
    finding = drain.finding()
    assert not finding.proved
    assert finding.idle_at is None
    assert "3 s old" in finding.said


def test_a_new_connection_starts_the_quiet_time_again() -> None:
    drain = Drain(Kernel())
    drain.run(29)
    drain.kernel.close(drain.kernel.connect(drain.now), drain.now)
    assert drain.ends_after() == pytest.approx(34.25, abs=STEP)


def test_a_connection_that_came_and_went_between_two_samples_starts_it_again() -> None:
    drain = Drain(Kernel())
    drain.run(29)
    drain.kernel.exchange(drain.now + 0.1)
    assert drain.ends_after() == pytest.approx(34.25, abs=STEP)


def test_what_the_kernel_could_not_tell_counts_as_activity() -> None:
    drain = Drain(Kernel())
    drain.run(29)
    drain.step(lost=True)
    assert drain.ends_after() == pytest.approx(34.25, abs=STEP)


def test_a_byte_on_an_old_connection_starts_it_again() -> None:
    kernel = Kernel()
    cookie = kept_alive(kernel, START - 100)
    drain = Drain(kernel)
    drain.run(29)
    kernel.receive(cookie, drain.now)
    kernel.send(cookie, drain.now)
    kernel.close(cookie, drain.now)
    assert drain.ends_after() == pytest.approx(34, abs=2 * STEP)


def test_an_open_connection_holds_closed_back_however_long_it_is_silent() -> None:
    kernel = Kernel()
    kept_alive(kernel, START - 100)
    drain = Drain(kernel)
    assert drain.ends_after(limit=400) is None
    assert drain.finding().said == "1 connection left, 0 with work; the oldest, from 10.0.1.1, is over 400 s old"


def test_closed_ends_within_half_a_second_of_the_last_answer() -> None:
    kernel = Kernel()
    drain = Drain(kernel)
    cookie = kernel.connect(drain.now)
    kernel.receive(cookie, drain.now)

    def answer(now: float) -> None:
        if now == START + 45:
            kernel.send(cookie, now)
            kernel.close(cookie, now)

    ends = drain.ends_after(happens=answer)
    assert ends is not None
    assert 45 <= ends <= 45.5


def test_a_connection_that_a_dump_passes_over_is_not_taken_for_ended() -> None:
    kernel = Kernel()
    cookie = kept_alive(kernel, START - 100)
    drain = Drain(kernel)
    drain.run(40)
    for _ in range(3):
        kernel.passes_over.add(cookie)
        drain.step()
        assert not drain.finding().proved
    drain.step()
    assert not drain.finding().proved


def test_a_connection_of_whose_end_nothing_was_said_is_waited_for_a_second_only() -> None:
    kernel = Kernel()
    cookie = kept_alive(kernel, START - 100)
    drain = Drain(kernel)
    drain.run(40)
    del kernel.wires[cookie]
    drain.run(1)
    assert drain.finding().proved


# Idle.


def test_idle_leaves_a_pool_open() -> None:
    kernel = Kernel()
    kept_alive(kernel, START - 1)
    drain = Drain(kernel)
    assert drain.ends_after(Until.IDLE) == 30.0
    assert drain.finding(Until.IDLE).said == (
        "no connection with work on it, 1 connection open without, nothing received for 30 s, 30 s after deregistering"
    )


@pytest.mark.parametrize("which", ["unread", "unsent"])
def test_idle_waits_for_bytes_that_wait(which: str) -> None:
    kernel = Kernel()
    cookie = kernel.connect(START)
    kernel.receive(cookie, START, unread=10 if which == "unread" else 0)
    if which == "unsent":
        kernel.send(cookie, START + 0.05, unsent=10)
    drain = Drain(kernel)
    assert drain.ends_after(Until.IDLE, limit=200) is None


def test_idle_waits_for_a_request_that_is_being_answered() -> None:
    kernel = Kernel()
    cookie = kernel.connect(START)
    kernel.receive(cookie, START)
    drain = Drain(kernel)
    ends = drain.ends_after(Until.IDLE, happens=lambda now: kernel.send(cookie, now) if now == START + 45 else None)
    assert ends == pytest.approx(50, abs=2 * STEP)


def test_idle_waits_for_a_response_that_streams() -> None:
    kernel = Kernel()
    cookie = kernel.connect(START)
    kernel.receive(cookie, START)
    drain = Drain(kernel)
    ends = drain.ends_after(Until.IDLE, happens=lambda now: kernel.send(cookie, now) if now < START + 60 else None)
    assert ends == pytest.approx(65, abs=2 * STEP)


def test_idle_waits_for_a_slow_upload() -> None:
    kernel = Kernel()
    cookie = kernel.connect(START)
    drain = Drain(kernel)

    def upload(now: float) -> None:
        if now < START + 50:
            kernel.receive(cookie, now)
        elif now == START + 50:
            kernel.send(cookie, now)

    assert drain.ends_after(Until.IDLE, happens=upload) == pytest.approx(55, abs=3 * STEP)


def test_a_connection_without_any_byte_has_no_work() -> None:
    kernel = Kernel()
    kernel.connect(START)
    assert Drain(kernel).ends_after(Until.IDLE) == 30.0


# An app that answers within the tick of the kernel's clock: which came last, request or answer?


def test_the_first_answer_on_a_connection_is_known_though_it_came_at_once() -> None:
    kernel = Kernel()
    cookie = kernel.connect(START)
    kernel.receive(cookie, START)
    kernel.acknowledge(cookie)  # as Linux does at the beginning of a connection
    kernel.send(cookie, START)
    assert Drain(kernel).ends_after(Until.IDLE) == 30.0


def test_later_answers_are_known_by_the_lack_of_an_acknowledgement() -> None:
    kernel = Kernel()
    cookie = kept_alive(kernel, START)
    drain = Drain(kernel)
    drain.run(2)
    for _ in range(3):
        kernel.receive(cookie, drain.now)
        kernel.send(cookie, drain.now)
    assert drain.ends_after(Until.IDLE) == 30.0


def test_a_request_that_came_as_the_answer_before_left_is_waited_for() -> None:
    kernel = Kernel()
    cookie = kept_alive(kernel, START)
    drain = Drain(kernel)
    drain.run(2)
    kernel.receive(cookie, drain.now)
    kernel.send(cookie, drain.now)
    kernel.receive(cookie, drain.now)  # a slow one
    drain.step()
    kernel.acknowledge(cookie)
    assert drain.ends_after(Until.IDLE, limit=200) is None


def test_what_was_answered_stays_so_when_the_kernel_keeps_the_connection_alive() -> None:
    kernel = Kernel()
    cookie = kept_alive(kernel, START)
    drain = Drain(kernel)
    drain.run(2)
    kernel.receive(cookie, drain.now)
    kernel.send(cookie, drain.now)
    drain.run(5)
    kernel.acknowledge(cookie)  # a keep-alive probe
    assert drain.ends_after(Until.IDLE) == 30.0


def test_a_tie_from_before_the_watch_counts_as_work() -> None:
    kernel = Kernel()
    cookie = kernel.connect(START - 20)
    for _ in range(2):
        kernel.receive(cookie, START - 10)
        kernel.send(cookie, START - 10)
    assert Drain(kernel).ends_after(Until.IDLE, limit=200) is None


def test_a_request_at_the_end_of_a_streamed_answer_is_waited_for() -> None:
    kernel = Kernel()
    cookie = kernel.connect(START)
    kernel.receive(cookie, START)
    drain = Drain(kernel)
    for _ in range(8):
        kernel.send(cookie, drain.now)
        drain.step()
    kernel.send(cookie, drain.now)
    kernel.receive(cookie, drain.now)
    drain.step()
    kernel.acknowledge(cookie)
    assert drain.ends_after(Until.IDLE, limit=200) is None


# What is said.


def test_closed_says_since_when_idle_was_proved() -> None:
    kernel = Kernel()
    cookie = kept_alive(kernel, START)
    drain = Drain(kernel)
    drain.run(90)
    assert drain.finding().idle_at == START + 30
    kernel.close(cookie, drain.now)
    drain.step()
    assert drain.finding().proved
    assert drain.finding().idle_at == START + 30


def test_what_hangs_is_named_with_its_peer_and_age() -> None:
    kernel = Kernel()
    kept_alive(kernel, START - 50)
    drain = Drain(kernel)
    drain.run(10)
    kernel.receive(kernel.connect(drain.now, "10.0.1.2"), drain.now)
    drain.run(20)
    assert described(left_of(drain.watch, Until.CLOSED), drain.now, 5.0) == (
        "10.0.1.1:40001 to port 8080, over 30 s old, without work; 10.0.1.2:40002 to port 8080, 20 s old, with work"
    )
    assert described(left_of(drain.watch, Until.IDLE), drain.now, 5.0) == (
        "10.0.1.2:40002 to port 8080, 20 s old, with work"
    )


def test_what_nobody_can_tell_is_counted_apart() -> None:
    kernel = Kernel()
    kernel.receive(kernel.connect(START - 20), START - 20)
    unclear = kernel.connect(START - 20)
    for _ in range(2):
        kernel.receive(unclear, START - 20)
    kernel.send(unclear, START - 20)
    drain = Drain(kernel)
    assert drain.finding().said.startswith("2 connections left, 1 with work, 1 perhaps with work; the oldest")
    assert described(drain.watch.open, drain.now, 5.0).endswith("perhaps with work")


def test_only_the_first_few_are_named() -> None:
    kernel = Kernel()
    for _ in range(9):
        kept_alive(kernel, START)
    assert described(Drain(kernel).watch.open, START, 5.0).endswith("; and 4 more")


# Health checks that go on while the target drains.


class Checking:
    """Nodes that check at the interval, with jitter, each at a moment of its own."""

    def __init__(self, kernel: Kernel, nodes: int, interval: float, seed: int, size: int | None = 140) -> None:
        self.kernel, self.interval, self.size = kernel, interval, size
        self.rng = random.Random(seed)
        self.due = {f"10.0.1.{n}": START + self.rng.uniform(0, interval) for n in range(nodes)}

    def __call__(self, now: float) -> None:
        for peer, due in self.due.items():
            if due <= now + STEP:
                self.kernel.exchange(now + 0.1, peer, self.size or self.rng.randint(100, 10_000))
                self.due[peer] = due + self.interval * self.rng.uniform(0.9, 1.1)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("nodes", "interval"), [(1, 5.0), (2, 5.0), (3, 10.0), (6, 10.0), (20, 30.0)])
def test_checks_do_not_hold_the_drain_back_for_ever(nodes: int, interval: float, seed: int) -> None:
    kernel = Kernel()
    drain = Drain(kernel, {PORT: (Schedule(interval, 5.0),)})
    ends = drain.ends_after(happens=Checking(kernel, nodes, interval, seed))
    assert ends is not None
    assert 30.0 <= ends <= max(30.0, 4 * interval)


@pytest.mark.parametrize("seed", range(10))
def test_checks_do_not_hide_requests(seed: int) -> None:
    """The nodes go on with requests for 60 s, past the floor; each on a connection of its own, as short as a check."""
    kernel = Kernel()
    drain = Drain(kernel, CHECKS)
    checks, rng = Checking(kernel, 3, 10.0, seed), random.Random(seed)

    def happens(now: float) -> None:
        checks(now)
        if now < START + 60 and rng.random() < STEP:  # one a second
            kernel.exchange(now + 0.05, f"10.0.1.{rng.randint(0, 2)}", 140)

    ends = drain.ends_after(happens=happens)
    assert ends is not None
    assert ends >= 60


def test_a_check_that_is_open_at_the_sample_does_not_count_once_it_has_ended() -> None:
    kernel = Kernel()
    drain = Drain(kernel, CHECKS, floor=0.0)
    for _ in range(3):
        cookie = kernel.connect(drain.now)
        kernel.receive(cookie, drain.now)
        drain.step()
        assert not drain.finding().proved
        kernel.send(cookie, drain.now)
        kernel.close(cookie, drain.now)
        drain.run(10 - STEP)
    assert drain.watch.last_activity == START


def beats(drain: Drain, times: int, *, size: int = 140, lives: float = 0.1) -> None:
    """Connections that come every ten seconds, to the second, as checks do."""
    for _ in range(times):
        began = drain.now
        cookie = drain.kernel.connect(began + 0.1)
        drain.kernel.receive(cookie, began + 0.1, size)
        drain.run(lives // STEP * STEP)
        drain.kernel.close(cookie, drain.now + 0.2)
        drain.run(10 - (drain.now - began))


def test_two_make_no_rhythm_yet_but_three_do() -> None:
    drain = Drain(Kernel(), CHECKS)
    beats(drain, 2)
    assert drain.watch.last_activity > START + 10
    beats(drain, 1)
    assert drain.watch.last_activity == START


@pytest.mark.parametrize(("size", "lives"), [(100_000, 0.1), (140, 2.5)])
def test_what_is_large_or_long_is_no_check_though_it_keeps_the_rhythm(size: int, lives: float) -> None:
    drain = Drain(Kernel(), {PORT: (Schedule(interval=10.0, timeout=1.0),)})
    beats(drain, 6, size=size, lives=lives)
    assert drain.watch.last_activity > START + 50


def test_requests_of_varying_length_are_no_checks() -> None:
    kernel = Kernel()
    drain = Drain(kernel, {PORT: (Schedule(4.0, 5.0),)})
    assert drain.ends_after(limit=120, happens=Checking(kernel, 1, 4.0, seed=1, size=None)) is None


def test_checks_on_a_port_of_their_own_are_not_expected_on_the_apps() -> None:
    apart = group("apart", health_check=HealthCheck("HTTP", "9000", "/", 10.0, 5.0, 2, "200"))
    same = group("same", health_check=HealthCheck("HTTP", "traffic-port", "/", 15.0, 4.0, 2, "200"))
    membership = Membership((apart, same), (Target(apart.arn, "i-me", 80), Target(same.arn, "i-me", 81)))
    assert schedules(membership) == {81: (Schedule(15.0, 4.0),)}


def test_rows_of_what_only_came_once_are_forgotten() -> None:
    kernel = Kernel()
    drain = Drain(kernel, CHECKS)
    for n in range(400):
        kernel.exchange(drain.now, size=n)
        drain.step()
    assert len(drain.watch.rows) < 13 * 4 + 8
    drain.run(20)
    assert not drain.watch.rows
    assert drain.watch.last_activity == pytest.approx(START + 100, abs=STEP)
