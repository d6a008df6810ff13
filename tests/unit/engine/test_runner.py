"""The loop as a whole: the real core over fake ports, in fake time."""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress

import pytest

from fakes import START, arn, group
from host import Host, succeeded
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.operation import Check, Outcome, Phase, Posture, Request, Verb
from zdd_agent.model.record import Record

DENIED = AgentError(
    Kind.AWS_DENIED, "cannot call DeregisterTargets: denied", value="elasticloadbalancing:DeregisterTargets"
)


def down(times: int) -> list[AgentError]:
    return [AgentError(Kind.AWS_UNAVAILABLE, "cannot call: AWS answered 503", transient=True) for _ in range(times)]


def in_one_group() -> Host:
    host = Host(group())
    host.aws.put("web")
    host.aws.put_sibling("web")
    return host


def test_a_drain_ends_when_every_target_is_gone_and_not_before() -> None:
    host = in_one_group()
    operation = host.do(Verb.DRAIN)
    assert succeeded(operation)
    assert operation.phase is Phase.SETTLED
    assert host.clock.now() - START >= 300
    assert host.aws.registered() == {(arn("web"), "i-other", 8080)}
    assert host.posture() is Posture.DRAINED


def test_a_drain_does_not_poll_before_a_change_is_possible() -> None:
    host = in_one_group()
    host.do(Verb.DRAIN)
    # one to find the membership, two after the deregistration whether other hosts left, one when the delay is over
    assert host.aws.calls.count("DescribeTargetHealth") == 4


def test_polls_keep_their_distance_however_long_it_takes() -> None:
    host = in_one_group()
    moments: list[float] = []
    asked = host.aws.health

    def recording(target_group: str):
        moments.append(host.clock.now())
        return asked(target_group)

    host.aws.health = recording  # type: ignore[method-assign]  the fake's own seam
    host.begin(Verb.DRAIN, timeout=600)
    host.aws.groups[arn("web")] = group(deregistration_delay=400.0)  # raised while we do not look
    host.finish()
    gaps = [b - a for a, b in itertools.pairwise(moments[2:])]
    assert all(gap >= 10 for gap in gaps)


def test_a_rejoin_restores_exactly_what_was_drained_port_and_zone_included() -> None:
    host = Host(group("web"), group("api", target_type="ip"))
    host.aws.put("web")
    host.aws.put("web", port=9090)
    host.aws.put("api", "10.0.0.1", 7000, zone="all")
    mine = host.aws.registered()
    host.aws.put_sibling("web")
    host.aws.put_sibling("api", "10.0.0.2")
    before = host.aws.registered()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.aws.registered() == before - mine
    assert succeeded(host.do(Verb.REJOIN))
    assert host.aws.registered() == before
    api = next(t for t in host.record().membership.targets if t.group == arn("api"))  # type: ignore[union-attr]
    assert host.aws.zone(api) == "all"
    assert host.posture() is Posture.IN_SERVICE


def test_a_rejoin_registers_a_target_that_is_still_draining() -> None:
    host = in_one_group()
    host.begin(Verb.DRAIN, timeout=30)
    assert host.finish().outcome is Outcome.TIMED_OUT
    assert succeeded(host.do(Verb.REJOIN))
    assert (arn("web"), "i-me", 8080) in host.aws.registered()


def test_a_rejoin_waits_until_every_target_is_healthy() -> None:
    host = in_one_group()
    host.do(Verb.DRAIN)
    host.aws.warm_seconds = 50
    began = host.clock.now()
    assert succeeded(host.do(Verb.REJOIN))
    assert host.clock.now() - began >= 50


def test_a_drain_of_a_drained_host_succeeds_and_changes_nothing() -> None:
    host = in_one_group()
    host.do(Verb.DRAIN)
    membership = host.record().membership
    host.aws.calls.clear()
    operation = host.do(Verb.DRAIN)
    assert succeeded(operation)
    assert operation.message == "already drained"
    assert "DeregisterTargets" not in host.aws.calls
    assert host.record().membership == membership


