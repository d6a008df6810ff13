"""The table of steps: which are legal, how each changes the record, and that no other one changes anything."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from fakes import START, arn, group
from zdd_agent.decide.actions import (
    Attach,
    Begin,
    Boot,
    Cancel,
    Confirm,
    Deregister,
    Discover,
    Drop,
    End,
    EnterStandby,
    ExitStandby,
    Extend,
    Follow,
    Forget,
    GoBack,
    Identify,
    Join,
    Launch,
    Leave,
    Look,
    MakeClaim,
    Probe,
    Refresh,
    Register,
    Resume,
    Retry,
    Sense,
    Stay,
    Wait,
)
from zdd_agent.decide.apply import apply
from zdd_agent.decide.asked import not_to_be_had
from zdd_agent.decide.endings import IllegalStepError
from zdd_agent.decide.results import Done, Found, NotTaken, Probed, Refreshed, Seen
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Membership, State, Target, TargetHealth
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Failure, Observation, Outcome, Phase, Request, Verb
from zdd_agent.model.owner import Owner
from zdd_agent.model.record import Leaving, Record, Underway, Wanted
from zdd_agent.model.states import (
    Claim,
    Claiming,
    Confirming,
    Departure,
    Drained,
    Draining,
    Ending,
    GoingBack,
    Guarding,
    InService,
    Joining,
    Out,
    Probing,
    Warming,
)

ME = Target(arn("web"), "i-me", 8080)
OTHER = Target(arn("web"), "i-other", 8080)
WEB = Membership((group(),), (ME,))
LEFT = Departure(START - 90, START - 80, (ME,), ("10.0.9.1",))
CLAIM = Claim((OTHER,), START - 91)
ENDING = Ending(Until.IDLE)
FAILURE = Failure("refused", "needed here")
NOW = START
DEADLINE = START + 200
IN_PART = "a drain has put it back in part"

RESTING = (InService(), Drained(LEFT, "proved", START - 60), Out(LEFT, "why"))
OF_A_DRAIN = (
    Guarding(InService()),
    Claiming(InService(), START - 90, (ME,), ("10.0.9.1",), CLAIM, ENDING),
    Confirming(InService(), LEFT, CLAIM, ENDING),
    Draining(LEFT, ENDING),
    GoingBack(InService(), LEFT, FAILURE),
)
OF_A_REJOIN = (Probing(Out(LEFT, "why")), Joining(Out(LEFT, "why")), Warming(Out(LEFT, "why"), START - 5, True))
BUSY = (*OF_A_DRAIN, *OF_A_REJOIN)
STATES = (*RESTING, *BUSY)

ACTIONS = (
    Discover(),
    Refresh(),
    Look(),
    Sense(),
    Probe((ME,)),
    Deregister((ME,), CLAIM),
    Register((ME,)),
    Launch(),
    EnterStandby("web-asg"),
    ExitStandby("web-asg"),
    Wait(START + 1, "note"),
    MakeClaim((ME,), (), ("10.0.9.1",), CLAIM, ENDING, START + 500, "note"),
    Resume(START - 70, ("10.0.9.1",), ENDING, START + 500, "note"),
    Confirm(),
    GoBack(FAILURE, START + 500),
    Retry(START + 500),
    Join(START + 500),
    Extend(START + 500),
    Drop(frozenset({arn("gone")})),
    End(Outcome.FAILED, "", FAILURE),
    Begin("new", Request(Verb.DRAIN, 0), START + 300),
    Attach(Request(Verb.DRAIN, 0)),
    Cancel(7),
    Forget(ME.key),
    Boot("boot-1", START + 60),
    Identify("i-me", ("10.0.0.1",)),
    Leave("this instance will be gone soon", START + 120),
    Stay(),
    Follow(("a notice",)),
)
SEEN = Observation(
    (TargetHealth(ME, State.HEALTHY), TargetHealth(OTHER, State.HEALTHY)), frozenset(), START, START + 10
)
RESULTS = (
    Done(),
    Found(WEB, SEEN),
    Refreshed(WEB, frozenset()),
    Seen(SEEN),
    Probed((), START + 10),
    NotTaken(AgentError(Kind.FAILED, "still drains")),
)

# What is legal, written once more by hand: (state, action, result) → the next state; None where it stays.
STAYS = None
LEGAL: dict[tuple[type, type, type], type | None] = {
    (InService, Discover, Found): STAYS,
    (InService, Begin, Done): Guarding,
    (InService, Forget, Done): STAYS,
    (InService, Boot, Done): STAYS,
    (InService, Identify, Done): STAYS,
    (InService, Leave, Done): STAYS,
    (InService, Stay, Done): STAYS,
    (InService, Follow, Done): STAYS,
    (Drained, Begin, Done): Guarding,
    (Drained, Forget, Done): STAYS,
    (Drained, Boot, Done): STAYS,
    (Drained, Identify, Done): STAYS,
    (Drained, Leave, Done): STAYS,
    (Drained, Stay, Done): STAYS,
    (Drained, Follow, Done): STAYS,
    (Out, Begin, Done): Guarding,
    (Out, Forget, Done): STAYS,
    (Out, Boot, Done): STAYS,
    (Out, Identify, Done): STAYS,
    (Out, Leave, Done): STAYS,
    (Out, Stay, Done): STAYS,
    (Out, Follow, Done): STAYS,
    (Guarding, Discover, Found): STAYS,
    (Guarding, MakeClaim, Done): Claiming,
    (Guarding, Resume, Done): Draining,
    (Guarding, Drop, Done): STAYS,
    (Guarding, Extend, Done): STAYS,
    (Guarding, End, Done): InService,
    (Guarding, Attach, Done): STAYS,
    (Guarding, Cancel, Done): STAYS,
    (Guarding, Boot, Done): STAYS,
    (Guarding, Identify, Done): STAYS,
    (Guarding, Leave, Done): STAYS,
    (Guarding, Stay, Done): STAYS,
    (Guarding, Follow, Done): STAYS,
    (Claiming, Deregister, Done): Confirming,
    (Claiming, Deregister, NotTaken): STAYS,
    (Claiming, GoBack, Done): GoingBack,
    (Claiming, Extend, Done): STAYS,
    (Claiming, End, Done): Out,
    (Claiming, Attach, Done): STAYS,
    (Claiming, Cancel, Done): STAYS,
    (Claiming, Boot, Done): STAYS,
    (Claiming, Identify, Done): STAYS,
    (Claiming, Leave, Done): STAYS,
    (Confirming, Discover, Found): STAYS,
    (Claiming, Stay, Done): STAYS,
    (Claiming, Follow, Done): STAYS,
    (Confirming, Confirm, Done): Draining,
    (Confirming, GoBack, Done): GoingBack,
    (Confirming, Extend, Done): STAYS,
    (Confirming, End, Done): Out,
    (Confirming, Attach, Done): STAYS,
    (Confirming, Cancel, Done): STAYS,
    (Confirming, Boot, Done): STAYS,
    (Confirming, Identify, Done): STAYS,
    (Confirming, Leave, Done): STAYS,
    (Confirming, Stay, Done): STAYS,
    (Confirming, Follow, Done): STAYS,
    (Draining, MakeClaim, Done): Claiming,
    (Draining, GoBack, Done): GoingBack,
    (Draining, EnterStandby, Done): STAYS,
    (Draining, EnterStandby, NotTaken): STAYS,
    (Draining, Extend, Done): STAYS,
    (Draining, End, Done): Out,
    (Draining, Attach, Done): STAYS,
    (Draining, Cancel, Done): STAYS,
    (Draining, Boot, Done): STAYS,
    (Draining, Identify, Done): STAYS,
    (Draining, Leave, Done): STAYS,
    (Draining, Stay, Done): STAYS,
    (Draining, Follow, Done): STAYS,
    (GoingBack, Register, Done): STAYS,
    (GoingBack, Register, NotTaken): STAYS,
    (GoingBack, Retry, Done): Guarding,
    (GoingBack, Extend, Done): STAYS,
    (GoingBack, End, Done): Out,
    (GoingBack, Attach, Done): STAYS,
    (GoingBack, Cancel, Done): STAYS,
    (GoingBack, Boot, Done): STAYS,
    (GoingBack, Identify, Done): STAYS,
    (GoingBack, Leave, Done): STAYS,
    (GoingBack, Stay, Done): STAYS,
    (GoingBack, Follow, Done): STAYS,
    (Probing, Discover, Found): STAYS,
    (Probing, Refresh, Refreshed): STAYS,
    (Joining, Refresh, Refreshed): STAYS,
    (Probing, Join, Done): Joining,
    (Probing, Drop, Done): STAYS,
    (Probing, Extend, Done): STAYS,
    (Probing, End, Done): Out,
    (Probing, Begin, Done): Guarding,
    (Probing, Attach, Done): STAYS,
    (Probing, Cancel, Done): STAYS,
    (Probing, Forget, Done): STAYS,
    (Probing, Boot, Done): STAYS,
    (Probing, Identify, Done): STAYS,
    (Probing, Leave, Done): STAYS,
    (Probing, Stay, Done): STAYS,
    (Probing, Follow, Done): STAYS,
    (Joining, Register, Done): Warming,
    (Joining, Launch, Done): Warming,
    (Probing, Launch, Done): STAYS,
    (Joining, ExitStandby, Done): STAYS,
    (Joining, ExitStandby, NotTaken): STAYS,
    (Joining, Register, NotTaken): STAYS,
    (Joining, Drop, Done): STAYS,
    (Joining, Extend, Done): STAYS,
    (Joining, End, Done): Out,
    (Joining, Begin, Done): Guarding,
    (Joining, Attach, Done): STAYS,
    (Joining, Cancel, Done): STAYS,
    (Joining, Boot, Done): STAYS,
    (Joining, Identify, Done): STAYS,
    (Joining, Leave, Done): STAYS,
    (Joining, Stay, Done): STAYS,
    (Joining, Follow, Done): STAYS,
    (Warming, Join, Done): Joining,
    (Warming, Drop, Done): STAYS,
    (Warming, Extend, Done): STAYS,
    (Warming, End, Done): Out,
    (Warming, Begin, Done): Guarding,
    (Warming, Attach, Done): STAYS,
    (Warming, Cancel, Done): STAYS,
    (Warming, Boot, Done): STAYS,
    (Warming, Identify, Done): STAYS,
    (Warming, Leave, Done): STAYS,
    (Warming, Stay, Done): STAYS,
    (Warming, Follow, Done): STAYS,
}
ALL = list(itertools.product(STATES, ACTIONS, RESULTS))
STEPS = [one for one in ALL if tuple(map(type, one)) in LEGAL]


def named(value: Any) -> str:
    return type(value).__name__


def record(state: Any, timeout: float | None = None, **of_request: Any) -> Record:
    """A host in this state, with the operation that belongs to it."""
    verb = Verb.DRAIN if isinstance(state, tuple(map(type, OF_A_DRAIN))) else Verb.REJOIN
    request = Request(verb, 0, timeout, **of_request)
    underway = Underway("one", request, START - 100, DEADLINE) if isinstance(state, tuple(map(type, BUSY))) else None
    wanted = Wanted.OUT if verb is Verb.DRAIN else Wanted.IN
    return Record(Owner("i-me", "boot-1"), WEB, wanted, state, underway, None, (ME, OTHER))


def asked_of(action: Any, before: Record) -> Any:
    """A second caller asks for the verb that is under way."""
    if isinstance(action, Attach) and before.underway is not None:
        return Attach(Request(before.underway.request.verb, 0))
    return action


@pytest.mark.parametrize(("state", "action", "result"), ALL, ids=named)
def test_a_step_leads_where_the_table_says_and_every_other_one_changes_nothing(
    state: Any, action: Any, result: Any
) -> None:
    before = record(state)
    kept = replace(before)
    action = asked_of(action, before)
    key = type(state), type(action), type(result)
    if key in LEGAL:
        assert type(apply(before, action, result, NOW).state) is (LEGAL[key] or type(state))
    else:
        with pytest.raises(IllegalStepError):
            apply(before, action, result, NOW)
    assert before == kept


@pytest.mark.parametrize(("state", "action", "result"), STEPS, ids=named)
def test_a_step_keeps_the_owner_the_targets_and_the_operation_under_way(state: Any, action: Any, result: Any) -> None:
    before = record(state)
    after = apply(before, asked_of(action, before), result, NOW)
    assert after.owner == before.owner
    assert after.listed == before.listed
    if not isinstance(action, Forget):
        assert after.membership == before.membership
    if isinstance(action, End):
        assert after.underway is None
        assert after.last is not None
        assert after.last.id == "one"
    elif isinstance(action, Begin):
        assert after.underway is not None
        assert after.underway.id == "new"
    elif before.underway is not None:
        assert after.underway is not None
        assert after.underway.id == "one"
        assert after.underway.request == before.underway.request
        assert after.last is None


@pytest.mark.parametrize(
    ("state", "action", "result"),
    [one for one in STEPS if not isinstance(one[1], End | Begin | Boot | Identify) and one[0] in BUSY],
    ids=named,
)
def test_no_step_lengthens_a_time_out_that_somebody_gave(state: Any, action: Any, result: Any) -> None:
    before = record(state, timeout=300.0)
    after = apply(before, asked_of(action, before), result, NOW)
    assert after.underway is not None
    assert after.underway.deadline == DEADLINE


LENGTHEN = (MakeClaim, Resume, GoBack, Retry, Join, Extend)


@pytest.mark.parametrize(
    ("state", "action", "result"), [one for one in STEPS if isinstance(one[1], LENGTHEN)], ids=named
)
def test_a_derived_time_out_follows_the_step(state: Any, action: Any, result: Any) -> None:
    after = apply(record(state), action, result, NOW)
    assert after.underway is not None
    assert after.underway.deadline == START + 500


@pytest.mark.parametrize("state", BUSY, ids=named)
@pytest.mark.parametrize("before", RESTING, ids=named)
def test_where_the_host_came_from_stays_known_and_since_when_it_is_out(state: Any, before: Any) -> None:
    if not isinstance(state, Draining):
        state = replace(state, before=before)
    standing = record(state)
    for action, result in [(a, r) for s, a, r in STEPS if type(s) is type(state) and not isinstance(a, End | Begin)]:
        after = apply(standing, asked_of(action, standing), result, NOW).state
        if isinstance(state, Draining):
            assert not hasattr(after, "before") or after.before == Out(LEFT, "a drain is under way")
        elif isinstance(action, Retry) and not isinstance(before, InService):
            assert after.before == Out(replace(before.left, accepted_at=NOW), IN_PART)
        elif not isinstance(after, Draining):
            assert after.before == before


# How an operation ends.

BAD = tuple(o for o in Outcome if o is not Outcome.SUCCEEDED)
NO_END = (Claiming, Confirming, GoingBack, Joining)
PHASES = {
    Guarding: Phase.GUARDING,
    Claiming: Phase.DEREGISTERING,
    Confirming: Phase.DRAINING,
    Draining: Phase.DRAINING,
    GoingBack: Phase.DRAINING,
    Probing: Phase.PROBING,
    Joining: Phase.REGISTERING,
    Warming: Phase.WARMING,
}


def rests_after(state: Any, outcome: Outcome) -> Any:
    """Where the host stands after an operation that did not succeed."""
    verb = "drain" if state in OF_A_DRAIN else "rejoin"
    why = f"the last {verb} ended as {outcome}"
    match state:
        case Guarding() | Probing():
            return state.before
        case Claiming():
            return Out(Departure(START - 90, NOW, (ME,), ("10.0.9.1",)), why)
        case Joining() | Warming():
            return Out(replace(LEFT, accepted_at=NOW), why)
        case _:
            return Out(LEFT, why)


@pytest.mark.parametrize(("state", "outcome"), list(itertools.product(BUSY, BAD)), ids=lambda v: str(v) or named(v))
def test_an_operation_that_does_not_succeed_leaves_the_host_where_it_is_and_says_so(
    state: Any, outcome: Outcome
) -> None:
    after = apply(record(state), End(outcome, "", FAILURE), Done(), NOW)
    assert after.state == rests_after(state, outcome)
    assert after.underway is None
    last = after.last
    assert last is not None
    assert (last.outcome, last.phase, last.ended_at) == (outcome, PHASES[type(state)], NOW)
    assert (last.failure, last.message) == (FAILURE, FAILURE.message)
    assert last.changed is not isinstance(state, Guarding | Probing)


@pytest.mark.parametrize("state", BUSY, ids=named)
def test_only_a_state_with_nothing_more_to_do_can_succeed(state: Any) -> None:
    standing, end = record(state), End(Outcome.SUCCEEDED, "good")
    if isinstance(state, NO_END):
        with pytest.raises(IllegalStepError):
            apply(standing, end, Done(), NOW)
        return
    after = apply(standing, end, Done(), NOW)
    rests = {Guarding: InService(), Draining: Drained(LEFT, "good", NOW)}.get(type(state), InService())
    assert after.state == rests
    assert after.last is not None
    assert after.last.phase is (Phase.SETTLED if state in OF_A_DRAIN else Phase.IN_SERVICE)
    assert after.last.changed is not isinstance(state, Guarding | Probing)


@pytest.mark.parametrize("state", [Joining(InService()), Warming(InService(), START, True)], ids=named)
@pytest.mark.parametrize("outcome", BAD)
def test_a_rejoin_that_fails_on_a_host_that_never_left_leaves_no_departure(state: Any, outcome: Outcome) -> None:
    assert apply(record(state), End(outcome, ""), Done(), NOW).state == InService()


def test_a_drain_that_has_gone_back_leaves_the_host_in_service() -> None:
    went_back = End(Outcome.REFUSED, "", FAILURE, back=True)
    assert apply(record(GoingBack(InService(), LEFT, FAILURE)), went_back, Done(), NOW).state == InService()


def test_what_aws_refuses_to_deregister_is_not_among_what_going_back_registers() -> None:
    second = Target(arn("second"), "i-me", 8080)
    claiming = Claiming(InService(), START - 90, (ME, second), (), CLAIM, ENDING)
    denied = NotTaken(AgentError(Kind.AWS_DENIED, "denied"), done=(ME,))
    after = apply(record(claiming), Deregister((ME, second), CLAIM), denied, NOW)
    assert after.state == replace(claiming, targets=(ME,))
    again = apply(after, Deregister((second,), CLAIM), replace(denied, done=()), NOW)
    assert again.state == replace(claiming, targets=(ME,))


def test_a_host_that_went_back_with_a_part_of_its_targets_is_out_without_proof_from_now_on() -> None:
    second = Target(arn("web"), "i-me", 9090)
    before = Out(replace(LEFT, targets=(second,)), "why")
    standing = replace(record(GoingBack(before, LEFT, FAILURE)), membership=Membership((group(),), (ME, second)))
    after = apply(standing, End(Outcome.REFUSED, "", FAILURE, back=True), Done(), NOW).state
    assert after == Out(replace(before.left, accepted_at=NOW), IN_PART)


# What the steps carry over.


def test_a_host_that_leaves_again_goes_back_with_all_that_its_drain_has_deregistered() -> None:
    more = Target(arn("web"), "i-me", 9090)
    claim = MakeClaim((more,), (), (), CLAIM, ENDING, START + 500, "")
    after = apply(record(Draining(LEFT, ENDING)), claim, Done(), NOW)
    assert isinstance(after.state, Claiming)
    assert after.state.targets == (ME, more)
    assert after.membership.targets == (ME, more)


def test_a_claim_keeps_what_was_not_in_use_and_a_repeated_one_the_first_moment_of_leaving() -> None:
    claim = MakeClaim((ME,), (ME,), ("10.0.9.2",), CLAIM, ENDING, START + 500, "")
    fresh = apply(record(Guarding(InService())), claim, Done(), NOW)
    assert fresh.membership.spare == (ME,)
    assert fresh.state == Claiming(InService(), NOW, (ME,), ("10.0.9.2",), CLAIM, ENDING)
    again = apply(record(Draining(LEFT, ENDING)), claim, Done(), NOW)
    assert isinstance(again.state, Claiming)
    assert again.state.since == LEFT.since


def test_the_moment_of_a_deregistration_is_when_it_was_answered() -> None:
    after = apply(record(OF_A_DRAIN[1]), Deregister((ME,), CLAIM), Done(), NOW)
    assert after.state == Confirming(InService(), Departure(START - 90, NOW, (ME,), ("10.0.9.1",)), CLAIM, ENDING)


def test_a_registration_of_nothing_has_no_moment_to_wait_from() -> None:
    after = apply(record(Joining(InService())), Register(()), Done(), NOW)
    assert after.state == Warming(InService(), NOW, called=False)


def test_a_launch_is_remembered_until_the_group_has_registered_the_host() -> None:
    joining = apply(record(Probing(InService())), Join(START + 500, launching=True), Done(), NOW)
    assert joining.state == Joining(InService(), launching=True)
    assert apply(joining, Launch(), Done(), NOW).state == Warming(InService(), NOW, called=True)


def test_groups_that_are_gone_leave_the_membership() -> None:
    after = apply(record(Probing(InService())), Drop(frozenset({arn("web")})), Done(), NOW)
    assert after.membership == Membership()


def test_a_drain_goes_on_knowing_the_groups_that_have_let_this_host_go_until_the_next_operation() -> None:
    dropped = apply(record(Guarding(InService())), Drop(frozenset({arn("web")})), Done(), NOW)
    assert dropped.membership == Membership((group(),), ())
    second = Membership((group("second"),), (Target(arn("second"), "i-me", 8080),))
    found = apply(record(Guarding(InService())), Discover(), Found(second, SEEN), NOW)
    assert found.membership == Membership((group(), group("second")), second.targets)
    ended = apply(found, End(Outcome.REFUSED, "", FAILURE), Done(), NOW)
    assert apply(ended, Begin("new", Request(Verb.DRAIN, 0), NOW + 300), Done(), NOW).membership == second


def test_a_discovery_after_the_deregistration_adds_what_it_finds() -> None:
    second = Membership((group("second"),), (Target(arn("second"), "i-me", 8080),))
    after = apply(record(Confirming(InService(), LEFT, CLAIM, ENDING)), Discover(), Found(second, SEEN), NOW)
    assert after.membership == WEB.joined(second)


def test_a_discovery_that_does_not_find_this_host_keeps_who_was_listed() -> None:
    nobody = Observation((), frozenset(), NOW, NOW + 10)
    after = apply(record(Guarding(InService())), Discover(), Found(Membership(), nobody), NOW)
    assert after.listed == (ME, OTHER)


def test_a_discovery_keeps_who_was_listed_and_who_has_vanished() -> None:
    gone = Target(arn("web"), "i-gone", 8080)
    after = apply(record(Guarding(InService())), Discover(), Found(WEB, replace(SEEN, absent=(gone,))), NOW)
    assert after.listed == (ME, OTHER, gone)


# A second caller.


@pytest.mark.parametrize(
    ("mine", "other", "both"),
    [
        (Until.IDLE, Until.UNUSED, Until.UNUSED),
        (Until.UNUSED, Until.IDLE, Until.UNUSED),
        (Until.IDLE, Until.CLOSED, Until.CLOSED),
        (Until.CLOSED, Until.IDLE, Until.CLOSED),
        (None, Until.IDLE, Until.IDLE),
        (Until.IDLE, None, Until.IDLE),
        (None, None, None),
    ],
)
def test_of_two_callers_the_one_that_asks_for_more_proof_wins(mine: Any, other: Any, both: Any) -> None:
    after = apply(record(Guarding(InService()), until=mine), Attach(Request(Verb.DRAIN, 1, until=other)), Done(), NOW)
    assert after.underway is not None
    assert after.underway.request.until is both


@pytest.mark.parametrize("state", [s for s in OF_A_DRAIN if hasattr(s, "ending")], ids=named)
def test_a_drain_past_its_guard_ends_by_the_stricter_wish_too(state: Any) -> None:
    stricter = apply(record(state), Attach(Request(Verb.DRAIN, 1, until=Until.UNUSED)), Done(), NOW)
    assert stricter.state == replace(state, ending=Ending(Until.UNUSED))
    looser = apply(stricter, Attach(Request(Verb.DRAIN, 1, until=Until.IDLE)), Done(), NOW)
    assert looser.state == stricter.state


def test_a_longer_wait_counts_from_the_second_caller_and_moves_the_derived_deadline() -> None:
    attach = Attach(Request(Verb.DRAIN, 1, wait=60.0))
    after = apply(record(Guarding(InService()), wait=30.0), attach, Done(), NOW)
    assert after.underway is not None
    assert after.underway.request.wait == 160.0  # 100 s after the start
    assert after.underway.deadline == DEADLINE + 130.0


def test_no_wait_of_a_second_caller_takes_nothing_from_the_first() -> None:
    after = apply(record(Guarding(InService()), wait=130.0), Attach(Request(Verb.DRAIN, 1)), Done(), NOW)
    assert after.underway is not None
    assert (after.underway.request.wait, after.underway.deadline) == (130.0, DEADLINE)


def test_what_either_caller_forces_is_forced() -> None:
    attach = Attach(Request(Verb.REJOIN, 1, force=(Check.PROBE,), keep_trying=True, stopping=True))
    after = apply(record(Probing(InService())), attach, Done(), NOW)
    assert after.underway is not None
    request = after.underway.request
    assert (request.force, request.keep_trying, request.stopping) == ((Check.PROBE,), True, True)


@pytest.mark.parametrize(("other", "deadline"), [(250.0, NOW + 250), (50.0, DEADLINE)])
def test_of_two_given_time_outs_the_later_end_counts(other: float, deadline: float) -> None:
    standing = record(Draining(LEFT, ENDING), timeout=300.0)
    after = apply(standing, Attach(Request(Verb.DRAIN, 1, other)), Done(), NOW)
    assert after.underway is not None
    assert after.underway.deadline == deadline
    assert after.underway.request.timeout == deadline - (START - 100)


@pytest.mark.parametrize(
    ("mine", "asked", "said"),
    [
        (None, Request(Verb.DRAIN, 1, 60.0), "its time-out is not used"),
        (None, Request(Verb.DRAIN, 1, until=Until.IDLE), "ends by `unused`"),
        (60.0, Request(Verb.DRAIN, 1, 60.0), ""),
        (None, Request(Verb.DRAIN, 1), ""),
        (None, Request(Verb.DRAIN, 1, until=Until.UNUSED), ""),
    ],
)
def test_a_second_caller_is_told_what_it_does_not_get(mine: float | None, asked: Request, said: str) -> None:
    standing = record(Draining(LEFT, Ending(Until.UNUSED)), timeout=mine)
    told = not_to_be_had(apply(standing, Attach(asked), Done(), NOW), asked)
    assert bool(told) is bool(said)
    assert said in " ".join(told)


@pytest.mark.parametrize("state", BUSY, ids=named)
def test_nobody_joins_an_operation_of_the_other_verb(state: Any) -> None:
    other = Verb.REJOIN if state in OF_A_DRAIN else Verb.DRAIN
    with pytest.raises(IllegalStepError):
        apply(record(state), Attach(Request(other, 1)), Done(), NOW)


# A new operation.


@pytest.mark.parametrize("before", RESTING, ids=named)
@pytest.mark.parametrize(("verb", "state", "wanted"), [(Verb.DRAIN, Guarding, "out"), (Verb.REJOIN, Probing, "in")])
def test_an_operation_begins_where_the_host_rests(before: Any, verb: Verb, state: type, wanted: str) -> None:
    after = apply(record(before), Begin("new", Request(verb, 0), START + 300), Done(), NOW)
    assert after.state == state(before)
    assert after.wanted == wanted
    assert after.underway == Underway("new", Request(verb, 0), NOW, START + 300)


@pytest.mark.parametrize("state", OF_A_REJOIN, ids=named)
def test_a_drain_supersedes_a_rejoin_and_knows_how_the_host_left(state: Any) -> None:
    after = apply(record(state), Begin("new", Request(Verb.DRAIN, 7), START + 300), Done(), NOW)
    assert after.last is not None
    assert (after.last.id, after.last.outcome) == ("one", Outcome.CANCELLED)
    assert "superseded by a drain of uid 7" in after.last.message
    assert after.wanted is Wanted.OUT
    assert after.state == Guarding(rests_after(state, Outcome.CANCELLED))
    assert after.out_since == LEFT.since


@pytest.mark.parametrize("state", BUSY, ids=named)
def test_no_rejoin_begins_during_another_operation(state: Any) -> None:
    with pytest.raises(IllegalStepError):
        apply(record(state), Begin("new", Request(Verb.REJOIN, 0), START + 300), Done(), NOW)


def test_what_is_no_target_of_this_host_cannot_be_forgotten() -> None:
    with pytest.raises(IllegalStepError):
        apply(record(InService()), Forget(OTHER.key), Done(), NOW)


def test_a_cancel_says_who() -> None:
    after = apply(record(Draining(LEFT, ENDING)), Cancel(7), Done(), NOW)
    assert after.underway is not None
    assert after.underway.cancelled_by == 7


# The daemon's start.


@pytest.mark.parametrize("state", STATES, ids=named)
@pytest.mark.parametrize("boot_id", ["boot-1", ""])
def test_a_restart_of_the_daemon_alone_changes_nothing(state: Any, boot_id: str) -> None:
    before = record(state)
    assert apply(before, Boot(boot_id, START + 60), Done(), NOW) == before


@pytest.mark.parametrize("state", BUSY, ids=named)
def test_a_record_without_a_boot_is_of_this_one(state: Any) -> None:
    before = replace(record(state), owner=Owner("i-me"))
    assert apply(before, Boot("boot-2", START + 60), Done(), NOW) == before


@pytest.mark.parametrize("state", OF_A_DRAIN, ids=named)
def test_another_boot_ends_a_drain_and_leaves_the_host_out(state: Any) -> None:
    after = apply(record(state), Boot("boot-2", START + 60), Done(), NOW)
    assert after.underway is None
    assert after.owner == Owner("i-me", "boot-1"), "nobody knows yet whether this boot is the owner's"
    assert after.last is not None
    assert after.last.outcome is Outcome.CANCELLED
    assert after.state == rests_after(state, Outcome.CANCELLED)
    assert (after.out_since is None) is isinstance(state, Guarding)


@pytest.mark.parametrize("state", OF_A_REJOIN, ids=named)
def test_another_boot_lets_a_rejoin_go_on_from_its_beginning(state: Any) -> None:
    before = apply(record(state), Cancel(7), Done(), NOW)
    after = apply(before, Boot("boot-2", START + 600), Done(), NOW)
    assert after.state == Probing(rests_after(state, Outcome.CANCELLED))
    assert after.last is None
    assert after.underway is not None
    assert (after.underway.id, after.underway.cancelled_by) == ("one", None)
    assert after.underway.deadline == START + 600


@pytest.mark.parametrize("state", RESTING, ids=named)
def test_another_boot_changes_nothing_of_a_host_at_rest(state: Any) -> None:
    before = record(state)
    assert apply(before, Boot("boot-2", START + 60), Done(), NOW) == before


LEAVING = Leaving("why", "before", START + 120)


@pytest.mark.parametrize("state", STATES, ids=named)
def test_that_a_host_will_be_gone_outlives_a_restart_of_the_daemon_and_not_another_boot(state: Any) -> None:
    before = replace(record(state), leaving=LEAVING)
    assert apply(before, Boot("boot-1", START + 60), Done(), NOW).leaving == LEAVING
    assert apply(before, Boot("boot-2", START + 60), Done(), NOW).leaving is None
    assert apply(before, Identify("i-clone", ("10.0.0.9",)), Done(), NOW).leaving is None


def test_a_host_that_will_be_gone_remembers_what_had_ended_before() -> None:
    ended = apply(record(Draining(LEFT, ENDING)), End(Outcome.SUCCEEDED, "good"), Done(), NOW)
    assert apply(ended, Leave("why"), Done(), NOW).leaving == Leaving("why", "one")


@pytest.mark.parametrize(
    ("known", "deadline", "after"),
    [
        (None, START + 9, START + 9),
        (None, None, None),
        (START + 9, None, START + 9),
        (START + 9, START + 20, START + 9),
        (START + 20, START + 9, START + 9),
    ],
)
def test_of_two_announced_ends_the_earlier_one_counts(
    known: float | None, deadline: float | None, after: float | None
) -> None:
    before = replace(record(InService()), leaving=Leaving("first", "before", known))
    said = apply(before, Leave("second", deadline), Done(), NOW).leaving
    assert said is not None
    assert (said.deadline, said.earlier) == (after, "before")
    assert said.why == ("second" if after != known else "first")


def test_an_announced_end_moves_with_a_clock_that_was_set_back() -> None:
    before, now = replace(record(Draining(LEFT, ENDING)), leaving=LEAVING), START - 10_000
    after = apply(before, Boot("boot-1", now + 60), Done(), now)
    assert after.leaving is not None
    assert after.leaving.deadline is not None
    assert after.underway is not None
    assert after.leaving.deadline - after.underway.deadline == START + 120 - DEADLINE


def moments(value: Any) -> list[float]:
    names = [n for n in ("since", "accepted_at", "at", "started_at") if hasattr(value, n)]
    inner = [getattr(value, n) for n in ("left", "before", "claim") if hasattr(value, n)]
    return [getattr(value, n) for n in names] + [m for one in inner for m in moments(one)]


@pytest.mark.parametrize("state", STATES, ids=named)
def test_after_a_clock_that_was_set_back_no_moment_lies_ahead_and_all_keep_their_distance(state: Any) -> None:
    before, now = record(state), START - 10_000
    after = apply(before, Boot("boot-1", now + 60), Done(), now)
    old, new = moments(before.state), moments(after.state)
    if before.underway is not None:
        assert after.underway is not None
        old, new = [*old, before.underway.started_at], [*new, after.underway.started_at]
        assert after.underway.deadline - after.underway.started_at == DEADLINE - (START - 100)
    assert max(new, default=now) == now
    assert [one - old[0] for one in old] == [one - new[0] for one in new]


# Whose record it is.


@pytest.mark.parametrize("state", STATES, ids=named)
def test_the_record_of_another_instance_becomes_a_fresh_one(state: Any) -> None:
    after = apply(record(state), Identify("i-clone", ("10.0.0.9",)), Done(), NOW)
    assert after == Record(Owner("i-clone", "boot-1"))


@pytest.mark.parametrize(("state", "fresh"), [(s, Guarding) for s in OF_A_DRAIN] + [(s, Probing) for s in OF_A_REJOIN])
def test_what_was_asked_of_this_very_daemon_goes_on_from_its_beginning(state: Any, fresh: type) -> None:
    before = record(state)
    after = apply(before, Identify("i-clone", ("10.0.0.9",), asked_here="one"), Done(), NOW)
    assert after.state == fresh(InService())
    assert (after.underway, after.wanted) == (before.underway, before.wanted)
    assert (after.membership, after.listed) == (Membership(), ())


@pytest.mark.parametrize(
    ("target_id", "ours"), [("i-me", True), ("10.0.0.1", True), ("i-old", False), ("10.0.0.8", False)]
)
def test_a_record_without_an_owner_is_ours_if_its_targets_name_this_instance(target_id: str, ours: bool) -> None:
    membership = Membership((group(),), (Target(arn("web"), target_id, 8080),))
    before = replace(record(RESTING[1]), owner=Owner(), membership=membership)
    after = apply(before, Identify("i-me", ("10.0.0.1",)), Done(), NOW)
    assert after == (replace(before, owner=Owner("i-me")) if ours else Record(Owner("i-me")))


def test_a_record_is_of_this_boot_once_its_owner_is_known_to_be_this_instance() -> None:
    after = apply(record(RESTING[1]), Identify("i-me", (), "boot-2"), Done(), NOW)
    assert after.owner == Owner("i-me", "boot-2")


def test_a_record_with_neither_owner_nor_targets_is_ours() -> None:
    before = replace(record(InService()), owner=Owner(), membership=Membership())
    assert apply(before, Identify("i-me", ()), Done(), NOW) == replace(before, owner=Owner("i-me"))
