"""An overall limit for every call to an outside service, whatever holds it up.

The timeouts of the SDK and of sockets bound one step each. They do not bound a name server that never answers
(getaddrinfo(3) cannot be interrupted, and takes a minute and more), an answer that comes byte by byte, or the sum of
several tries. So each call runs in its own thread, and its caller waits no longer than the limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from zdd_agent.errors import AgentError

# Seconds that one call may take in all, its tries and the names that it looks up included. An answer takes under one;
# systemd's watchdog waits 60.
CALL_SECONDS = 20.0
# Threads for one service, including those that were given up and still run.
AT_ONCE = 8

_T = TypeVar("_T")
_own = threading.local()


def too_late() -> bool:
    """Whether this thread's call has been given up: it must not send anything more."""
    return time.monotonic() >= getattr(_own, "ends", float("inf"))


class Limit:
    """Runs the calls to one outside service. Safe to use from any thread.

    A change that was given up may reach AWS late, when the name server answers again. So until its thread has ended no
    other call is made: none can overtake it, and no look can miss it.
    """

    def __init__(self, seconds: float = CALL_SECONDS) -> None:
        self._seconds = seconds
        self._ended = threading.Condition()
        self._running = 0
        self._given_up_changes = 0

    def run(self, call: Callable[[], _T], failed: Callable[[str], AgentError], *, changes: bool = False) -> _T:
        """What the call answers or raises.

        Args:
            call: asks the outside service.
            failed: makes the error out of the cause.
            changes: the call changes something outside.

        Raises:
            AgentError: what `failed` makes, when there is no answer within the limit.
        """
        ends = min(time.monotonic() + self._seconds, getattr(_own, "ends", float("inf")))
        one = _Call(call, ends)
        with self._ended:
            if not self._ended.wait_for(self._has_room, ends - time.monotonic()):
                raise failed("an earlier call, which was given up, has not ended yet")
            self._running += 1
        try:
            threading.Thread(target=self._work, args=(one,), name="outside call", daemon=True).start()
        except RuntimeError as error:  # no more threads on this host
            self._one_less(one)
            raise failed(str(error)) from None
        with self._ended:
            if not self._ended.wait_for(lambda: one.ended, ends - time.monotonic()):
                one.is_given_up_change = changes
                self._given_up_changes += changes
                raise failed(f"no answer within {self._seconds:.0f} s")
        return one.result()

    def _has_room(self) -> bool:
        return self._running < AT_ONCE and not self._given_up_changes

    def _work(self, one: _Call[_T]) -> None:
        _own.ends = one.ends
        try:
            one.run()
        finally:
            self._one_less(one)

    def _one_less(self, one: _Call[_T]) -> None:
        with self._ended:
            one.ended = True
            self._running -= 1
            self._given_up_changes -= one.is_given_up_change
            self._ended.notify_all()


class _Call(Generic[_T]):
    """One call on its way. Its thread and its caller share it under the lock of the Limit."""

    def __init__(self, call: Callable[[], _T], ends: float) -> None:
        self._call = call
        self.ends = ends
        self.ended = False
        self.is_given_up_change = False
        self._answers: list[_T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._answers.append(self._call())
        except BaseException as error:  # noqa: BLE001  it is raised where the caller waits
            self._error = error

    def result(self) -> _T:
        if self._error is not None:
            raise self._error
        return self._answers[0]
