"""Pure: how long a load balancer's node must be silent before that proves that it has let this host go.

Until it has, a node goes on sending as it did before. So the question is only whether it would have been silent for
so long by chance, and its own past answers that: no figure of AWS is needed.

*The test.* Time is cut into samples (a quarter of a second); a sample is busy for a node when a request of it came in
it, be it one or many, so that a burst counts once. Say that K of the N samples before the drain were busy, and then n
in a row are not. Were nothing changed, the K busy ones would be spread over all N + n by chance, and the probability
that none falls on the last n is C(N, K) / C(N + n, K) (Fisher's exact test). It needs no estimate of the rate, and no
assumption that arrivals within a sample are independent; where they are many it comes to exp(-rate x silence), and
with one in a billion to the rule of thumb of 20.7 / rate. For fewer arrivals it asks for more, by itself.

*One in a billion for the drain*, not for each look at it: a drain looks at every sample, for every node, as long as
the lag is. So the test is made at a billionth of a thousandth.

*What it assumes, and how far it may be wrong.*
- That samples are alike and independent. Requests in longer bursts are not: so of three stretches of 20 s the slowest
  one counts, and a silence is at least twice the longest one that the node kept before.
- That the rate stays. It falls when another host joins, and a rolling deploy brings one back just before the next
  drain: twice the silence is asked for, which allows for half of the rate. When other hosts leave, it rises: harmless.
- That every node has been seen: each one checks every target at the check's interval, so all have been by then,
  where the checks go to the app's own port. A node without enough requests besides its checks leaves it to the fixed
  floor; so do the many peers of a balancer that preserves client addresses.
- That requests are told from their parts: a slow upload counts once. A WebSocket's messages do count as requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf, isfinite

from zdd_agent.decide.traffic.health_checks import Schedules
from zdd_agent.decide.traffic.watch import Node
from zdd_agent.model.kernel import Connection, Sample

# The chance of taking a node's silence for good by mistake, for each look; a drain has about a thousand: four a
# second, for the 25 s that nodes have been seen to lag, for ten nodes.
CHANCE = 1e-9 / 1000
# Seconds of silence that are asked of every node at the least.
SHORTEST_SECONDS = 5.0
# How much longer than the test says, for a rate that has fallen to half.
CAUTION = 2.0
# Seconds of a stretch, and how many are kept.
_STRETCH_SECONDS = 20.0
_STRETCHES = 3
# Seconds between two samples at the most: with a longer gap they are not alike.
_GAP_SECONDS = 1.0
# Peers above which they are clients and not nodes: a load balancer has up to a few nodes in each zone. Bounds memory.
_MAX_PEERS = 64


@dataclass(frozen=True, slots=True)
class Stretch:
    """How many samples there were in how many seconds, and how many were busy for each node."""

    seconds: float = 0.0
    samples: int = 0
    busy: Mapping[Node, int] = field(default_factory=dict)
    silence: Mapping[Node, float] = field(default_factory=dict)

    def grown(self, seconds: float, heard: Mapping[Node, float]) -> Stretch:
        """One sample more, with the nodes that sent requests and how long each had been silent before."""
        busy, silence = dict(self.busy), dict(self.silence)
        for node, silent in heard.items():
            busy[node] = busy.get(node, 0) + 1
            silence[node] = max(silent, silence.get(node, 0.0))
        return Stretch(self.seconds + seconds, self.samples + 1, busy, silence)


@dataclass(frozen=True, slots=True)
class History:
    """The requests of each node before the drain, as the samples show them. Moments are seconds.

    Sample four times a second, for a minute before the drain; at half that pace there is too little to go by.
    """

    at: float
    connections: Mapping[int, Connection]
    heard: Mapping[Node, float]
    past: tuple[Stretch, ...] = ()
    current: Stretch = field(default_factory=Stretch)

    @classmethod
    def begin(cls, sample: Sample) -> History:
        """Count from this sample on."""
        heard = {(c.peer, c.port): sample.at for c in sample.connections[:_MAX_PEERS]}
        return cls(sample.at, {c.cookie: c for c in sample.connections}, heard)

    def after(self, sample: Sample) -> History:
        """The history after one more sample; from its beginning after a gap, or with too many peers."""
        span = sample.at - self.at
        heard = dict(self.heard)
        seen = (*sample.connections, *sample.ended)
        if not 0 < span <= _GAP_SECONDS or len({(c.peer, c.port) for c in seen} | heard.keys()) > _MAX_PEERS:
            return History.begin(sample)
        spoke = {(c.peer, c.port) for c in seen if _asked(c, self.connections.get(c.cookie))}
        current = self.current.grown(span, {node: sample.at - heard.get(node, self.at) for node in spoke})
        heard.update(dict.fromkeys(spoke, sample.at))
        for c in sample.connections:
            heard.setdefault((c.peer, c.port), sample.at)
        past = self.past
        if current.seconds >= _STRETCH_SECONDS:
            past, current = (*past, current)[-_STRETCHES:], Stretch()
            known = {(c.peer, c.port) for c in sample.connections}.union(*(stretch.busy for stretch in past))
            heard = {node: at for node, at in heard.items() if node in known}
        connections = {c.cookie: c for c in sample.connections}
        return History(sample.at, connections, heard, past, current)

    def demands(self, checks: Schedules) -> Mapping[Node, float] | None:
        """How many seconds each node must be silent; None when the samples do not tell that of every one.

        Args:
            checks: the health checks of the ports, see `health_checks.schedules`.
        """
        kept = sum(stretch.seconds for stretch in self.past)
        found: dict[Node, float] = {}
        for node, heard_at in self.heard.items():
            intervals = [schedule.interval for schedule in checks.get(node[1], ())]
            if len(self.past) < _STRETCHES or not intervals or kept < max(intervals):
                return None
            needed = max(_needed(stretch, node, intervals) for stretch in self.past)
            silences = [stretch.silence.get(node, 0.0) for stretch in (*self.past, self.current)]
            found[node] = max(SHORTEST_SECONDS, CAUTION * max(needed, self.at - heard_at, *silences))
        return found if found and all(isfinite(seconds) for seconds in found.values()) else None


def _needed(stretch: Stretch, node: Node, intervals: list[float]) -> float:
    """The seconds of silence that the test asks for, going by one stretch; infinite when it tells too little."""
    checks = sum(ceil(stretch.seconds / interval) for interval in intervals)
    silent = silent_samples(stretch.samples, max(stretch.busy.get(node, 0) - checks, 0))
    return inf if silent is None else silent * stretch.seconds / stretch.samples


def silent_samples(samples: int, busy: int, chance: float = CHANCE) -> int | None:
    """The fewest silent samples in a row that chance explains with less than this probability.

    Args:
        samples: how many there were before.
        busy: how many of them were busy.
        chance: the probability.

    Returns:
        How many; None when that would be more than there were before: too few arrivals to say.
    """
    probability = 1.0
    for silent in range(1, samples + 1):
        probability *= (samples + silent - busy) / (samples + silent)
        if probability < chance:
            return silent
    return None


def floor_ends_at(demands: Mapping[Node, float], heard: Mapping[Node, float], let_go_at: float) -> float | None:
    """The moment at which every node has been silent for long enough, if none speaks before; seconds.

    Args:
        demands: of `History.demands`, from before the deregistration.
        heard: when each was last heard, health checks and parts of requests included: `Watch.heard`.
        let_go_at: when the deregistration was accepted; silence before that says nothing.

    Returns:
        The moment; None when there is a node that was unknown before.
    """
    if not demands or heard.keys() - demands.keys():
        return None
    return max(max(heard.get(node, let_go_at), let_go_at) + seconds for node, seconds in demands.items())


def _asked(connection: Connection, before: Connection | None) -> bool:
    """Whether a request began on this connection since the sample before."""
    if before is None:
        return connection.data_segments_received > 0
    if connection.data_segments_received == before.data_segments_received:
        return False
    waited = before.last_received_seconds_ago < before.last_sent_seconds_ago
    return not waited or connection.data_segments_sent != before.data_segments_sent
