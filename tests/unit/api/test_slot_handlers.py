"""What the routes of the slots answer, and whose slot they release."""

import json
import logging
from typing import Any

import pytest

from fakes import START
from served import Served, error, said
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.slots import Holder, Waiter

GONE = Holder("i-gone", START - 4000, START - 3600, "release 7", "uid 0")
BUSY = Holder("i-busy", START - 100, START - 20, "release 7", "uid 5")


@pytest.fixture
def served() -> Served:
    served = Served(slots={"table": "slots", "name": "web", "limit": "25%"})
    served.host.slots.holders = {"i-gone": GONE, "i-busy": BUSY}
    served.host.slots.waiters = {"i-next": Waiter("i-next", START - 10, START - 5, "uid 7")}
    return served


def release(served: Served, instance: str, **more: Any) -> Any:
    body = {"instance": instance, "reason": "its disk died", **more}
    return served.ask("POST", "/v1/slots/release", json.dumps(body).encode())


def test_the_slots_show_who_holds_one_and_who_waits(served: Served) -> None:
    answer = served.ask("GET", "/v1/slots")
    assert answer.status == 200
    held = [
        {"instance": "i-gone", "since": START - 4000, "seen": START - 3600, "alive": False}
        | {"reason": "release 7", "who": "uid 0"},
        {"instance": "i-busy", "since": START - 100, "seen": START - 20, "alive": True}
        | {"reason": "release 7", "who": "uid 5"},
    ]
    waits = [{"instance": "i-next", "since": START - 10, "seen": START - 5, "who": "uid 7"}]
    assert said(answer) == {"service": "web", "limit": "25%", "holders": held, "waiters": waits}


def test_many_readers_cost_one_question_to_dynamodb_a_second(served: Served) -> None:
    for _ in range(20):
        served.ask("GET", "/v1/slots")
    assert len(served.host.slots.made("table")) == 1
    served.host.clock.time += 1
    served.ask("GET", "/v1/slots")
    assert len(served.host.slots.made("table")) == 2


def test_the_slot_of_a_dead_host_is_released_and_the_log_says_by_whom_and_why(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.ask("GET", "/v1/slots")
    with caplog.at_level(logging.WARNING):
        answer = release(served, "i-gone")
    assert (answer.status, said(answer)) == (200, {"service": "web", "instance": "i-gone"})
    assert list(served.host.slots.holders) == ["i-busy"]
    assert "uid 0 released the slot of i-gone: 'its disk died'" in caplog.text
    assert [one["instance"] for one in said(served.ask("GET", "/v1/slots"))["holders"]] == ["i-busy"]


def test_the_slot_of_a_host_that_is_alive_is_released_only_by_force(served: Served) -> None:
    refused = release(served, "i-busy")
    assert error(refused) == (409, "refused")
    assert "20 s ago" in said(refused)["error"]["message"]
    assert "--force alive" in said(refused)["error"]["hint"]
    assert "i-busy" in served.host.slots.holders
    assert release(served, "i-busy", force=["alive"]).status == 200
    assert "i-busy" not in served.host.slots.holders


def test_a_host_whose_clock_is_ahead_is_alive(served: Served) -> None:
    served.host.slots.holders["i-ahead"] = Holder("i-ahead", START, START + 3600)
    assert error(release(served, "i-ahead")) == (409, "refused")


def test_an_instance_that_holds_no_slot_has_none_to_release(served: Served) -> None:
    assert error(release(served, "i-next")) == (404, "not_found")
    assert "i-next" in served.host.slots.waiters


def test_a_slot_that_was_taken_anew_since_the_look_is_kept(served: Served) -> None:
    slots = served.host.slots
    real = slots.release

    def comes_back_and_leaves_again(instance: str, since: float | None = None) -> bool:
        slots.holders[instance] = Holder(instance, START, START)
        return real(instance, since)

    slots.release = comes_back_and_leaves_again  # type: ignore[method-assign]  what happens between two calls
    assert error(release(served, "i-gone")) == (409, "refused")
    assert "i-gone" in slots.holders


def test_a_release_whose_first_answer_was_lost_and_that_the_sdk_repeated_is_done(served: Served) -> None:
    slots = served.host.slots
    real = slots.release

    def twice(instance: str, since: float | None = None) -> bool:
        real(instance, since)
        return real(instance, since)

    slots.release = twice  # type: ignore[method-assign]  what the SDK does after a lost answer
    assert release(served, "i-gone").status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instance": "i-gone"},
        {"instance": "i-gone", "reason": ""},
        {"instance": "i-gone", "reason": "a\nb"},
        {"instance": "web", "reason": "x"},
        {"instance": "i-gone\n", "reason": "x"},
        {"instance": "i-gone", "reason": "x", "force": ["slot"]},
        {"instance": "i-gone", "reason": "x", "more": 1},
    ],
)
def test_a_release_says_whose_slot_and_why_and_nothing_else(served: Served, body: dict[str, Any]) -> None:
    assert error(served.ask("POST", "/v1/slots/release", json.dumps(body).encode())) == (400, "usage")
    assert len(served.host.slots.holders) == 2


@pytest.mark.parametrize("what", ["GET /v1/slots", "POST /v1/slots/release"])
def test_an_agent_without_slots_in_its_settings_says_which_it_needs(what: str) -> None:
    method, path = what.split()
    answer = Served().ask(method, path, b'{"instance": "i-gone", "reason": "x"}' if method == "POST" else b"")
    assert error(answer) == (404, "not_found")
    assert "slots.table" in said(answer)["error"]["hint"]


def test_a_dynamodb_that_denies_is_said_with_the_action(served: Served) -> None:
    denied = AgentError(Kind.AWS_DENIED, "cannot call dynamodb:GetItem", value="dynamodb:GetItem")
    served.host.slots.raises["table"] = denied
    answer = served.ask("GET", "/v1/slots")
    assert error(answer) == (502, "aws_denied")
    assert said(answer)["error"]["value"] == "dynamodb:GetItem"


def test_status_shows_how_the_host_stands_to_its_slot() -> None:
    served = Served(slots={"table": "slots", "name": "web"})
    assert said(served.ask("GET", "/v1/status"))["slot"] is None
    with served.turning():
        assert served.ask("POST", "/v1/drain?wait=60").status == 200
    shown = said(served.ask("GET", "/v1/status"))
    assert shown["slot"].startswith("holds one of web")
    assert not any("slot" in warning for warning in shown["warnings"])
