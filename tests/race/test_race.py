"""Hosts that leave at the same moment, in every order: whoever answers 0, enough stay, and soon they are healthy.

The figures are those of docs/operations.md, "Two hosts that leave at once". `race/explorer` says what is
searched.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from race.explorer import Explorer, Found, Race
from race.host import Decide, decided
from race.trace import told
from zdd_agent.decide import guard
from zdd_agent.decide.actions import Action, Confirm, End, GoBack, Look, Register, Wait
from zdd_agent.decide.evidence import API_LAG_SECONDS, Evidence
from zdd_agent.model.aws import MinHealthy
from zdd_agent.model.operation import Outcome, Verb
from zdd_agent.model.record import Record
from zdd_agent.model.service import Rules
from zdd_agent.model.states import Confirming, GoingBack

ROOT = Path(__file__).resolve().parents[2]
SOAK = pytest.mark.skipif(not os.environ.get("ZDD_SOAK"), reason="takes minutes: run `make soak`")
ONE, TWO, HALF = MinHealthy(1), MinHealthy(2), MinHealthy(percent=50)
# Seconds until a target that has registered again is healthy: an Application Load Balancer's first health check.
WARM = 30
# Seconds below `min_healthy`. Of two hosts the one that goes back does so at the second look at the latest, one lag
# after its deregistration. With more hosts a further one may leave until one lag later, since answers are late.
LAG = int(API_LAG_SECONDS)
BELOW_OF_TWO = LAG + WARM
BELOW_OF_MORE = 2 * LAG + WARM
SETTLE = int(guard.SETTLE_SECONDS)
# A call adds its time: the deregistration, the look, and the registration.
CALLS = 3


def explored(race: Race) -> Found:
    """All promises hold in it."""
    explorer = Explorer(race)
    found = explorer.explore()
    print(f"{race}: {len(found.came_from)} worlds, {found.steps} steps, {found.below_seconds} s; {dict(found.ends)}")
    assert not found.broken, told(explorer, found)
    return found


def broken(race: Race) -> str:
    """How a promise breaks in it, step by step."""
    explorer = Explorer(race)
    found = explorer.explore()
    assert found.broken
    print(trace := told(explorer, found))
    return trace


def at_most_one(found: Found) -> bool:
    return all(ends.count("succeeded") <= 1 for ends in found.ends)


# What holds, with every lag up to API_LAG_SECONDS


@pytest.mark.parametrize("delay", [20, 0])
@pytest.mark.parametrize("minimum", [ONE, HALF], ids=["1", "50%"])
def test_of_two_hosts_one_stays_and_both_are_out_for_the_stated_time_at_most(minimum: MinHealthy, delay: int) -> None:
    found = explored(Race(2, minimum, delay=delay))
    assert at_most_one(found)
    assert found.below_seconds == BELOW_OF_TWO == 40


def test_calls_that_take_a_second_add_theirs() -> None:
    found = explored(Race(2, ONE, call=1, starts=LAG + 2))
    assert at_most_one(found)
    assert found.below_seconds == BELOW_OF_TWO + CALLS


def test_a_host_that_keeps_trying_is_out_for_no_longer() -> None:
    found = explored(Race(2, ONE, wait=30))
    assert found.below_seconds == BELOW_OF_TWO


def test_a_caller_who_asks_again_at_once_makes_it_no_longer() -> None:
    found = explored(Race(2, ONE, verbs=(Verb.DRAIN,) * 3))
    assert found.below_seconds == BELOW_OF_TWO


@pytest.mark.parametrize("delay", [20, 0])
def test_hosts_that_rejoin_afterwards_succeed_and_are_out_for_no_longer(delay: int) -> None:
    found = explored(Race(2, ONE, starts=60, delay=delay, verbs=(Verb.DRAIN, Verb.REJOIN)))
    assert set(found.ends) == {("succeeded", "succeeded")}
    assert found.below_seconds == BELOW_OF_TWO


def test_a_host_that_is_killed_at_any_moment_adds_the_time_until_it_is_started_again() -> None:
    restart = 10
    found = explored(Race(2, ONE, kills=1, restarts=(1, restart, None)))
    assert at_most_one(found)
    assert found.below_seconds == BELOW_OF_TWO + restart


def test_of_three_hosts_one_stays() -> None:
    found = explored(Race(3, ONE, starts=LAG))
    assert all(ends.count("succeeded") <= 2 for ends in found.ends)
    assert found.below_seconds == BELOW_OF_TWO  # too few are healthy only once the third has left


@pytest.mark.parametrize("minimum", [TWO, HALF], ids=["2", "50%"])
def test_of_three_hosts_two_stay(minimum: MinHealthy) -> None:
    found = explored(Race(3, minimum))
    assert at_most_one(found)
    # An answer that is a whole lag late is not late enough to hide the first deregistration: one step less.
    assert found.below_seconds == BELOW_OF_MORE - 1


@pytest.mark.parametrize("delay", [20, 0])
def test_with_answers_that_are_never_late_one_of_two_leaves_and_the_gap_is_shorter(delay: int) -> None:
    found = explored(Race(2, ONE, lag=0, delay=delay))
    assert all(sorted(ends) == ["refused", "succeeded"] for ends in found.ends)
    assert found.below_seconds == SETTLE + WARM


def test_the_documents_state_these_figures() -> None:
    said = " ".join((ROOT / "docs" / "operations.md").read_text("utf-8").split())
    assert f"an answer of AWS shows everything that AWS accepted {LAG} s earlier" in said
    assert f"at most {BELOW_OF_TWO} s, which are {LAG} s until the last look, and {WARM} s" in said
    assert f"It is {SETTLE + WARM} s when answers are never late" in said
    assert f"one more may leave on a late answer: less than {BELOW_OF_MORE} s" in said


# What happens beyond


def test_answers_that_are_later_than_the_bound_let_both_hosts_answer_0() -> None:
    trace = broken(Race(2, ONE, lag=LAG + 1))
    assert trace.startswith("so many drains have answered 0 that fewer than `min_healthy` stay")
    assert trace.endswith("in truth i-0 is gone, i-1 is gone")


def test_a_floor_that_is_shorter_than_the_bound_takes_its_place() -> None:
    assert at_most_one(explored(Race(2, ONE, lag=5, floor=5)))
    assert "answered 0" in broken(Race(2, ONE, lag=6, floor=5))


def test_a_floor_of_nothing_leaves_the_second_look_as_the_bound() -> None:
    assert at_most_one(explored(Race(2, ONE, lag=SETTLE, floor=0, delay=0)))
    assert "answered 0" in broken(Race(2, ONE, lag=SETTLE + 1, floor=0, delay=0))


# The check can fail: the agent without one of its rules


def confirms_at_once(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """No look after the deregistration."""
    return Confirm() if isinstance(record.state, Confirming) else decided(record, evidence, now, rules)


def looks_once(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """The early look alone decides."""
    return _satisfied_after(SETTLE, record, evidence, now, rules)


def looks_a_second_too_early(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """The last look is not quite an API lag after the deregistration."""
    return _satisfied_after(API_LAG_SECONDS - 1, record, evidence, now, rules)


def _satisfied_after(seconds: float, record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """A look this long after the deregistration is the last one."""
    action, state = decided(record, evidence, now, rules), record.state
    if isinstance(state, Confirming) and isinstance(action, Wait):
        last = state.left.accepted_at + seconds
        if evidence.seen is not None and evidence.seen.seen_at >= last:
            return Confirm()
        return replace(action, until=min(action.until, last)) if now < last else Look()
    return action


def never_goes_back(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """Who has to go back only says so."""
    action = decided(record, evidence, now, rules)
    if isinstance(record.state, GoingBack) and isinstance(action, Register):
        return End(Outcome.REFUSED, "", record.state.failure)
    return action


def never_gives_way_first(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """Each host waits for the other one to go back."""
    action = decided(record, evidence, now, rules)
    if isinstance(action, GoBack) and isinstance(record.state, Confirming):
        again = record.state.left.accepted_at + guard.YIELD_SECONDS
        return action if now >= again else Wait(again, "")
    return action


def gives_way_whatever_its_id(record: Record, evidence: Evidence, now: float, rules: Rules) -> Action:
    """Whoever finds too few goes back at once."""
    action, state = decided(record, evidence, now, rules), record.state
    if isinstance(state, Confirming) and isinstance(action, Wait) and evidence.seen is not None:
        found = guard.race(state.claim, state.left, record.membership, evidence.seen, rules.min_healthy)
        if found.short:
            return GoBack(guard.refused(found.short, ""), now + 90)
    return action


@pytest.mark.parametrize("decide", [confirms_at_once, looks_once, looks_a_second_too_early])
def test_without_a_late_look_both_answer_0(decide: Decide) -> None:
    assert "answered 0" in broken(Race(2, ONE, decide=decide))


def test_who_only_says_that_it_goes_back_is_found() -> None:
    assert "left its host out" in broken(Race(2, ONE, decide=never_goes_back))


def test_without_the_order_of_claims_both_go_back_or_both_are_out_for_longer() -> None:
    fresh = Race(2, ONE, lag=0)
    assert ("refused", "refused") in explored(replace(fresh, decide=gives_way_whatever_its_id)).ends
    found = explored(replace(fresh, decide=never_gives_way_first))
    assert found.below_seconds > explored(fresh).below_seconds


# The explorer itself


RACES = {
    "plain": Race(2, ONE),
    "keeps trying": Race(2, ONE, wait=30),
    "beyond the bound": Race(2, HALF, lag=LAG + 1),
}


@pytest.mark.parametrize("race", RACES.values(), ids=RACES)
def test_what_the_explorer_leaves_out_of_a_host_changes_nothing(race: Race) -> None:
    one, other = Explorer(race).explore(), Explorer(replace(race, exact=True)).explore()
    assert (one.ends, one.below_seconds, one.broken) == (other.ends, other.below_seconds, other.broken)
    assert len(one.came_from) < len(other.came_from)


# Larger ones


LARGER = {
    "two, calls of 2 s": (Race(2, ONE, call=2, starts=0), BELOW_OF_TWO + CALLS * 2),
    "two that keep trying, calls of 1 s": (Race(2, ONE, call=1, wait=30), BELOW_OF_TWO + CALLS),
    "three": (Race(3, ONE), BELOW_OF_TWO),
    "three that keep trying, two must stay": (Race(3, TWO, wait=20), BELOW_OF_MORE - 1),
    "three, calls of 1 s, never late": (Race(3, ONE, lag=0, call=1, starts=4), SETTLE + WARM + CALLS),
    "three, two must stay, calls of 1 s, never late": (
        Race(3, TWO, lag=0, call=1, starts=4),
        SETTLE + WARM + CALLS,
    ),
}


@SOAK
@pytest.mark.parametrize("name", LARGER)
def test_more_of_the_same(name: str) -> None:
    race, below = LARGER[name]
    assert explored(race).below_seconds == below
