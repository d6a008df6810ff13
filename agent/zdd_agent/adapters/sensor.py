"""The kernel, asked which connections the app has with the outside. Source: sock_diag(7)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

from zdd_agent.adapters import sock_diag
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.kernel import Connection, Sample

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>; Python does not name it
# Seconds that the kernel may take for one dump. A dump takes milliseconds: this bounds what should not happen.
_PATIENCE_SECONDS = 2.0
# Above the 32 KiB that the kernel fills at the most.
_BUFFER_BYTES = 65_536
# Ends that one sample takes at the most; whatever ends faster than this is not quiet anyway.
_MAX_ENDED = 20_000
# The most connections that a dump may have. A watch of them takes 24 MB and most of a core (bench_sensor.py); the
# unit's memory limit is 256 MB, for all that the agent does.
MAX_CONNECTIONS = 20_000


class KernelSensor:
    """Two netlink sockets: one is asked for what is open, on the other the kernel tells of each connection that ended.

    The second one makes the kernel tell of every TCP socket of the host that ends, of which it passes on only those of
    the ports: so `close` when nobody watches. Not for several threads.
    """

    def __init__(self, now: Callable[[], float], *, most: int = MAX_CONNECTIONS) -> None:
        """`now` is the agent's clock, in seconds; with more connections than `most` it refuses to look."""
        self._now = now
        self._most = most
        self._ports: tuple[int, ...] = ()
        self._asked: socket.socket | None = None
        self._told: socket.socket | None = None
        self._sequence = 0

    def sample(self, ports: frozenset[int], addresses: frozenset[str]) -> Sample:
        """The connections of these ports with peers outside this host, and the ports that have a listener.

        Args:
            ports: the app's.
            addresses: this host's own; a connection counts when its local address is one and its peer's is none.

        Raises:
            AgentError: FAILED, transient: the kernel does not tell, or not enough.
        """
        try:
            return self._sample(tuple(sorted(ports)), frozenset(map(sock_diag.packed, addresses)))
        except (OSError, struct.error) as error:
            self.close()
            message = f"cannot ask the kernel for the connections of this host: {error}"
            raise AgentError(Kind.FAILED, message, transient=True) from error

    def close(self) -> None:
        """Let go of the kernel; the next sample asks it anew."""
        for kept in (self._asked, self._told):
            if kept is not None:
                kept.close()
        self._asked = self._told = None

    def _sample(self, ports: tuple[int, ...], own: frozenset[bytes]) -> Sample:
        if not 0 < len(ports) <= sock_diag.MAX_PORTS:
            raise OSError(errno.EINVAL, f"{len(ports)} ports")
        lost = self._asked is None or self._told is None or ports != self._ports
        asked, told = self._open(ports) if lost else (self._asked, self._told)
        assert asked is not None  # noqa: S101  what mypy needs
        assert told is not None  # noqa: S101  likewise
        listening, found = self._dump(asked, ports, own)
        # Behind the dump: what ended while it ran is then told, at the latest with the next sample.
        ended, overrun = _ended(told, ports, own)
        return Sample(self._now(), listening, found, ended, lost or overrun)

    def _open(self, ports: tuple[int, ...]) -> tuple[socket.socket, socket.socket]:
        self.close()
        self._ports = ports
        self._asked = _netlink()
        self._told = _netlink()
        program, memory = sock_diag.port_filter(ports)
        self._told.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        del memory  # the kernel has a copy by now, and not before
        for group in sock_diag.DESTROYED_GROUPS:
            self._told.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        self._told.setblocking(False)
        return self._asked, self._told

    def _dump(
        self, asked: socket.socket, ports: tuple[int, ...], own: frozenset[bytes]
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


def _netlink() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, sock_diag.NETLINK_SOCK_DIAG)
    made.settimeout(_PATIENCE_SECONDS)
    made.bind((0, 0))  # a socket that is not bound receives nothing
    return made


def _ended(told: socket.socket, ports: tuple[int, ...], own: frozenset[bytes]) -> tuple[tuple[Connection, ...], bool]:
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
