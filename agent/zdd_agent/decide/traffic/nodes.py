"""Pure: which peers are the load balancer's nodes. A node is a peer whose health checks were seen.

A node opens a connection for each check, sends a small request, and the connection ends within the check's time-out.
So a peer is a node after two such connections that are one interval apart. In plain HTTP both requests are equally
long, to one byte: a FIN counts as a byte, and only some ends include it. The lengths of TLS and HTTP/2 vary. A TCP
check carries nothing.

Each node of an Application Load Balancer checks once an interval: a peer that connects more often than its checks
ask for is none. A Network Load Balancer checks a target from several places, "more than the configured number":
https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html

What this can get wrong. A monitoring system that asks for the same thing at the check's own interval, each time on a
new connection, is taken for a node. So is one that asks a target of a Network Load Balancer at a fraction of the
interval. Checks are missed where other short connections of the node hide them (TLS or HTTP/2 with a new connection for
each request), and where a TCP check carries a proxy protocol header. Then the API alone ends the drain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from zdd_agent.decide.traffic.health_checks import MAX_BYTES, TOLERANCE
from zdd_agent.model.aws import BalancerKind, Membership, Target, TargetGroup
from zdd_agent.model.kernel import Connection

# Seconds between two readings of the connections that have ended, while the host is in service.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
# How many readings an interval has: the moment of a check is known to a reading only.
_READINGS = 8
# Seconds by which a reading may be late: after a longer gap, nobody knows when those in it ended.
_LATE_SECONDS = 2.0
# Bytes of a check that carries nothing, at the most: its FIN.
_EMPTY_BYTES = 1
# How many earlier connections of a row are compared where a node may check more than once an interval.
_MANY = 16
# Rows that are kept at the most. More of them means many clients; those that are kept first live for an interval.
_MAX_ROWS = 4096
# Nodes that are kept at the most: a load balancer has up to a few in each zone.
_MAX_NODES = 64
# Seconds after which a node that checks no more is forgotten: far longer than a host is out for a deploy.
_FORGOTTEN_SECONDS = 3600.0


class Length(StrEnum):
    """What the lengths of a group's checks have in common."""

    EMPTY = "empty"
    EQUAL = "equal"
    ANY = "any"


@dataclass(frozen=True, slots=True, order=True)
class ExpectedCheck:
    """How one target group checks a port. Seconds. `once`: each node checks once an interval."""

    interval: float
    timeout: float
    length: Length
    once: bool


Checks = Mapping[int, tuple[ExpectedCheck, ...]]


def checked_port(group: TargetGroup, target: Target) -> int:
    """The port of this host that the group's health check asks."""
    port = group.health_check.port
    return target.port if port == "traffic-port" else int(port)


def checks(membership: Membership) -> Checks:
    """The health checks of the membership, by the port that they ask; the same whatever the order of its groups."""
    found: dict[int, tuple[ExpectedCheck, ...]] = {}
    for target in membership.targets:
        group = membership.group(target.group)
        port, check = checked_port(group, target), group.health_check
        once = group.kind is BalancerKind.APPLICATION
        expected = ExpectedCheck(check.interval, check.timeout, _length(group), once)
        found[port] = tuple(sorted((*found.get(port, ()), expected)))
    return found


def pause(interval: float) -> float:
    """Seconds between two readings where checks come at this interval."""
    return min(max(interval / _READINGS, _SHORTEST_PAUSE), _LONGEST_PAUSE)


def long_pause(interval: float) -> float:
    """The same where the nodes are known: one check in two intervals is enough then, and no rhythm has to be seen.

    It is not so long that rows are given up: another node may come.
    """
    return max(pause(interval), min(interval, pause(interval) + _LATE_SECONDS / 2, _LONGEST_PAUSE))