def test_a_rejoin_of_a_host_in_service_succeeds_and_changes_nothing() -> None:
    host = in_one_group()
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation)
    assert operation.message == "already in service"
    assert "RegisterTargets" not in host.aws.calls


def test_a_second_drain_after_a_time_out_keeps_the_whole_membership() -> None:
    host = Host(group("web"), group("slow", deregistration_delay=900.0))
    for name in ("web", "slow"):
        host.aws.put(name)
        host.aws.put_sibling(name)
    assert host.do(Verb.DRAIN, timeout=400).outcome is Outcome.TIMED_OUT
    assert succeeded(host.do(Verb.DRAIN, timeout=900))
    assert {t.group for t in host.record().membership.targets} == {arn("web"), arn("slow")}  # type: ignore[union-attr]
    assert succeeded(host.do(Verb.REJOIN))
    assert host.posture() is Posture.IN_SERVICE


def test_a_time_out_says_which_target_is_in_which_state() -> None:
    operation = (host := in_one_group()).do(Verb.DRAIN, timeout=60)
    assert operation.outcome is Outcome.TIMED_OUT
    assert operation.failure is not None
    assert operation.failure.kind == "timed_out"
    assert "web i-me:8080 is draining (Target.DeregistrationInProgress)" in operation.failure.message
    assert host.clock.now() - START == pytest.approx(60, abs=1)
    assert host.posture() is Posture.OUT_OF_SERVICE


def test_the_membership_is_on_disk_before_the_first_deregistration() -> None:
    host = in_one_group()
    on_disk: list[bool] = []
    deregister = host.aws.deregister

    def checking(*words):
        record = host.store.read()
        on_disk.append(record.out_since is not None and bool(record.membership and record.membership.targets))
        deregister(*words)

    host.aws.deregister = checking  # type: ignore[method-assign]  the fake's own seam
    host.do(Verb.DRAIN)
    assert on_disk == [True]


@pytest.mark.parametrize("turns", range(8))
def test_a_drain_goes_on_after_a_restart_at_any_turn(turns: int) -> None:
    host = in_one_group()
    host.begin(Verb.DRAIN)
    for _ in range(turns):
        host.turn()
    host.restart()
    assert succeeded(host.finish())
    assert host.aws.registered() == {(arn("web"), "i-other", 8080)}


@pytest.mark.parametrize("turns", range(6))
def test_a_rejoin_goes_on_after_a_restart_at_any_turn(turns: int) -> None:
    host = in_one_group()
    host.do(Verb.DRAIN)
    host.begin(Verb.REJOIN)
    for _ in range(turns):
        host.turn()
    host.restart()
    assert succeeded(host.finish())
    assert host.posture() is Posture.IN_SERVICE


def test_a_second_caller_of_the_same_verb_joins() -> None:
    host = in_one_group()
    assert host.begin(Verb.DRAIN).id == host.begin(Verb.DRAIN).id


def test_the_other_verb_is_refused_while_an_operation_is_under_way() -> None:
    host = in_one_group()
    host.begin(Verb.DRAIN)
    with pytest.raises(AgentError) as caught:
        host.begin(Verb.REJOIN)
    assert caught.value.kind is Kind.BUSY
    assert "zdd-agent cancel" in caught.value.hint


def test_a_cancel_stops_a_drain_where_it_is_and_a_rejoin_brings_the_host_back() -> None:
    host = in_one_group()
    host.begin(Verb.DRAIN)
    host.clock.at(START + 40, lambda: host.ledger.cancel(0) and None)
    operation = host.finish()
    assert operation.outcome is Outcome.CANCELLED
    assert host.clock.now() == START + 40
    assert host.posture() is Posture.OUT_OF_SERVICE
    assert succeeded(host.do(Verb.REJOIN))


