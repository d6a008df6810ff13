"""The API's calls on instances of a group: standby, termination, hooks, health, attaching.

Every function raises AwsError, with AWS's codes and texts, and changes nothing then.
"""

from collections.abc import Sequence

from zdd_lab.model.auto_scaling import health, lifecycle_hook
from zdd_lab.model.auto_scaling.account import AutoScaling
from zdd_lab.model.auto_scaling.activity import Activity
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.lifecycle_hook import HookWait
from zdd_lab.model.auto_scaling.member import COUNTED, IN_STANDBY, LifecycleState, Member
from zdd_lab.model.aws_error import AwsError


def enter_standby(
    account: AutoScaling, name: str, instances: Sequence[str], now: float, *, decrement: bool
) -> list[Activity]:
    """Take instances out of service. Without `decrement` the group launches replacements."""
    group, members = _in_state(account, name, instances, {LifecycleState.IN_SERVICE}, "InService")
    if decrement and group.desired - len(members) < group.min_size:
        raise group.refuse_size(len(members), "place into standby")
    activities = []
    for member in members:
        before = group.desired
        group.desired -= decrement
        cause = f"instance {member.instance_id} was moved to standby in response to a user request"
        cause += f", shrinking the capacity from {before} to {before - 1}." if decrement else "."
        activities.append(account.life.enter_standby(group, member, cause, now))
    return activities


def exit_standby(account: AutoScaling, name: str, instances: Sequence[str], now: float) -> list[Activity]:
    """Put instances back in service. `EnteringStandby` cannot be left."""
    group, members = _in_state(account, name, instances, {LifecycleState.STANDBY}, "Standby")
    if not group.runs("Launch"):  # refused [doc], but the text is [open]
        raise AwsError("ValidationError", f"The Launch process of AutoScalingGroup {name} is suspended.")
    if group.desired + len(members) > group.max_size:  # [open]
        raise group.refuse_size(len(members), "move out of standby")
    activities = []
    for member in members:
        before, group.desired = group.desired, group.desired + 1
        cause = f"instance {member.instance_id} was moved out of standby in response to a user request, \
increasing the capacity from {before} to {group.desired}."
        until = now + account.elb.profile.standby_exit_lasts
        activities.append(account.life.exit_standby(group, member, cause, until, now))
    return activities


def terminate(account: AutoScaling, instance_id: str, now: float, *, decrement: bool) -> Activity:
    found = account.membership(instance_id)
    if found is None:
        text = f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
        raise AwsError("ValidationError", text)
    group, member = account.group_to_change(found[0].name), found[1]
    counted = member.state in COUNTED
    if decrement and counted and group.desired <= group.min_size:
        text = f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without replacement \
will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's \
min size."
        raise AwsError("ValidationError", text)
    before = group.desired
    group.desired -= decrement and counted
    cause = "an instance was taken out of service in response to a user request"
    cause += f", shrinking the capacity from {before} to {group.desired}." if group.desired < before else "."
    return account.life.terminate(group, member, cause, now)


def attach(account: AutoScaling, name: str, instances: Sequence[str], now: float) -> None:
    """Make running instances members. The desired capacity grows by their number [doc]."""
    group = account.group_to_change(name)
    known = account.elb.topology.instances
    for one in instances:
        if one not in known or known[one].state != "running":
            raise AwsError(
                "ValidationError",
                f"Instance {one} is not in correct state. Instance(s) must be in \
'running' state.",
            )
        if found := account.membership(one):
            raise AwsError("ValidationError", f"Instance {one} is already part of AutoScalingGroup:{found[0].name}")
    if group.desired + len(instances) > group.max_size:
        raise group.refuse_size(len(instances), "attach")
    for one in instances:
        before, group.desired = group.desired, group.desired + 1
        cause = f"an instance was attached in response to user request, increasing the capacity from {before} to \
{group.desired}."
        account.life.attach(group, one, known[one].zone, cause, now)


def detach(account: AutoScaling, name: str, instances: Sequence[str], now: float, *, decrement: bool) -> list[Activity]:
    wanted = {LifecycleState.IN_SERVICE, LifecycleState.STANDBY}
    group, members = _in_state(account, name, instances, wanted, "InService or Standby")
    leaving = sum(one.state in COUNTED for one in members)
    if decrement and group.desired - leaving < group.min_size:
        raise group.refuse_size(len(members), "detach")
    group.desired -= decrement * leaving
    cause = "instance was detached in response to a user request."
    return [account.life.detach(group, member, cause, now) for member in members]


def heartbeat(account: AutoScaling, name: str, hook: str, now: float, *, instance_id: str, token: str) -> None:
    """Give a hook its whole time-out again, up to its cap. One of `instance_id` and `token` names the action."""
    _wait(account, name, hook, now, instance_id, token).beat(now)


def complete(
    account: AutoScaling, name: str, hook: str, result: str, now: float, *, instance_id: str, token: str
) -> None:
    """End a hook with CONTINUE or ABANDON. One of `instance_id` and `token` names the action."""
    if result not in (lifecycle_hook.CONTINUE, lifecycle_hook.ABANDON):
        raise AwsError("ValidationError", "Lifecycle Action Result must be CONTINUE or ABANDON")
    _wait(account, name, hook, now, instance_id, token).result = result


def set_health(account: AutoScaling, instance_id: str, status: str, now: float, *, respects_grace: bool) -> None:
    found = account.membership(instance_id)
    if found is None:
        raise AwsError("ValidationError", f"Instance Id not found - {instance_id}")
    if status not in ("Healthy", "Unhealthy"):
        raise AwsError("ValidationError", "Valid instance health states are: [Healthy, Unhealthy].")
    group, member = account.group_to_change(found[0].name), found[1]
    if status == "Unhealthy" and respects_grace and health.in_grace(group, member, now):
        return
    member.health = status
    health.replace_unhealthy(account.life, group, now)


def protect(account: AutoScaling, name: str, instances: Sequence[str], *, protected: bool) -> None:
    """Protect instances from scale-in, or stop that."""
    wanted = {LifecycleState.IN_SERVICE} | IN_STANDBY
    _, members = _in_state(account, name, instances, wanted, "InService or EnteringStandby or Standby")
    for member in members:
        member.protected = protected


def _in_state(
    account: AutoScaling, name: str, instances: Sequence[str], wanted: set[LifecycleState], words: str
) -> tuple[ScalingGroup, list[Member]]:
    group = account.group_to_change(name)
    members = [group.member(one) for one in instances]
    for member in members:
        if member.state not in wanted:
            raise AwsError("ValidationError", f"The instance {member.instance_id} is not in {words}.")
    return group, members


def _wait(account: AutoScaling, name: str, hook: str, now: float, instance_id: str, token: str) -> HookWait:
    """The hook that is under way. Before its wait begins, and after its end, there is none."""
    group = account.group_to_change(name)
    if hook not in group.hooks:
        raise AwsError("ValidationError", f"No Lifecycle Hook found with name {hook} for Auto Scaling Group {name}")
    waits = [
        wait
        for member in group.members.values()
        if not instance_id or member.instance_id == instance_id
        for wait in member.waits
        if wait.hook.name == hook and (not token or wait.token == token)
    ]
    for wait in waits:
        wait.expire(now)
        if wait.open:
            return wait
    by = f"instance ID {instance_id}" if instance_id else f"token {token}"
    raise AwsError("ValidationError", f"No active Lifecycle Action found with {by}")