@dataclass(frozen=True, slots=True)
class Alike:
    """Connections of one peer to one port that may be checks; of one length, or of any where it is None."""

    peer: str
    port: int
    length: int | None


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes, and the peers that may turn out to be some. Moments are seconds.

    Args:
        checks: of `checks`.
        at: the last reading.
        known: when each node was last seen to check a port.
        rows: the last moments of connections that may be checks.
    """

    checks: Checks
    at: float
    known: Mapping[tuple[str, int], float] = field(default_factory=dict)
    rows: Mapping[Alike, tuple[float, ...]] = field(default_factory=dict)

    def after(self, at: float, ended: Iterable[Connection]) -> Nodes:
        """What is known after one more reading.

        Args:
            at: when it was.
            ended: the connections that ended since the reading before.
        """
        intervals = [check.interval for port in self.checks.values() for check in port]
        if not intervals:
            return replace(self, at=at)
        rows = dict(self.rows) if at - self.at <= pause(min(intervals)) + _LATE_SECONDS else {}
        known = {node: moment for node, moment in self.known.items() if at - moment <= _FORGOTTEN_SECONDS}
        for connection in ended:
            self._ended(connection, at, rows, known)
        longest = max(intervals)
        rows = {one: moments for one, moments in rows.items() if at - moments[-1] <= longest + _off(longest)}
        if len(known) > _MAX_NODES:
            known = dict(sorted(known.items(), key=lambda item: item[1])[-_MAX_NODES:])
        return replace(self, at=at, known=known, rows=rows)

    def since(self, moment: float) -> frozenset[str]:
        """Who has checked since this moment, or may have: one connection is enough."""
        known = {peer for (peer, _), last in self.known.items() if last >= moment}
        return frozenset(known.union(row.peer for row, moments in self.rows.items() if moments[-1] >= moment))

    def _ended(
        self,
        connection: Connection,
        at: float,
        rows: dict[Alike, tuple[float, ...]],
        known: dict[tuple[str, int], float],
    ) -> None:
        expected = self.checks.get(connection.port, ())
        fitting = [check for check in expected if _may_be(check, connection)]
        if not fitting:
            return
        node = connection.peer, connection.port
        moment = at - connection.last_received_seconds_ago
        if node in known:
            known[node] = max(moment, known[node])
            return
        kept = len(expected) if all(check.once for check in expected) else _MANY
        for row in {_row(check, connection, rows) for check in fitting} | _of_any_length(fitting, connection):
            before = rows.get(row, ())
            if any(_apart(check, moment - earlier) for check in fitting for earlier in before):
                known[node] = moment
            elif before or len(rows) < _MAX_ROWS:
                rows[row] = (*before, moment)[-kept:]


def _length(group: TargetGroup) -> Length:
    if group.health_check.protocol == "HTTP" and group.version == "HTTP1":
        return Length.EQUAL
    return Length.EMPTY if group.health_check.protocol == "TCP" else Length.ANY


def _may_be(check: ExpectedCheck, connection: Connection) -> bool:
    if connection.last_received_seconds_ago > check.timeout + pause(check.interval):
        return False
    empty = connection.bytes_received <= _EMPTY_BYTES
    return empty if check.length is Length.EMPTY else not empty and connection.bytes_received <= MAX_BYTES


def _row(check: ExpectedCheck, connection: Connection, rows: Mapping[Alike, tuple[float, ...]]) -> Alike:
    """The row of this connection by its length; one that is a byte longer or shorter, where there is one."""
    peer, port, length = connection.peer, connection.port, connection.bytes_received
    if check.length is Length.EMPTY:
        return Alike(peer, port, 0)
    near = (Alike(peer, port, length + more) for more in (0, -1, 1))
    return next((row for row in near if row in rows), Alike(peer, port, length))


def _of_any_length(fitting: Iterable[ExpectedCheck], connection: Connection) -> set[Alike]:
    varies = any(check.length is Length.ANY for check in fitting)
    return {Alike(connection.peer, connection.port, None)} if varies else set()


def _apart(check: ExpectedCheck, seconds: float) -> bool:
    return abs(seconds - check.interval) <= _off(check.interval)


def _off(interval: float) -> float:
    return interval * TOLERANCE + pause(interval)
