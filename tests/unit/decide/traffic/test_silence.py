"""The adaptive floor never ends before the last node has let go: simulated nodes, seeded, by the thousand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from math import comb, exp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import START
from kernel import PORT, Kernel
from zdd_agent.decide.traffic import silence as rule
from zdd_agent.decide.traffic.health_checks import Schedule
from zdd_agent.decide.traffic.silence import History, Stretch, floor_ends_at, silent_samples
from zdd_agent.decide.traffic.watch import Node, Watch

STEP = 0.25
CHECKS = {PORT: (Schedule(30.0, 5.0),)}
# The requests of a node in each sample, for ever.
Arrivals = Iterator[bool]


def poisson(rng: random.Random, rate: float) -> Arrivals:
    while True:
        yield rng.expovariate(rate) < STEP


def regular(rng: random.Random, rate: float) -> Arrivals:
    """A round robin among hosts: one after each 1/rate, give or take a fifth."""
    due = rng.uniform(0, 1 / rate)
    while True:
        due -= STEP
        yield due <= 0
        while due <= 0:
            due += rng.uniform(0.8, 1.2) / rate


def bursts(rng: random.Random, rate: float) -> Arrivals:
    """Nothing for about a second, then as much as makes up for it, for about a second."""
    on = True
    while True:
        if rng.random() < STEP:
            on = not on
        yield on and rng.expovariate(2 * rate) < STEP


def swinging(rng: random.Random, rate: float) -> Arrivals:
    """Load that goes up and down by half within a minute."""
    at = rng.uniform(0, 60)
    while True:
        at += STEP
        yield rng.expovariate(rate * (1 + (at % 60 / 60 - 0.5))) < STEP


def history_of(nodes: Mapping[Node, Arrivals]) -> tuple[History, float]:
    """The history that samples of a minute would have made, made faster, and its end."""
    past, at = [], START
    heard = dict.fromkeys(nodes, START)
    for _ in range(3):
        stretch = Stretch()
        for _ in range(80):
            at += STEP
            spoke = {node for node, arrivals in nodes.items() if next(arrivals)}
            stretch = stretch.grown(STEP, {node: at - heard[node] for node in spoke})
            heard.update(dict.fromkeys(spoke, at))
        past.append(stretch)
    return History(at, {}, heard, tuple(past)), at


def drained(
    rng: random.Random, make: Callable[[random.Random, float], Arrivals], slowed: float = 1.0, silence: float = 1.0
) -> float | None:
    """One drain: seconds from the last node's letting go to the end of the floor; None where that is fixed."""
    rates = {(f"10.0.{n}.1", PORT): 10 ** rng.uniform(0.5, 2) for n in range(rng.randint(1, 4))}
    history, let_go_at = history_of({node: make(rng, rate) for node, rate in rates.items()})
    if (demands := history.demands(CHECKS)) is None:
        return None
    demands = {node: seconds * silence for node, seconds in demands.items()}
    lags = {node: let_go_at + rng.uniform(0, 25) for node in rates}
    arrivals = {node: make(rng, rate * slowed) for node, rate in rates.items()}
    heard = dict.fromkeys(rates, let_go_at)
    at = let_go_at
    while True:
        at += STEP
        heard |= {node: at for node in rates if next(arrivals[node]) and at < lags[node]}
        ends = floor_ends_at(demands, heard, let_go_at)
        assert ends is not None
        if at >= ends:
            return at - max(lags.values())


@pytest.mark.parametrize("make", [poisson, regular, bursts, swinging])
def test_no_floor_ends_before_the_last_node_lets_go(make: Callable[[random.Random, float], Arrivals]) -> None:
    rng = random.Random(make.__name__)
    ends = [end for _ in range(1000) if (end := drained(rng, make)) is not None]
    assert len(ends) >= 100
    assert min(ends) >= 0


def test_a_shorter_silence_would_have_ended_too_early() -> None:
    """The simulation can tell: with a twentieth of the silence it sees early ends."""
    rng = random.Random("short")
    ends = [end for _ in range(1000) if (end := drained(rng, poisson, silence=0.05)) is not None]
    assert min(ends) < 0


def test_nor_when_another_host_has_just_taken_half_of_the_requests() -> None:
    rng = random.Random("joined")
    ends = [end for _ in range(1000) if (end := drained(rng, poisson, slowed=0.5)) is not None]
    assert len(ends) >= 200
    assert min(ends) >= 0


