"""A host in an Auto Scaling group: what the agent says of it, and which drains it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes import START, arn, group
from host import Host, succeeded
from zdd_agent.engine.doctor import Finding
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import LifecycleHook, Transition
from zdd_agent.model.operation import Outcome, Verb

DENIED = AgentError(Kind.AWS_DENIED, "cannot call DescribeAutoScalingInstances: not allowed", hint="allow it")


def in_a_group(mode: str = "watch", *groups: Any, **facts: Any) -> Host:
    host = Host(*(groups or (group(),)), auto_scaling={"mode": mode})
    host.metadata.state = "InService"
    host.scaling.of = replace(host.scaling.of, **facts)
    host.aws.put("web")
    host.aws.put_sibling("web")
    return host


def examine(host: Host) -> dict[str, Finding]:
    return {finding.name: finding for finding in host.doctor().examine()}


def test_status_tells_the_group_and_that_a_drain_is_safe() -> None:
    said = in_a_group(minimum=2).status().scaling
    assert said.startswith("web-asg: InService, health check EC2, minimum 2; a drain is safe")


def test_without_the_setting_status_and_doctor_say_nothing_of_it() -> None:
    host = Host(group())
    host.aws.put("web")
    assert host.status().scaling == ""
    assert "auto scaling" not in examine(host)


def test_with_elb_health_status_says_when_a_drained_host_may_be_replaced() -> None:
    host = in_a_group(health_check="ELB")
    assert "must be back within 300 s" in host.status().scaling
    host.begin(Verb.DRAIN)
    while host.clock.now() < START + 100:
        host.turn()
    assert any("may replace this host in 2" in line for line in host.status().warnings)


def test_a_host_in_no_group_makes_no_call_to_auto_scaling() -> None:
    host = in_a_group()
    host.metadata.state = None
    assert host.status().scaling == "in no Auto Scaling group"
    assert host.scaling.calls == []


def test_status_asks_auto_scaling_no_more_often_than_the_load_balancer_however_many_ask_and_fail() -> None:
    host = in_a_group()
    host.scaling.denied["DescribeAutoScalingInstances"] = DENIED
    reporter = host.reporter()
    for _ in range(20):
        assert any("DescribeAutoScalingInstances" in line for line in reporter.snapshot().warnings)
    assert len(host.scaling.calls) == 1


def test_a_drain_that_outlasts_the_delay_warns_in_its_progress() -> None:
    host = in_a_group(health_check="ELB")
    drain = host.do(Verb.DRAIN)  # until `unused`
    assert succeeded(drain)
    _, events = host.ledger.events(drain.id, 0, 0)
    assert any("may replace a host 300 s after its deregistration" in event.text for event in events)


def test_in_mode_strict_it_is_refused_and_nothing_has_changed() -> None:
    host = in_a_group("strict", health_check="ELB")
    drain = host.do(Verb.DRAIN)
    assert drain.outcome is Outcome.REFUSED
    assert "may replace a host 300 s after its deregistration" in drain.message
    assert "DeregisterTargets" not in host.aws.calls


@pytest.mark.parametrize("health_check", ["EC2", "EC2,EBS"])
def test_in_mode_strict_a_group_that_ignores_target_health_lets_a_drain_take_its_time(health_check: str) -> None:
    assert succeeded(in_a_group("strict", health_check=health_check).do(Verb.DRAIN))


def test_a_stop_that_nothing_prevents_drains_in_mode_strict_too() -> None:
    host = in_a_group("strict", health_check="ELB")
    host.begin(Verb.DRAIN, stopping=True)
    assert succeeded(host.finish())


def test_in_mode_strict_a_group_that_cannot_be_asked_stops_a_drain_and_in_mode_watch_it_does_not() -> None:
    host = in_a_group("strict")
    host.scaling.denied["DescribeAutoScalingInstances"] = DENIED
    drain = host.do(Verb.DRAIN)
    assert drain.failure is not None
    assert drain.failure.kind == "aws_denied"
    host = in_a_group("watch")
    host.scaling.denied["DescribeAutoScalingInstances"] = DENIED
    assert succeeded(host.do(Verb.DRAIN))
    assert any("DescribeAutoScalingInstances" in line for line in host.status().warnings)


@pytest.mark.parametrize(
    ("facts", "hint"),
    [
        ({"tags": frozenset({"AmazonECSManaged"})}, "aws ecs update-container-instances-state"),
        ({"tags": frozenset({"eks:cluster-name"})}, "kubectl drain"),
        ({"tags": frozenset({"kubernetes.io/cluster/blue"})}, "kubectl drain"),
        ({"operator": "batch.amazonaws.com"}, "batch.amazonaws.com"),
    ],
)
def test_a_host_that_another_service_owns_is_not_drained_and_the_owners_command_is_named(
    facts: dict[str, Any], hint: str
) -> None:
    host = in_a_group("watch", **facts)
    drain = host.do(Verb.DRAIN)
    assert drain.outcome is Outcome.REFUSED
    assert drain.failure is not None
    assert hint in drain.failure.hint
    assert "DeregisterTargets" not in host.aws.calls
    assert hint in examine(host)["auto scaling"].hint
    plan = host.reporter().plan(Verb.DRAIN, ())
    assert plan.refusal is not None
    assert hint in plan.refusal.hint


def test_a_host_that_never_was_in_a_group_joins_those_of_its_auto_scaling_group() -> None:
    host = Host(group("web"), group("other"), auto_scaling={"mode": "watch"})
    host.metadata.state = "InService"
    host.scaling.of = replace(host.scaling.of, target_groups=(arn("web"),))
    assert succeeded(host.do(Verb.REJOIN))
    assert host.aws.registered() == {(arn("web"), "i-me", 8080)}


def test_a_host_that_is_in_a_group_joins_no_other() -> None:
    host = in_a_group("watch", group("web"), group("other"), target_groups=(arn("other"),))
    assert succeeded(host.do(Verb.REJOIN))
    assert (arn("other"), "i-me", 8080) not in host.aws.registered()


def test_a_drained_host_that_no_group_lists_any_more_joins_only_what_was_drained() -> None:
    host = in_a_group("watch", group("web"), group("other"), target_groups=(arn("other"),))
    host.do(Verb.DRAIN)
    assert succeeded(host.do(Verb.REJOIN))
    assert (arn("other"), "i-me", 8080) not in host.aws.registered()


def test_in_a_vpc_with_many_target_groups_those_of_the_auto_scaling_group_are_asked() -> None:
    many = [group(f"g{number}") for number in range(30)]
    host = Host(group("web"), *many, auto_scaling={"mode": "watch"})
    host.metadata.state = "InService"
    host.aws.put("web")
    host.aws.put_sibling("web")
    assert host.do(Verb.DRAIN).outcome is Outcome.FAILED
    host = Host(group("web"), *many, auto_scaling={"mode": "watch"})
    host.metadata.state = "InService"
    host.scaling.of = replace(host.scaling.of, target_groups=(arn("web"),))
    host.aws.put("web")
    host.aws.put_sibling("web")
    assert succeeded(host.do(Verb.DRAIN))


def test_doctor_names_the_hooks_that_the_agent_answers() -> None:
    host = in_a_group()
    host.scaling.hook_names = {Transition.TERMINATION: [LifecycleHook("last-drain", 300.0)]}
    found = examine(host)
    assert all(finding.ok for finding in found.values())
    assert found["lifecycle hooks"].said == "last-drain for a termination"


@pytest.mark.parametrize(
    "call",
    [
        "DescribeAutoScalingInstances",
        "DescribeAutoScalingGroups",
        "DescribeLifecycleHooks",
        "RecordLifecycleActionHeartbeat",
        "CompleteLifecycleAction",
    ],
)
def test_doctor_names_each_action_that_is_missing(call: str) -> None:
    host = in_a_group()
    host.scaling.denied[call] = AgentError(Kind.AWS_DENIED, "cannot", hint=f"allow autoscaling:{call}")
    assert any(f"autoscaling:{call}" in finding.hint for finding in examine(host).values())


def test_doctor_completes_no_hook_that_waits() -> None:
    host = in_a_group()
    host.scaling.waits_from = START - 10
    host.scaling.hook_names = {Transition.TERMINATION: [LifecycleHook("last-drain", 300.0)]}
    examine(host)
    assert host.scaling.completed_at is None
