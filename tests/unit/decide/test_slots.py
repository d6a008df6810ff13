"""Whose turn it is: the line for a slot, and how many slots there are."""

from __future__ import annotations

import pytest

from fakes import arn
from zdd_agent.decide.slots import PASSED_OVER_SECONDS, allowed, living, may_claim
from zdd_agent.model.aws import State, Target, TargetHealth
from zdd_agent.model.operation import Observation
from zdd_agent.model.slots import Holder, SlotLimit, SlotTable, Waiter

NOW = 1_000_000.0


def holders(*names: str) -> tuple[Holder, ...]:
    return tuple(Holder(name, NOW, NOW, targets=(name,)) for name in names)


def waiters(*names: str, seen: float = NOW) -> tuple[Waiter, ...]:
    return tuple(Waiter(name, NOW, seen) for name in names)


def listed(*ids: str, group: str = "web") -> Observation:
    population = tuple(TargetHealth(Target(arn(group), one, 8080), State.HEALTHY) for one in ids)
    return Observation(population, frozenset(), NOW, NOW)


def test_a_free_slot_is_for_whoever_comes_when_nobody_waits() -> None:
    assert may_claim(SlotTable(), "i-me", 1, NOW)
    assert not may_claim(SlotTable(holders("i-a")), "i-me", 1, NOW)
    assert may_claim(SlotTable(holders("i-a")), "i-me", 2, NOW)


def test_who_came_first_goes_first() -> None:
    table = SlotTable(holders("i-a"), waiters("i-b", "i-me"))
    assert not may_claim(table, "i-me", 2, NOW)
    assert may_claim(table, "i-b", 2, NOW)
    assert may_claim(table, "i-me", 3, NOW)


def test_who_has_no_place_in_line_comes_after_those_who_have() -> None:
    table = SlotTable((), waiters("i-b", "i-c"))
    assert not may_claim(table, "i-me", 2, NOW)
    assert may_claim(table, "i-me", 3, NOW)


def test_who_holds_one_already_may_claim_it_again_since_an_answer_can_be_lost() -> None:
    assert may_claim(SlotTable(holders("i-me"), waiters("i-b")), "i-me", 1, NOW)


def test_a_waiter_without_a_sign_of_life_holds_nobody_up() -> None:
    silent = waiters("i-dead", seen=NOW - PASSED_OVER_SECONDS - 1)
    table = SlotTable((), (*silent, *waiters("i-me")))
    assert [one.instance for one in living(table, NOW)] == ["i-me"]
    assert may_claim(table, "i-me", 1, NOW)


@pytest.mark.parametrize(("hosts", "percent", "number"), [(10, 25, 2), (12, 25, 3), (3, 25, 1), (1000, 10, 100)])
def test_a_percentage_is_rounded_down_and_at_least_one(hosts: int, percent: float, number: int) -> None:
    assert SlotLimit(percent=percent).of(hosts) == number


def test_a_percentage_does_not_erode_while_holders_are_out() -> None:
    others = listed(*(f"i-{n}" for n in range(9)))
    out = SlotTable(holders("i-9", "i-10", "i-11"))
    assert allowed(SlotLimit(percent=25), others, out) == 3


def test_a_holder_that_is_listed_counts_once() -> None:
    seen = listed(*(f"i-{n}" for n in range(8)))
    assert allowed(SlotLimit(percent=50), seen, SlotTable(holders("i-0", "i-1"))) == 4


def test_a_holder_whose_targets_are_addresses_counts_once_too() -> None:
    seen = listed("10.0.0.1", "10.0.0.2")
    table = SlotTable((Holder("i-a", NOW, NOW, targets=("10.0.0.1",)), Holder("i-b", NOW, NOW, targets=("10.0.0.3",))))
    assert allowed(SlotLimit(percent=34), seen, table) == 1
    assert allowed(SlotLimit(percent=67), seen, table) == 2


def test_of_several_groups_the_smallest_counts() -> None:
    large, small = listed(*(f"i-{n}" for n in range(10))), listed("i-0", "i-1", group="api")
    both = Observation((*large.population, *small.population), frozenset(), NOW, NOW)
    assert allowed(SlotLimit(percent=50), both, SlotTable()) == 1
