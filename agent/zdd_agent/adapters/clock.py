"""Time from the kernel."""

from __future__ import annotations

import time
from threading import Event


class SystemClock:
    """Wall-clock time as of the start, carried on by the monotonic clock: setting the clock does not move it."""

    def __init__(self) -> None:
        self._offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> float:
        """Seconds since the epoch. Time that the host slept counts (CLOCK_BOOTTIME)."""
        return self._offset + time.clock_gettime(time.CLOCK_BOOTTIME)

    def wait(self, wake: Event, seconds: float) -> None:
        """Sleep for at most this long; `wake` cuts it short."""
        wake.wait(seconds)
