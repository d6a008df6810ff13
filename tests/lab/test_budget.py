"""Throttling: the API's budget is shared by the whole account."""

from zdd_lab.model.call_budget import Budgets
from zdd_lab.model.profile import ALB


def spend(budgets: Budgets, action: str, calls: int, at: float, region: str = "us-east-1") -> int:
    """How many of so many calls at one moment are allowed."""
    return sum(budgets.allow(region, action, at) for _ in range(calls))


def test_describe_calls_have_a_burst_of_40_and_10_a_second():
    budgets = Budgets(ALB)
    assert spend(budgets, "DescribeTargetHealth", 100, at=0) == 40
    assert spend(budgets, "DescribeTargetHealth", 100, at=1) == 10


def test_register_and_deregister_share_a_burst_of_20_and_4_a_second():
    budgets = Budgets(ALB)
    assert spend(budgets, "RegisterTargets", 15, at=0) == 15
    assert spend(budgets, "DeregisterTargets", 15, at=0) == 5
    assert spend(budgets, "RegisterTargets", 100, at=1) == 4


def test_all_describe_calls_share_one_budget_that_changes_do_not_touch():
    budgets = Budgets(ALB)
    assert spend(budgets, "DescribeTargetGroups", 30, at=0) == 30
    assert spend(budgets, "DescribeTargetHealth", 30, at=0) == 10
    assert spend(budgets, "RegisterTargets", 30, at=0) == 20


def test_a_budget_never_holds_more_than_its_burst():
    budgets = Budgets(ALB)
    spend(budgets, "DescribeTargetHealth", 40, at=0)
    assert spend(budgets, "DescribeTargetHealth", 100, at=3600) == 40


def test_each_region_has_its_own_budget():
    budgets = Budgets(ALB)
    spend(budgets, "DescribeTargetHealth", 40, at=0)
    assert spend(budgets, "DescribeTargetHealth", 40, at=0, region="eu-west-1") == 40


def test_100_hosts_that_poll_every_5_seconds_are_over_the_budget_and_every_15_seconds_are_not():
    def refused(every: float) -> int:
        budgets = Budgets(ALB)
        calls = sorted(start * every / 100 + turn * every for start in range(100) for turn in range(20))
        return sum(not budgets.allow("us-east-1", "DescribeTargetHealth", at) for at in calls)

    assert refused(5.0) > 500
    assert refused(15.0) == 0
