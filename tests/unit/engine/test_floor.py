"""No silence of the load balancer's nodes ends a drain before the floor, also where `drain.floor` says `adaptive`."""

from __future__ import annotations

import random

import pytest

from fakes import START, group
from host import Host, succeeded
from kernel import PORT, Kernel
from zdd_agent.model.kernel import Sample, Until
from zdd_agent.model.operation import Verb
from zdd_agent.settings import DrainSettings, Settings

# Seconds in service before the drain.
BEFORE = 70.0
NODES = ("10.0.9.1", "10.0.9.2")


class Load:
    """Clients that send for `on` seconds and pause for `off`: each node passes on 4 requests a second, then stops.

    The nodes check the app every 10 s, and stop sending requests 17 to 25 s after the deregistration.
    """

    def __init__(self, rng: random.Random, on: float, off: float) -> None:
        phase = rng.uniform(0, on + off)
        self.kernel = Kernel()
        self.wires = {node: self.kernel.connect(START, node) for node in NODES}
        requests = [
            (START + at, node, True)
            for node in NODES
            for at in (n / 4 + rng.uniform(0, 0.2) for n in range(int(4 * (BEFORE + rng.uniform(17, 25)))))
            if (at + phase) % (on + off) < on
        ]
        self.last = max(at for at, _, _ in requests)
        checks = [(START + 10.0 * n + 3 * i, node, False) for i, node in enumerate(NODES) for n in range(60)]
        self.coming = sorted(requests + checks, reverse=True)

    def sample(self, now: float) -> Sample:
        while self.coming and self.coming[-1][0] <= now:
            at, node, is_request = self.coming.pop()
            if is_request:
                self.kernel.receive(self.wires[node], at)
                self.kernel.send(self.wires[node], at + 0.01)
            else:
                self.kernel.exchange(at, node, 140)
        return self.kernel.sample(now)


def seconds_left(rng: random.Random, on: float, off: float) -> float:
    """Seconds from a node's last request to the end of the drain."""
    host = Host(group())
    host.settings = Settings(drain=DrainSettings(until=Until.IDLE, floor="adaptive"))
    host.restart()
    host.aws.put("web", port=PORT)
    host.aws.put_sibling("web")
    assert succeeded(host.do(Verb.REJOIN))  # already in service: now the agent knows its membership
    load = Load(rng, on, off)
    host.sensor.nodes = NODES
    host.sensor.sample = lambda *_: load.sample(host.clock.now())  # type: ignore[method-assign]  the fake's own seam
    host.rest(BEFORE)
    operation = host.do(Verb.DRAIN)
    assert succeeded(operation)
    assert "the API would have said `unused` in 2" in operation.message, "the connections ended it, after the floor"
    return host.clock.now() - load.last


@pytest.mark.parametrize(("on", "off"), [(120, 10), (300, 20)])
def test_a_pause_of_the_clients_ends_no_drain_while_a_node_still_sends(on: float, off: float) -> None:
    rng = random.Random(f"{on}/{off}")
    assert min(seconds_left(rng, on, off) for _ in range(40)) > 0
