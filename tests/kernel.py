"""A simulated kernel: connections that come, carry bytes and end, told in samples as the real sensor tells them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from zdd_agent.model.kernel import Connection, Sample

PORT = 8080
TICK = 0.004  # s, of the kernel's clock for the last data: 250 Hz


@dataclass
class Wire:
    """One connection; moments in seconds."""

    connection: Connection
    received_at: float
    sent_at: float

    def seen(self, at: float) -> Connection:
        ago = (round((at - moment) / TICK) * TICK for moment in (self.received_at, self.sent_at))
        received, sent = ago
        return replace(self.connection, last_received_seconds_ago=received, last_sent_seconds_ago=sent)


@dataclass
class Kernel:
    """What a sensor would say; `passes_over` are cookies that the next dump misses."""

    listening: frozenset[int] = frozenset({PORT})
    wires: dict[int, Wire] = field(default_factory=dict)
    ended: list[Connection] = field(default_factory=list)
    passes_over: set[int] = field(default_factory=set)
    cookies: int = 0

    def connect(self, at: float, peer: str = "10.0.1.1", port: int = PORT) -> int:
        self.cookies += 1
        connection = Connection(self.cookies, port, "10.0.0.1", peer, 40_000 + self.cookies % 20_000)
        self.wires[self.cookies] = Wire(connection, at, at)
        return self.cookies

    def receive(self, cookie: int, at: float, size: int = 100, *, unread: int = 0) -> None:
        wire = self.wires[cookie]
        old = wire.connection
        wire.received_at = at
        wire.connection = replace(
            old,
            bytes_received=old.bytes_received + size,
            data_segments_received=old.data_segments_received + 1,
            unread=unread,
        )

    def send(self, cookie: int, at: float, size: int = 100, *, unsent: int = 0) -> None:
        wire = self.wires[cookie]
        old = wire.connection
        wire.sent_at = at
        wire.connection = replace(
            old,
            bytes_acked=old.bytes_acked + size - unsent,
            data_segments_sent=old.data_segments_sent + 1,
            unread=0,
            unsent=unsent,
        )

    def acknowledge(self, cookie: int) -> None:
        """The kernel sends a segment without data, as it does for a request that is not answered at once."""
        wire = self.wires[cookie]
        wire.connection = replace(wire.connection, acks_sent=wire.connection.acks_sent + 1)

    def close(self, cookie: int, at: float) -> None:
        self.ended.append(self.wires.pop(cookie).seen(at))

    def exchange(self, at: float, peer: str = "10.0.1.1", size: int = 100, port: int = PORT) -> None:
        """A connection with one request and its answer, all within the tick, which ends by itself."""
        cookie = self.connect(at, peer, port)
        self.receive(cookie, at, size)
        self.send(cookie, at)
        self.close(cookie, at)

    def sample(self, at: float, *, lost: bool = False) -> Sample:
        seen = tuple(w.seen(at) for cookie, w in self.wires.items() if cookie not in self.passes_over)
        ended, self.ended = tuple(self.ended), []
        self.passes_over.clear()
        return Sample(at, self.listening, seen, ended, lost)
