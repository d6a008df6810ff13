"""Probe before registering, and diagnosis instead of waiting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import START, arn, group
from host import Host, succeeded
from zdd_agent.decide.diagnosis import LOOKS, believed
from zdd_agent.model.aws import Membership, State, Target, TargetHealth
from zdd_agent.model.operation import Check, Observation, Outcome, Posture, ProbeResult, Verb

ME = Target(arn("web"), "i-me", 8080)
WEB = Membership((group(),), (ME,))
PASSES = ProbeResult(ME, True, "GET /healthz on port 8080 answered 200")
FAILS = ProbeResult(ME, False, "port 8080: Connection refused")


def drained() -> Host:
    host = Host(group())
    host.aws.put("web")
    host.aws.put_sibling("web")
    assert succeeded(host.do(Verb.DRAIN))
    host.aws.calls.clear()
    return host


def test_nothing_is_registered_before_the_probe_passed_as_often_as_the_group_asks() -> None:
    host = drained()
    asked: list[int] = []
    register = host.aws.register

    def counting(*words):
        asked.append(host.prober.asked)
        register(*words)

    host.aws.register = counting
    assert succeeded(host.do(Verb.REJOIN))
    assert asked == [2]


def test_a_dead_app_is_never_registered_and_the_time_out_says_what_it_answered() -> None:
    host = drained()
    host.prober.said = "port 8080: Connection refused"
    operation = host.do(Verb.REJOIN, timeout=60)
    assert operation.outcome is Outcome.TIMED_OUT
    assert "Connection refused" in operation.message
    assert "nothing is registered" in operation.message
    assert "RegisterTargets" not in host.aws.calls
    assert host.posture() is Posture.DRAINED


def test_a_failure_starts_the_count_again() -> None:
    host = drained()
    host.aws.groups[arn("web")] = group()
    host.begin(Verb.REJOIN)
    host.turn()
    host.prober.said = "GET /healthz answered 503"
    host.turn()
    host.turn()
    host.prober.said = ""
    before = host.prober.asked
    assert succeeded(host.finish())
    assert host.prober.asked - before >= 2


def test_force_probe_skips_the_probe() -> None:
    host = drained()
    host.prober.said = "port 8080: Connection refused"
    host.begin(Verb.REJOIN, force=(Check.PROBE,))
    assert succeeded(host.finish())
    assert host.prober.asked == 0


def look(reason: str, state: State, probe: ProbeResult, description: str = "") -> Observation:
    health = TargetHealth(ME, state, reason, description)
    return Observation((health,), frozenset(), START, START, (probe,))


def stands(seen: Observation, seconds: float = 40.0) -> list[Observation]:
    """Looks that show this, the latest first. Two checks that pass take 30 s, and an answer can be 10 s late."""
    return [replace(seen, seen_at=START - seconds * number / LOOKS) for number in range(LOOKS + 1)]


@pytest.mark.parametrize(
    ("reason", "state", "hint"),
    [
        ("Target.Timeout", State.UNHEALTHY, "security group"),
        ("Target.NotInUse", State.UNUSED, "listener"),
        ("Target.InvalidState", State.UNUSED, "instance"),
        ("Target.IpUnusable", State.UNUSED, "address"),
        ("Target.ResponseCodeMismatch", State.UNHEALTHY, "matcher"),
    ],
)
def test_a_cause_that_waiting_cannot_cure_is_named_with_what_mends_it(reason: str, state: State, hint: str) -> None:
    (cause,) = believed(WEB, stands(look(reason, state, PASSES)))
    assert hint in cause.hint


def test_a_code_mismatch_says_the_code_found_and_the_code_wanted() -> None:
    seen = look("Target.ResponseCodeMismatch", State.UNHEALTHY, PASSES, "Health checks failed with these codes: [404]")
    (cause,) = believed(WEB, stands(seen))
    assert "[404]" in cause.message
    assert "wants 200" in cause.message


def test_a_cause_is_not_believed_before_three_looks_agree() -> None:
    seen = look("Target.Timeout", State.UNHEALTHY, PASSES)
    other = look("Target.FailedHealthChecks", State.UNHEALTHY, PASSES)
    assert not believed(WEB, [seen, replace(seen, seen_at=START - 100)])
    assert not believed(WEB, [seen, other, replace(seen, seen_at=START - 100)])


@pytest.mark.parametrize("reason", ["Target.Timeout", "Target.ResponseCodeMismatch"])
def test_an_app_that_passes_again_may_still_come_up_for_as_long_as_its_checks_take(reason: str) -> None:
    assert not believed(WEB, stands(look(reason, State.UNHEALTHY, PASSES), 39.0))


def test_a_rejoin_waits_for_a_registered_target_whose_app_has_recovered_just_now() -> None:
    check = replace(group().health_check, interval=30.0, healthy_threshold=5)
    host = Host(group(health_check=check))
    target = host.aws.put("web")
    host.aws.break_target(target, "Target.ResponseCodeMismatch")
    host.clock.at(START + 150, lambda: host.aws.break_target(target, ""))  # five checks, 30 s apart
    operation = host.do(Verb.REJOIN)
    assert succeeded(operation), operation.message


@pytest.mark.parametrize("reason", ["Target.Timeout", "Target.ResponseCodeMismatch", "Target.FailedHealthChecks"])
def test_an_app_that_does_not_answer_here_either_may_still_come_up(reason: str) -> None:
    assert not believed(WEB, stands(look(reason, State.UNHEALTHY, FAILS)))


def test_a_rejoin_behind_a_closed_security_group_ends_with_the_hint_and_not_at_the_deadline() -> None:
    host = drained()
    target = next(iter(host.record().membership.targets))
    host.aws.break_target(target, "Target.Timeout")
    began = host.clock.now()
    operation = host.do(Verb.REJOIN, timeout=900)
    assert operation.outcome is Outcome.FAILED
    assert "security group" in operation.failure.hint
    assert host.clock.now() - began < 100


def test_a_rejoin_of_a_target_that_recovers_goes_on() -> None:
    host = drained()
    target = next(iter(host.record().membership.targets))
    host.aws.break_target(target, "Target.FailedHealthChecks")
    host.begin(Verb.REJOIN, timeout=900)
    host.clock.at(host.clock.now() + 120, lambda: host.aws.break_target(target, ""))
    assert succeeded(host.finish())


def test_a_rejoin_of_a_registered_target_that_was_unhealthy_ends_when_it_is_healthy_again() -> None:
    host = Host(group())
    target = host.aws.put("web")
    host.aws.break_target(target, "Target.FailedHealthChecks")
    began = host.clock.now()
    host.begin(Verb.REJOIN)
    host.clock.at(began + 12, lambda: host.aws.break_target(target, ""))
    assert succeeded(host.finish())
    assert host.clock.now() - began < 12 + 15 + 1, "one poll later, at the latest"
    assert "RegisterTargets" not in host.aws.calls


def test_a_time_out_while_warming_says_the_state_and_what_the_app_here_answers() -> None:
    host = drained()
    target = next(iter(host.record().membership.targets))
    host.aws.break_target(target, "Target.FailedHealthChecks")
    operation = host.do(Verb.REJOIN, timeout=60)
    assert operation.outcome is Outcome.TIMED_OUT
    assert "unhealthy (Target.FailedHealthChecks)" in operation.message
    assert "answered 200" in operation.message
    assert host.posture() is Posture.OUT_OF_SERVICE


def test_the_watchdog_is_fed_before_each_probe_since_a_hung_app_takes_its_whole_time_out() -> None:
    names = ("web", "api", "admin")
    host = Host(*map(group, names))
    for name in names:
        host.aws.put(name)
        host.aws.put_sibling(name)
    assert succeeded(host.do(Verb.DRAIN))
    host.supervisor.said.clear()
    assert succeeded(host.do(Verb.REJOIN))
    assert sum(said.startswith("probing") for said in host.supervisor.said) == host.prober.asked >= len(names)


def test_a_health_check_of_another_group_does_not_stand_in_for_this_one() -> None:
    host = Host(group("web"), group("api", health_check=replace(group().health_check, healthy_threshold=5)))
    for name in ("web", "api"):
        host.aws.put(name)
        host.aws.put_sibling(name)
    host.do(Verb.DRAIN)
    assert succeeded(host.do(Verb.REJOIN))
    assert host.prober.asked == 2 + 5
