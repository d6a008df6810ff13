"""The kernel, asked which connections the app has with the outside. Source: sock_diag(7)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

from zdd_agent.adapters import sock_diag
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.kernel import Connection, EndedConnections, Sample

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>; Python does not name it
# Seconds that the kernel may take for one dump. A dump takes milliseconds: this bounds what should not happen.
_PATIENCE_SECONDS = 2.0
# Above the 32 KiB that the kernel fills at the most.
_BUFFER_BYTES = 65_536
# For the ends of connections, about 1.3 kB each, that come between two readings. The kernel takes no more than
# net.core.rmem_max (212,992 by default), and doubles it: room for about 330.
_TOLD_BYTES = 1 << 20
# Ends that one sample takes at the most; whatever ends faster than this is not quiet anyway.
_MAX_ENDED = 20_000
# The most connections that a dump may have. A watch of them takes 24 MB and most of a core (bench_sensor.py); the
# unit's memory limit is 256 MB, for all that the agent does.
MAX_CONNECTIONS = 20_000


class KernelSensor:
    """Two netlink sockets: one is asked for what is open, on the other the kernel reports each connection that ended.

    The second one makes the kernel tell of every TCP socket of the host that ends, of which it passes on only those of
    the ports: so `close` when nobody listens. Not for several threads.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        most: int = MAX_CONNECTIONS,
        make: Callable[[], socket.socket] | None = None,
    ) -> None:
        """Look into this network namespace, or into that of the sockets that `make` returns.

        `now` is the agent's clock, in seconds; with more connections than `most` it refuses to look.
        """
        self._now = now
        self._most = most
        self._make = make or _netlink
        self._ports: tuple[int, ...] = ()
        self._asked: socket.socket | None = None
        self._told: socket.socket | None = None
        self._sequence = 0

    def sample(self, ports: frozenset[int], addresses: frozenset[str] | None) -> Sample:
        """The connections of these ports with peers outside this host, and the ports that have a listener.

        Args:
            ports: the app's.
            addresses: this host's own; a connection counts when its local address is one and its peer's is none.
                None: every connection counts.

        Raises:
            AgentError: FAILED, transient: the kernel does not tell, or not enough.
        """
        try:
            return self._sample(tuple(sorted(ports)), _packed(addresses))
        except (OSError, struct.error) as error:
            raise self._failed(error) from error

    def ended(self, ports: frozenset[int], addresses: frozenset[str] | None) -> EndedConnections:
        """The connections of these ports that ended since the last call of this or of `sample`.

        It walks no table of the kernel's: the cost is that of the connections that ended.

        Args:
            ports: as of `sample`.
            addresses: as of `sample`.

        Raises:
            AgentError: FAILED, transient: the kernel does not tell.
        """
        try:
            wanted, own = tuple(sorted(ports)), _packed(addresses)
            fresh = self._told is None or wanted != self._ports
            _, told = self._sockets(wanted)
            ended, overrun = _ended(told, wanted, own)
        except (OSError, struct.error) as error:
            raise self._failed(error) from error
        return EndedConnections(self._now(), ended, fresh or overrun)

    def close(self) -> None:
        """Let go of the kernel; the next sample asks it anew."""
        for kept in (self._asked, self._told):
            if kept is not None:
                kept.close()
        self._asked = self._told = None

    def _sample(self, ports: tuple[int, ...], own: frozenset[bytes] | None) -> Sample:
        lost = self._told is None or ports != self._ports
        asked, told = self._sockets(ports)
        listening, found = self._dump(asked, ports, own)
        # After the dump: what ended while it ran is then told, at the latest with the next sample.
        ended, overrun = _ended(told, ports, own)
        return Sample(self._now(), listening, found, ended, lost or overrun)

    def _failed(self, error: Exception) -> AgentError:
        self.close()
        message = f"cannot ask the kernel for the connections of this host: {error}"
        return AgentError(Kind.FAILED, message, transient=True)

    def _sockets(self, ports: tuple[int, ...]) -> tuple[socket.socket, socket.socket]:
        if self._asked is not None and self._told is not None and ports == self._ports:
            return self._asked, self._told
        if not 0 < len(ports) <= sock_diag.MAX_PORTS:
            raise OSError(errno.EINVAL, f"{len(ports)} ports")
        return self._open(ports)

    def _open(self, ports: tuple[int, ...]) -> tuple[socket.socket, socket.socket]:
        self.close()
        self._ports = ports
        self._asked = _bound(self._make())
        self._told = _bound(self._make())
        self._told.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _TOLD_BYTES)
        program, memory = sock_diag.port_filter(ports)
        self._told.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        del memory  # the kernel has a copy by now, and not before
        for group in sock_diag.DESTROYED_GROUPS:
            self._told.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        self._told.setblocking(False)
        return self._asked, self._told

    def _dump(
        self, asked: socket.socket, ports: tuple[int, ...], own: frozenset[bytes] | None
    ) -> tuple[frozenset[int], tuple[Connection, ...]]:
        self._sequence += 1
        asked.send(sock_diag.dump_request(self._sequence, ports))
        listening: set[int] = set()
        found: dict[int, Connection] = {}
        while True:
            for seen in sock_diag.read(asked.recv(_BUFFER_BYTES), self._sequence, own):
                if isinstance(seen, Connection):
                    found[seen.cookie] = seen
                elif isinstance(seen, sock_diag.Listener):
                    listening.add(seen.port)
                else:
                    return frozenset(listening), tuple(found.values())
            if len(found) > self._most:
                raise OSError(f"there are more than {self._most} connections")


def _packed(addresses: frozenset[str] | None) -> frozenset[bytes] | None:
    return None if addresses is None else frozenset(map(sock_diag.packed, addresses))


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, sock_diag.NETLINK_SOCK_DIAG)


def _bound(made: socket.socket) -> socket.socket:
    made.settimeout(_PATIENCE_SECONDS)
    made.bind((0, 0))  # a socket that is not bound receives nothing
    return made


def _ended(
    told: socket.socket, ports: tuple[int, ...], own: frozenset[bytes] | None
) -> tuple[tuple[Connection, ...], bool]:
    """The connections that ended since the last time, and whether some are missing."""
    ended: list[Connection] = []
    lost = False
    for _ in range(_MAX_ENDED):
        try:
            message = told.recv(_BUFFER_BYTES)
        except BlockingIOError:
            return tuple(ended), lost
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            lost = True
            continue
        seen = sock_diag.read(message, None, own)
        ended.extend(one for one in seen if isinstance(one, Connection) and one.port in ports)
    return tuple(ended), True
