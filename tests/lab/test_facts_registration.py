"""Deregister and register and "Five facts": against the pure model, at true length."""

from dataclasses import replace

import pytest

from lab.model_rig import ADDRESS, FAILS, HOST, IPS, LONE, TCP, WEB, Scene
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.profile import ALB


def test_a_target_is_named_by_group_id_and_port():
    scene = Scene()
    scene.register(port=8081)
    scene.register(port=8082)
    scene.register(IPS, ADDRESS, 8081)
    scene.deregister(port=8081)
    assert [(one.key.port, one.state) for one in scene.listed()] == [(8081, "draining"), (8082, "initial")]
    assert [one.state for one in scene.listed(IPS)] == ["initial"]


def test_deregistering_without_the_override_port_succeeds_and_does_nothing():
    scene = Scene()
    scene.register(port=8081)
    scene.pass_time(60)
    scene.deregister(port=None)
    scene.pass_time(400)
    assert scene.told(port=8081) == ("healthy", None)
    assert scene.moments("deregister") == []


def test_a_health_query_without_the_override_port_says_unused_of_a_healthy_target():
    scene = Scene()
    scene.register(port=8081)
    scene.pass_time(60)
    assert scene.told(port=None) == ("unused", "Target.NotRegistered")
    assert scene.told(port=8081) == ("healthy", None)


def test_without_a_port_a_target_is_registered_on_the_groups_own_port():
    scene = Scene()
    scene.register(port=None)
    assert [one.key.port for one in scene.listed()] == [80]


def test_alb_shows_draining_until_the_whole_deregistration_delay_has_passed():
    scene = Scene(delay=300).in_service()  # with nothing in flight: the model does not even ask
    scene.deregister()
    for _ in range(299):
        assert scene.told() == ("draining", "Target.DeregistrationInProgress")
        scene.pass_time(1)
    scene.pass_time(1)
    assert scene.told() == ("unused", "Target.NotRegistered")


def test_the_deregistration_delay_is_the_groups_own():
    scene = Scene(delay=7).in_service()
    scene.deregister()
    scene.pass_time(6.9)
    assert scene.told()[0] == "draining"
    scene.pass_time(0.2)
    assert scene.told()[0] == "unused"


def test_a_draining_target_still_gets_new_requests_until_each_node_has_learned_of_it():
    scene = Scene().in_service()
    scene.deregister()
    scene.pass_time(9.9)
    assert scene.moments("deregister") == []  # draining, and both nodes still route to it
    scene.pass_time(10.2)
    lags = scene.moments("deregister")
    assert len(lags) == 2
    assert len(set(lags)) == 2  # each zone's node after its own lag
    assert all(10 <= lag <= 20 for lag in lags)


def test_nlb_sends_new_connections_for_two_minutes_even_at_delay_0_and_says_unused_meanwhile():
    scene = Scene(delay=0).in_service(TCP)
    scene.deregister(TCP)
    scene.pass_time(1)
    assert scene.told(TCP) == ("unused", "Target.NotRegistered")
    scene.pass_time(300)
    assert all(110 <= lag <= 130 for lag in scene.moments("deregister"))
    assert len(scene.moments("deregister")) == 2


def test_alb_cuts_what_is_in_flight_at_the_end_of_the_deregistration_delay():
    scene = Scene(delay=60).in_service()
    scene.deregister()
    scene.pass_time(120)
    assert scene.moments("cut") == [60.0, 60.0]


def test_alb_never_cuts_a_node_that_has_not_learned_of_it_yet():
    scene = Scene(delay=0).in_service()
    scene.deregister()
    scene.pass_time(120)
    assert scene.moments("cut") == scene.moments("deregister")


def test_nlb_connections_outlive_unused():
    scene = Scene(delay=200).in_service(TCP)
    scene.deregister(TCP)
    scene.pass_time(1000)
    assert scene.told(TCP)[0] == "unused"
    assert scene.moments("cut") == []


def test_nlb_cuts_connections_at_the_end_of_the_delay_when_connection_termination_is_enabled():
    attributes = {"deregistration_delay.connection_termination.enabled": "true"}
    scene = Scene(delay=200, attributes=attributes).in_service(TCP)
    scene.deregister(TCP)
    scene.pass_time(1000)
    assert scene.moments("cut") == [200.0, 200.0]


def test_alb_first_checks_a_new_target_within_30_seconds():
    for seed in range(50):
        scene = Scene(seed=seed)
        scene.register()
        scene.pass_time(60)
        assert all(10 <= at <= 30 for at in scene.moments("register"))


def test_nlb_first_checks_a_new_target_after_120_to_300_seconds():
    for seed in range(50):
        scene = Scene(seed=seed)
        scene.register(TCP)
        scene.pass_time(400)
        assert all(120 <= at <= 300 for at in scene.moments("register"))


def test_deregistering_what_is_not_registered_succeeds():
    scene = Scene()
    scene.deregister()
    scene.deregister(target="i-never-heard-of")
    assert scene.listed() == []