def test_a_busy_host_is_let_go_within_eight_seconds_of_the_slowest_node() -> None:
    rng = random.Random("busy")
    for _ in range(100):
        nodes = {(f"10.0.{n}.1", PORT): rng.uniform(20, 100) for n in range(2)}
        history, _ = history_of({node: poisson(rng, rate) for node, rate in nodes.items()})
        demands = history.demands(CHECKS)
        assert demands is not None
        assert max(demands.values()) <= 7.5


# The test itself.


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 120), st.data())
def test_it_is_fishers_exact_test(samples: int, data: st.DataObject) -> None:
    busy = data.draw(st.integers(0, samples))
    chance = data.draw(st.sampled_from([0.1, 1e-3, 1e-9]))

    def probability(silent: int) -> float:
        return comb(samples, busy) / comb(samples + silent, busy)

    found = silent_samples(samples, busy, chance)
    if found is None:
        assert probability(samples) >= chance * (1 - 1e-6)
    else:
        assert probability(found) < chance * (1 + 1e-6)
        assert found == 1 or probability(found - 1) >= chance * (1 - 1e-6)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(2, 200), st.data())
def test_fewer_arrivals_ask_for_more_silence(samples: int, data: st.DataObject) -> None:
    busy = data.draw(st.integers(1, samples - 1))
    more, fewer = silent_samples(samples, busy + 1), silent_samples(samples, busy)
    assert fewer is None or (more is not None and more <= fewer)


def test_it_errs_as_seldom_as_it_says() -> None:
    """At a chance of 1 %, so that errors can be counted: among all that fell silent by chance, at most so many."""
    rng = random.Random("calibration")
    errors = trials = 0
    for _ in range(20_000):
        rate = rng.uniform(0.05, 0.95)
        busy = sum(rng.random() < rate for _ in range(80))
        needed = silent_samples(80, busy, 0.01)
        if needed is not None:
            trials += 1
            errors += all(rng.random() >= rate for _ in range(needed))
    assert trials > 15_000
    assert errors / trials <= 0.01


@pytest.mark.parametrize("rate", [0.2, 1.0, 4.0])
def test_it_asks_for_no_less_than_the_rule_of_thumb(rate: float) -> None:
    """exp(-rate x silence) < 1e-9, rate in requests a second: what an unlimited past would allow."""
    busy = round(10_000 * (1 - exp(-rate * STEP)))
    silent = silent_samples(10_000, busy, 1e-9)
    assert silent is not None
    assert 20.7 / rate <= silent * STEP <= 20.7 / rate * 1.05 + STEP


def test_without_arrivals_nothing_can_be_said() -> None:
    assert silent_samples(80, 0) is None
    assert silent_samples(80, 10) is None


# From samples to demands.


class Nodes:
    """Nodes that keep one connection each, and use it for a request when told."""

    def __init__(self, *peers: str) -> None:
        self.kernel = Kernel()
        self.now = START
        self.wires = {peer: self.kernel.connect(START, peer) for peer in peers}
        self.history = History.begin(self.kernel.sample(START))

    def request(self, peer: str) -> None:
        self.kernel.receive(self.wires[peer], self.now)
        self.kernel.send(self.wires[peer], self.now)

    def step(self, seconds: float = STEP) -> None:
        self.now += seconds
        self.history = self.history.after(self.kernel.sample(self.now))

    def minute(self, *busy: str) -> None:
        for _ in range(241):
            for peer in busy:
                self.request(peer)
            self.step()


def test_a_minute_of_requests_from_every_node_is_enough() -> None:
    nodes = Nodes("10.0.1.1", "10.0.2.1")
    nodes.minute("10.0.1.1", "10.0.2.1")
    assert nodes.history.demands(CHECKS) == {("10.0.1.1", PORT): 5.5, ("10.0.2.1", PORT): 5.5}


def test_less_than_that_is_not() -> None:
    nodes = Nodes("10.0.1.1")
    for _ in range(230):
        nodes.request("10.0.1.1")
        nodes.step()
    assert nodes.history.demands(CHECKS) is None


