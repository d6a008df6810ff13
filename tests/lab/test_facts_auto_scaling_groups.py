"""Auto Scaling: sizes, processes, target groups, hooks that are deleted. Against the pure model, at true length."""

import pytest

from lab.model_rig import IPS, LONE, WEB, ZONE_A
from lab.scaling_rig import END_HOOK, GROUP, LAUNCH_HOOK, ScalingScene
from zdd_lab.model.auto_scaling import group_calls, instance_calls
from zdd_lab.model.aws_error import AwsError


def test_new_limits_take_the_desired_capacity_along():
    asg = ScalingScene((1, 2, 4))
    group_calls.update(asg.account, GROUP, {"min_size": 3})
    assert asg.group.desired == 3
    group_calls.update(asg.account, GROUP, {"min_size": 0, "max_size": 1})
    assert asg.group.desired == 1
    with pytest.raises(AwsError, match="Desired capacity:5 must be between the specified min size:0 and max size:1"):
        group_calls.update(asg.account, GROUP, {"desired": 5})
    with pytest.raises(AwsError, match="Max bound, 1, must be greater than or equal to min bound, 2"):
        group_calls.update(asg.account, GROUP, {"min_size": 2})


def test_exit_standby_above_the_maximum_is_refused_with_the_numbers():
    asg = ScalingScene((1, 2, 2), delay=0).settle()
    one, _ = asg.instances
    asg.enter_standby(one)
    asg.desire(2)
    asg.pass_time(1)
    with pytest.raises(AwsError, match="min-size=1, max-size=2, and desired-size=2"):
        asg.exit_standby(one)


def test_attaching_above_the_maximum_and_detaching_below_the_minimum_are_refused():
    asg = ScalingScene((2, 2, 2)).settle()
    one = asg.launch()
    with pytest.raises(AwsError, match=r"max-size=2, and desired-size=2. To attach 1 instance, please update"):
        instance_calls.attach(asg.account, GROUP, [one], asg.now)
    with pytest.raises(AwsError, match=r"min-size=2.*To detach 1 instance, please update"):
        instance_calls.detach(asg.account, GROUP, asg.instances[:1], asg.now, decrement=True)


def test_an_instance_back_from_standby_has_in_service_as_its_target_state():
    asg = ScalingScene(delay=0).settle()
    one, _ = asg.instances
    asg.enter_standby(one)
    asg.exit_standby(one)
    assert asg.account.target_state(one) == "InService"


@pytest.mark.parametrize("process", ["HealthCheck", "ReplaceUnhealthy", "Terminate"])
def test_a_suspended_process_leaves_an_unhealthy_instance_in_service(process: str):
    asg = ScalingScene(delay=0, health_check_type="ELB").settle()
    group_calls.suspend(asg.account, GROUP, [process])
    asg.fail(asg.instances[0])
    asg.pass_time(100)
    assert asg.ended == []
    group_calls.resume(asg.account, GROUP, [process])
    asg.pass_time(31)
    assert len(asg.ended) == 1


def test_the_health_check_looks_now_and_then():
    asg = ScalingScene(delay=0, health_check_type="ELB").settle()
    looked = asg.group.checked_at
    while asg.group.checked_at == looked:
        asg.pass_time(1)
    asg.fail(asg.instances[0])
    asg.pass_time(29)
    assert asg.ended == []
    asg.pass_time(1)
    assert len(asg.ended) == 1


def test_a_scale_in_prefers_the_fullest_zone_to_the_oldest_instance():
    asg = ScalingScene((1, 1, 3), delay=0).settle()
    oldest = asg.instances[0]  # in zone a
    group_calls.suspend(asg.account, GROUP, ["Launch", "AZRebalance"])
    in_b = [asg.launch("us-east-1b") for _ in range(2)]
    instance_calls.attach(asg.account, GROUP, in_b, asg.now)
    asg.pass_time(5)
    assert asg.group.members[oldest].zone == ZONE_A
    asg.desire(2)
    asg.pass_time(2)
    assert asg.state(oldest) == "InService"


