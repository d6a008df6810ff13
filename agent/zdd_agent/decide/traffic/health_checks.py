"""Pure: which connections are only the load balancer's health checks.

AWS does not document whether ELB goes on checking a target that drains. If it does, each node opens a new connection
once an interval and sends the same small request each time, and the connection ends by itself. With many nodes, or a
short interval, such checks alone would keep a host from ever being quiet.

So the connections that came during the watch and have ended are put in rows: one row for each peer, port and number of
bytes received. When the last three of a row are an interval apart, the row is a node's checks, and counts as no
activity.

What this can get wrong. A row takes one connection an interval from one peer. So requests pass for checks only where a
peer sends no others in `quiet_seconds`, each on a new connection, equal to the byte, at the check's own interval: a
monitoring system that asks at that interval, through a load balancer which preserves client addresses. Even that ends
no drain before the floor. And checks are missed where their length varies (TLS sessions), or where two groups check
the same port with requests of one length. Then the drain waits for the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from zdd_agent.model.aws import Membership
from zdd_agent.model.kernel import Connection

# How many in a row make a rhythm.
_ROW = 3
# Part of the interval by which two checks may be closer or farther apart; no figure is documented.
TOLERANCE = 0.25
# Seconds by which a moment may be off, since only its sample is known.
_SLACK_SECONDS = 0.5
# Bytes of a check at the most: a request line, three headers and a path of at most 1024 characters; and perhaps a TLS
# handshake.
MAX_BYTES = 8192
# Rows that are kept at the most; a port with so many different requests is not quiet.
_MAX_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often each node checks a port, and how long a check may last; seconds."""

    interval: float
    timeout: float


Schedules = Mapping[int, tuple[Schedule, ...]]


@dataclass(frozen=True, slots=True)
class Row:
    """Which connections look like each other."""

    peer: str
    port: int
    bytes_received: int


# The last moments of each row, seconds.
Rows = Mapping[Row, tuple[float, ...]]


def schedules(membership: Membership) -> Schedules:
    """The checks that come to the ports of the membership. Checks of another port are no traffic."""
    found: dict[int, tuple[Schedule, ...]] = {}
    for target in membership.targets:
        check = membership.group(target.group).health_check
        if check.port in ("traffic-port", str(target.port)):
            found[target.port] = (*found.get(target.port, ()), Schedule(check.interval, check.timeout))
    return found


def row(connection: Connection, lived_seconds: float, known: Schedules) -> Row | None:
    """The row of a connection that has ended; None when it cannot be a check."""
    longest = max((schedule.timeout for schedule in known.get(connection.port, ())), default=None)
    if longest is None or lived_seconds > longest + _SLACK_SECONDS or connection.bytes_received > MAX_BYTES:
        return None
    return Row(connection.peer, connection.port, connection.bytes_received)


def extended(rows: Rows, came: Iterable[tuple[Row, float]]) -> Rows:
    """The rows with these connections added, each with its moment."""
    found = dict(rows)
    for one, moment in came:
        found[one] = (*found.get(one, ())[1 - _ROW :], moment)
    return found


def settled(rows: Rows, known: Schedules, at: float) -> tuple[Rows, Rows]:
    """The rows that may still turn out to be checks, and those that cannot any more."""
    on: dict[Row, tuple[float, ...]] = {}
    over: dict[Row, tuple[float, ...]] = {}
    crowded = len(rows) > _MAX_ROWS
    for one, moments in rows.items():
        longest = max(schedule.interval for schedule in known[one.port])
        if at - moments[-1] <= longest + _off(longest) and not crowded:
            on[one] = moments
        elif not is_check(one, moments, known):
            over[one] = moments
    return on, over


def is_check(one: Row, moments: tuple[float, ...], known: Schedules) -> bool:
    """Whether the last connections of a row are an interval apart."""
    return any(_keeps(moments, schedule.interval) for schedule in known[one.port])


def _keeps(moments: tuple[float, ...], interval: float) -> bool:
    return len(moments) == _ROW and all(abs(b - a - interval) <= _off(interval) for a, b in pairwise(moments))


def _off(interval: float) -> float:
    return interval * TOLERANCE + _SLACK_SECONDS
