"""Pure: which connections are only the load balancer's health checks.

Whether ELB goes on checking a target that drains is not documented. Each of its nodes would: a new connection at the
check's interval, with a small request that is the same each time, which ends by itself. Where the nodes are many or
the interval is short, such checks alone would keep a host from ever being quiet.

So connections that came during the watch and have ended are put in rows: one row for each peer, port and number of
bytes received. Once the last three of a row stand an interval apart, the row is that node's checks, and no activity.

What this can get wrong. A row admits one connection an interval from one peer, so requests can pass for checks only
where a peer sends no others at all in `quiet_seconds`, each on a connection of its own, equal to the byte, at the
check's own interval: a monitor that asks at that interval through a load balancer which preserves client addresses.
It cannot end a drain before the floor. The other way round, checks go unrecognised, and the drain waits for what the
API says, where their length varies (TLS sessions) or two groups check the same port with requests of one length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from zdd_agent.model.aws import Membership
from zdd_agent.model.kernel import Connection

# How many in a row make a rhythm.
_ROW = 3
# Part of the interval by which two checks may stand closer or farther apart; no figure is documented.
TOLERANCE = 0.25
# Seconds by which two moments may be off because they are known to a sample only.
_SLACK_SECONDS = 0.5
# Bytes of a check at the most: a request line, three headers and a path of at most 1024 characters; or a TLS
# handshake besides.
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
    """The checks that come to the ports of the membership; those to a port of their own are no traffic."""
    found: dict[int, tuple[Schedule, ...]] = {}
    for target in membership.targets:
        check = membership.group(target.group).health_check
        if check.port in ("traffic-port", str(target.port)):
            found[target.port] = (*found.get(target.port, ()), Schedule(check.interval, check.timeout))
    return found


def row(connection: Connection, lived_seconds: float, known: Schedules) -> Row | None:
    """The row of a connection that has ended; None when it was none of the checks."""
    longest = max((schedule.timeout for schedule in known.get(connection.port, ())), default=None)
    if longest is None or lived_seconds > longest + _SLACK_SECONDS or connection.bytes_received > MAX_BYTES:
        return None
    return Row(connection.peer, connection.port, connection.bytes_received)


def extended(rows: Rows, came: Iterable[tuple[Row, float]]) -> Rows:
    """The rows with the moments of these connections after them."""
    found = dict(rows)
    for one, moment in came:
        found[one] = (*found.get(one, ())[1 - _ROW :], moment)
    return found


def settled(rows: Rows, known: Schedules, at: float) -> tuple[Rows, Rows]:
    """The rows that may go on, and those that were no checks and never will be."""
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
    """Whether the last of a row stand an interval apart."""
    return any(_keeps(moments, schedule.interval) for schedule in known[one.port])


def _keeps(moments: tuple[float, ...], interval: float) -> bool:
    return len(moments) == _ROW and all(abs(b - a - interval) <= _off(interval) for a, b in pairwise(moments))


def _off(interval: float) -> float:
    return interval * TOLERANCE + _SLACK_SECONDS
