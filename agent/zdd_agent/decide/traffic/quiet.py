"""Pure: whether the connections of this host prove that its drain may end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zdd_agent.decide.traffic.watch import Track, Watch
from zdd_agent.model.kernel import Until

# Seconds after which a look at the kernel proves nothing any more: several samples are missing by then.
_STALE_SECONDS = 2.0
# How many connections are named to people; the others are counted.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether the drain may end.

    Args:
        proved: it may.
        said: why it may, or what is still missing.
        idle_at: since when `idle` has been proved without a break; None when it is not.
    """

    proved: bool
    said: str
    idle_at: float | None


def proof(watch: Watch, *, until: Until, told: bool, let_go_at: float, floor_ends_at: float, now: float) -> Proof:
    """Judge the watch.

    Args:
        watch: of the ports of the membership, by a sensor that is trusted.
        until: `closed` or `idle`; `unused` is never proved by the host.
        told: every target reads `draining` or `unused`.
        let_go_at: when the deregistration was accepted, seconds.
        floor_ends_at: the moment before which new work may come, seconds.
        now: seconds.
    """
    idle_at = _idle_at(watch, floor_ends_at) if told and looked_at(watch, now) else None
    if idle_at is not None and idle_at > now:
        idle_at = None
    missing = _missing(watch, until=until, told=told, floor_ends_at=floor_ends_at, now=now)
    if missing:
        return Proof(False, missing, idle_at)
    left = watch.open
    what = f"no connection with work on it, {_count(left)} open without" if left else "no connection left"
    quiet, after = now - watch.last_activity, now - let_go_at
    return Proof(True, f"{what}, nothing received for {quiet:.0f} s, {after:.0f} s after deregistering", idle_at)


def left_of(watch: Watch, until: Until) -> tuple[Track, ...]:
    """The connections that the drain waits for, the oldest first."""
    return watch.working if until is Until.IDLE else watch.open


def looked_at(watch: Watch, now: float) -> bool:
    """Whether the last look at the kernel is fresh enough to prove anything."""
    return now - watch.at <= _STALE_SECONDS


def described(tracks: Iterable[Track], at: float, quiet_seconds: float) -> str:
    """Connections by name, for people: peer, port, age, and whether they have work; only the first few."""
    every = tuple(tracks)
    named = [_described(track, at, quiet_seconds) for track in every[:_NAMED]]
    more = len(every) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _idle_at(watch: Watch, floor_ends_at: float) -> float | None:
    if watch.working:
        return None
    return max(floor_ends_at, watch.last_activity + watch.quiet_seconds, watch.worked_at)


def _missing(watch: Watch, *, until: Until, told: bool, floor_ends_at: float, now: float) -> str:
    if until is Until.UNUSED:
        return "waiting for the API to say `unused`"
    if not looked_at(watch, now):
        return f"the last look at the connections is {now - watch.at:.0f} s old"
    if left := left_of(watch, until):
        return _waiting(watch, left, now)
    if not told:
        return "not every target reads `draining` yet"
    if now < floor_ends_at:
        return f"no connection to wait for; new ones may come for another {floor_ends_at - now:.0f} s"
    if (quiet := now - watch.last_activity) < watch.quiet_seconds:
        return f"no connection to wait for; the last byte came {quiet:.0f} s ago"
    return ""


def _waiting(watch: Watch, left: tuple[Track, ...], now: float) -> str:
    oldest, working = left[0], watch.working
    sure = sum(track.surely_works(watch.quiet_seconds) for track in working)
    perhaps = f", {len(working) - sure} perhaps with work" if len(working) > sure else ""
    peer, age = oldest.connection.peer, _age(oldest, now)
    return f"{_count(watch.open)} left, {sure} with work{perhaps}; the oldest, from {peer}, is {age} old"


def _described(track: Track, at: float, quiet_seconds: float) -> str:
    connection = track.connection
    work = "with" if track.surely_works(quiet_seconds) else "perhaps with" if track.works(quiet_seconds) else "without"
    return f"{connection.peer}:{connection.peer_port} to port {connection.port}, {_age(track, at)} old, {work} work"


def _age(track: Track, at: float) -> str:
    return f"{'' if track.fresh else 'over '}{at - track.since:.0f} s"


def _count(tracks: tuple[Track, ...]) -> str:
    return f"{len(tracks)} connection{'s' if len(tracks) != 1 else ''}"
