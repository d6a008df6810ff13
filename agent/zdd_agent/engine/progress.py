"""What an operation reports to those who watch it."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable

from zdd_agent.model.operation import Event, Operation

# Seconds between two events that differ only in their numbers.
REPEAT_SECONDS = 5.0
_NUMBER = re.compile(r"\d+")
# Events kept for a watcher that comes late; a drain has a dozen.
KEPT_EVENTS = 256


class EventLog:
    """The latest events, numbered. Safe to use from any thread.

    Args:
        first_seq: must be higher than any number given out before a restart, or a watcher that comes back
            with its last number would wait for ever; the clock in milliseconds is.
        lock: the lock under which events are added, and which guards the state that `over` reads. With a second lock
            for the log, one thread could hold the first and wait for the second, and another thread the reverse.
    """

    def __init__(self, first_seq: int, lock: threading.RLock) -> None:
        self._seq = first_seq
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._changed = threading.Condition(lock)
        self._closed = False

    def add(self, operation: Operation, text: str, now: float, until: float | None = None) -> None:
        """Add a line, unless it repeats the last one; one that differs only in its numbers is added now and then."""
        with self._changed:
            last = self._events[-1] if self._events else None
            again = last is not None and last.operation == operation.id and _shape(last.text) == _shape(text)
            same = again and last is not None and (last.text, last.until) == (text, until)
            if not again or (not same and last is not None and now - last.at >= REPEAT_SECONDS):
                self._seq += 1
                self._events.append(Event(self._seq, now, operation.id, operation.phase, text, until))
            self._changed.notify_all()

    def after(self, seq: int, seconds: float, over: Callable[[], bool]) -> tuple[Event, ...]:
        """The events after this number; waits up to `seconds` for one, or until `over` or `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._newer(seq)) or over(), seconds)
            return self._newer(seq)

    def close(self) -> None:
        """End every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _newer(self, seq: int) -> tuple[Event, ...]:
        return tuple(event for event in self._events if event.seq > seq)


def _shape(text: str) -> str:
    return _NUMBER.sub("#", text)
