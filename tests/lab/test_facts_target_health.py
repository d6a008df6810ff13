"""Target health: against the pure model, at true length."""

from dataclasses import replace

import pytest

from lab.model_rig import ADDRESS, FAILS, HOST, IPS, LONE, PASSES, TCP, ZONE_A, ZONE_C, Scene
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.profile import ALB, FAST
from zdd_lab.model.target import HealthCheck, NodeHealth


def test_a_new_target_is_initial_first_for_its_registration_then_for_its_first_checks():
    scene = Scene()
    scene.verdict = None
    scene.register()
    assert scene.told() == ("initial", "Elb.RegistrationInProgress")
    scene.pass_time(30)
    assert scene.told() == ("initial", "Elb.InitialHealthChecking")


def test_healthy_has_no_reason_and_no_description():
    found = Scene().in_service().asked()
    assert (found.state, found.reason, found.description) == ("healthy", None, None)


def test_a_target_is_healthy_only_when_every_node_sees_it_so():
    scene = Scene()
    scene.verdict = None
    scene.register()
    scene.pass_time(30)
    scene.report(PASSES, "alb-a")
    assert scene.told()[0] == "initial"
    scene.report(PASSES, "alb-b")
    assert scene.told()[0] == "healthy"


@pytest.mark.parametrize("reason", ["Target.ResponseCodeMismatch", "Target.Timeout", "Target.FailedHealthChecks"])
def test_unhealthy_bears_the_reason_of_the_check_that_failed(reason: str):
    scene = Scene().in_service()
    scene.report(NodeHealth("unhealthy", reason, "why"), "alb-b")
    assert scene.told() == ("unhealthy", reason)


def test_a_target_that_passes_again_is_healthy_again():
    scene = Scene().in_service()
    scene.report(FAILS, "alb-a")
    scene.report(PASSES, "alb-a")
    assert scene.told() == ("healthy", None)


def test_nlb_shows_unhealthy_draining_for_its_interval_and_then_unhealthy():
    attributes = {
        "target_health_state.unhealthy.connection_termination.enabled": "false",
        "target_health_state.unhealthy.draining_interval_seconds": "60",
    }
    scene = Scene(attributes=attributes).in_service(TCP)
    scene.report(FAILS, "nlb-a", TCP)
    assert scene.told(TCP) == ("unhealthy.draining", "Target.FailedHealthChecks")
    scene.pass_time(60)
    assert scene.told(TCP) == ("unhealthy", "Target.FailedHealthChecks")


def test_alb_never_shows_unhealthy_draining():
    attributes = {
        "target_health_state.unhealthy.connection_termination.enabled": "false",
        "target_health_state.unhealthy.draining_interval_seconds": "60",
    }
    scene = Scene(attributes=attributes).in_service()
    scene.report(FAILS, "alb-a")
    assert scene.told()[0] == "unhealthy"


def test_unused_not_in_use_when_the_group_is_on_no_load_balancer():
    scene = Scene()
    scene.register(LONE)
    scene.pass_time(100)
    assert scene.told(LONE) == ("unused", "Target.NotInUse")


def test_unused_not_in_use_when_the_targets_zone_is_not_enabled():
    scene = Scene()
    scene.register(target="i-far")
    scene.pass_time(100)
    assert scene.told(target="i-far") == ("unused", "Target.NotInUse")
    assert "Availability Zone" in (scene.asked(target="i-far").description or "")


def test_a_group_that_loses_its_listener_is_not_in_use_and_its_nodes_learn_of_it():
    scene = Scene().in_service()
    scene.configure(listeners=False)
    assert scene.told() == ("unused", "Target.NotInUse")
    scene.pass_time(30)
    assert len(scene.moments("deregister")) == 2


def test_a_group_that_gains_a_listener_has_its_targets_checked():
    scene = Scene()
    scene.configure(listeners=False)
    scene.register()
    scene.configure()
    assert scene.told()[0] == "initial"
    scene.pass_time(31)
    assert scene.told()[0] == "healthy"


@pytest.mark.parametrize("state", ["stopped", "terminated"])
def test_unused_invalid_state_when_the_instance_stopped_or_terminated(state: str):
    scene = Scene().in_service()
    scene.configure(state)
    assert scene.told() == ("unused", "Target.InvalidState")


def test_an_instance_that_starts_again_is_checked_anew():
    scene = Scene().in_service()
    scene.configure("stopped")
    scene.pass_time(60)
    scene.configure("running")
    assert scene.told()[0] == "initial"
    scene.pass_time(31)
    assert scene.told()[0] == "healthy"


def test_draining_bears_deregistration_in_progress():
    scene = Scene().in_service()
    scene.deregister()
    assert scene.told() == ("draining", "Target.DeregistrationInProgress")


