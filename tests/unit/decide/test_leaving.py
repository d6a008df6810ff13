"""What a host does next that will be gone soon: a table of where it stands, and what is due."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes import START, arn, group
from zdd_agent.decide import drain, rejoin
from zdd_agent.decide.actions import End
from zdd_agent.decide.again import AGAIN_SECONDS, again_at
from zdd_agent.decide.apply import apply
from zdd_agent.decide.evidence import Evidence
from zdd_agent.decide.leaving import (
    DENIED_SECONDS,
    REFUSED_SECONDS,
    SOON_SECONDS,
    Complete,
    DrainAway,
    Heartbeat,
    Hook,
    Rest,
    next_step,
)
from zdd_agent.decide.results import Done
from zdd_agent.model.aws import BalancerKind, Membership, MinHealthy, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Failure, Operation, Outcome, Phase, Request, Verb
from zdd_agent.model.record import Leaving, Record, Underway
from zdd_agent.model.service import Rules
from zdd_agent.model.states import Departure, Drained, Draining, Ending, GoingBack, InService, Joining, Probing, Warming

ME = Target(arn("web"), "i-me", 8080)
WEB = Membership((group(),), (ME,))
NOW = START
WHY = "Auto Scaling is about to terminate this instance"
LEAVES = Leaving(WHY, earlier="before")
OURS = Request(Verb.DRAIN, 990, reason=WHY, stopping=True)
RULES = Rules(MinHealthy(), Until.CLOSED, dict.fromkeys(BalancerKind, 30.0))
HOOK = Hook(heartbeat=300.0)
LEFT = Departure(NOW - 400, NOW - 390, (ME,))


def ended(request: Request, outcome: Outcome, at: float = NOW, name: str = "one") -> Operation:
    return Operation(name, request, Phase.SETTLED, NOW - 400, NOW, ended_at=at, outcome=outcome)


def under_way(request: Request) -> Underway:
    return Underway("two", request, NOW - 10, NOW + 300)


IN = Record(membership=WEB, leaving=LEAVES)
DRAINING = replace(IN, state=Draining(LEFT, Ending(Until.CLOSED)), underway=under_way(OURS))
EMPTY = replace(IN, state=Drained(LEFT, "proved", NOW), last=ended(OURS, Outcome.SUCCEEDED))
DRAIN = DrainAway(OURS)

TABLE = {
    "a host that stays does nothing": (replace(IN, leaving=None), HOOK, Rest(None)),
    "first it drains": (IN, HOOK, DRAIN),
    "a drain that had ended before proves nothing of now": (
        replace(EMPTY, last=ended(OURS, Outcome.SUCCEEDED, name="before")),
        HOOK,
        DRAIN,
    ),
    "a rejoin under way gives way": (
        replace(IN, state=Probing(InService()), underway=under_way(Request(Verb.REJOIN, 0))),
        HOOK,
        DRAIN,
    ),
    "a drain that a guard could refuse goes on as one that nothing prevents": (
        replace(DRAINING, underway=under_way(Request(Verb.DRAIN, 0, reason="deploy"))),
        HOOK,
        DRAIN,
    ),
    "while work is left, the group waits": (DRAINING, HOOK, Heartbeat()),
    "between two heartbeats nothing is due": (DRAINING, replace(HOOK, beat_at=NOW + 100), Rest(NOW + 100)),
    "a hook may begin before the deregistration is over, and is kept open from the first moment on": (
        replace(DRAINING, state=Draining(Departure(NOW - 11, NOW - 10, (ME,)), Ending(Until.CLOSED))),
        HOOK,
        Heartbeat(),
    ),
    "without a hook nothing but the drain is due": (DRAINING, None, Rest(None)),
    "once no work is left the group goes on": (EMPTY, HOOK, Complete()),
    "what AWS refused is tried again, but not at once": (EMPTY, replace(HOOK, complete_at=NOW + 9), Rest(NOW + 9)),
    "a hook is completed once": (EMPTY, replace(HOOK, completed=True), Rest(None)),
    "an empty host without a hook is done": (EMPTY, None, Rest(None)),
    "that no group holds this host any more is proof as well": (
        replace(IN, last=ended(OURS, Outcome.SUCCEEDED)),
        HOOK,
        Complete(),
    ),
    "a drain that timed out is done again after a pause, and the group waits": (
        replace(IN, last=ended(OURS, Outcome.TIMED_OUT)),
        replace(HOOK, beat_at=NOW + 100),
        Rest(NOW + AGAIN_SECONDS),
    ),
    "and after the pause": (replace(IN, last=ended(OURS, Outcome.TIMED_OUT, NOW - AGAIN_SECONDS)), HOOK, DRAIN),
    "another caller's drain that failed is no reason for a pause": (
        replace(IN, last=ended(Request(Verb.DRAIN, 0, reason="deploy"), Outcome.FAILED)),
        HOOK,
        DRAIN,
    ),
}


@pytest.mark.parametrize(("record", "hook", "step"), TABLE.values(), ids=TABLE)
def test_what_is_due(record: Record, hook: Hook | None, step: object) -> None:
    assert next_step(record, hook, NOW, 990) == step


def test_an_end_that_is_near_sets_the_deadline_and_lets_idle_connections_be() -> None:
    soon = replace(IN, leaving=replace(LEAVES, deadline=NOW + 120))
    step = next_step(soon, None, NOW, 990)
    assert isinstance(step, DrainAway)
    assert (step.request.timeout, step.request.until, step.request.stopping) == (115.0, Until.IDLE, True)


def test_a_host_that_goes_back_stops_doing_so_and_registers_nothing() -> None:
    failure = Failure("refused", "needed here")
    back = replace(DRAINING, state=GoingBack(InService(), LEFT, failure))
    action = drain.decide(back, Evidence(), NOW, RULES)
    assert isinstance(action, End)
    assert apply(back, action, Done(), NOW).left == LEFT


@pytest.mark.parametrize("state", [Probing(InService()), Joining(InService()), Warming(InService(), NOW, called=True)])
def test_a_rejoin_of_a_host_that_will_be_gone_ends_as_refused(state: Any) -> None:
    record = replace(IN, state=state, underway=under_way(Request(Verb.REJOIN, 0)))
    action = rejoin.decide(record, Evidence(), NOW, RULES)
    assert isinstance(action, End)
    assert action.outcome is Outcome.REFUSED


def test_a_rejoin_that_failed_is_not_tried_again() -> None:
    failed = Operation("one", Request(Verb.REJOIN, 0, keep_trying=True), Phase.PROBING, NOW, NOW, NOW, Outcome.FAILED)
    assert again_at(Record(last=failed)) is not None
    assert again_at(Record(last=failed, leaving=LEAVES)) is None


def test_a_heartbeat_leaves_room_for_two_more_before_the_time_out() -> None:
    assert HOOK.beaten(NOW, answered=True).beat_at == NOW + 100
    assert HOOK.beaten(NOW, answered=False).beat_at == NOW + REFUSED_SECONDS
    assert Hook().beaten(NOW, answered=True).beat_at == NOW + REFUSED_SECONDS


@pytest.mark.parametrize(
    ("starts_at", "again"),
    [
        (None, REFUSED_SECONDS),
        (NOW + 200, REFUSED_SECONDS),
        (NOW + 18, 4.0),
        (NOW + 14, SOON_SECONDS),
        (NOW - 14, SOON_SECONDS),
        (NOW - 100, REFUSED_SECONDS),
    ],
)
def test_a_refused_completion_is_tried_often_only_around_the_moment_at_which_it_should_work(
    starts_at: float | None, again: float
) -> None:
    assert HOOK.refused(NOW, starts_at).complete_at == NOW + again


def test_a_missing_permission_slows_down_the_call_that_needs_it() -> None:
    assert HOOK.denied(NOW, beat=True) == Hook(300.0, beat_at=NOW + DENIED_SECONDS)
    assert HOOK.denied(NOW, beat=False) == Hook(300.0, complete_at=NOW + DENIED_SECONDS)
