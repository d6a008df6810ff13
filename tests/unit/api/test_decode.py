"""Queries and bodies: what is accepted, and the exact complaint about the rest."""

import pytest

from served import Served, error, said


@pytest.mark.parametrize(
    "query",
    [
        "wait",
        "wait=",
        "wait=-1",
        "wait=soon",
        "wait=nan",
        "wait=inf",
        "wait=1e3",
        "wait=٣",
        "wait=3601",
        "wait=" + "9" * 5000,
        "wait=1&x=2",
        "wait=1&&",
        "wait=1;after=2",
        "after=1",
        "x=1",
        "a=1&" * 9,
        "%zz",
    ],
)
def test_a_query_that_the_route_does_not_take_is_a_400_and_nothing_is_begun(served: Served, query: str) -> None:
    assert error(served.ask("POST", f"/v1/drain?{query}")) == (400, "usage")
    assert served.host.record().operation is None


def test_a_route_without_parameters_says_so(served: Served) -> None:
    answer = served.ask("GET", "/v1/status?verbose=1")
    assert error(answer) == (400, "usage")
    assert said(answer)["error"]["hint"] == "this path takes no parameters"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"drain", b"\xff\xfe", b'{"timeout": -1}', b'{"target": "i-other"}', b'"' + b"[" * 10_000]
)
def test_a_broken_body_is_a_400_that_names_what_may_stand_there(served: Served, body: bytes) -> None:
    answer = served.ask("POST", "/v1/drain", body)
    assert error(answer) == (400, "usage")
    fields = said(answer)["error"]["hint"].removeprefix("a JSON object of ").split(", ")
    assert {"timeout", "reason", "dry_run", "force"} <= set(fields)
    assert served.host.record().operation is None


def test_the_fault_of_a_body_is_named_with_its_field(served: Served) -> None:
    answer = said(served.ask("POST", "/v1/drain", b'{"reason": "ok", "timeuot": 5}'))["error"]
    assert "timeuot" in answer["message"]
    assert answer["value"] == "timeuot"
