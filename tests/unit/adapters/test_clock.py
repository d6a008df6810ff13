"""Time from the kernel."""

import threading
import time

from zdd_agent.adapters.clock import SystemClock


def test_it_starts_at_the_wall_clock_and_never_goes_back() -> None:
    before = time.time()
    clock = SystemClock()
    moments = [clock.now() for _ in range(1000)]
    assert before - 1 < moments[0] < time.time() + 1
    assert moments == sorted(moments)


def test_a_wait_ends_at_once_when_it_is_woken() -> None:
    clock, wake, woken = SystemClock(), threading.Event(), threading.Event()

    def wait() -> None:
        clock.wait(wake, 3600)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wake.set()
    thread.join(10)
    assert woken.is_set()


def test_a_wait_lasts_its_seconds_when_nobody_wakes_it() -> None:
    clock = SystemClock()
    before = clock.now()
    clock.wait(threading.Event(), 0.05)
    assert clock.now() - before >= 0.049