def test_a_cancel_survives_a_restart() -> None:
    host = in_one_group()
    host.begin(Verb.DRAIN)
    host.turn()
    host.ledger.cancel(0)
    host.restart()
    assert host.finish().outcome is Outcome.CANCELLED
    assert "DeregisterTargets" not in host.aws.calls


@pytest.mark.parametrize(
    "action", ["DescribeTargetGroups", "DescribeTargetHealth", "DescribeTargetGroupAttributes", "DeregisterTargets"]
)
def test_a_drain_outlives_calls_that_fail_for_a_while(action: str) -> None:
    host = in_one_group()
    host.aws.errors[action] = down(4)
    assert succeeded(host.do(Verb.DRAIN))


def test_a_drain_outlives_a_time_out_after_the_change_took_effect() -> None:
    host = in_one_group()
    host.aws.errors_after["DeregisterTargets"] = down(1)
    assert succeeded(host.do(Verb.DRAIN))


def test_a_rejoin_outlives_a_time_out_after_the_change_took_effect() -> None:
    host = in_one_group()
    host.do(Verb.DRAIN)
    host.aws.errors_after["RegisterTargets"] = down(1)
    assert succeeded(host.do(Verb.REJOIN))


def test_a_denied_call_ends_the_drain_at_once_with_the_missing_action() -> None:
    host = in_one_group()
    host.aws.errors["DeregisterTargets"] = [DENIED]
    operation = host.do(Verb.DRAIN)
    assert operation.outcome is Outcome.FAILED
    assert operation.failure is not None
    assert (operation.failure.kind, operation.failure.value) == (
        "aws_denied",
        "elasticloadbalancing:DeregisterTargets",
    )


def test_aws_away_until_the_deadline_is_a_time_out_that_names_the_cause() -> None:
    host = in_one_group()
    host.aws.errors["DescribeTargetHealth"] = down(1000)
    operation = host.do(Verb.DRAIN, timeout=60)
    assert operation.outcome is Outcome.TIMED_OUT
    assert "503" in operation.message


def test_nothing_is_deregistered_when_the_intent_cannot_be_put_on_disk() -> None:
    host = in_one_group()
    host.begin(Verb.DRAIN)
    host.store.errors = [AgentError(Kind.STORE, "cannot write", transient=True) for _ in range(1000)]
    operation = host.finish()
    assert operation.outcome is Outcome.TIMED_OUT
    assert "DeregisterTargets" not in host.aws.calls


def test_a_target_that_somebody_registers_again_during_the_drain_is_deregistered_again() -> None:
    host = in_one_group()
    host.begin(Verb.DRAIN, timeout=900)
    host.clock.at(START + 100, lambda: host.aws.put("web") and None)
    assert succeeded(host.finish())
    assert (arn("web"), "i-me", 8080) not in host.aws.registered()


def test_a_deleted_group_holds_nobody_up_in_a_drain() -> None:
    host = Host(group("web"), group("old"))
    for name in ("web", "old"):
        host.aws.put(name)
        host.aws.put_sibling(name)
    host.begin(Verb.DRAIN)
    host.clock.at(START + 50, lambda: host.aws.groups.pop(arn("old")) and None)
    assert succeeded(host.finish())


def test_a_rejoin_forgets_a_group_that_was_deleted_meanwhile() -> None:
    host = Host(group("web"), group("old"))
    for name in ("web", "old"):
        host.aws.put(name)
        host.aws.put_sibling(name)
    host.do(Verb.DRAIN)
    del host.aws.groups[arn("old")]
    assert succeeded(host.do(Verb.REJOIN))
    assert [g.name for g in host.record().membership.groups] == ["web"]


def test_a_host_that_never_drained_joins_the_groups_that_the_settings_name() -> None:
    host = Host(group("web"), group("api", target_type="ip", port=7000), names=("web", "api"))
    assert succeeded(host.do(Verb.REJOIN))
    assert host.aws.registered() == {(arn("web"), "i-me", 8080), (arn("api"), "10.0.0.1", 7000)}


