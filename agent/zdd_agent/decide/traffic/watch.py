"""Pure: what samples of the kernel's connections show over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zdd_agent.decide.traffic import health_checks
from zdd_agent.decide.traffic.health_checks import Row, Rows, Schedules
from zdd_agent.model.kernel import Connection, Sample

# Seconds for which a connection that is missing from the samples still counts as open, unless the kernel has reported
# its end: a dump walks a table that changes meanwhile, and may skip a connection; the next dump finds it.
_MISSING_SECONDS = 1.0
# Seconds within which Linux acknowledges what it received, with or without data to send: TCP_DELACK_MAX of
# <net/tcp.h> is 0.2; some more is for a busy host.
_ACKNOWLEDGED_SECONDS = 0.5
# How many peers without an open connection are remembered, with the moment when each was last heard: the latest ones.
MAX_HEARD = 4096
_NEVER = float("-inf")

# A peer's address and the port of the app that it speaks to: a load balancer's node lets each target go on its own.
Node = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Track:
    """One connection over the samples.

    Args:
        connection: as it was last seen.
        seen_at: the moment of the sample that it was last seen in.
        since: the moment of the sample that it was first seen in; it is older than that if not `fresh`.
        fresh: it was opened during the watch.
        answered: whether data was sent after the last data was received, or none ever came; None while that is unclear.
        acks_before: its `acks_sent` before the last data was received; None when unknown.
    """

    connection: Connection
    seen_at: float
    since: float
    fresh: bool
    answered: bool | None
    acks_before: int | None

    @property
    def node(self) -> Node:
        """Who speaks, and to which port."""
        return self.connection.peer, self.connection.port

    @property
    def heard_at(self) -> float:
        """The moment of the last byte received, or of the connection itself."""
        heard = self.seen_at - self.connection.last_received_seconds_ago
        return max(heard, self.since) if self.fresh else heard

    def moved_within(self, seconds: float) -> bool:
        """Whether a byte came or left in the last seconds before it was seen."""
        return min(self.connection.last_received_seconds_ago, self.connection.last_sent_seconds_ago) < seconds

    def works(self, quiet_seconds: float) -> bool:
        """Whether the app, the kernel or the peer has something to do with it, or may have."""
        return self.answered is None or self.surely_works(quiet_seconds)

    def surely_works(self, quiet_seconds: float) -> bool:
        """Whether something is unread, unsent or unanswered, or a byte came or left in the last seconds."""
        one = self.connection
        return one.unread > 0 or one.unsent > 0 or self.answered is False or self.moved_within(quiet_seconds)

    def seen(self, connection: Connection, at: float) -> Track:
        """The same connection in a later sample."""
        came = connection.data_segments_received - self.connection.data_segments_received & 0xFFFF_FFFF
        before = self.connection.acks_sent if came else self.acks_before
        answered = _answered(connection, came, self, before)
        return replace(self, connection=connection, seen_at=at, answered=answered, acks_before=before)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is open, what has work on it, and when a byte last came. Moments are seconds of the agent's clock.

    A connection that came and went between two samples is seen too, since the kernel reports each one that ends. Where
    it could not report them all (`Sample.lost`), that counts as activity.

    Args:
        began_at: the first sample.
        at: the last one.
        listening: the ports that had a listener in the last sample.
        tracks: what is open, by cookie.
        quiet_seconds: how long without a byte counts as quiet.
        checks: the health checks of the ports.
        rows: connections that have ended and may be health checks.
        unseen_at: the last moment at which something may have come unseen.
        worked_at: the last sample in which a connection had work.
        ended: when each peer was last heard on a connection that has ended, except for those in `rows`.
        checked_at: the last moment at which a connection came that may have been a health check.
    """

    began_at: float
    at: float
    listening: frozenset[int]
    tracks: Mapping[int, Track]
    quiet_seconds: float
    checks: Schedules
    rows: Rows
    unseen_at: float
    worked_at: float
    ended: Mapping[Node, float]
    checked_at: float = _NEVER

    @classmethod
    def begin(cls, sample: Sample, checks: Schedules, quiet_seconds: float) -> Watch:
        """Watch from this sample on. Nobody knows what came before, so quiet is counted from here.

        Args:
            sample: the first one.
            checks: the health checks of the ports, see `health_checks.schedules`.
            quiet_seconds: how long without a byte counts as quiet.
        """
        at = sample.at
        tracks = {c.cookie: Track(c, at, at, False, _answered(c, 0, None, None), None) for c in sample.connections}
        return _judged(cls(at, at, sample.listening, tracks, quiet_seconds, checks, {}, at, _NEVER, {}))

    def after(self, sample: Sample) -> Watch:
        """The watch after one more sample."""
        at = sample.at
        ended = {c.cookie: self._track(c, at) for c in sample.ended}
        tracks = {c.cookie: self._track(c, at) for c in sample.connections if c.cookie not in ended}
        gone = list(ended.values())
        for cookie, track in self.tracks.items():
            if cookie not in tracks and cookie not in ended:
                if at - track.seen_at < _MISSING_SECONDS:
                    tracks[cookie] = track
                else:
                    gone.append(track)
        heard = dict.fromkeys(self.heard, at) if sample.lost else dict(self.ended)
        came: list[tuple[Row, float]] = []
        for track in gone:
            if (row := _row(track, self.checks)) is not None:
                came.append((row, track.since))
                continue
            heard[track.node] = max(heard.get(track.node, _NEVER), track.heard_at)
        rows, over = health_checks.settled(health_checks.extended(self.rows, came), self.checks, at)
        for row, moments in over.items():
            heard[row.peer, row.port] = max(heard.get((row.peer, row.port), _NEVER), moments[-1])
        if len(heard) > MAX_HEARD:
            heard = dict(sorted(heard.items(), key=lambda one: one[1])[-MAX_HEARD // 2 :])
        unseen_at = at if sample.lost else self.unseen_at
        checked_at = max((moment for _, moment in came), default=self.checked_at)
        now = replace(self, at=at, listening=sample.listening, tracks=tracks, rows=rows)
        return _judged(replace(now, unseen_at=unseen_at, ended=heard, checked_at=checked_at))

    @property
    def open(self) -> tuple[Track, ...]:
        """What is open, the oldest first."""
        return tuple(sorted(self.tracks.values(), key=lambda track: (track.since, track.heard_at)))

    @property
    def working(self) -> tuple[Track, ...]:
        """What has work on it, or may have, the oldest first."""
        return tuple(track for track in self.open if track.works(self.quiet_seconds))

    @property
    def heard(self) -> Mapping[Node, float]:
        """When each peer last connected or sent a byte, for each port, except for health checks."""
        heard = dict(self.ended)
        for track in self.tracks.values():
            heard[track.node] = max(heard.get(track.node, _NEVER), track.heard_at)
        for row, moments in self.rows.items():
            if not health_checks.is_check(row, moments, self.checks):
                heard[row.peer, row.port] = max(heard.get((row.peer, row.port), _NEVER), moments[-1])
        return heard

    @property
    def last_activity(self) -> float:
        """The moment of the last new connection or byte received, except for health checks."""
        return max(self.unseen_at, *self.heard.values(), _NEVER)

    def _track(self, connection: Connection, at: float) -> Track:
        old = self.tracks.get(connection.cookie)
        if old is not None:
            return old.seen(connection, at)
        new = Track(replace(connection, data_segments_received=0, acks_sent=0), at, at, True, True, 0)
        return new.seen(connection, at)


def _judged(watch: Watch) -> Watch:
    works = any(track.works(watch.quiet_seconds) for track in watch.tracks.values())
    return replace(watch, worked_at=watch.at) if works else watch


def _row(track: Track, checks: Schedules) -> Row | None:
    return health_checks.row(track.connection, track.seen_at - track.since, checks) if track.fresh else None


def _answered(connection: Connection, came: int, before: Track | None, acks_before: int | None) -> bool | None:
    """Whether data was sent after the last data was received; None when these figures do not tell.

    The kernel knows both moments to a tick of 1 to 10 ms only. An app that answers faster leaves them equal. So does
    an app that got the next request as its answer left, and is still busy with it. Two facts tell these apart:
    - A connection that brought a single segment has only one thing to answer.
    - Linux acknowledges data with the answer to it if that comes soon, else with a segment of its own, within 0.2 s.
      When none was sent meanwhile, the last thing was the answer.

    Neither helps with a request in several segments, which are acknowledged on their way, as an upload is: once it has
    been answered within a tick, every figure of `tcp.h` reads as after a request, its answer, and the next request.
    `tcpi_last_ack_recv` tells only where the peer delays its acknowledgement of the answer; a segment that the peer
    repeats moves it as well. How the kernel means to acknowledge, in /proc/net/tcp, was wrong where the next request
    came in two segments.

    Args:
        connection: now.
        came: how many segments with data came since the sample before.
        before: what was known then; None when nothing was.
        acks_before: segments without data that had been sent before the last data came; None when unknown.
    """
    if connection.data_segments_received == 0:
        return True
    received, sent = connection.last_received_seconds_ago, connection.last_sent_seconds_ago
    if received != sent or connection.data_segments_sent == 0:
        return sent < received and connection.data_segments_sent > 0
    if connection.data_segments_received == 1:
        return True
    if before is None:
        return None
    if before.answered and not came:
        return True
    return True if connection.acks_sent == acks_before and received >= _ACKNOWLEDGED_SECONDS else None