def test_a_scale_in_takes_the_instance_at_risk_first():
    asg = ScalingScene((1, 2, 2), delay=0).settle()
    _, young = asg.instances
    asg.account.recommend_rebalance(young)
    asg.pass_time(100)
    assert asg.states == ["InService"] * 2  # without capacity rebalancing nothing happens by itself
    asg.desire(1)
    asg.pass_time(2)
    assert [name for _, name in asg.ended] == [young]


def test_an_instance_refresh_takes_one_instance_at_a_time():
    asg = ScalingScene((1, 2, 2), hooks=(LAUNCH_HOOK,), delay=0)
    for one in asg.instances:
        asg.complete("launch", one)
    refresh = group_calls.start_refresh(asg.account, GROUP, "Wait", asg.now)
    asg.pass_time(20)  # the first replacement waits for its hook
    assert sorted(asg.states) == ["InService", "Pending:Wait"]
    assert (refresh.status, refresh.percentage) == ("InProgress", 50)


def test_a_group_with_an_activity_under_way_is_not_deleted():
    asg = ScalingScene((0, 1, 1), hooks=(LAUNCH_HOOK,))
    with pytest.raises(AwsError, match="ScalingActivityInProgress"):
        group_calls.delete(asg.account, GROUP, asg.now, force=False)


def test_attaching_a_target_group_registers_what_is_in_service_and_detaching_deregisters_it():
    asg = ScalingScene((0, 2, 2), target_groups=())
    assert {asg.target(one) for one in asg.instances} == {"absent"}
    group_calls.attach_target_groups(asg.account, GROUP, [WEB], asg.now)
    assert {asg.target(one) for one in asg.instances} == {"initial"}
    group_calls.detach_target_groups(asg.account, GROUP, [WEB], asg.now)
    assert {asg.target(one) for one in asg.instances} == {"draining"}
    with pytest.raises(AwsError, match="Provided Target Groups may not be valid"):
        group_calls.attach_target_groups(asg.account, GROUP, ["arn:nothing"], asg.now)


def test_every_attached_target_group_gets_the_instance():
    asg = ScalingScene((1, 1, 1), target_groups=(WEB, LONE))
    (one,) = asg.instances
    assert (asg.target(one, WEB), asg.target(one, LONE), asg.target(one, IPS)) == ("initial", "unused", "absent")


def test_a_deleted_hook_ends_its_waits_with_abandon_at_launch_and_continue_at_the_end():
    asg = ScalingScene((0, 1, 1), hooks=(LAUNCH_HOOK,))
    (one,) = asg.instances
    group_calls.suspend(asg.account, GROUP, ["Launch"])
    group_calls.delete_hook(asg.account, GROUP, "launch")
    asg.pass_time(1)
    assert [name for _, name in asg.ended] == [one]
    kept = ScalingScene((0, 1, 1), hooks=(END_HOOK,), delay=0, retains_on_abandon=True).settle()
    (one,) = kept.instances
    kept.terminate(one)
    group_calls.delete_hook(kept.account, GROUP, "end")
    kept.pass_time(1)
    assert [name for _, name in kept.ended] == [one]


def test_without_add_to_load_balancer_an_instance_is_in_service_and_in_no_target_group():
    asg = ScalingScene((0, 0, 1))
    group_calls.suspend(asg.account, GROUP, ["AddToLoadBalancer"])
    asg.desire(1)
    (one,) = asg.instances
    assert (asg.state(one), asg.target(one)) == ("InService", "absent")


def test_an_unknown_process_hook_or_group_is_refused():
    asg = ScalingScene()
    with pytest.raises(AwsError, match="ValidationError"):
        group_calls.suspend(asg.account, GROUP, ["Nothing"])
    with pytest.raises(AwsError, match="No Lifecycle Hook found with name nothing"):
        asg.beat("nothing", asg.instances[0])
    with pytest.raises(AwsError, match="AutoScalingGroup name not found"):
        group_calls.set_desired(asg.account, "nothing", 1)
    with pytest.raises(AwsError, match="is not part of Auto Scaling group web"):
        asg.enter_standby("i-nothing")
