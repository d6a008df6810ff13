"""No outside call holds its caller longer than the limit, and none that was given up is overtaken."""

import threading
import time

import pytest

from zdd_agent.adapters.limit import AT_ONCE, CALL_SECONDS, Limit, too_late
from zdd_agent.errors import AgentError, Kind


def failed(cause: str) -> AgentError:
    return AgentError(Kind.AWS_UNAVAILABLE, f"cannot ask: {cause}", transient=True)


def test_an_answer_and_an_error_come_through() -> None:
    assert Limit().run(lambda: 7, failed) == 7
    with pytest.raises(ZeroDivisionError):
        Limit().run(lambda: 1 // 0, failed)


def test_the_limit_leaves_the_watchdog_of_60_seconds_room_for_two_calls() -> None:
    assert CALL_SECONDS <= 20.0


def test_a_call_that_never_ends_is_given_up_at_the_limit() -> None:
    forever = threading.Event()
    began = time.monotonic()
    with pytest.raises(AgentError, match="no answer within") as caught:
        Limit(0.2).run(forever.wait, failed)
    assert caught.value.transient
    assert 0.2 <= time.monotonic() - began < 5
    forever.set()


def test_calls_that_never_end_do_not_pile_up_threads() -> None:
    forever = threading.Event()
    limit = Limit(0.05)
    threads: list[int] = []

    def never() -> None:
        threads.append(threading.get_ident())
        forever.wait()

    for _ in range(AT_ONCE + 3):
        with pytest.raises(AgentError):
            limit.run(never, failed)
    assert len(set(threads)) == len(threads) == AT_ONCE
    forever.set()


def test_when_those_have_ended_calls_go_again() -> None:
    forever = threading.Event()
    limit = Limit(0.2)
    for _ in range(AT_ONCE):
        with pytest.raises(AgentError):
            limit.run(forever.wait, failed)
    with pytest.raises(AgentError, match="has not ended yet"):
        limit.run(lambda: "well", failed)
    threading.Timer(0.05, forever.set).start()
    assert limit.run(lambda: "well", failed) == "well"


def test_a_look_that_was_given_up_holds_up_no_other() -> None:
    forever = threading.Event()
    limit = Limit(0.1)
    with pytest.raises(AgentError):
        limit.run(forever.wait, failed)
    assert limit.run(lambda: "well", failed) == "well"
    forever.set()


def test_nothing_overtakes_a_change_that_was_given_up() -> None:
    name_server = threading.Event()
    limit = Limit(0.1)
    reached: list[str] = []

    def change() -> None:
        name_server.wait()
        reached.append("change")

    with pytest.raises(AgentError):
        limit.run(change, failed, changes=True)
    with pytest.raises(AgentError, match="an earlier call, which was given up"):
        limit.run(lambda: reached.append("look"), failed)
    threading.Timer(0.02, name_server.set).start()
    limit.run(lambda: reached.append("look"), failed)
    assert reached == ["change", "look"]


def test_a_call_knows_that_it_was_given_up_and_one_inside_it_ends_no_later() -> None:
    known: list[object] = []
    inner, asked = threading.Event(), threading.Event()

    def outer() -> None:
        known.append(too_late())
        with pytest.raises(AgentError):
            Limit(60.0).run(inner.wait, failed)  # for 60 s, were it not inside another
        known.append(too_late())
        asked.set()
        inner.wait()

    with pytest.raises(AgentError):
        Limit(0.5).run(outer, failed)
    assert asked.wait(10)
    inner.set()
    assert known == [False, True]
    assert not too_late()
