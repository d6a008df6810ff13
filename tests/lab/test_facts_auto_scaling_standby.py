"""Auto Scaling: standby, health, rebalancing, notices. Against the pure model, at true length."""

from dataclasses import replace

import pytest

from lab.model_rig import TCP, WEB, ZONE_A
from lab.scaling_rig import END_HOOK, GROUP, LAUNCH_HOOK, ScalingScene
from zdd_lab.model.auto_scaling import group_calls, instance_calls
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.profile import ALB


def test_entering_standby_deregisters_and_lasts_the_deregistration_delay():
    asg = ScalingScene(delay=60).settle()
    one, _ = asg.instances
    asg.enter_standby(one)
    assert (asg.state(one), asg.target(one), asg.group.desired) == ("EnteringStandby", "draining", 1)
    assert asg.account.target_state(one) == "Standby"
    asg.pass_time(59)
    assert asg.state(one) == "EnteringStandby"
    asg.pass_time(1)
    assert (asg.state(one), asg.target(one)) == ("Standby", "absent")


def test_entering_standby_cannot_be_left():
    asg = ScalingScene().settle()
    one, _ = asg.instances
    asg.enter_standby(one)
    with pytest.raises(AwsError, match=f"ValidationError: The instance {one} is not in Standby."):
        asg.exit_standby(one)


def test_standby_is_entered_only_from_in_service():
    asg = ScalingScene(hooks=(LAUNCH_HOOK,))
    one, _ = asg.instances
    with pytest.raises(AwsError, match=f"ValidationError: The instance {one} is not in InService."):
        asg.enter_standby(one)


def test_standby_below_the_minimum_is_refused_with_the_numbers():
    asg = ScalingScene((2, 2, 3)).settle()
    text = f"AutoScalingGroup {GROUP} has min-size=2, max-size=3, and desired-size=2. To place into standby 1 \
instance, please update the AutoScalingGroup sizes appropriately."
    with pytest.raises(AwsError) as refused:
        asg.enter_standby(asg.instances[0])
    assert (refused.value.code, refused.value.message) == ("ValidationError", text)
    assert asg.states == ["InService"] * 2


def test_standby_without_decrement_launches_a_replacement():
    asg = ScalingScene((2, 2, 3)).settle()
    one, _ = asg.instances
    asg.enter_standby(one, decrement=False)
    assert (asg.group.desired, len(asg.instances)) == (2, 3)


def test_exit_standby_registers_again_and_raises_the_desired_capacity_and_no_hook_fires():
    asg = ScalingScene(hooks=(END_HOOK,), delay=10).settle()
    group_calls.put_hook(asg.account, GROUP, LAUNCH_HOOK)
    one, _ = asg.instances
    asg.enter_standby(one)
    asg.pass_time(11)
    assert asg.state(one) == "Standby"
    asg.exit_standby(one)
    assert (asg.state(one), asg.group.desired) == ("Pending", 2)
    asg.pass_time(6)
    assert (asg.state(one), asg.target(one)) == ("InService", "initial")  # not yet healthy
    asg.pass_time(40)
    assert asg.target(one) == "healthy"


def test_exit_standby_is_refused_while_launch_is_suspended():
    asg = ScalingScene(delay=0).settle()
    one, _ = asg.instances
    asg.enter_standby(one)
    group_calls.suspend(asg.account, GROUP, ["Launch"])
    with pytest.raises(AwsError, match="ValidationError"):
        asg.exit_standby(one)
    group_calls.resume(asg.account, GROUP, ["Launch"])
    asg.exit_standby(one)


def test_health_checks_stop_in_standby():
    asg = ScalingScene(delay=0, health_check_type="ELB").settle()
    one, _ = asg.instances
    asg.enter_standby(one)
    asg.end(one, "stopped")
    asg.pass_time(200)
    assert asg.state(one) == "Standby"


def test_a_registered_unhealthy_instance_is_replaced_with_type_elb_after_the_grace_period():
    asg = ScalingScene((2, 2, 3), delay=0, health_check_type="ELB", grace=300.0).settle()
    one, _ = asg.instances
    asg.fail(one)
    asg.pass_time(200)
    assert asg.state(one) == "InService"
    asg.pass_time(100)
    assert asg.state(one) is None
    assert len(asg.instances) == 2


def test_a_group_of_type_ec2_ignores_the_load_balancer():
    asg = ScalingScene(delay=0).settle()
    asg.fail(asg.instances[0])
    asg.pass_time(300)
    assert asg.ended == []


def test_one_unhealthy_target_group_of_two_is_enough():
    asg = ScalingScene(delay=0, health_check_type="ELB", target_groups=(WEB, TCP))
    asg.pass_time(400)
    one, _ = asg.instances
    asg.fail(one, TCP)
    asg.pass_time(31)
    assert [name for _, name in asg.ended] == [one]


@pytest.mark.parametrize("health_check_type", ["EC2", "ELB"])
def test_an_instance_that_does_not_run_is_replaced_with_both_types(health_check_type: str):
    asg = ScalingScene(delay=0, health_check_type=health_check_type).settle()
    one, _ = asg.instances
    asg.end(one, "stopped")
    asg.pass_time(31)
    assert one not in asg.instances
    assert len(asg.instances) == 2


@pytest.mark.parametrize("replaces", [False, True])
def test_a_deregistered_instance_is_never_replaced_while_it_drains_and_then_as_the_switch_says(*, replaces: bool):
    profile = replace(ALB, replaces_deregistered=replaces)
    asg = ScalingScene(delay=300, profile=profile, health_check_type="ELB").settle()
    one, _ = asg.instances
    asg.scene.deregister(WEB, one)
    asg.pass_time(299)
    assert (asg.state(one), asg.target(one)) == ("InService", "draining")
    asg.pass_time(35)
    assert (asg.state(one) == "InService") is not replaces


