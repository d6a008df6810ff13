"""A host that takes a slot of its fleet before it leaves, over fake ports and in fake time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes import ME, FakeSlots, arn, group
from host import Host, succeeded
from zdd_agent.adapters.record_json import decoded, encoded
from zdd_agent.decide.actions import Leave
from zdd_agent.decide.slots import PASSED_OVER_SECONDS, PLACES
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Target
from zdd_agent.model.operation import Check, Operation, Outcome, Verb
from zdd_agent.model.slots import Holder, Stage, Waiter
from zdd_agent.model.states import Claiming, Drained, InService

MINE = (arn("web"), "i-me", 8080)
SILENT = AgentError(Kind.AWS_UNAVAILABLE, "cannot call GetItem: no answer", transient=True)
DENIED = AgentError(Kind.AWS_DENIED, "cannot call UpdateItem: denied", value="dynamodb:UpdateItem")


def host_of(limit: int | str = 1, fleet: FakeSlots | None = None, **more: Any) -> Host:
    host = Host(group(), fleet=fleet, slots={"table": "slots", "name": "web", "limit": limit}, **more)
    host.aws.put("web")
    host.aws.put_sibling("web")
    return host


def held_by(host: Host, *names: str) -> None:
    for name in names:
        host.slots.holders[name] = Holder(name, host.clock.now(), host.clock.now(), "release 7", "uid 0", (name,))


def said(operation: Operation) -> tuple[Outcome | None, str]:
    assert operation.failure is not None
    return operation.outcome, operation.failure.message


def stage(host: Host) -> Stage | None:
    return host.record().slot.stage if host.record().slot is not None else None  # type: ignore[union-attr]


def test_a_host_without_slots_in_its_settings_asks_dynamodb_nothing() -> None:
    host = Host(group())
    host.aws.put("web")
    host.aws.put_sibling("web")
    assert succeeded(host.do(Verb.DRAIN))
    assert succeeded(host.do(Verb.REJOIN))
    host.rest(300)
    assert host.slots.calls == []
    assert host.record().slot is None


def test_a_drain_takes_a_slot_before_it_deregisters_and_the_rejoin_gives_it_back_once_healthy() -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    while MINE in host.aws.registered():
        assert host.record().underway is not None
        host.turn()
    assert "i-me" in host.slots.holders
    assert succeeded(host.finish())
    host.rest(200)
    assert stage(host) is Stage.HELD
    host.begin(Verb.REJOIN)
    while host.ledger.running() is not None:
        assert "i-me" in host.slots.holders
        host.turn()
    host.rest(10)
    assert host.slots.holders == {}
    assert host.record().slot is None


def test_the_intent_is_on_disk_before_the_claim() -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    while not host.slots.made("claim"):
        before = stage(host)
        host.turn()
    assert before is Stage.WANTED


def test_where_no_slot_is_free_nothing_is_changed_and_it_is_said_who_holds_them() -> None:
    host = host_of()
    held_by(host, "i-other")
    outcome, message = said(host.do(Verb.DRAIN))
    assert outcome is Outcome.REFUSED
    assert message == "cannot drain: no slot of web is free: 1 of 1 taken: i-other holds one for 0 s (release 7)"
    assert MINE in host.aws.registered()
    host.rest(10)
    assert "i-me" not in host.slots.holders
    assert host.slots.waiters == {}


def test_a_drain_with_a_wait_stands_in_line_and_goes_on_when_its_turn_comes() -> None:
    host = host_of()
    held_by(host, "i-other")
    host.begin(Verb.DRAIN, wait=600.0)
    host.clock.at(host.clock.now() + 120, host.slots.holders.clear)
    for _ in range(20):
        host.turn()
    assert "i-me" in host.slots.waiters
    assert succeeded(host.finish())
    assert "i-me" in host.slots.holders
    assert host.slots.waiters == {}


def test_who_waits_is_told_its_place() -> None:
    host = host_of()
    held_by(host, "i-other")
    host.slots.waiters["i-first"] = Waiter("i-first", host.clock.now(), host.clock.now() + 1000)
    operation = host.begin(Verb.DRAIN, wait=600.0)
    for _ in range(20):
        host.turn()
    _, events = host.ledger.events(operation.id, 0, 0.0)
    assert any("place 2 of 2: 1 of 1 taken: i-other holds one" in event.text for event in events)


def test_the_guard_looks_again_after_a_wait_in_line() -> None:
    host = host_of()
    held_by(host, "i-other")
    host.begin(Verb.DRAIN, wait=600.0)
    host.clock.at(host.clock.now() + 60, host.slots.holders.clear)
    sibling = Target(arn("web"), "i-other", 8080)
    host.clock.at(host.clock.now() + 50, lambda: host.aws.break_target(sibling, "Target.FailedHealthChecks"))
    outcome, message = said(host.finish())
    assert outcome is Outcome.REFUSED
    assert "this host is needed" in message
    assert "DeregisterTargets" not in host.aws.calls, "the guard went by what was true before the wait"
    host.rest(10)
    assert host.slots.holders == {}


def test_of_two_hosts_the_one_that_came_first_goes_first() -> None:
    fleet_host = host_of()
    held_by(fleet_host, "i-other")
    now = fleet_host.clock.now()
    fleet_host.slots.waiters["i-first"] = Waiter("i-first", now, now + 1000)
    fleet_host.begin(Verb.DRAIN, wait=300.0)
    fleet_host.clock.at(now + 20, fleet_host.slots.holders.clear)
    outcome, message = said(fleet_host.finish())
    assert outcome is Outcome.REFUSED
    assert "others wait in line" in message


def test_a_waiter_without_a_sign_of_life_is_passed_over() -> None:
    host = host_of()
    now = host.clock.now()
    held_by(host, "i-other")
    host.slots.waiters["i-dead"] = Waiter("i-dead", now, now - PASSED_OVER_SECONDS - 1)
    host.begin(Verb.DRAIN, wait=300.0)
    host.clock.at(now + 30, host.slots.holders.clear)
    assert succeeded(host.finish())
    assert "i-dead" not in host.slots.waiters


def test_where_the_line_is_full_a_host_tries_again_without_a_place() -> None:
    host = host_of()
    now = host.clock.now()
    held_by(host, "i-other")
    for n in range(PLACES):
        host.slots.waiters[f"i-{n}"] = Waiter(f"i-{n}", now, now + 1000)
    host.begin(Verb.DRAIN, wait=300.0)
    host.clock.at(now + 60, host.slots.waiters.clear)
    host.clock.at(now + 60, host.slots.holders.clear)
    for _ in range(8):
        host.turn()
    assert "i-me" not in host.slots.waiters
    assert succeeded(host.finish())


@pytest.mark.parametrize("wait", [0.0, 60.0])
def test_dynamodb_out_of_reach_is_never_probably_free(wait: float) -> None:
    host = host_of()
    host.slots.raises["*"] = SILENT
    began = host.clock.now()
    outcome, message = said(host.do(Verb.DRAIN, wait=wait))
    assert outcome is Outcome.REFUSED
    assert "without a slot" in message
    assert host.clock.now() - began >= wait
    assert MINE in host.aws.registered()


def test_a_role_that_may_not_ask_is_told_so() -> None:
    host = host_of()
    host.slots.raises["claim"] = DENIED
    operation = host.do(Verb.DRAIN)
    assert operation.failure is not None
    assert (operation.outcome, operation.failure.kind) == (Outcome.FAILED, Kind.AWS_DENIED.wire)
    assert MINE in host.aws.registered()


def test_an_answer_that_is_lost_after_the_effect_loses_no_slot() -> None:
    host = host_of()
    host.slots.raises["claim"] = SILENT
    host.slots.lost.add("claim")
    host.begin(Verb.DRAIN, wait=60.0)
    host.clock.at(host.clock.now() + 20, host.slots.raises.clear)
    assert succeeded(host.finish())
    assert list(host.slots.holders) == ["i-me"]


def test_a_slot_that_may_have_been_taken_is_given_back_when_the_drain_is_refused() -> None:
    host = host_of()
    host.slots.raises["claim"] = SILENT
    host.slots.lost.add("claim")
    assert said(host.do(Verb.DRAIN))[0] is Outcome.REFUSED
    assert "i-me" in host.slots.holders
    host.slots.raises.clear()
    host.rest(10)
    assert host.slots.holders == {}


def test_a_rejoin_waits_for_no_slot_and_ends_well_without_dynamodb() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    host.slots.raises["*"] = SILENT
    assert succeeded(host.do(Verb.REJOIN))
    host.rest(300)
    assert "the slot of web is still to be given back" in host.status().warnings
    host.restart()
    host.rest(10)
    assert "i-me" in host.slots.holders
    host.slots.raises.clear()
    host.rest(120)
    assert host.slots.holders == {}


def test_a_rejoin_that_fails_keeps_the_slot() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    host.prober.said = "GET /healthz answered 500"
    assert host.do(Verb.REJOIN, timeout=60.0).outcome is Outcome.TIMED_OUT
    host.rest(7200)
    assert "i-me" in host.slots.holders


def test_a_drain_that_goes_back_gives_its_slot_back() -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    while MINE in host.aws.registered():
        host.turn()
    host.aws.deregister(host.record().membership.groups[0], (Target(arn("web"), "i-other", 8080),))
    assert host.finish().outcome is Outcome.REFUSED
    assert isinstance(host.record().state, InService)
    host.rest(30)
    assert host.slots.holders == {}


def test_who_forces_it_leaves_beyond_the_limit_and_stands_in_the_table() -> None:
    host = host_of()
    held_by(host, "i-other")
    assert succeeded(host.do(Verb.DRAIN, force=(Check.SLOT,)))
    assert set(host.slots.holders) == {"i-other", "i-me"}


def test_who_forces_it_leaves_without_dynamodb_and_is_written_in_later() -> None:
    host = host_of()
    host.slots.raises["*"] = SILENT
    assert succeeded(host.do(Verb.DRAIN, force=(Check.SLOT,)))
    host.slots.raises.clear()
    held_by(host, "i-other")
    host.rest(120)
    assert set(host.slots.holders) == {"i-other", "i-me"}
    assert stage(host) is Stage.HELD


def test_a_stop_that_cannot_be_prevented_waits_its_wait_and_then_leaves_beyond_the_limit() -> None:
    host = host_of()
    held_by(host, "i-other")
    began = host.clock.now()
    host.begin(Verb.DRAIN, stopping=True, wait=60.0)
    while MINE in host.aws.registered():
        host.turn()
    assert host.clock.now() - began >= 60
    assert set(host.slots.holders) == {"i-other", "i-me"}
    assert succeeded(host.finish())


def test_a_host_that_will_be_gone_asks_nobody_and_is_no_holder() -> None:
    host = host_of()
    held_by(host, "i-other")
    host.status()
    host.ledger.identify(ME)
    host.ledger.leave(Leave("a spot notice", host.clock.now() + 120))
    assert succeeded(host.do(Verb.DRAIN))
    host.rest(120)
    assert set(host.slots.holders) == {"i-other"}


def test_a_host_that_is_terminated_while_it_is_out_gives_its_slot_back_after_its_last_drain() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    host.ledger.leave(Leave("Auto Scaling terminates it"))
    host.rest(30)
    assert "i-me" in host.slots.holders
    assert succeeded(host.do(Verb.DRAIN))
    host.rest(10)
    assert host.slots.holders == {}


def test_a_holder_that_ec2_calls_terminated_holds_nobody_up() -> None:
    host = host_of()
    held_by(host, "i-dead")
    host.instances.gone.add("i-dead")
    assert succeeded(host.do(Verb.DRAIN, wait=120.0))
    assert set(host.slots.holders) == {"i-me"}


def test_a_holder_gives_signs_of_life_over_a_restart() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    host.restart()
    host.rest(600)
    assert host.clock.now() - host.slots.holders["i-me"].seen < 90


def test_a_slot_that_a_person_released_is_not_taken_again_behind_their_back() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    host.slots.holders.clear()
    host.rest(300)
    assert host.slots.holders == {}
    assert any("somebody released this host's slot of web" in line for line in host.status().warnings)
    assert succeeded(host.do(Verb.REJOIN))
    host.rest(10)
    assert host.record().slot is None


def test_a_host_that_was_out_before_there_were_slots_is_written_in() -> None:
    host = host_of()
    settings = host.settings
    host.settings = replace_slots(settings)
    host.restart()
    assert succeeded(host.do(Verb.DRAIN))
    host.settings = settings
    held_by(host, "i-other")
    host.restart()
    host.rest(30)
    assert set(host.slots.holders) == {"i-other", "i-me"}


def replace_slots(settings: Any) -> Any:
    return settings.model_copy(update={"slots": None})


def test_a_frozen_host_whose_slot_was_released_meanwhile_does_not_leave_when_it_wakes() -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    while not isinstance(host.record().state, Claiming):
        host.turn()
    host.clock.time += 3600
    host.slots.holders.clear()
    held_by(host, "i-other")
    outcome, message = said(host.finish())
    assert outcome is Outcome.REFUSED
    assert "released the slot" in message
    assert MINE in host.aws.registered()
    assert set(host.slots.holders) == {"i-other"}


@pytest.mark.parametrize("turns", range(1, 12))
def test_a_restart_at_any_turn_keeps_one_slot_at_most_and_loses_none(turns: int) -> None:
    host = host_of()
    host.begin(Verb.DRAIN)
    for _ in range(turns):
        host.turn()
    host.restart()
    assert succeeded(host.finish())
    assert list(host.slots.holders) == ["i-me"]
    assert succeeded(host.do(Verb.REJOIN))
    host.rest(10)
    assert host.slots.holders == {}


def test_the_record_keeps_the_slot_for_every_version() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    document = encoded(host.record())
    assert decoded(document, host.clock.now())[0].slot == host.record().slot
    document["version"] = 99
    assert decoded(document, host.clock.now())[0].slot == host.record().slot


def test_two_hosts_that_leave_at_once_take_turns() -> None:
    one = host_of()
    other = Host(
        group(),
        aws=one.aws,
        fleet=one.slots,
        who=replace(ME, instance_id="i-sibling", addresses=("10.0.0.2",)),
        slots={"table": "slots", "name": "web"},
    )
    for host in (one, other):
        host.begin(Verb.DRAIN, wait=3600.0)
    while not isinstance(one.record().state, Drained) and not isinstance(other.record().state, Drained):
        for host in (one, other):
            if host.ledger.running() is not None:
                host.turn()
        assert len(one.slots.holders) <= 1
    assert len(one.slots.holders) == 1


def test_the_doctor_says_how_many_slots_are_taken_and_changes_nothing() -> None:
    host = host_of(limit="25%")
    held_by(host, "i-other")
    before = dict(host.slots.holders)
    finding = next(one for one in host.doctor().examine() if one.name == "slots")
    assert (finding.ok, finding.said) == (True, "1 of 25% of the hosts taken in web, 0 waiting")
    assert host.slots.holders == before


@pytest.mark.parametrize("call", ["table", "renew"])
def test_the_doctor_names_the_permission_that_is_missing(call: str) -> None:
    host = host_of()
    host.slots.raises[call] = DENIED
    finding = next(one for one in host.doctor().examine() if one.name == "slots")
    assert (finding.ok, finding.said) == (False, "cannot call UpdateItem: denied")


def test_a_claim_that_takes_effect_after_its_drain_was_refused_is_given_back_in_the_end() -> None:
    host = host_of()
    host.slots.raises["claim"] = SILENT
    assert said(host.do(Verb.DRAIN))[0] is Outcome.REFUSED
    host.rest(10)
    assert host.record().slot is None
    held_by(host, "i-me")
    host.rest(400)
    assert host.slots.holders == {}


def test_a_release_that_takes_effect_after_the_next_claim_does_not_end_that_one() -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    before = host.slots.holders["i-me"].since
    host.slots.raises["release"] = SILENT
    assert succeeded(host.do(Verb.REJOIN))
    host.rest(10)
    assert succeeded(host.do(Verb.DRAIN))
    host.slots.raises.clear()
    assert not host.slots.release("i-me", before)
    assert "i-me" in host.slots.holders


def test_a_slot_of_a_service_that_the_settings_name_no_more_is_said_to_be_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = host_of()
    assert succeeded(host.do(Verb.DRAIN))
    host.settings = host.settings.model_copy(
        update={"slots": host.settings.slots.model_copy(update={"name": "api"})}  # type: ignore[union-attr]  set above
    )
    host.restart()
    assert succeeded(host.do(Verb.REJOIN))
    host.rest(10)
    assert host.record().slot is None
    assert "may still hold a slot of web" in caplog.text
    assert "gave back" not in caplog.text
