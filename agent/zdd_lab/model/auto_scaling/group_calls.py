"""The API's calls on a group: sizes, target groups, hooks, processes, instance refresh.

Every function raises AwsError, with AWS's codes and texts, and changes nothing then.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zdd_lab.model.auto_scaling import refresh_steps, registrations
from zdd_lab.model.auto_scaling.account import AutoScaling
from zdd_lab.model.auto_scaling.group import PROCESSES, ScalingGroup
from zdd_lab.model.auto_scaling.instance_refresh import InstanceRefresh
from zdd_lab.model.auto_scaling.lifecycle_hook import ABANDON, CONTINUE, LAUNCHING, LifecycleHook
from zdd_lab.model.aws_error import AwsError


def create(account: AutoScaling, group: ScalingGroup, now: float) -> None:
    if group.name in account.groups:
        raise AwsError("AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name "
                       f"{group.name} already exists")  # fmt: skip
    _refuse_unknown(account, group.target_groups)
    group.created = now
    account.groups[group.name] = group


def update(account: AutoScaling, name: str, changes: Mapping[str, Any]) -> None:
    """Change fields of a group, named as in ScalingGroup. A new limit takes the desired capacity along [doc]."""
    group = account.group_to_change(name)
    least, most = changes.get("min_size", group.min_size), changes.get("max_size", group.max_size)
    desired = changes.get("desired", min(max(group.desired, least), most))
    ScalingGroup.refuse_sizes(least, desired, most)
    for field, value in changes.items():
        setattr(group, field, value)
    group.desired = desired


def delete(account: AutoScaling, name: str, now: float, *, force: bool) -> None:
    """By force, the instances go without a hook [doc]."""
    group = account.group_to_change(name)
    if not force:
        if group.launching or any(one.ended is None for one in group.activities):
            text = (
                "You cannot delete an AutoScalingGroup while there are scaling activities in progress for that group."
            )
            raise AwsError("ScalingActivityInProgress", text)
        if group.members:
            text = "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance \
request(s) still in the group."
            raise AwsError("ResourceInUse", text)
    group.min_size = group.desired = 0
    group.deleting = True
    group.hooks.clear()
    for member in list(group.members.values()):
        account.life.terminate(group, member, "the group was deleted.", now)


def set_desired(account: AutoScaling, name: str, desired: int) -> None:
    group = account.group_to_change(name)
    if desired > group.max_size:
        text = f"New SetDesiredCapacity value {desired} is above max value {group.max_size} for the AutoScalingGroup."
        raise AwsError("ValidationError", text)
    if desired < group.min_size:
        text = f"New SetDesiredCapacity value {desired} is below min value {group.min_size} for the AutoScalingGroup."
        raise AwsError("ValidationError", text)
    group.desired = desired


def attach_target_groups(account: AutoScaling, name: str, arns: Sequence[str], now: float) -> None:
    """Attach target groups. Instances in service are registered in them [doc]."""
    group = account.group_to_change(name)
    _refuse_unknown(account, arns)
    group.target_groups += [arn for arn in arns if arn not in group.target_groups]
    for member in group.in_service:
        registrations.register(account.elb, group, member.instance_id, now)


def detach_target_groups(account: AutoScaling, name: str, arns: Sequence[str], now: float) -> None:
    """Detach target groups. The group's instances are deregistered from them [doc]."""
    group = account.group_to_change(name)
    for member in group.members.values():
        registrations.deregister(account.elb, arns, member.instance_id, now)
    group.target_groups = [arn for arn in group.target_groups if arn not in arns]


def put_hook(account: AutoScaling, name: str, hook: LifecycleHook) -> None:
    account.group_to_change(name).hooks[hook.name] = hook


def delete_hook(account: AutoScaling, name: str, hook: str) -> None:
    """What waits for the hook ends first: ABANDON for instances that start, CONTINUE for those that end [doc]."""
    group = account.group_to_change(name)
    if group.hooks.pop(hook, None) is None:
        raise AwsError("ValidationError", f"No Lifecycle Hook found with name {hook} for Auto Scaling Group {name}")
    for member in group.members.values():
        for wait in member.waits:
            if wait.hook.name == hook and wait.open:
                wait.result = ABANDON if wait.hook.transition == LAUNCHING else CONTINUE


def suspend(account: AutoScaling, name: str, processes: Iterable[str]) -> None:
    account.group_to_change(name).suspended |= _known(processes)


def resume(account: AutoScaling, name: str, processes: Iterable[str]) -> None:
    account.group_to_change(name).suspended -= _known(processes)


def start_refresh(account: AutoScaling, name: str, standby: str, now: float) -> InstanceRefresh:
    group = account.group_to_change(name)
    if group.refreshes and group.refreshes[-1].active:
        raise AwsError(
            "InstanceRefreshInProgress",
            "An Instance Refresh is already in progress and blocks the \
execution of this Instance Refresh.",
        )
    refresh = refresh_steps.of(group, account.life.identifier(), standby, now)
    group.refreshes.append(refresh)
    return refresh


def cancel_refresh(account: AutoScaling, name: str, now: float) -> InstanceRefresh:
    group = account.group_to_change(name)
    if not group.refreshes or not group.refreshes[-1].active:
        raise AwsError(
            "ActiveInstanceRefreshNotFound",
            "No in progress or pending Instance Refresh found for Auto \
Scaling group "
            + name,
        )
    group.refreshes[-1].end("Cancelled", now, "Cancelled due to user request.")
    return group.refreshes[-1]


def _known(processes: Iterable[str]) -> set[str]:
    """All of them when none is named [doc]."""
    named = set(processes) or set(PROCESSES)
    if unknown := sorted(named - set(PROCESSES)):
        raise AwsError("ValidationError", f"{unknown[0]} is not a valid process name.")
    return named


def _refuse_unknown(account: AutoScaling, arns: Iterable[str]) -> None:
    for arn in arns:
        if arn not in account.elb.topology.groups:
            text = "Provided Target Groups may not be valid. Please ensure they exist and try again."
            raise AwsError("ValidationError", text)
