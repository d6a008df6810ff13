"""What a watch keeps, and how much memory that takes."""

from __future__ import annotations

import tracemalloc

from fakes import START
from kernel import PORT, Kernel
from zdd_agent.adapters.sensor import MAX_CONNECTIONS
from zdd_agent.decide.traffic.watch import MAX_HEARD, Watch
from zdd_agent.model.kernel import Connection, Sample


def many(at: float) -> Sample:
    """As many connections as a sample may have, none of which shares an object with another one's."""
    found = (
        Connection(10**6 + n, PORT, "10.0.0.1", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1024 + n, 0, 0, 1000 + n)
        for n in range(MAX_CONNECTIONS)
    )
    return Sample(at, frozenset({PORT}), tuple(found))


def test_the_most_connections_fit_into_a_fifth_of_the_units_memory() -> None:
    tracemalloc.start()
    watch = Watch.begin(many(START), {}, 5.0).after(many(START + 0.25))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(watch.tracks) == MAX_CONNECTIONS
    assert peak < 256 * 2**20 / 5


def test_clients_that_come_once_are_not_all_remembered_but_when_the_last_one_came_is() -> None:
    kernel = Kernel()
    watch = Watch.begin(kernel.sample(START), {}, 5.0)
    now = START
    for n in range(4 * MAX_HEARD):
        kernel.exchange(now, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
        if n % 500 == 0:
            now += 0.25
            watch = watch.after(kernel.sample(now))
    assert len(watch.ended) <= MAX_HEARD
    assert now - watch.last_activity < 1.0
