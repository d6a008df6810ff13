"""The doctor over fakes: it names what is wrong, and changes nothing."""

from __future__ import annotations

import pytest

from fakes import group
from host import Host
from zdd_agent.engine.doctor import Finding
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import BalancerKind, HealthCheck, TargetGroup
from zdd_agent.model.kernel import Until


def in_service(*groups: TargetGroup, until: Until = Until.CLOSED) -> Host:
    host = Host(*(groups or (group(),)), until=until)
    host.aws.put("web")
    host.aws.put_sibling("web")
    return host


def examine(host: Host) -> dict[str, Finding]:
    doctor = host.doctor(("socket", lambda: "has mode 0660"))
    return {finding.name: finding for finding in doctor.examine()}


def test_a_well_host_has_no_problem_and_is_registered_as_before() -> None:
    host = in_service()
    before = host.aws.registered()
    found = examine(host)
    assert all(finding.ok for finding in found.values())
    assert host.aws.registered() == before


@pytest.mark.parametrize("unseen", ["Classic Load Balancers", "VPC Lattice", "Global Accelerator"])
def test_what_a_drain_does_not_take_the_host_out_of_is_said_and_is_no_problem(unseen: str) -> None:
    finding = examine(in_service())["not looked at"]
    assert finding.ok
    assert unseen in finding.said


@pytest.mark.parametrize("action", ["RegisterTargets", "DeregisterTargets"])
def test_a_missing_permission_is_named(action: str) -> None:
    host = in_service()
    name = f"elasticloadbalancing:{action}"
    host.aws.errors[action] = [AgentError(Kind.AWS_DENIED, f"cannot call: no {name}", hint=f"allow {name}", value=name)]
    found = examine(host)
    assert [f.name for f in found.values() if not f.ok] == ["permissions for web"]
    assert name in found["permissions for web"].hint


def test_a_permission_to_describe_that_is_missing_is_named_where_it_is_needed() -> None:
    host = in_service()
    name = "elasticloadbalancing:DescribeTargetHealth"
    host.aws.errors["DescribeTargetHealth"] = [AgentError(Kind.AWS_DENIED, "cannot", hint=f"allow {name}")]
    assert name in examine(host)["target groups"].hint


def test_without_metadata_it_says_so_and_looks_no_further() -> None:
    host = in_service()
    host.metadata.errors = [AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask", hint="is it on?", transient=True)]
    found = examine(host)
    assert not found["instance metadata"].ok
    assert not host.aws.calls


def test_an_instance_without_a_role_is_told() -> None:
    host = in_service()
    host.metadata.no_role = AgentError(Kind.AWS_DENIED, "this instance has no role", hint="attach one")
    assert not examine(host)["role"].ok


@pytest.mark.parametrize(("skew", "ok"), [(0.4, True), (-59.0, True), (61.0, False), (-400.0, False), (None, False)])
def test_a_clock_that_would_break_signatures_is_told_in_time(skew: float | None, ok: bool) -> None:
    host = in_service()
    host.aws.skew = skew
    assert examine(host)["clock"].ok is ok


def test_a_dead_app_is_told_with_what_it_answers() -> None:
    host = in_service()
    host.prober.said = "port 8080: Connection refused"
    assert "Connection refused" in examine(host)["app for web i-me:8080"].said


def test_a_drain_that_the_guard_would_refuse_is_told() -> None:
    host = Host(group())
    host.aws.put("web")
    assert "web has 0 other healthy" in examine(host)["guard"].said


def test_a_host_in_no_group_is_told_what_to_set_and_no_file_since_a_variable_may_overrule_it() -> None:
    hint = examine(Host(group()))["target groups"].hint
    assert "set `target_groups`" in hint
    assert "config.toml" not in hint


def test_what_the_guard_says_when_it_would_allow_a_drain() -> None:
    assert examine(in_service())["guard"].said == "a drain would be allowed now"


def test_a_group_that_shows_client_addresses_and_checks_another_port_is_said_to_wait_for_the_api() -> None:
    check = HealthCheck("HTTP", "9000", "/", 10.0, 5.0, 2, "200")
    shown = group(kind=BalancerKind.NETWORK, protocol="TCP", preserve_client_ip=True, health_check=check)
    finding = examine(in_service(shown))["health checks"]
    assert finding.ok
    assert finding.said == (
        "drains end when the API says `unused`: "
        "web shows the app its clients' addresses and is checked on a port of its own"
    )


def test_it_says_whose_health_checks_this_host_sees() -> None:
    host = in_service()
    assert "not looked for yet" in examine(host)["health checks"].said
    host.rest(60)
    assert "no health check of the load balancer was seen on port 8080" in examine(host)["health checks"].said
    host.sensor.nodes = ("10.0.9.1", "10.0.9.2")
    host.rest(60)
    assert "sees those of 10.0.9.1, 10.0.9.2" in examine(host)["health checks"].said
    assert "not looked for" in examine(in_service(until=Until.UNUSED))["health checks"].said


def test_it_recognises_an_app_behind_a_published_port_and_says_what_to_enable() -> None:
    """The app answers, and the load balancer's checks never come where the sensor looks: DNAT, or a proxy."""
    host = in_service()
    assert examine(host)["health checks"].hint == ""
    host.rest(200)
    assert "systemctl enable --now zdd-netns.socket" in examine(host)["health checks"].hint
    configured = host.doctor(("container", lambda: "the opener finds the container"))
    assert [f.hint for f in configured.examine() if f.name == "health checks"] == [""]
    host.sensor.nodes = ("10.0.9.1",)
    host.rest(60)
    assert examine(host)["health checks"].hint == ""
