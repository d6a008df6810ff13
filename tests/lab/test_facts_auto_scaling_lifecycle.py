"""Auto Scaling: launch, termination, hooks, scale-in. Against the pure model, at true length."""

import pytest

from lab.model_rig import WEB, ZONE_A, ZONE_B
from lab.scaling_rig import END_HOOK, GROUP, LAUNCH_HOOK, ScalingScene
from zdd_lab.model.auto_scaling import group_calls, instance_calls
from zdd_lab.model.auto_scaling.lifecycle_hook import ABANDON, CONTINUE, TERMINATING, LifecycleHook
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.target_health import NOT_REGISTERED


def test_a_group_launches_up_to_its_desired_capacity_in_the_emptiest_zones_and_registers():
    asg = ScalingScene((1, 3, 4))
    assert asg.states == ["InService"] * 3
    assert sorted(one.zone for one in asg.group.members.values()) == [ZONE_A, ZONE_A, ZONE_B]
    assert {asg.target(one) for one in asg.instances} == {"initial"}  # InService is not yet healthy


def test_a_launch_hook_holds_an_instance_in_pending_wait_and_out_of_the_target_group():
    asg = ScalingScene((1, 1, 1), hooks=(LAUNCH_HOOK,))
    (one,) = asg.instances
    asg.pass_time(100)
    assert (asg.state(one), asg.target(one)) == ("Pending:Wait", "absent")
    assert asg.account.target_state(one) == "InService"  # IMDS tells where it goes
    asg.complete("launch", one)
    assert (asg.state(one), asg.target(one)) == ("InService", "initial")


def test_a_launch_that_is_abandoned_is_terminated_and_replaced():
    asg = ScalingScene((1, 1, 1), hooks=(LAUNCH_HOOK,))
    (one,) = asg.instances
    asg.complete("launch", one, ABANDON)
    asg.pass_time(1)
    assert [name for _, name in asg.ended] == [one]
    assert asg.states == ["Pending:Wait"]
    assert asg.instances != [one]


def test_a_hook_that_times_out_gives_its_default_result():
    asg = ScalingScene((1, 1, 1), hooks=(LAUNCH_HOOK,))  # ABANDON by default
    (one,) = asg.instances
    asg.pass_time(119)
    assert asg.state(one) == "Pending:Wait"
    asg.pass_time(2)
    assert asg.state(one) is None


def test_a_terminating_instance_is_deregistered_and_its_delay_waited_out_before_the_hook():
    asg = ScalingScene(hooks=(END_HOOK,), delay=60)
    asg.settle()
    one, _ = asg.instances
    asg.terminate(one)
    assert (asg.state(one), asg.target(one)) == ("Terminating", "draining")
    assert asg.account.target_state(one) == "Terminated"
    asg.pass_time(59)
    assert asg.state(one) == "Terminating"
    asg.pass_time(1)
    assert (asg.state(one), asg.target(one)) == ("Terminating:Wait", "absent")
    assert asg.ended == []
    asg.complete("end", one)
    assert [name for _, name in asg.ended] == [one]


def test_without_a_hook_a_terminating_instance_ends_with_its_deregistration_delay():
    asg = ScalingScene(delay=60).settle()
    one, began = asg.instances[0], asg.now
    asg.terminate(one)
    asg.pass_time(100)
    assert asg.ended == [(began + 60, one)]


def test_before_the_hook_begins_heartbeat_and_complete_are_refused():
    asg = ScalingScene(hooks=(END_HOOK,)).settle()
    one, _ = asg.instances
    for _ in range(2):  # in service, then while it drains
        for call in (asg.beat, asg.complete):
            with pytest.raises(AwsError, match=f"No active Lifecycle Action found with instance ID {one}"):
                call("end", one)
        asg.terminate(one)


def test_a_heartbeat_gives_the_whole_time_out_again():
    asg = ScalingScene(hooks=(END_HOOK,), delay=0).settle()
    one, _ = asg.instances
    asg.terminate(one)
    for _ in range(5):
        asg.pass_time(110)
        asg.beat("end", one)
    assert asg.state(one) == "Terminating:Wait"
    asg.pass_time(121)
    assert asg.state(one) is None


def test_heartbeats_reach_no_further_than_a_hundred_time_outs_or_48_hours():
    assert LifecycleHook("x", TERMINATING, 30.0).global_timeout == 3000
    assert LifecycleHook("x", TERMINATING, 7200.0).global_timeout == 48 * 3600
    asg = ScalingScene(hooks=(LifecycleHook("end", TERMINATING, 30.0),), delay=0).settle()
    one, _ = asg.instances
    asg.terminate(one)
    for _ in range(149):
        asg.pass_time(20)
        asg.beat("end", one)
    asg.pass_time(20)
    assert asg.state(one) is None


@pytest.mark.parametrize("seconds", [29.0, 7201.0])
def test_a_heartbeat_time_out_is_30_to_7200_seconds(seconds: float):
    with pytest.raises(AwsError, match="ValidationError"):
        LifecycleHook("x", TERMINATING, seconds)


def test_a_hook_is_completed_by_its_token_too():
    asg = ScalingScene(hooks=(END_HOOK,), delay=0).settle()
    one, _ = asg.instances
    asg.terminate(one)
    (wait,) = asg.group.members[one].waits
    instance_calls.complete(asg.account, GROUP, "end", CONTINUE, asg.now, instance_id="", token=wait.token)
    asg.act()
    assert asg.state(one) is None