def test_a_deregistered_instance_of_type_ec2_is_never_replaced():
    asg = ScalingScene(delay=0, profile=replace(ALB, replaces_deregistered=True)).settle()
    asg.scene.deregister(WEB, asg.instances[0])
    asg.pass_time(300)
    assert asg.states == ["InService"] * 2


def test_set_instance_health_replaces_at_once_unless_the_grace_period_is_respected():
    asg = ScalingScene(delay=0, grace=300.0).settle()
    one, _ = asg.instances
    instance_calls.set_health(asg.account, one, "Unhealthy", asg.now, respects_grace=True)
    asg.pass_time(5)
    assert asg.state(one) == "InService"
    instance_calls.set_health(asg.account, one, "Unhealthy", asg.now, respects_grace=False)
    asg.pass_time(5)
    assert asg.state(one) is None


def test_az_rebalance_reacts_when_standby_leaves_the_zones_uneven():
    asg = ScalingScene((2, 4, 6), delay=0).settle()
    in_a = [name for name, one in asg.group.members.items() if one.zone == ZONE_A]
    asg.enter_standby(*in_a)
    asg.pass_time(290)
    assert len(asg.instances) == 4
    asg.pass_time(60)
    assert asg.group.spread() == {"us-east-1a": 1, "us-east-1b": 1}
    assert {asg.state(one) for one in in_a} == {"Standby"}
    assert len(asg.ended) == 1


def test_az_rebalance_that_is_suspended_leaves_the_zones_uneven():
    asg = ScalingScene((2, 4, 6), delay=0).settle()
    group_calls.suspend(asg.account, GROUP, ["AZRebalance"])
    asg.enter_standby(*(name for name, one in asg.group.members.items() if one.zone == ZONE_A))
    asg.pass_time(400)
    assert asg.ended == []


def test_an_instance_refresh_waits_an_hour_for_instances_in_standby_and_then_fails():
    asg = ScalingScene(delay=0).settle()
    one, _ = asg.instances
    asg.enter_standby(one)
    asg.pass_time(1)
    refresh = group_calls.start_refresh(asg.account, GROUP, "Wait", asg.now)
    asg.pass_time(3500)
    assert (refresh.status, asg.state(one)) == ("InProgress", "Standby")
    asg.pass_time(110)
    assert refresh.status == "Failed"


def test_an_instance_refresh_goes_on_when_the_instance_is_back_in_service():
    asg = ScalingScene(delay=0).settle()
    before = set(asg.instances)
    one, _ = asg.instances
    asg.enter_standby(one)
    asg.pass_time(1)
    refresh = group_calls.start_refresh(asg.account, GROUP, "Wait", asg.now)
    asg.pass_time(100)
    asg.exit_standby(one)
    asg.pass_time(100)
    assert refresh.status == "Successful"
    assert not before & set(asg.instances)


@pytest.mark.parametrize(("standby", "left"), [("Ignore", "Standby"), ("Terminate", None)])
def test_an_instance_refresh_ignores_or_terminates_instances_in_standby_on_request(standby: str, left: str | None):
    asg = ScalingScene(delay=0).settle()
    one, _ = asg.instances
    asg.enter_standby(one)
    asg.pass_time(1)
    refresh = group_calls.start_refresh(asg.account, GROUP, standby, asg.now)
    asg.pass_time(30)
    assert (refresh.status, asg.state(one)) == ("Successful", left)


def test_on_the_final_spot_notice_the_hook_begins_at_once_and_ec2_does_not_wait_for_it():
    asg = ScalingScene(hooks=(END_HOOK,), delay=300, capacity_rebalance=True).settle()
    one, _ = asg.instances
    ends = asg.now + 120
    asg.account.interrupt(one, ends, asg.now)
    asg.act()
    assert (asg.state(one), asg.target(one)) == ("Terminating:Wait", "draining")
    asg.pass_time(119)
    assert asg.ended == []
    asg.pass_time(1)
    assert asg.ended == [(ends, one)]


def test_on_the_final_spot_notice_an_instance_that_terminates_already_waits_no_longer_for_its_deregistration():
    asg = ScalingScene(hooks=(END_HOOK,), delay=300).settle()
    one, _ = asg.instances
    asg.terminate(one)
    asg.pass_time(5)
    assert asg.state(one) == "Terminating"
    asg.account.interrupt(one, asg.now + 120, asg.now)
    asg.act()
    assert asg.state(one) == "Terminating:Wait"


def test_without_capacity_rebalancing_a_spot_instance_is_replaced_when_it_is_gone():
    asg = ScalingScene(delay=0).settle()
    one, _ = asg.instances
    asg.account.interrupt(one, asg.now + 120, asg.now)
    asg.pass_time(119)
    assert (asg.state(one), asg.account.target_state(one)) == ("InService", "InService")
    asg.pass_time(40)
    assert one not in asg.instances
    assert len(asg.instances) == 2


def test_with_capacity_rebalancing_a_new_instance_serves_before_the_one_at_risk_goes():
    asg = ScalingScene((2, 2, 2), delay=30, capacity_rebalance=True).settle()
    one, _ = asg.instances
    asg.account.recommend_rebalance(one)
    asg.act()
    asg.pass_time(1)
    assert sorted(asg.states) == ["InService", "InService", "Terminating"]
    assert asg.state(one) == "Terminating"
