"""A drain that a reboot follows: what it gives way to, and that the host comes back by itself after the boot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import ME, arn, group
from host import MANY_TURNS, Host, succeeded
from zdd_agent.decide.reboot import after_reboot
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity
from zdd_agent.model.operation import Check, Outcome, Verb
from zdd_agent.model.record import Leaving, Wanted
from zdd_agent.model.states import Draining, Guarding, InService

MINE, THEIRS = (arn("web"), "i-me", 8080), (arn("web"), "i-other", 8080)


def in_service(*, sibling: bool = True) -> Host:
    host = Host(group(deregistration_delay=30.0))
    host.aws.put("web")
    if sibling:
        host.aws.put_sibling("web")
    return host


def drained_for_a_reboot() -> Host:
    host = in_service()
    host.begin(Verb.DRAIN, reboot=True)
    assert succeeded(host.finish())
    return host


def until_draining(host: Host) -> None:
    for _ in range(MANY_TURNS):
        if isinstance(host.record().state, Draining):
            return
        host.turn()
    raise AssertionError("never draining")


def comes_back(host: Host) -> bool:
    host.rest(120)
    return MINE in host.aws.registered()


# After the boot


def test_after_the_boot_the_host_comes_back_though_the_last_request_was_a_drain() -> None:
    host = drained_for_a_reboot()
    assert host.record().wanted is Wanted.OUT
    host.restart("boot-2")
    assert comes_back(host)
    record = host.record()
    assert (record.wanted, record.state, record.reboot) == (Wanted.IN, InService(), None)
    assert record.last is not None
    assert record.last.request.keep_trying


def test_a_restart_of_the_daemon_is_no_reboot() -> None:
    host = drained_for_a_reboot()
    host.restart()
    assert not comes_back(host)
    host.restart("boot-2")
    assert comes_back(host)


def test_a_host_that_is_drained_and_not_for_a_reboot_stays_out_over_one() -> None:
    host = in_service()
    assert succeeded(host.do(Verb.DRAIN))
    host.restart("boot-2")
    assert not comes_back(host)


def test_the_drain_that_a_unit_begins_when_the_host_goes_down_changes_nothing_of_it() -> None:
    host = drained_for_a_reboot()
    host.begin(Verb.DRAIN, stopping=True)
    assert succeeded(host.finish())
    host.restart("boot-2")
    assert comes_back(host)


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.CANCELLED])
def test_nor_does_such_a_drain_that_does_not_end_well(outcome: Outcome) -> None:
    host = drained_for_a_reboot()
    host.begin(Verb.DRAIN, 0.001, stopping=True)
    if outcome is Outcome.CANCELLED:
        host.ledger.cancel(0)
    host.clock.time += 1
    assert host.finish().outcome is not None
    host.restart("boot-2")
    assert comes_back(host)


def test_a_host_that_crashes_in_the_middle_of_the_drain_comes_back() -> None:
    host = in_service()
    host.begin(Verb.DRAIN, reboot=True)
    until_draining(host)
    host.restart("boot-2")
    assert host.record().last is not None
    assert comes_back(host)


def test_a_crash_before_anything_was_deregistered_needs_no_rejoin() -> None:
    host = in_service()
    host.begin(Verb.DRAIN, reboot=True)
    while not (host.ledger.identified and isinstance(host.record().state, Guarding)):
        host.turn()
    host.restart("boot-2")
    host.rest(60)
    assert "RegisterTargets" not in host.aws.calls
    assert host.record().reboot is None


def test_the_daemon_may_end_and_start_again_at_any_moment_after_the_boot() -> None:
    host = drained_for_a_reboot()
    for _ in range(6):
        host.restart("boot-2")
        host.rest(1)
    assert comes_back(host)
    assert host.aws.calls.count("RegisterTargets") == 1


def test_an_app_that_does_not_pass_yet_is_tried_again_until_it_does() -> None:
    host = drained_for_a_reboot()
    host.restart("boot-2")
    host.prober.said = "cannot connect"
    host.rest(900)
    assert MINE not in host.aws.registered()
    host.prober.said = ""
    assert comes_back(host)


def test_the_rejoin_of_a_unit_at_the_start_is_the_same_one() -> None:
    host = drained_for_a_reboot()
    host.restart("boot-2")
    host.begin(Verb.REJOIN, keep_trying=True)
    assert succeeded(host.finish())
    assert not host.record().reboot
    assert comes_back(host)
    assert host.aws.calls.count("RegisterTargets") == 1


@pytest.mark.parametrize("already_rebooted", [False, True])
def test_a_clone_of_a_host_that_was_to_come_back_joins_nothing(already_rebooted: bool) -> None:
    host = drained_for_a_reboot()
    if already_rebooted:
        host.restart("boot-2")
        host.ledger.identify(ME)
    host.metadata.who = Identity("i-clone", ME.region, ME.zone, ME.vpc_id, ("10.0.0.9",))
    host.metadata.errors = [AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask IMDS", transient=True)]
    host.restart("boot-3")
    host.rest(120)
    assert host.aws.registered() == {THEIRS}


def test_a_host_that_somebody_has_put_back_meanwhile_or_that_is_leaving_begins_no_rejoin() -> None:
    record = drained_for_a_reboot().record()
    rebooted = replace(record, owner=replace(record.owner, boot_id="boot-2"))
    assert after_reboot(rebooted) is not None
    assert after_reboot(replace(rebooted, state=InService())) is None, "by an older version, say"
    assert after_reboot(replace(rebooted, leaving=Leaving("this spot instance will terminate"))) is None


# What ends it


def test_a_rejoin_before_the_reboot_ends_it() -> None:
    host = drained_for_a_reboot()
    assert succeeded(host.do(Verb.REJOIN))
    assert host.record().reboot is None


def test_whoever_drains_the_host_after_that_wants_it_out() -> None:
    host = drained_for_a_reboot()
    assert succeeded(host.do(Verb.DRAIN))
    host.restart("boot-2")
    assert not comes_back(host)


@pytest.mark.parametrize("how", ["refused", "timed out", "cancelled"])
def test_a_drain_that_does_not_succeed_calls_the_reboot_off(how: str) -> None:
    host = in_service(sibling=how != "refused")
    host.begin(Verb.DRAIN, 5.0 if how == "timed out" else None, reboot=True)
    if how == "cancelled":
        until_draining(host)
        host.ledger.cancel(0)
    assert not succeeded(host.finish())
    assert host.record().reboot is None


def test_a_host_in_no_target_group_has_nothing_to_come_back_to() -> None:
    host = Host(group())
    host.begin(Verb.DRAIN, reboot=True)
    assert succeeded(host.finish())
    host.restart("boot-2")
    host.rest(60)
    assert host.record().reboot is None
    assert host.ledger.running() is None


# Other work


def refused(host: Host, **request: object) -> AgentError:
    before = host.record()
    with pytest.raises(AgentError) as caught:
        host.begin(Verb.DRAIN, **request)  # type: ignore[arg-type]  the fields of a request
    assert host.record() == before
    return caught.value


@pytest.mark.parametrize("verb", Verb)
def test_a_reboot_gives_way_to_an_operation_that_is_under_way(verb: Verb) -> None:
    host = in_service()
    if verb is Verb.REJOIN:
        assert succeeded(host.do(Verb.DRAIN))
    host.begin(verb)
    error = refused(host, reboot=True)
    assert (error.kind, error.message) == (Kind.BUSY, f"cannot reboot: a {verb} is under way")
    host.begin(Verb.DRAIN, reboot=True, force=(Check.DRAINED,))
    assert succeeded(host.finish())
    host.restart("boot-2")
    assert comes_back(host)


def test_a_reboot_gives_way_to_whatever_a_host_was_taken_out_for() -> None:
    host = in_service()
    assert succeeded(host.do(Verb.DRAIN))
    error = refused(host, reboot=True)
    assert error.kind is Kind.BUSY
    assert error.message.startswith("cannot reboot: this host was taken out ")
    host.begin(Verb.DRAIN, reboot=True, force=(Check.DRAINED,))
    assert succeeded(host.finish())
    host.restart("boot-2")
    assert comes_back(host)


def test_a_deploy_does_not_join_a_drain_that_a_reboot_follows_and_a_stop_does() -> None:
    host = in_service()
    host.begin(Verb.DRAIN, reboot=True)
    until_draining(host)
    error = refused(host)
    assert (error.kind, error.message) == (Kind.BUSY, "cannot drain: this host drains to be rebooted")
    host.begin(Verb.DRAIN, stopping=True)
    assert succeeded(host.finish())
    host.restart("boot-2")
    assert comes_back(host)


def test_an_agent_that_cannot_tell_one_boot_from_the_next_drains_nothing_for_a_reboot() -> None:
    host = in_service()
    host.boot = ""
    host.restart()
    assert refused(host, reboot=True).kind is Kind.FAILED


def test_a_host_that_is_leaving_is_not_rebooted() -> None:
    host = Host(group(), auto_scaling={"mode": "watch"})
    host.aws.put("web")
    host.metadata.state = "Terminated"
    host.rest(6)
    assert refused(host, reboot=True).kind is Kind.REFUSED


def test_status_says_that_it_comes_back() -> None:
    host = drained_for_a_reboot()
    assert any("comes back by itself" in warning for warning in host.status().warnings)
    host.restart("boot-2")
    assert comes_back(host)
    assert host.status().warnings == ()