def test_several_hooks_all_have_to_continue_and_one_that_abandons_ends_the_others():
    hooks = (END_HOOK, LifecycleHook("logs", TERMINATING, 120.0))
    asg = ScalingScene((1, 2, 2), hooks=hooks, delay=0).settle()
    one, other = asg.instances
    asg.terminate(one)
    asg.complete("end", one)
    assert asg.state(one) == "Terminating:Wait"
    asg.complete("logs", one)
    assert asg.state(one) is None
    asg.terminate(other, decrement=False)
    asg.complete("logs", other, ABANDON)
    assert asg.state(other) is None


def test_abandoned_with_retention_an_instance_is_retained():
    asg = ScalingScene(hooks=(END_HOOK,), delay=0, retains_on_abandon=True).settle()
    one, _ = asg.instances
    asg.terminate(one)
    asg.complete("end", one, ABANDON)
    asg.pass_time(500)
    assert asg.state(one) == "Terminating:Retained"
    assert asg.ended == []


def test_a_scale_in_takes_the_oldest_in_the_fullest_zone():
    asg = ScalingScene((1, 3, 4), delay=10).settle()
    in_a = [name for name, one in asg.group.members.items() if one.zone == ZONE_A]
    asg.desire(2)
    assert asg.state(in_a[0]) == "Terminating"
    asg.pass_time(12)
    assert asg.states == ["InService"] * 2


def test_a_scale_in_passes_over_a_protected_instance():
    asg = ScalingScene((0, 2, 2), delay=0).settle()
    one, other = asg.instances
    instance_calls.protect(asg.account, GROUP, [one], protected=True)
    asg.desire(0)
    asg.pass_time(5)
    assert asg.instances == [one]
    assert [name for _, name in asg.ended] == [other]


def test_the_desired_capacity_stays_within_its_bounds():
    asg = ScalingScene((1, 2, 3))
    with pytest.raises(AwsError, match="New SetDesiredCapacity value 4 is above max value 3"):
        asg.desire(4)
    with pytest.raises(AwsError, match="New SetDesiredCapacity value 0 is below min value 1"):
        asg.desire(0)


def test_terminating_with_decrement_is_refused_at_the_minimum_and_without_it_is_replaced():
    asg = ScalingScene((2, 2, 3), delay=0).settle()
    one, other = asg.instances
    with pytest.raises(AwsError, match=r"Currently, desiredSize equals minSize \(2\)"):
        asg.terminate(one)
    asg.terminate(one, decrement=False)
    asg.pass_time(2)
    assert len(asg.instances) == 2
    assert one not in asg.instances
    assert other in asg.instances


def test_a_suspended_launch_launches_nothing_and_a_suspended_terminate_ends_nothing():
    asg = ScalingScene((0, 2, 4), delay=0).settle()
    group_calls.suspend(asg.account, GROUP, ["Launch", "Terminate"])
    asg.desire(4)
    asg.pass_time(5)
    assert len(asg.instances) == 2
    asg.desire(0)
    asg.pass_time(5)
    assert asg.states == ["InService"] * 2
    group_calls.resume(asg.account, GROUP, ["Terminate"])
    asg.pass_time(5)
    assert asg.instances == []


def test_a_group_that_a_service_operates_denies_its_own_changes():
    asg = ScalingScene(operator="eks.amazonaws.com").settle()
    for call in (asg.enter_standby, asg.terminate):
        with pytest.raises(AwsError, match="AccessDenied"):
            call(asg.instances[0])


def test_a_detached_instance_says_so_in_its_metadata_and_runs_on():
    asg = ScalingScene(delay=10).settle()
    one, _ = asg.instances
    instance_calls.detach(asg.account, GROUP, [one], asg.now, decrement=True)
    asg.pass_time(11)
    assert (asg.state(one), asg.target(one), asg.account.target_state(one)) == (None, "absent", "Detached")
    assert asg.ended == []


def test_an_attached_instance_is_in_service_without_a_hook_and_raises_the_desired_capacity():
    asg = ScalingScene((0, 0, 2), hooks=(LAUNCH_HOOK,))
    one = asg.launch()
    assert asg.account.target_state(one) is None  # 404 until it is in a group
    instance_calls.attach(asg.account, GROUP, [one], asg.now)
    asg.act()
    assert (asg.state(one), asg.group.desired, asg.target(one)) == ("InService", 1, "initial")
    assert asg.account.target_state(one) == "InService"


def test_a_group_with_instances_is_deleted_only_by_force():
    asg = ScalingScene(delay=0).settle()
    with pytest.raises(AwsError, match="ResourceInUse"):
        group_calls.delete(asg.account, GROUP, asg.now, force=False)
    group_calls.delete(asg.account, GROUP, asg.now, force=True)
    asg.pass_time(2)
    assert GROUP not in asg.account.groups
    assert len(asg.ended) == 2


def test_a_target_registered_again_while_its_instance_terminates_is_a_dying_target():
    asg = ScalingScene(hooks=(END_HOOK,), delay=60).settle()
    one, _ = asg.instances
    asg.terminate(one)
    asg.scene.register(WEB, one)  # a deploy tool that does not know
    asg.pass_time(30)
    assert asg.state(one) == "Terminating:Wait"
    assert asg.target(one) == "healthy"
    asg.complete("end", one)
    assert asg.scene.told(WEB, one) != NOT_REGISTERED  # nobody takes it out any more
