"""The steps of an instance refresh."""

from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.instance_refresh import InstanceRefresh
from zdd_lab.model.auto_scaling.lifecycle import Lifecycle
from zdd_lab.model.auto_scaling.member import IN_STANDBY, LifecycleState

_CAUSE = "an instance was taken out of service in response to an instance refresh."


def advance(life: Lifecycle, group: ScalingGroup, now: float) -> None:
    """Replace the next instance, when the group is complete again."""
    refresh = group.refreshes[-1] if group.refreshes else None
    if refresh is None or not refresh.active or not group.runs("InstanceRefresh"):
        return
    refresh.status = "InProgress"
    if refresh.standby == "Terminate":
        for member in group.in_standby:
            if member.instance_id in refresh.old:
                life.terminate(group, member, _CAUSE, now)
    members = group.members
    states = {name: members[name].state for name in refresh.old if name in members}
    if refresh.standby == "Ignore":
        states = {name: state for name, state in states.items() if state not in IN_STANDBY}
    refresh.old &= set(states)
    if len(group.in_service) < group.desired:
        return
    serving = sorted(name for name, state in states.items() if state is LifecycleState.IN_SERVICE)
    if serving:
        refresh.blocked_since = None
        life.terminate(group, members[serving[0]], _CAUSE, now)
    elif any(state in IN_STANDBY for state in states.values()):
        refresh.blocked(now)
    elif not states:
        refresh.end("Successful", now)


def of(group: ScalingGroup, identifier: str, standby: str, now: float) -> InstanceRefresh:
    """A refresh of every instance that serves or is in standby."""
    old = {one.instance_id for one in [*group.in_service, *group.in_standby]}
    return InstanceRefresh(identifier, now, standby, old, len(old))
