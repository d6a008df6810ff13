from __future__ import annotations

import pytest

from fakes import START, arn, group
from zdd_agent.model.aws import Membership, Target, group_name
from zdd_agent.model.operation import FIRST_PHASE, LAST_PHASE, TRANSITIONS, Operation, Phase, Request, Verb


def operation(phase: Phase) -> Operation:
    return Operation("abc", Request(Verb.DRAIN, 0), phase, START, START + 60)


def test_a_legal_step_moves_the_operation() -> None:
    assert operation(Phase.GUARDING).moved(Phase.DEREGISTERING).phase is Phase.DEREGISTERING


@pytest.mark.parametrize(("here", "there"), [(p, q) for p in Phase for q in Phase if q not in TRANSITIONS[p]])
def test_every_illegal_step_raises(here: Phase, there: Phase) -> None:
    with pytest.raises(ValueError, match="illegal transition"):
        operation(here).moved(there)


@pytest.mark.parametrize("verb", Verb)
def test_each_verb_can_get_from_its_first_phase_to_its_last(verb: Verb) -> None:
    reached, todo = set(), [FIRST_PHASE[verb]]
    while todo:
        phase = todo.pop()
        if phase not in reached:
            reached.add(phase)
            todo += TRANSITIONS[phase]
    assert LAST_PHASE[verb] in reached
    assert not TRANSITIONS[LAST_PHASE[verb]]


def test_joined_memberships_keep_every_target_once_and_the_newer_facts() -> None:
    old = Membership(
        (group("web", deregistration_delay=300.0),), (Target(arn("web"), "i-me", 1), Target(arn("web"), "i-me", 2))
    )
    new = Membership((group("web", deregistration_delay=60.0),), (Target(arn("web"), "i-me", 2, "all"),))
    joined = old.joined(new)
    assert {(t.id, t.port) for t in joined.targets} == {("i-me", 1), ("i-me", 2)}
    assert len(joined.targets) == 2
    assert joined.group(arn("web")).deregistration_delay == 60.0


def test_the_name_of_a_group_is_read_from_its_arn() -> None:
    assert group_name(arn("web")) == "web"
