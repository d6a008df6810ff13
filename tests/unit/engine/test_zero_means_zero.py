"""`0` means zero: what an API that lags, other people, images, reboots and fleets do to a drain and a rejoin."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fakes import START, FakeAws, FakeClock, arn, group
from host import Host, succeeded
from lagging_aws import LaggingAws
from zdd_agent.decide.evidence import API_LAG_SECONDS
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import (
    BalancerKind,
    GroupMinimum,
    Identity,
    MinHealthy,
    State,
    Target,
    TargetGroup,
    TargetHealth,
)
from zdd_agent.model.kernel import Connection, Until
from zdd_agent.model.operation import Outcome, Phase, Posture, Verb
from zdd_agent.model.states import Confirming, Drained, Draining, Ending, InService, Out

ME = ("i-me", 8080)


def in_service(*groups: TargetGroup, **more: object) -> Host:
    host = Host(*(groups or (group(),)), **more)  # type: ignore[arg-type]  a test names what it needs
    for one in host.aws.groups.values():
        host.aws.put(one.name)
        host.aws.put_sibling(one.name)
    return host


# The end of a drain


def test_a_second_drain_after_a_time_out_waits_for_the_floor_of_the_first_deregistration() -> None:
    host = in_service(group(kind=BalancerKind.NETWORK, deregistration_delay=20.0))
    assert host.do(Verb.DRAIN, timeout=60).outcome is Outcome.TIMED_OUT
    assert isinstance(host.record().state, Out)
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - START >= 300, "an NLB's nodes may send new work for 300 s"


def test_nothing_to_drain_is_believed_only_when_two_looks_apart_by_the_lag_agree() -> None:
    aws = LaggingAws(FakeClock(), [group()], lag=6.0)
    aws.clock.time += 100
    aws.put_sibling("web")
    aws.clock.time += 50
    aws.put("web")  # two seconds before the drain; the API shows it four seconds after
    aws.clock.time += 2
    host = Host(aws=aws)
    assert succeeded(host.do(Verb.DRAIN))
    assert (arn("web"), *ME) not in aws.registered()
    assert isinstance(host.record().state, Drained)


def test_a_host_without_groups_is_not_marked_as_out() -> None:
    host = Host(group())
    assert succeeded(host.do(Verb.DRAIN))
    assert host.clock.now() - START >= API_LAG_SECONDS
    assert isinstance(host.record().state, InService)
    assert host.record().out_since is None


def test_a_drain_ends_on_a_look_of_the_moment_and_not_on_an_old_one() -> None:
    host = in_service(group(deregistration_delay=0.0))
    host.begin(Verb.DRAIN)
    host.clock.at(START + 25, lambda: host.aws.put("web") and None)  # others register the host meanwhile
    assert succeeded(host.finish())
    assert (arn("web"), *ME) not in host.aws.registered()
    assert host.clock.now() - START >= 25 + 30, "their registration was ended, and its floor waited for"


def test_one_stale_healthy_read_in_a_drain_changes_nothing() -> None:
    host = in_service(aws=LaggingAws(FakeClock(), [group(deregistration_delay=60.0)], lag=0.0))
    aws = host.aws
    assert isinstance(aws, LaggingAws)
    host.begin(Verb.DRAIN)
    host.clock.at(START + 20, lambda: setattr(aws, "lag", 40.0))
    host.clock.at(START + 75, lambda: setattr(aws, "lag", 0.0))
    assert succeeded(host.finish())
    assert aws.calls.count("DeregisterTargets") == 1


@pytest.mark.parametrize("lag", [0.0, 5.0, 9.0])
def test_a_rejoin_registers_once_however_late_the_api_shows_it(lag: float) -> None:
    aws = LaggingAws(FakeClock(), [group(deregistration_delay=20.0)], lag=lag)
    host = in_service(aws=aws)
    assert succeeded(host.do(Verb.DRAIN))
    aws.warm_seconds = 90
    assert succeeded(host.do(Verb.REJOIN))
    assert aws.calls.count("RegisterTargets") == 1


def test_a_port_that_others_register_in_mid_drain_is_deregistered_as_well() -> None:
    host = in_service(group(deregistration_delay=20.0))
    host.begin(Verb.DRAIN)
    host.clock.at(START + 8, lambda: host.aws.put("web", port=9090) and None)
    assert succeeded(host.finish())
    assert not {key for key in host.aws.registered() if key[1] == "i-me"}
    host.do(Verb.REJOIN)
    assert (arn("web"), "i-me", 9090) in host.aws.registered()


def test_a_time_out_bounds_the_wait_for_the_guard_as_well() -> None:
    host = Host(group())
    host.aws.put("web")
    operation = host.do(Verb.DRAIN, timeout=3, wait=60)
    assert operation.outcome is Outcome.REFUSED
    assert host.clock.now() - START <= 4
    assert not operation.changed


def test_a_daemon_that_restarts_looks_at_the_connections_before_it_ends_a_drain() -> None:
    host = in_service(group(deregistration_delay=1.0))
    host.begin(Verb.DRAIN)
    while not isinstance(state := host.record().state, Draining):
        host.turn()
    host.store.written.append(replace(host.record(), state=replace(state, ending=Ending(Until.CLOSED))))
    busy = {"data_segments_received": 1, "last_received_seconds_ago": 1.0, "last_sent_seconds_ago": 2.0}
    host.sensor.open = [Connection(1, 8080, "10.0.0.1", "10.0.9.1", 40_001, **busy)]  # type: ignore[arg-type]  as named
    host.clock.time += 40
    host.restart()
    for _ in range(5):
        assert host.ledger.running() is not None
        host.turn()


def test_a_second_drain_until_unused_waits_for_the_api_although_the_first_has_proved_its_own_end() -> None:
    host = in_service(until=Until.CLOSED)
    node = Connection(1, 8080, "10.0.0.1", "10.0.9.1", 40_001)
    host.sensor.open = [node]
    host.sensor.nodes = ("10.0.9.1",)
    host.has_run_for(120)
    host.begin(Verb.DRAIN)
    host.clock.at(START + 5, host.sensor.open.clear)
    assert succeeded(host.finish())
    assert host.clock.now() - START < 100
    assert succeeded(host.do(Verb.DRAIN, until=Until.UNUSED))
    assert host.clock.now() - START >= 300


def test_a_rejoin_does_not_believe_a_healthy_of_before_the_deregistration() -> None:
    aws = LaggingAws(FakeClock(), [group()], lag=0.0)
    aws.clock.time += 100
    host = in_service(aws=aws, poll={"interval_seconds": 2.0})
    aws.clock.time += 100
    host.begin(Verb.DRAIN)
    while not isinstance(host.record().state, Confirming):
        host.turn()
    aws.lag, aws.warm_seconds = 9.0, 60.0
    host.restart("boot-2")
    registered_at = host.clock.now()
    assert succeeded(host.do(Verb.REJOIN))
    assert host.clock.now() >= registered_at + 60


# Who joins, who supersedes, who cannot be refused


def test_a_rejoin_that_waits_for_the_api_keeps_its_time_out() -> None:
    host = Host(group())
    operation = host.do(Verb.REJOIN, timeout=3)
    assert operation.outcome is Outcome.FAILED
    assert host.clock.now() - START <= 4


def test_a_caller_who_joins_and_asks_for_more_gets_more() -> None:
    host = in_service(until=Until.CLOSED)
    first = host.begin(Verb.DRAIN)
    joined = host.begin(Verb.DRAIN, until=Until.UNUSED)
    assert joined.id == first.id
    assert succeeded(host.finish())
    assert host.clock.now() - START >= 300, "until the API says unused"


def test_a_caller_who_joins_is_told_what_cannot_be_had() -> None:
    host = in_service()
    host.begin(Verb.DRAIN)
    joined = host.begin(Verb.DRAIN, timeout=5.0)
    said = [event.text for event in host.ledger.events(joined.id, 0, 0)[1]]
    assert any("its time-out is not used" in text for text in said)


def test_a_drain_supersedes_a_rejoin() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    host.prober.said = "answered 503"
    rejoin = host.begin(Verb.REJOIN)
    host.turn()
    host.turn()
    assert succeeded(host.do(Verb.DRAIN))
    assert host.ledger.operation(rejoin.id).outcome is Outcome.CANCELLED
    assert "superseded" in host.ledger.operation(rejoin.id).message
    assert host.posture() is Posture.DRAINED


def test_a_drain_of_a_host_that_stops_waits_for_its_turn_and_then_goes_anyway() -> None:
    host = Host(group())
    host.aws.put("web")
    host.begin(Verb.DRAIN, stopping=True, wait=60.0)
    operation = host.finish()
    assert succeeded(operation)
    assert host.clock.now() - START >= 60 + 300
    said = [event.text for event in host.ledger.events(operation.id, 0, 0)[1]]
    assert any("although the guard refuses" in text for text in said)


def test_a_rejoin_that_nobody_waits_for_is_tried_again_until_the_app_passes() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    host.prober.said = "port 8080: Connection refused"
    host.begin(Verb.REJOIN, keep_trying=True)
    assert host.finish().outcome is Outcome.TIMED_OUT
    assert any("trying the rejoin again" in warning for warning in host.status().warnings)
    host.rest(600)
    host.prober.said = ""
    host.rest(400)
    assert host.posture() is Posture.IN_SERVICE


def test_somebody_who_drains_ends_the_tries() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    host.prober.said = "port 8080: Connection refused"
    host.begin(Verb.REJOIN, keep_trying=True)
    host.finish()
    assert succeeded(host.do(Verb.DRAIN))
    host.prober.said = ""
    host.rest(600)
    assert host.posture() is Posture.DRAINED


def test_a_try_that_cannot_be_put_on_disk_does_not_end_the_daemon() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    host.prober.said = "port 8080: Connection refused"
    host.begin(Verb.REJOIN, keep_trying=True)
    host.finish()
    host.store.errors = [AgentError(Kind.STORE, "cannot write: no space left", transient=True)] * 3
    host.prober.said = ""
    host.rest(400)
    assert host.posture() is Posture.IN_SERVICE


# Membership


def test_an_image_baked_from_a_drained_host_does_not_touch_its_source() -> None:
    source = in_service()
    source.do(Verb.DRAIN)
    clone = Host(aws=source.aws, who=Identity("i-clone", "eu-west-1", "eu-west-1a", "vpc-1", ("10.0.0.7",)))
    clone.store.written = list(source.store.written)
    clone.restart("boot-of-the-clone")
    clone.rest(10)
    assert clone.store.aside == ["it is the record of i-me, and this is i-clone"]
    assert clone.do(Verb.REJOIN).failure is not None
    assert (arn("web"), *ME) not in source.aws.registered(), "the source stays out"


def test_a_clone_whose_daemon_restarts_before_it_knows_itself_does_not_touch_its_source() -> None:
    source = in_service()
    source.do(Verb.DRAIN)
    clone = Host(aws=source.aws, who=Identity("i-clone", "eu-west-1", "eu-west-1a", "vpc-1", ("10.0.0.7",)))
    clone.store.written = list(source.store.written)
    clone.restart("boot-of-the-clone")
    clone.begin(Verb.REJOIN, keep_trying=True)  # its unit asks at once
    clone.restart()
    clone.rest(120)
    assert (arn("web"), *ME) not in source.aws.registered(), "the source stays out"
    assert clone.store.aside == ["it is the record of i-me, and this is i-clone"]


def test_an_operation_asked_of_a_clone_is_the_clones_own() -> None:
    source = in_service()
    source.do(Verb.DRAIN)
    source.aws.put("web", "i-clone")
    clone = Host(aws=source.aws, who=Identity("i-clone", "eu-west-1", "eu-west-1a", "vpc-1", ("10.0.0.7",)))
    clone.store.written = list(source.store.written)
    clone.restart("boot-of-the-clone")
    assert succeeded(clone.do(Verb.DRAIN))
    assert {t.id for t in clone.record().membership.targets} == {"i-clone"}


def test_a_power_off_in_mid_drain_leaves_a_host_that_rejoins_after_the_boot() -> None:
    host = in_service()
    host.begin(Verb.DRAIN)
    while (running := host.ledger.running()) is not None and running.phase is not Phase.DRAINING:
        host.turn()
    host.restart("boot-2")
    assert host.ledger.running() is None
    last = host.record().last
    assert last is not None
    assert last.outcome is Outcome.CANCELLED
    assert isinstance(host.record().state, Out)
    assert succeeded(host.do(Verb.REJOIN))


def test_a_port_that_the_app_has_left_is_forgotten_and_the_hint_says_how() -> None:
    host = in_service(names=("web",))
    host.do(Verb.DRAIN)
    host.prober.said = "port 8080: Connection refused"
    operation = host.do(Verb.REJOIN, timeout=30)
    assert operation.failure is not None
    assert "zdd-agent forget 'web i-me:8080'" in operation.failure.hint
    host.ledger.forget("web", "i-me", 8080, uid=0)
    host.aws.groups[arn("web")] = group(port=9090)
    host.prober.said = ""
    assert succeeded(host.do(Verb.REJOIN))
    assert (arn("web"), "i-me", 9090) in host.aws.registered()
    with pytest.raises(AgentError) as caught:
        host.ledger.forget("web", "i-me", 1, uid=0)
    assert caught.value.kind is Kind.NOT_FOUND


def test_a_port_that_the_app_has_left_while_in_service_is_left_by_a_drain() -> None:
    host = in_service()
    host.aws.put("web", port=9090)
    host.prober.said = "port 8080: Connection refused"
    host.aws.break_target(Target(arn("web"), *ME), "Target.FailedHealthChecks")
    operation = host.do(Verb.REJOIN, timeout=30)
    assert operation.failure is not None
    assert operation.failure.hint.index("zdd-agent drain") < operation.failure.hint.index("zdd-agent forget")


def test_a_health_check_that_changed_while_the_host_was_out_is_read_again() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    check = replace(group().health_check, path="/ready", healthy_threshold=4)
    host.aws.groups[arn("web")] = group(health_check=check)
    assert succeeded(host.do(Verb.REJOIN))
    assert host.prober.asked == 4
    assert host.record().membership.groups[0].health_check.path == "/ready"


def test_a_named_group_that_was_deleted_stops_neither_verb_where_the_host_was_in_it() -> None:
    host = in_service(group("web"), group("old"), names=("web", "old"))
    assert succeeded(host.do(Verb.REJOIN))
    del host.aws.groups[arn("old")]
    for _ in range(3):
        assert succeeded(host.do(Verb.DRAIN))
        assert succeeded(host.do(Verb.REJOIN))
    assert (arn("web"), *ME) in host.aws.registered()


def test_a_named_group_that_never_was_is_an_error_with_a_hint_that_leads_on() -> None:
    host = in_service(names=("web", "typo"))
    operation = host.do(Verb.DRAIN)
    assert operation.failure is not None
    assert operation.failure.kind == "target_group_not_found"
    assert operation.failure.value == "typo"
    assert "target_groups" in operation.failure.hint


def test_a_group_of_somebody_else_that_is_deleted_between_list_and_look_is_passed_over() -> None:
    host = in_service(group("web"), group("theirs"))
    ask = host.aws.health

    def deleted_meanwhile(asked: str) -> tuple[TargetHealth, ...]:
        host.aws.groups.pop(arn("theirs"), None)
        return ask(asked)

    host.aws.health = deleted_meanwhile  # type: ignore[method-assign]  the fake's own seam
    assert succeeded(host.do(Verb.DRAIN))


class NotInUse(FakeAws):
    """A spare group that is on no listener: its targets are `unused`."""

    def health(self, asked: str) -> tuple[TargetHealth, ...]:
        found = super().health(asked)
        if self.groups[asked].balancers:
            return found
        return tuple(replace(h, state=State.UNUSED, reason="Target.NotInUse") for h in found)


def test_a_spare_group_on_no_listener_neither_holds_a_drain_nor_fails_a_rejoin() -> None:
    host = Host(aws=NotInUse(FakeClock(), [group("blue"), group("green", balancers=(), deregistration_delay=5.0)]))
    host.aws.put("blue")
    host.aws.put_sibling("blue")
    host.aws.put("green")  # nobody else is in it
    assert succeeded(host.do(Verb.DRAIN))
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation), operation.message


def test_a_spare_group_does_not_fail_a_rejoin_that_waits_for_another_group() -> None:
    host = Host(aws=NotInUse(FakeClock(), [group("blue"), group("green", balancers=(), deregistration_delay=5.0)]))
    host.aws.put("blue")
    host.aws.put_sibling("blue")
    host.aws.put("green")
    assert succeeded(host.do(Verb.DRAIN))
    host.aws.warm_seconds = 60.0  # several looks
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation), operation.message


def test_a_rejoin_passes_over_a_group_that_is_deleted_before_its_registration() -> None:
    host = in_service(group("web"), group("old"))
    assert succeeded(host.do(Verb.DRAIN))
    host.begin(Verb.REJOIN)
    host.turn()
    del host.aws.groups[arn("old")]
    assert succeeded(host.finish())
    assert (arn("web"), *ME) in host.aws.registered()


def test_a_rejoin_whose_groups_are_all_deleted_finds_the_host_where_others_have_put_it() -> None:
    host = in_service(group("old"))
    assert succeeded(host.do(Verb.DRAIN))
    host.aws.groups = {arn("new"): group("new")}
    host.aws.put("new")
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation), operation.message
    assert {t.group for t in host.record().membership.targets} == {arn("new")}


def test_that_no_group_holds_a_host_is_believed_by_a_rejoin_only_when_two_looks_agree() -> None:
    aws = LaggingAws(FakeClock(), [group()], lag=6.0)
    aws.clock.time += 50
    aws.put("web")
    aws.clock.time += 2
    host = Host(aws=aws)
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation), operation.message


# The guard


def test_a_percentage_does_not_erode_as_one_host_after_another_leaves() -> None:
    aws = FakeAws(FakeClock(), [group()])
    hosts = []
    for number in range(10):
        name = f"i-{number}"
        aws.put("web", name)
        who = Identity(name, "eu-west-1", "eu-west-1a", "vpc-1", (f"10.0.0.{number}",))
        hosts.append(Host(aws=aws, who=who, minimum=MinHealthy(percent=50.0)))
    for host in hosts:
        host.rest(5)  # in service: the agent learns who belongs
    outcomes = [host.do(Verb.DRAIN).outcome for host in hosts]
    assert outcomes.count(Outcome.SUCCEEDED) == 5
    assert outcomes[5:] == [Outcome.REFUSED] * 5


def test_an_instance_that_was_terminated_does_not_belong_any_more() -> None:
    host = in_service(minimum=MinHealthy(percent=50.0))
    for name in ("i-3", "i-4"):
        host.aws.put("web", name)
    host.rest(5)
    for name in ("i-3", "i-4"):
        host.aws._targets.pop((arn("web"), name, 8080))
    assert host.do(Verb.DRAIN).outcome is Outcome.REFUSED, "1 of 4 would be healthy"
    host.instances.gone = {"i-3", "i-4"}
    assert succeeded(host.do(Verb.DRAIN))


class Shifted(FakeAws):
    """A zonal shift keeps new work away from the sibling."""

    def health(self, asked: str) -> tuple[TargetHealth, ...]:
        return tuple(replace(h, shifted=h.target.id == "i-other") for h in super().health(asked))


def test_a_target_under_a_zonal_shift_is_no_cover() -> None:
    host = in_service(aws=Shifted(FakeClock(), [group()]))
    assert host.do(Verb.DRAIN).outcome is Outcome.REFUSED


def test_the_groups_own_minimum_is_kept() -> None:
    host = in_service(group(minimum=GroupMinimum(2)))
    operation = host.do(Verb.DRAIN)
    assert operation.outcome is Outcome.REFUSED
    assert "2 must stay" in operation.message


def racing(delay: float = 300.0) -> tuple[Host, Host]:
    """Two hosts of one group, of which one must stay; there is a second group besides."""
    aws = FakeAws(FakeClock(), [group(deregistration_delay=delay), group("second", deregistration_delay=delay)])
    hosts = []
    for number in range(2):
        name = f"i-{number}"
        aws.put("web", name)
        who = Identity(name, "eu-west-1", "eu-west-1a", "vpc-1", (f"10.0.0.{number}",))
        hosts.append(Host(aws=aws, who=who))
    return hosts[0], hosts[1]


def both_leave(winner: Host, loser: Host, **more: float) -> None:
    winner.begin(Verb.DRAIN)
    loser.begin(Verb.DRAIN, **more)
    for host in itertools.chain.from_iterable(itertools.repeat((winner, loser), 6)):
        if host.ledger.running() is not None:
            host.runner.tick(host.ledger.running())  # type: ignore[arg-type]  just looked


def together(*hosts: Host, seconds: float) -> None:
    end = hosts[0].clock.time + seconds
    while hosts[0].clock.time < end:
        for host in hosts:
            while (operation := host.ledger.running()) is not None and host.runner.tick(operation) == 0:
                pass
        hosts[0].clock.time += 0.5


def test_going_back_registers_what_this_drain_deregistered_and_nothing_else() -> None:
    winner, loser = racing()
    aws = loser.aws
    aws.put("second", "i-1")
    aws.put("second", "i-0")
    aws.put("second", "i-2")
    loser.do(Verb.DRAIN)  # out of both groups
    aws.put("web", "i-1")  # others put it back into one of them
    aws.clock.time += 400
    aws.put("web", "i-0")
    both_leave(winner, loser)
    together(winner, loser, seconds=60)
    assert loser.record().last.outcome is Outcome.REFUSED  # type: ignore[union-attr]  it has ended
    assert (arn("web"), "i-1", 8080) in aws.registered()
    assert (arn("second"), "i-1", 8080) not in aws.registered()


def test_a_host_that_went_back_is_not_called_drained_on_a_look_that_does_not_show_it_yet() -> None:
    winner, loser = racing(delay=1.0)
    aws = loser.aws
    for name in ("i-0", "i-1", "i-2"):
        aws.put("second", name)
    loser.do(Verb.DRAIN)  # out of both groups, with proof
    aws.put("web", "i-1")  # others put it back into one of them
    aws.put("web", "i-0")
    both_leave(winner, loser)
    together(winner, loser, seconds=20)
    assert loser.record().last.outcome is Outcome.REFUSED  # type: ignore[union-attr]  it has ended
    assert (arn("web"), "i-1", 8080) in aws.registered()
    key = (arn("web"), "i-1", 8080)
    shown = aws._targets.pop(key)  # the API shows it late
    aws.clock.at(aws.clock.time + 6, lambda: aws._targets.update({key: shown}))
    loser.begin(Verb.DRAIN)
    loser.turn()
    together(winner, loser, seconds=2)
    last = loser.record().operation
    assert last is not None
    assert last.outcome is None, last.message


def test_a_wait_goes_on_only_when_the_api_can_show_what_going_back_has_registered() -> None:
    winner, loser = racing(delay=20.0)
    both_leave(winner, loser, wait=900.0)
    together(winner, loser, seconds=8)
    assert (arn("web"), "i-1", 8080) in loser.aws.registered()
    # Only the discovery before a deregistration asks for the attributes.
    asked = loser.aws.calls.count("DescribeTargetGroupAttributes")
    together(winner, loser, seconds=API_LAG_SECONDS - 5)
    assert loser.aws.calls.count("DescribeTargetGroupAttributes") == asked
    together(winner, loser, seconds=API_LAG_SECONDS)
    assert loser.aws.calls.count("DescribeTargetGroupAttributes") == asked + 1


def test_going_back_is_tried_until_aws_takes_the_address_that_still_drains() -> None:
    winner, loser = racing()
    register, refusals = loser.aws.register, []

    def refusing(asked: TargetGroup, targets: Sequence[Target]) -> None:
        if len(refusals) < 3:
            refusals.append(loser.clock.time)
            raise AgentError(Kind.FAILED, "cannot call RegisterTargets: InvalidTarget: it is draining")
        register(asked, targets)

    loser.aws.register = refusing  # type: ignore[method-assign]  the fake's own seam
    both_leave(winner, loser)
    together(winner, loser, seconds=90)
    assert len(refusals) == 3
    assert (arn("web"), "i-1", 8080) in loser.aws.registered()


def test_a_wait_goes_on_after_a_lost_race() -> None:
    winner, loser = racing(delay=20.0)
    both_leave(winner, loser, wait=900.0)
    together(winner, loser, seconds=60)
    assert succeeded(winner.record().last)  # type: ignore[arg-type]  it has ended
    assert loser.ledger.running() is not None, "it waits for its turn"
    winner.begin(Verb.REJOIN)
    together(winner, loser, seconds=200)
    assert succeeded(loser.record().last)  # type: ignore[arg-type]  it has ended


def test_a_late_answer_does_not_let_a_host_leave_again_that_has_just_gone_back() -> None:
    winner, loser = racing()
    both_leave(winner, loser, wait=900.0)
    together(winner, loser, seconds=3)
    listed = loser.aws.health  # as it was before the two left
    before = tuple(replace(h, state=State.HEALTHY) for h in listed(arn("web")))
    since = loser.clock.time

    def late(asked: str) -> tuple[TargetHealth, ...]:
        """Late is every answer that comes within the lag, except the second look after the deregistration."""
        seen = listed(asked)
        back = any(h.target.id == "i-1" and h.state is not State.DRAINING for h in seen)
        return before if back and loser.clock.time < since + API_LAG_SECONDS else seen

    loser.aws.health = late  # type: ignore[method-assign]  the fake's own seam
    together(winner, loser, seconds=60)
    assert loser.aws.calls.count("DeregisterTargets") == 2, "each of the two has left once"


# Time


def test_an_app_that_takes_its_time_to_start_has_all_of_the_warming_after_it() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    host.prober.said = "port 8080: Connection refused"
    host.aws.warm_seconds = 100
    host.begin(Verb.REJOIN)
    host.clock.at(host.clock.now() + 110, lambda: setattr(host.prober, "said", ""))
    operation = host.finish()
    assert succeeded(operation), operation.message


def test_a_host_that_auto_scaling_terminates_is_never_registered() -> None:
    host = in_service()
    host.do(Verb.DRAIN)
    host.metadata.state = "Terminated"
    operation = host.do(Verb.REJOIN)
    assert operation.outcome is Outcome.REFUSED
    assert "RegisterTargets" not in host.aws.calls


def test_a_look_at_many_slow_groups_feeds_the_watchdog_and_keeps_the_deadline() -> None:
    groups = [group(f"g{number}") for number in range(20)]
    host = in_service(*groups)
    ask = host.aws.health

    def slow(asked: str) -> tuple[TargetHealth, ...]:
        host.clock.time += 3.5
        return ask(asked)

    fed: list[float] = []
    alive = host.supervisor.alive
    host.supervisor.alive = lambda status: (fed.append(host.clock.time), alive(status))[1]  # type: ignore[method-assign]
    host.restart()
    host.begin(Verb.DRAIN, timeout=200)
    while (running := host.ledger.running()) is not None and running.phase is not Phase.DRAINING:
        host.turn()
    host.aws.health = slow  # type: ignore[method-assign]  the fake's own seam
    fed.clear()
    operation = host.finish()
    assert operation.outcome is Outcome.TIMED_OUT
    assert max(b - a for a, b in itertools.pairwise(fed)) <= 60
    assert host.clock.now() - START < 200 + 2 * 3.5
