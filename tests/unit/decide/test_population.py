"""How one look at AWS is read: which targets are gone, which to register, which are back, which serve."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START, arn, group
from zdd_agent.decide.population import (
    absent,
    draining,
    healthy_others,
    not_in_use,
    not_ready,
    pending,
    registered,
    serves,
)
from zdd_agent.model.aws import Membership, State, Target, TargetHealth
from zdd_agent.model.operation import Observation

ME = Target(arn("web"), "i-me", 8080)
OTHER = Target(arn("web"), "i-other", 8080)
WEB = Membership((group(),), (ME,))
SPARE = replace(WEB, spare=(ME,))
UNBALANCED = replace(WEB, groups=(group(balancers=()),))
NOT_IN_USE = (State.UNUSED, "Target.NotInUse")
NOT_REGISTERED = (State.UNUSED, "Target.NotRegistered")
NOT_LISTED = None
# What AWS says (state, reason) → what the target counts as.
STANDS = [
    (NOT_LISTED, "absent"),
    (NOT_REGISTERED, "absent"),
    (NOT_IN_USE, "pending registered"),
    ((State.UNUSED, "Target.IpUnusable"), "pending registered"),
    ((State.INITIAL, "Elb.RegistrationInProgress"), "pending registered"),
    ((State.HEALTHY, ""), "pending registered"),
    ((State.UNHEALTHY, "Target.Timeout"), "pending registered"),
    ((State.UNAVAILABLE, "Target.HealthCheckDisabled"), "pending registered"),
    ((State.UNHEALTHY_DRAINING, "Target.Timeout"), "pending registered"),
    ((State.DRAINING, "Target.DeregistrationInProgress"), "pending draining absent"),
]


def look(mine: tuple[State, str] | None, *others: TargetHealth, missing: bool = False) -> Observation:
    own = () if mine is None else (TargetHealth(ME, *mine),)
    return Observation((*own, *others), frozenset({arn("web")} if missing else ()), START, START + 10)


@pytest.mark.parametrize(("mine", "stands"), STANDS)
def test_what_aws_says_of_a_target_is_read_the_same_way_everywhere(mine: tuple[State, str] | None, stands: str) -> None:
    seen = look(mine)
    read = {"pending": pending, "registered": registered, "draining": draining, "absent": absent}
    assert {name for name, ask in read.items() if ask(WEB, seen) == (ME,)} == set(stands.split())
    assert all(ask(WEB, seen) in ((), (ME,)) for ask in read.values())


def test_a_target_of_a_group_that_is_gone_holds_no_drain_up() -> None:
    assert pending(WEB, look((State.HEALTHY, ""), missing=True)) == ()


@pytest.mark.parametrize("membership", [WEB, SPARE, UNBALANCED], ids=["plain", "spare", "on no balancer"])
@pytest.mark.parametrize("mine", [m for m, _ in STANDS if m not in ((State.HEALTHY, ""), NOT_IN_USE)])
def test_only_what_is_healthy_or_rightly_not_in_use_is_back(
    membership: Membership, mine: tuple[State, str] | None
) -> None:
    assert not_ready(membership, look(mine)) == (ME,)


@pytest.mark.parametrize("membership", [WEB, SPARE, UNBALANCED], ids=["plain", "spare", "on no balancer"])
def test_a_healthy_target_is_back(membership: Membership) -> None:
    assert not_ready(membership, look((State.HEALTHY, ""))) == ()


@pytest.mark.parametrize(
    ("membership", "back"), [(WEB, False), (SPARE, True), (UNBALANCED, True)], ids=["plain", "spare", "on no balancer"]
)
def test_a_target_that_is_not_in_use_is_back_only_where_nobody_checks_it(membership: Membership, back: bool) -> None:
    assert not_ready(membership, look(NOT_IN_USE)) == (() if back else (ME,))


def test_a_spare_target_on_another_port_says_nothing_of_this_one() -> None:
    elsewhere = replace(WEB, spare=(replace(ME, port=9090),))
    assert not_ready(elsewhere, look(NOT_IN_USE)) == (ME,)


def test_a_target_that_is_spare_counts_whatever_its_zone() -> None:
    assert not_ready(replace(WEB, spare=(replace(ME, zone="all"),)), look(NOT_IN_USE)) == ()


@pytest.mark.parametrize("mine", [m for m, _ in STANDS])
def test_not_in_use_is_what_aws_calls_so_and_nothing_else(mine: tuple[State, str] | None) -> None:
    assert not_in_use(WEB, look(mine)) == ((ME,) if mine == NOT_IN_USE else ())


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("shifted", [False, True])
def test_only_a_healthy_host_without_a_zonal_shift_serves_and_is_counted_on(state: State, shifted: bool) -> None:
    other = TargetHealth(OTHER, state, shifted=shifted)
    good = state is State.HEALTHY and not shifted
    assert serves(other) is good
    assert healthy_others(WEB, look((State.HEALTHY, ""), other)) == ((OTHER,) if good else ())


def test_a_zonal_shift_keeps_no_healthy_target_from_being_back() -> None:
    seen = Observation((TargetHealth(ME, State.HEALTHY, shifted=True),), frozenset(), START, START + 10)
    assert not_ready(WEB, seen) == ()