def test_a_host_in_no_group_without_settings_cannot_rejoin_and_says_what_to_set() -> None:
    operation = Host(group()).do(Verb.REJOIN)
    assert operation.failure is not None
    assert operation.failure.kind == "no_membership"
    assert "target_groups" in operation.failure.hint


def test_a_host_in_no_group_has_nothing_to_drain() -> None:
    operation = Host(group()).do(Verb.DRAIN)
    assert succeeded(operation)
    assert "no target group holds this host" in operation.message


def test_more_than_25_groups_without_a_setting_are_a_clear_refusal() -> None:
    host = Host(*(group(f"g{n}") for n in range(26)))
    operation = host.do(Verb.DRAIN)
    assert operation.failure is not None
    assert operation.failure.value == "target_groups"
    assert "DescribeTargetHealth" not in host.aws.calls


def test_the_metadata_service_away_for_a_while_only_delays() -> None:
    host = in_one_group()
    host.metadata.errors = [AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask", transient=True)] * 3
    assert succeeded(host.do(Verb.DRAIN))


def test_a_defect_ends_the_operation_and_not_the_loop() -> None:
    host = in_one_group()
    host.aws.errors["DescribeTargetGroups"] = [ZeroDivisionError("boom")]  # type: ignore[list-item]
    operation = host.do(Verb.DRAIN)
    assert operation.outcome is Outcome.FAILED
    assert succeeded(host.do(Verb.DRAIN))


def test_the_watchdog_is_fed_at_least_every_five_seconds() -> None:
    host = in_one_group()
    host.ledger.begin(Request(Verb.DRAIN, 0))
    fed: list[float] = []
    alive = host.supervisor.alive
    host.supervisor.alive = lambda status: (fed.append(host.clock.now()), alive(status))[1]  # type: ignore[method-assign]
    host.clock.at(START + 400, host.runner.stop)
    host.runner.run()
    assert max(b - a for a, b in itertools.pairwise(fed)) <= 5
    assert any("draining" in status for status in host.supervisor.said)


def test_whoever_waits_for_an_operation_learns_its_end_even_when_the_next_has_begun() -> None:
    host = in_one_group()
    first = host.do(Verb.DRAIN)
    host.begin(Verb.REJOIN)
    operation, _ = host.ledger.events(first.id, 0, 0)
    assert operation.outcome is Outcome.SUCCEEDED


def test_a_host_that_stays_out_is_told_in_the_log_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    host = in_one_group()
    host.do(Verb.DRAIN)
    host.clock.at(host.clock.now() + 2.5 * 3600, host.runner.stop)
    host.runner.run()
    assert sum("has been out for" in record.message for record in caplog.records) == 2


def test_a_forced_check_is_logged_with_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    host = in_one_group()
    host.ledger.begin(Request(Verb.DRAIN, 1234, force=(Check.MIN_HEALTHY,)))
    assert "skips min-healthy: forced by uid 1234" in caplog.text


def test_whoever_follows_never_holds_up_the_end_of_an_operation() -> None:
    host = Host(group())
    host.aws.put("web")  # alone in its group: every drain is refused at once
    followed = threading.Event()
    write = host.store.write

    def syncing(record: Record) -> None:
        followed.wait(0.001)  # as a disk does: followers come meanwhile
        write(record)

    host.store.write = syncing  # type: ignore[method-assign]  the fake's own seam

    def follow() -> None:
        while not followed.is_set():
            operation = host.record().operation
            if operation is not None:
                with suppress(AgentError):  # by now the sixteen after it have ended, too
                    host.ledger.events(operation.id, 2**53, 0.0005)

    followers = [threading.Thread(target=follow, daemon=True) for _ in range(4)]
    for one in followers:
        one.start()
    ending = threading.Thread(target=lambda: [host.do(Verb.DRAIN) for _ in range(300)], daemon=True)
    ending.start()
    ending.join(30.0)
    followed.set()
    assert not ending.is_alive(), "the loop and a follower wait for each other"