def test_it_must_cover_an_interval_of_the_checks_by_which_every_node_is_seen() -> None:
    nodes = Nodes("10.0.1.1")
    nodes.minute("10.0.1.1")
    assert nodes.history.demands({PORT: (Schedule(120.0, 5.0),)}) is None
    assert nodes.history.demands({}) is None, "checks on another port show no node here"


def test_one_node_with_too_few_requests_leaves_it_to_the_fixed_floor() -> None:
    nodes = Nodes("10.0.1.1", "10.0.2.1")
    nodes.minute("10.0.1.1")
    assert nodes.history.demands(CHECKS) is None


def test_a_node_that_only_checks_leaves_it_to_the_fixed_floor() -> None:
    nodes = Nodes("10.0.1.1")
    for n in range(241):
        nodes.request("10.0.1.1")
        if n % 20 == 0:
            nodes.kernel.exchange(nodes.now, "10.0.2.1")
        nodes.step()
    assert nodes.history.demands({PORT: (Schedule(5.0, 5.0),)}) is None


def test_a_node_that_is_long_gone_is_forgotten() -> None:
    nodes = Nodes("10.0.1.1", "10.0.2.1")
    nodes.minute("10.0.1.1", "10.0.2.1")
    nodes.kernel.close(nodes.wires["10.0.2.1"], nodes.now)
    nodes.minute("10.0.1.1")
    assert nodes.history.demands(CHECKS) is None
    nodes.minute("10.0.1.1")
    assert nodes.history.demands(CHECKS) == {("10.0.1.1", PORT): 5.5}


def test_after_a_gap_the_history_begins_anew() -> None:
    nodes = Nodes("10.0.1.1")
    nodes.minute("10.0.1.1")
    nodes.step(3.0)
    assert nodes.history.demands(CHECKS) is None


def test_many_clients_are_no_nodes_and_take_no_memory() -> None:
    nodes = Nodes("10.0.1.1")
    for n in range(300):
        nodes.kernel.exchange(nodes.now, f"192.0.2.{n % 250}")
        nodes.step()
    assert nodes.history.demands(CHECKS) is None
    assert len(nodes.history.heard) <= 65


def test_a_slow_upload_is_one_request() -> None:
    nodes = Nodes("10.0.1.1")
    nodes.step()
    for _ in range(241):
        nodes.kernel.receive(nodes.wires["10.0.1.1"], nodes.now + 0.1)
        nodes.step()
    assert sum(stretch.busy.get(("10.0.1.1", PORT), 0) for stretch in nodes.history.past) == 1


def test_a_silence_seen_before_is_doubled() -> None:
    nodes = Nodes("10.0.1.1")
    for n in range(241):
        if not 100 <= n < 108:  # 2 s: of 80 samples 71 are busy, the checks apart
            nodes.request("10.0.1.1")
        nodes.step()
    demands = nodes.history.demands(CHECKS)
    assert demands is not None
    assert demands["10.0.1.1", PORT] == 2 * STEP * silent_samples(80, 71)


# From demands to the end of the floor.


def test_the_floor_ends_when_every_node_has_been_silent_for_long_enough() -> None:
    demands = {("a", 1): 5.0, ("b", 1): 7.0}
    assert floor_ends_at(demands, {("a", 1): START + 12, ("b", 1): START + 3}, START) == START + 17
    assert floor_ends_at(demands, {("a", 1): START - 60, ("b", 1): START - 60}, START) == START + 7


def test_a_node_that_was_unknown_before_leaves_it_to_the_fixed_floor() -> None:
    assert floor_ends_at({("a", 1): 5.0}, {("b", 1): START}, START) is None
    assert floor_ends_at({}, {}, START) is None


def test_checks_that_go_on_do_not_keep_a_node_from_being_silent() -> None:
    kernel = Kernel()
    watch = Watch.begin(kernel.sample(START), {PORT: (Schedule(10.0, 5.0),)}, 5.0)
    now = START
    for n in range(200):
        if n % 40 == 0:
            kernel.exchange(now, "10.0.1.1", 140)
        now += STEP
        watch = watch.after(kernel.sample(now))
    assert "10.0.1.1" not in {peer for peer, _ in watch.heard}


def test_the_chance_is_a_billionth_for_a_thousand_looks() -> None:
    assert pytest.approx(1e-9) == rule.CHANCE * 1000
