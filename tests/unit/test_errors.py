"""The one table of errors."""

import pytest

from zdd_agent.errors import BY_WIRE, AgentError, Kind, exit_code, nearest

# The exit codes in the documents: deploy tools act on them, so they never change.
EXIT_CODES = {
    "failed": 1,
    "cancelled": 1,
    "aws_unavailable": 1,
    "metadata_unavailable": 1,
    "target_group_not_found": 1,
    "no_membership": 1,
    "store": 1,
    "usage": 2,
    "configuration": 2,
    "not_found": 2,
    "method_not_allowed": 2,
    "too_large": 2,
    "too_slow": 2,
    "timed_out": 3,
    "refused": 4,
    "unreachable": 5,
    "too_many_connections": 5,
    "aws_denied": 6,
    "busy": 7,
    "forbidden": 8,
}


def test_every_kind_keeps_its_exit_code() -> None:
    assert {kind.wire: kind.exit_code for kind in Kind} == EXIT_CODES


def test_a_kind_has_one_name_on_the_wire_and_no_name_has_two() -> None:
    assert len(BY_WIRE) == len(Kind)


def test_no_kind_is_a_success() -> None:
    assert all(kind.http_status >= 400 and kind.exit_code != 0 for kind in Kind)


def test_a_kind_that_a_newer_agent_says_is_a_plain_failure() -> None:
    assert exit_code("invented_later") == 1


def test_an_error_says_what_why_and_what_next() -> None:
    error = AgentError(Kind.BUSY, "cannot drain: a rejoin is under way", hint="zdd-agent watch", value="4f")
    assert str(error) == error.message == "cannot drain: a rejoin is under way"
    assert (error.kind, error.hint, error.value, error.transient) == (Kind.BUSY, "zdd-agent watch", "4f", False)


@pytest.mark.parametrize(("slip", "hint"), [("drian", "did you mean drain?"), ("zzz", ""), ("", "")])
def test_a_slip_is_answered_with_the_nearest_word_or_with_nothing(slip: str, hint: str) -> None:
    assert nearest(slip, ["drain", "rejoin", "status"]) == hint
