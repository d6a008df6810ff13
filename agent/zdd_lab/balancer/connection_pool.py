"""A node's connections to one target. Idle ones are kept and reused, the last used first."""

import asyncio
import socket

from zdd_lab.http1.client import ClientConnection

# s: ALB gives up connecting to a target after this long
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
CONNECT_TIMEOUT = 10.0


async def connect(connection: ClientConnection, address: str, port: int, source: str) -> None:
    """Open `connection` from the node's own address: to a target, each node is another peer.

    Raises:
        OSError: refused, unreachable.
        TimeoutError: not open after CONNECT_TIMEOUT.
    """
    same_family = (":" in address) == (":" in source)
    local = (source, 0) if same_family else None  # loopback has only one IPv6 address for all nodes
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    async with asyncio.timeout(CONNECT_TIMEOUT):
        await asyncio.get_running_loop().create_connection(
            lambda: connection, address, port, family=family, local_addr=local
        )


class Pool:
    """Connections from one node to one target."""

    def __init__(self, address: str, port: int, source: str, idle_timeout: float) -> None:
        self._address = address
        self._port = port
        self._source = source
        self._idle_timeout = idle_timeout
        self._idle: list[ClientConnection] = []  # longest idle first
        self._open: set[ClientConnection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def open_connections(self) -> int:
        """The number of open connections, idle ones included."""
        return len(self._open)

    def take(self) -> ClientConnection | None:
        """Return an idle connection, or None if a new one must be opened."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.transport is not None:
                return connection
        return None

    async def open(self) -> ClientConnection:
        """Return a new connection. Raises what `connect` raises."""
        connection = ClientConnection(self._lost)
        await connect(connection, self._address, self._port, self._source)
        self._open.add(connection)
        return connection

    def give_back(self, connection: ClientConnection, *, keep: bool = True) -> None:
        """Take a connection back after its answer. It is kept if it can carry another request."""
        if not (keep and connection.reusable):
            connection.close()
            return
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._idle_timeout, self._close_stale)

    def close_idle(self) -> None:
        """Close every idle connection."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _close_stale(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        while self._idle and self._idle[0].idle_since + self._idle_timeout <= loop.time() + 0.001:
            self._idle.pop(0).close()
        if self._idle:
            due = self._idle[0].idle_since + self._idle_timeout
            self._sweep = loop.call_later(max(due - loop.time(), 0.001), self._close_stale)

    def _lost(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
