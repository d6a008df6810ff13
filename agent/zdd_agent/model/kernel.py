"""What the kernel says about the app's TCP connections at one moment: frozen values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Until(StrEnum):
    """What ends a drain: the API says `unused`; or, earlier, no connection is left; or none has work on it."""

    UNUSED = "unused"
    CLOSED = "closed"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection between the app and a peer outside this host.

    Addresses are IPv4 or IPv6 text, IPv4-mapped ones as IPv4. The kernel does not report a connection's age.

    Args:
        cookie: names the socket for as long as the host runs; sock_diag(7), `idiag_cookie`.
        port: the app's, on this host.
        address: this host's.
        peer: who connected; a load balancer's node, unless client addresses are preserved.
        peer_port: its port.
        unread: bytes received that the app has not read; a FIN counts as one. `idiag_rqueue`.
        unsent: bytes written that the peer has not acknowledged; a FIN counts as one. `idiag_wqueue`.
        bytes_received: in order, so far; a FIN counts as one. `tcpi_bytes_received`, as all below in `tcp.h`.
        bytes_acked: what the peer acknowledged so far; SYN and FIN count as one each. `tcpi_bytes_acked`.
        data_segments_received: segments with data so far. `tcpi_data_segs_in`, modulo 2**32.
        data_segments_sent: segments with data so far. `tcpi_data_segs_out`, modulo 2**32.
        acks_sent: segments without data so far. `tcpi_segs_out` less `tcpi_data_segs_out`, modulo 2**32.
        last_received_seconds_ago: since data came, or since the handshake. `tcpi_last_data_recv`: it counts in ticks
            of 1 to 10 ms, so two events in one tick cannot be told apart.
        last_sent_seconds_ago: since data left, or since the handshake. `tcpi_last_data_sent`, by the same ticks.
    """

    cookie: int
    port: int
    address: str
    peer: str
    peer_port: int
    unread: int = 0
    unsent: int = 0
    bytes_received: int = 0
    bytes_acked: int = 0
    data_segments_received: int = 0
    data_segments_sent: int = 0
    acks_sent: int = 0
    last_received_seconds_ago: float = float("inf")
    last_sent_seconds_ago: float = float("inf")


@dataclass(frozen=True, slots=True)
class Sample:
    """All connections at one moment.

    Args:
        at: seconds, of the agent's clock, when the kernel had answered.
        listening: which of the ports asked for have a listener that the outside can reach.
        connections: those that are open, half-open and half-closed ones included.
        ended: those that ended since the sample before, as they were at their end; also those that came and went
            between the two.
        lost: some that ended are missing from `ended`: the kernel had more to say than fits, or was first asked now.
    """

    at: float
    listening: frozenset[int] = frozenset()
    connections: tuple[Connection, ...] = ()
    ended: tuple[Connection, ...] = ()
    lost: bool = False

    def on(self, ports: frozenset[int]) -> Sample:
        """The same of these ports alone."""
        return replace(
            self,
            listening=self.listening & ports,
            connections=tuple(c for c in self.connections if c.port in ports),
            ended=tuple(c for c in self.ended if c.port in ports),
        )


@dataclass(frozen=True, slots=True)
class EndedConnections:
    """Those that ended since the last time, as they were at their end.

    Args:
        at: seconds, of the agent's clock, when they had been read.
        connections: those that ended.
        lost: some are missing, as in `Sample`.
    """

    at: float
    connections: tuple[Connection, ...] = ()
    lost: bool = False