def test_deregistering_twice_succeeds_and_does_not_begin_the_delay_anew():
    scene = Scene(delay=60).in_service()
    scene.deregister()
    scene.pass_time(40)
    scene.deregister()
    scene.pass_time(20.1)
    assert scene.told()[0] == "unused"


def test_registering_twice_changes_nothing():
    scene = Scene().in_service()
    scene.register()
    assert scene.told() == ("healthy", None)


@pytest.mark.parametrize("state", ["pending", "stopping", "stopped", "shutting-down", "terminated"])
def test_registering_an_instance_requires_it_to_be_running(state: str):
    scene = Scene(state=state)
    with pytest.raises(AwsError, match="not in a running state") as refusal:
        scene.register()
    assert refusal.value.code == "InvalidTarget"
    assert scene.listed() == []


def test_registering_an_unknown_instance_is_an_invalid_target_and_registers_none_of_the_others():
    scene = Scene()
    with pytest.raises(AwsError) as refusal:
        scene.register(target="i-unknown")
    assert refusal.value.code == "InvalidTarget"


def test_an_unknown_group_is_target_group_not_found_for_every_call():
    scene = Scene()
    for call in (scene.register, scene.deregister, scene.asked):
        with pytest.raises(AwsError) as refusal:
            call("arn:group/none")
        assert refusal.value.code == "TargetGroupNotFound"


def test_registering_a_target_that_is_still_draining_is_accepted_and_makes_it_initial():
    scene = Scene().in_service()
    scene.deregister()
    scene.pass_time(100)  # both nodes have let it go
    scene.register()
    assert scene.told() == ("initial", "Elb.RegistrationInProgress")
    scene.pass_time(31)
    assert scene.told() == ("healthy", None)
    scene.pass_time(1000)  # the first deregistration's delay has passed: it must not strike the new registration
    assert scene.told() == ("healthy", None)
    assert scene.moments("cut") == []


def test_registering_before_any_node_has_learned_of_the_deregistration_takes_it_back():
    scene = Scene().in_service()
    scene.deregister()
    scene.pass_time(5)
    scene.register()
    assert scene.told()[0] == "initial"
    scene.pass_time(31)
    assert scene.told() == ("healthy", None)
    assert scene.moments("deregister") == []


def test_nodes_that_have_learned_of_no_change_yet_let_go_of_a_target_that_came_and_went_meanwhile():
    scene = Scene(delay=0).in_service()
    scene.deregister()
    scene.pass_time(1)
    scene.register()
    scene.pass_time(1)
    scene.deregister()
    scene.pass_time(60)
    assert len(scene.moments("deregister")) == 2


def test_registering_a_draining_ip_target_is_accepted_or_refused_as_the_profile_says():
    accepts, refuses = Scene(), Scene(replace(ALB, reregister_draining_ip=False))
    for scene in (accepts, refuses):
        scene.in_service(IPS, ADDRESS).deregister(IPS, ADDRESS)
        scene.pass_time(50)
    accepts.register(IPS, ADDRESS)
    assert accepts.told(IPS, ADDRESS)[0] == "initial"
    with pytest.raises(AwsError) as refusal:
        refuses.register(IPS, ADDRESS)
    assert refusal.value.code == "InvalidTarget"
    refuses.pass_time(250)  # unused: then it is accepted
    refuses.register(IPS, ADDRESS)
    assert refuses.told(IPS, ADDRESS)[0] == "initial"


def test_registering_a_draining_instance_is_accepted_even_where_ip_targets_are_refused():
    scene = Scene(replace(ALB, reregister_draining_ip=False)).in_service()
    scene.deregister()
    scene.register()
    assert scene.told()[0] == "initial"


def test_a_target_in_many_groups_drains_from_one_alone():
    scene = Scene().in_service()
    scene.register(TCP)
    scene.deregister()
    assert (scene.told()[0], scene.told(TCP)[0]) == ("draining", "initial")


def test_a_target_that_no_load_balancer_has_does_not_drain():
    scene = Scene()
    scene.register(LONE)
    scene.deregister(LONE)
    assert scene.listed(LONE) == []


def test_a_health_check_that_fails_does_not_deregister():
    scene = Scene().in_service()
    scene.report(FAILS, "alb-a")
    scene.report(FAILS, "alb-b")
    scene.pass_time(1000)
    assert [one.key.id for one in scene.listed(WEB)] == [HOST]


def test_slow_start_is_not_visible_in_target_health():
    scene = Scene(attributes={"slow_start.duration_seconds": "900"}).in_service()
    key = scene.asked().key
    backend = scene.elb.backend(key)
    assert backend is not None
    assert backend.slow_start == 900
    assert scene.told() == ("healthy", None)


def test_an_address_outside_loopback_is_refused_so_that_the_lab_never_leaves_the_machine():
    with pytest.raises(AwsError) as refusal:
        Scene().register(IPS, "10.0.0.1")
    assert refusal.value.code == "InvalidTarget"