def test_unavailable_health_check_disabled_when_the_group_has_no_checks():
    scene = Scene(check=HealthCheck(enabled=False))
    scene.register()
    scene.pass_time(40)
    assert scene.told() == ("unavailable", "Target.HealthCheckDisabled")


def test_unavailable_internal_error_when_no_node_can_be_asked():
    scene = Scene().in_service()
    scene.elb.down = frozenset({"alb-a", "alb-b"})
    assert scene.told() == ("unavailable", "Elb.InternalError")


def test_a_zone_that_is_down_has_no_say_in_target_health():
    scene = Scene().in_service()
    scene.report(FAILS, "alb-b")
    scene.elb.down = frozenset({"alb-b"})
    assert scene.told() == ("healthy", None)


def test_a_deregistered_target_is_listed_while_draining_and_then_absent():
    scene = Scene(delay=100).in_service()
    scene.deregister()
    scene.pass_time(99)
    assert [(one.key.id, one.state) for one in scene.listed()] == [(HOST, "draining")]
    scene.pass_time(1)
    assert scene.listed() == []


def test_a_deregistered_target_that_is_asked_for_by_name_is_unused_not_registered():
    scene = Scene(delay=0).in_service()
    scene.deregister()
    assert scene.told() == ("unused", "Target.NotRegistered")


def test_a_deregistered_target_that_is_asked_for_by_name_may_be_an_invalid_target_instead():
    scene = Scene(replace(ALB, invalid_target_when_gone=True), delay=0).in_service()
    scene.deregister()
    with pytest.raises(AwsError) as refusal:
        scene.asked()
    assert refusal.value.code == "InvalidTarget"


def test_there_is_one_entry_for_each_id_and_port():
    scene = Scene()
    for port in (8081, 8082, 8083):
        scene.register(port=port)
    assert [(one.key.id, one.key.port) for one in scene.listed()] == [(HOST, 8081), (HOST, 8082), (HOST, 8083)]


def test_a_zone_given_at_registration_is_given_back():
    scene = Scene()
    scene.register(IPS, ADDRESS, zone="all")
    scene.register()
    assert scene.asked(IPS, ADDRESS).zone == "all"
    assert scene.asked().zone is None


def test_a_target_of_a_zone_that_is_not_enabled_works_when_registered_for_all_zones():
    scene = Scene()
    scene.register(IPS, "127.1.2.13", zone=ZONE_C)
    scene.register(IPS, "127.1.2.14", zone="all")
    assert scene.told(IPS, "127.1.2.13")[1] == "Target.NotInUse"
    assert scene.told(IPS, "127.1.2.14")[0] == "initial"


def test_nlb_checks_a_target_from_its_own_zone_only_unless_it_crosses_zones():
    near, far = Scene(nlb_crosses_zones=False), Scene()
    for scene in (near, far):
        scene.register(TCP)
        scene.pass_time(400)
    assert {command.node for _, command in near.commands} == {f"nlb-{ZONE_A[-1]}"}
    assert {command.node for _, command in far.commands} == {"nlb-a", "nlb-b"}


def test_nlb_needs_one_check_or_interval_times_threshold_as_the_profile_says():
    assert ALB.node_settings("application").one_check_is_enough
    assert not ALB.node_settings("network").one_check_is_enough
    assert replace(ALB, one_check_is_enough_on_nlb=True).node_settings("network").one_check_is_enough


def test_what_alb_does_with_idle_connections_and_checks_while_draining_are_switches():
    other = replace(ALB, closes_idle_on_deregistration=False, checks_while_draining=True).node_settings("application")
    assert (other.closes_idle_on_deregistration, other.checks_while_draining) == (False, True)


def test_a_changed_health_check_reaches_the_nodes_without_making_the_target_initial():
    scene = Scene().in_service()
    scene.check = HealthCheck(path="/other")
    scene.configure()
    assert scene.told() == ("healthy", None)
    scene.pass_time(31)
    assert len(scene.moments("register")) == 2


def test_the_fast_profile_is_a_tenth_of_the_true_one():
    assert (FAST.alb_lag, FAST.nlb_deregistration_lag) == ((1.0, 2.0), (11.0, 13.0))
    assert (FAST.deregistration_delay, FAST.check_interval, FAST.idle_timeout) == (30.0, 1.0, 6.0)
    assert (FAST.describe_burst, FAST.describe_rate) == (40.0, 100.0)
    assert (FAST.change_burst, FAST.change_rate) == (20.0, 40.0)
    assert (FAST.healthy_threshold, FAST.closes_idle_on_deregistration) == (2, True)
