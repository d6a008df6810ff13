from __future__ import annotations

from fakes import arn, group
from zdd_agent.model.aws import Membership, Target, group_name


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
