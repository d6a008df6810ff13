"""The wire: what it accepts, what it answers, and the description that is generated from it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from fakes import START, arn
from zdd_agent.api.openapi import document
from zdd_agent.api.routes import ROUTES
from zdd_agent.api.schema import ForgetBody, OperationBody, OperationView, TargetView
from zdd_agent.model.aws import State, Target, TargetHealth
from zdd_agent.model.operation import Event, Failure, Operation, Outcome, Phase, Request, Verb

ROOT = Path(__file__).parents[3]
TARGET = Target(arn("web"), "i-me", 8080)
DRAIN = Operation("4f", Request(Verb.DRAIN, 1000, reason="release 7"), Phase.DRAINING, START, START + 360)


def test_docs_openapi_json_is_the_one_the_code_generates() -> None:
    script = ROOT / "scripts" / "openapi.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "openapi.json").read_text() == printed, f"run: {script} > docs/openapi.json"


def test_every_route_is_described_with_its_query() -> None:
    paths = document(ROUTES)["paths"]
    for route in ROUTES:
        said = paths[route.template][route.method.lower()]
        assert {p["name"] for p in said["parameters"] if p["in"] == "query"} == {p.name for p in route.query}
        assert said["summary"].endswith(".")


def test_every_reference_of_the_description_leads_somewhere() -> None:
    whole = document(ROUTES)
    references = set(json.dumps(whole).split('"#/components/schemas/')[1:])
    assert references
    for reference in references:
        assert reference.split('"')[0] in whole["components"]["schemas"]


def test_a_body_may_leave_everything_out() -> None:
    body = OperationBody.model_validate_json("{}")
    assert (body.timeout, body.reason, body.dry_run) == (None, "", False)


@pytest.mark.parametrize(
    "raw",
    [
        '{"timeout": 0}',
        '{"timeout": -1}',
        '{"timeout": 172801}',
        '{"timeout": NaN}',
        '{"timeout": Infinity}',
        '{"timeout": "soon"}',
        '{"timeuot": 5}',
        '{"endpoint": "http://example.com"}',
        '{"instance_id": "i-other"}',
        '{"reason": "two\\nlines"}',
        '{"reason": "\\u001b[2J"}',
        '{"reason": "\\u202egnp.exe"}',
        '{"reason": "' + "a" * 201 + '"}',
        '{"dry_run": "perhaps"}',
        '{"stopping": "yes"}',
        '{"stopping": null}',
        '{"keep_trying": 1}',
        "[]",
        "null",
        "",
    ],
)
def test_a_body_that_says_anything_else_is_refused(raw: str) -> None:
    with pytest.raises(ValidationError):
        OperationBody.model_validate_json(raw)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web i-0abc:8080", ("web", "i-0abc", 8080)),
        ("a-b 10.0.0.1:80", ("a-b", "10.0.0.1", 80)),
        ("web fd00::1:443", ("web", "fd00::1", 443)),
    ],
)
def test_a_target_to_forget_is_named_as_status_prints_it(text: str, parts: tuple[str, str, int]) -> None:
    assert ForgetBody.model_validate_json(json.dumps({"target": text})).parts == parts


@pytest.mark.parametrize(
    "text",
    ["", "web", "web i-0abc", "web:8080", "web i-0abc:", "web i-0abc:http", "web  i-0abc:80", "web i-0abc:80\n", 5],
)
def test_anything_else_is_refused_with_the_form_that_is_right(text: object) -> None:
    with pytest.raises(ValidationError) as caught:
        ForgetBody.model_validate_json(json.dumps({"target": text}))
    assert text == 5 or "GROUP ID:PORT" in str(caught.value)


def test_a_target_that_was_asked_for_is_shown_as_aws_spells_it() -> None:
    health = TargetHealth(TARGET, State.DRAINING, "Target.DeregistrationInProgress", "in progress")
    view = json.loads(TargetView.of(TARGET, health, asked=True).model_dump_json())
    assert view == {
        "target_group": "web",
        "target_group_arn": arn("web"),
        "id": "i-me",
        "port": 8080,
        "zone": None,
        "state": "draining",
        "reason": "Target.DeregistrationInProgress",
        "description": "in progress",
    }


def test_a_target_that_the_group_does_not_list_is_unused_and_one_not_asked_for_is_unknown() -> None:
    absent = TargetView.of(TARGET, None, asked=True)
    assert (absent.state, absent.reason) == (State.UNUSED, "Target.NotRegistered")
    unknown = TargetView.of(TARGET, None, asked=False)
    assert (unknown.state, unknown.reason) == (None, "")


def test_an_operation_is_shown_with_its_age_and_its_events() -> None:
    event = Event(7, START + 1, "4f", Phase.DRAINING, "draining", until=START + 300)
    view = json.loads(OperationView.of(DRAIN, START + 1.5, (event,)).model_dump_json())
    assert (view["id"], view["verb"], view["phase"], view["outcome"]) == ("4f", "drain", "draining", None)
    assert (view["reason"], view["uid"], view["age_seconds"], view["error"]) == ("release 7", 1000, 1.5, None)
    assert view["events"] == [
        {"seq": 7, "at": START + 1, "phase": "draining", "text": "draining", "until": START + 300}
    ]


def test_an_age_is_never_negative_though_the_clock_was_set_back_over_a_restart() -> None:
    assert OperationView.of(DRAIN, START - 60).age_seconds == 0


def test_an_operation_that_found_nothing_to_do_has_changed_nothing() -> None:
    assert not OperationView.of(DRAIN, START).changed
    assert OperationView.of(replace(DRAIN, changed=True), START).changed


def test_an_operation_that_did_not_succeed_says_why_in_the_shape_of_an_error() -> None:
    failure = Failure("timed_out", "cannot finish", "look", "web i-me:8080")
    ended = Operation("4f", DRAIN.request, Phase.DRAINING, START, START + 1, outcome=Outcome.TIMED_OUT, failure=failure)
    error = OperationView.of(ended, START).error
    assert error is not None
    assert error.model_dump() == {
        "kind": "timed_out",
        "message": "cannot finish",
        "hint": "look",
        "value": "web i-me:8080",
    }
