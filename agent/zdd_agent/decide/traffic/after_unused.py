"""Pure: what holds a drain although AWS calls every target `unused`.

With a deregistration delay that is shorter than a request, and for the flows of an NLB, `unused` says nothing of what
is under way. So the nodes' work holds the drain. An idle connection does not: a load balancer keeps some open for a
while, and after its deregistration delay it sends nothing more on them.

*Nodes* are the load balancer's addresses. Where they are not known, or a group preserves client addresses, any peer
may bring the load balancer's work: an empty set of nodes stands for that.
"""

from __future__ import annotations

from zdd_agent.decide.traffic.watch import Track, Watch

# Seconds without a byte after which a load balancer gives up a request: the default idle time-out of an ALB,
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html
_GIVEN_UP_SECONDS = 60.0


def work_of(watch: Watch, nodes: frozenset[str]) -> tuple[Track, ...]:
    """The nodes' connections that hold the drain, the oldest first.

    Where nobody can tell whether the last byte on a connection was a request or its answer, it holds the drain until a
    load balancer would have given up the request: neither is it cut, nor does it turn a success into a time-out.
    """
    tracks = (track for track in watch.open if not nodes or track.connection.peer in nodes)
    return tuple(track for track in tracks if _holds(track, watch.quiet_seconds))


def still_sending(watch: Watch, nodes: frozenset[str], now: float) -> str:
    """A known node that sent something in the last `quiet_seconds`, health checks apart; empty when none did."""
    since = now - watch.quiet_seconds
    return next((peer for (peer, _), at in watch.heard.items() if peer in nodes and at > since), "")


def of_others(watch: Watch, nodes: frozenset[str]) -> tuple[Track, ...]:
    """The connections of peers that are no nodes, such as a monitoring system's: they hold nothing."""
    return tuple(track for track in watch.open if nodes and track.connection.peer not in nodes)


def _holds(track: Track, quiet_seconds: float) -> bool:
    unclear = track.answered is None and track.moved_within(_GIVEN_UP_SECONDS)
    return unclear or track.surely_works(quiet_seconds)
