"""A listening Unix socket: who gets a connection, and who loses one when there are too many.

Each connection has a thread, and there are no more connections than the limits say.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable

from zdd_agent.api.http1 import HttpConnection, HttpRequest, HttpResponse, Limits
from zdd_agent.api.peercred import peer_of
from zdd_agent.errors import AgentError, Kind

log = logging.getLogger(__name__)


def turn_away(listener: socket.socket, answer: HttpResponse) -> None:
    """Give this answer to everybody who waits at a socket that nobody is going to serve. Never waits itself."""
    listener.setblocking(False)
    while True:
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return
        try:
            HttpConnection(accepted, peer_of(accepted), Limits()).refuse(answer)
        except OSError:
            accepted.close()


class Transport:
    """Serves a listening Unix socket until `close`.

    Args:
        listener: bound and listening.
        handle: answers a request; an AgentError it raises becomes the error answer.
        render: turns an AgentError into an answer.
        limits: what a caller may take.
    """

    def __init__(
        self,
        listener: socket.socket,
        handle: Callable[[HttpRequest], HttpResponse],
        render: Callable[[AgentError], HttpResponse],
        limits: Limits = Limits(),  # noqa: B008  frozen
    ) -> None:
        self._listener = listener
        self._handle = handle
        self._render = render
        self._limits = limits
        self._changed = threading.Condition()
        self._connections: list[HttpConnection] = []  # oldest first
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._alarm, self._waker = socket.socketpair()
        self._thread.start()

    def stop_accepting(self) -> None:
        """Accept no further connection or request; answers under way are still sent, each the last on its connection.

        Whoever comes waits in the listener's queue: for the next daemon where systemd keeps the socket.
        """
        if not self._ending.is_set():
            self._ending.set()
            self._waker.send(b"!")

    def close(self, seconds: float) -> None:
        """Stop accepting, and wait up to `seconds` for the answers under way to leave."""
        self.stop_accepting()
        self._thread.join(seconds)
        self._waker.close()
        with self._changed:
            self._changed.wait_for(lambda: not any(c.busy for c in self._connections), seconds)
            for connection in self._connections:
                connection.hang_up()

    def _accept(self) -> None:
        with self._alarm:
            self._accept_all()

    def _accept_all(self) -> None:
        # Not a blocking accept(2), which only a connection ends: whoever comes while the daemon stops must stay in
        # the queue of a socket that systemd keeps, for the next daemon.
        self._listener.setblocking(False)
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        waiting.register(self._alarm, select.POLLIN)
        while not self._ending.is_set():
            try:
                waiting.poll()
                if self._ending.is_set():
                    return
                accepted, _ = self._listener.accept()
            except BlockingIOError:  # the caller has gone again
                continue
            except OSError as error:
                log.warning("cannot accept a connection: %s", error)
                time.sleep(0.1)  # out of descriptors: without a pause this would spin
                continue
            try:
                connection = HttpConnection(accepted, peer_of(accepted), self._limits)
            except OSError:
                accepted.close()
                continue
            if not self._admit(connection):
                self._refuse(connection)

    def _admit(self, new: HttpConnection) -> bool:
        """Take the connection, if need be in the place of the oldest one that asks for nothing."""
        with self._changed:
            own = [c for c in self._connections if c.peer.uid == new.peer.uid]
            crowd = None
            if len(own) >= self._limits.connections_per_user:
                crowd = own
            elif len(self._connections) >= self._limits.connections:
                crowd = self._connections
            if crowd is not None:
                idle = next((c for c in crowd if not c.busy), None)
                if idle is None:
                    return False
                idle.hang_up()
                self._connections.remove(idle)
            try:
                threading.Thread(target=self._serve, args=(new,), daemon=True).start()
            except RuntimeError as error:  # no thread left: accepting has to go on
                log.warning("cannot serve a connection: %s", error)
                return False
            self._connections.append(new)
            return True

    def _refuse(self, connection: HttpConnection) -> None:
        error = AgentError(
            Kind.TOO_MANY_CONNECTIONS, "cannot serve: too many connections are open", hint="close some and try again"
        )
        connection.refuse(self._render(error))

    def _serve(self, connection: HttpConnection) -> None:
        try:
            while self._exchange(connection):
                pass
        except OSError as error:
            log.debug("connection of uid %d ended: %s", connection.peer.uid, error)
        finally:
            with self._changed:
                connection.busy = False
                self._changed.notify_all()
            connection.close()
            with self._changed:
                if connection in self._connections:
                    self._connections.remove(connection)

    def _exchange(self, connection: HttpConnection) -> bool:
        """One request and its answer; returns whether the connection may carry another."""
        try:
            request = connection.read()
        except AgentError as error:
            return connection.send(self._render(error), last=True)
        if request is None or not self._claim(connection):
            return False
        response = self._answer(request)
        last = self._ending.is_set()
        another = connection.send(response, last=last)
        with self._changed:
            connection.busy = False
            self._changed.notify_all()
        return another and not last

    def _claim(self, connection: HttpConnection) -> bool:
        """Mark it busy, unless the daemon stops or it lost its place meanwhile: no answer would arrive."""
        with self._changed:
            connection.busy = connection in self._connections and not self._ending.is_set()
            return connection.busy

    def _answer(self, request: HttpRequest) -> HttpResponse:
        try:
            return self._handle(request)
        except AgentError as error:
            return self._render(error)
        except Exception:  # a defect in one answer must not take the daemon down
            log.exception("a defect of zdd-agent in %s %s", request.method, request.target)
            return self._render(AgentError(Kind.FAILED, "cannot answer: a defect, see the log"))
