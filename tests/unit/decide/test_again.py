"""When a rejoin that nobody waits for is tried again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START
from zdd_agent.decide.again import AGAIN_SECONDS, again_at
from zdd_agent.model.operation import Operation, Outcome, Phase, Request, Verb
from zdd_agent.model.record import Record, Underway, Wanted
from zdd_agent.model.states import Guarding, InService, Probing, State

REJOIN = Request(Verb.REJOIN, 0, keep_trying=True)


def ended(outcome: Outcome, request: Request = REJOIN, ended_at: float | None = START) -> Record:
    last = Operation("one", request, Phase.PROBING, START - 60, START, ended_at, outcome)
    return Record(wanted=Wanted.IN, last=last)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_a_rejoin_that_failed_is_tried_again_half_a_minute_after_its_end(outcome: Outcome) -> None:
    assert again_at(ended(outcome)) == START + AGAIN_SECONDS == START + 30


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.REFUSED, Outcome.CANCELLED])
def test_a_rejoin_that_is_done_or_that_somebody_stopped_is_not_tried_again(outcome: Outcome) -> None:
    assert again_at(ended(outcome)) is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_whoever_waits_for_a_rejoin_decides_on_the_next_try(outcome: Outcome) -> None:
    assert again_at(ended(outcome, replace(REJOIN, keep_trying=False))) is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_drain_is_never_tried_again(outcome: Outcome) -> None:
    assert again_at(ended(outcome, replace(REJOIN, verb=Verb.DRAIN))) is None


def test_a_host_that_somebody_wants_out_stays_out() -> None:
    assert again_at(replace(ended(Outcome.FAILED), wanted=Wanted.OUT)) is None


@pytest.mark.parametrize(("verb", "state"), [(Verb.DRAIN, Guarding(InService())), (Verb.REJOIN, Probing(InService()))])
def test_nothing_is_tried_again_during_an_operation(verb: Verb, state: State) -> None:
    underway = Underway("two", Request(verb, 0), START, START + 60)
    assert again_at(replace(ended(Outcome.FAILED), underway=underway, state=state)) is None


def test_without_an_operation_before_there_is_nothing_to_try() -> None:
    assert again_at(Record()) is None
