"""Who is let through to a handler, and what the others are told."""

import json

import pytest

from served import Served, said
from zdd_agent.api.access import Level


@pytest.mark.parametrize("target", ["/v1/nothing", "/v1/status?x=1", "/v1/drain", "//[", "*", "/v1/operations/4f"])
def test_a_stranger_learns_nothing_not_even_which_paths_exist(served: Served, target: str) -> None:
    answers = {served.ask(method, target, b"{", Level.NOTHING).body for method in ("GET", "POST")}
    assert len(answers) == 1
    assert json.loads(answers.pop())["error"]["kind"] == "forbidden"


def test_a_refused_user_is_told_the_way_in(served: Served) -> None:
    refused = said(served.ask("POST", "/v1/drain", level=Level.READ))["error"]
    assert refused["message"] == "uid 1001 may not operate the agent: not root and not in the operator group"
    assert "zdd-agent" in refused["hint"]
