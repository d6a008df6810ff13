"""Moves each instance of a group from state to state, with its hooks and its registrations.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from zdd_lab.model.auto_scaling import lifecycle_hook, registrations
from zdd_lab.model.auto_scaling.activity import Activity
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.lifecycle_hook import ABANDON, LAUNCHING, TERMINATING
from zdd_lab.model.auto_scaling.member import ENDING, LifecycleState, Member
from zdd_lab.model.auto_scaling.orders import LaunchOrder, Order, TerminateOrder
from zdd_lab.model.elb import Elb

DRAINS = "WaitingForELBConnectionDraining"
_HOOK = "MidLifecycleAction"


@dataclass(slots=True)
class Lifecycle:
    """The steps of one instance. `now` is in s of the model's clock.

    Args:
        targets: what the instance metadata says under autoscaling/target-lifecycle-state, by instance. It is the state
            that the instance goes to; it outlives the instance's membership.
    """

    elb: Elb
    rng: Random
    targets: dict[str, str] = field(default_factory=dict)

    def identifier(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def launch(self, group: ScalingGroup, zone: str, cause: str, now: float) -> LaunchOrder:
        """Begin a launch: EC2 has to make the instance."""
        activity = self._open(group, "Launching a new EC2 instance", cause, now)
        group.launching[activity.id] = zone
        return LaunchOrder(group.name, zone, activity.id)

    def admit(self, group: ScalingGroup, instance_id: str, activity: Activity, zone: str, now: float) -> Member:
        """Make an instance a member: it was launched, or attached."""
        member = Member(instance_id, zone, now, activity, protected=group.protects_new)
        member.launched_from = dict(group.launches_from)
        group.members[instance_id] = member
        self.targets[instance_id] = "InService"
        return member

    def terminate(self, group: ScalingGroup, member: Member, cause: str, now: float) -> Activity:
        """Begin to terminate an instance: it is deregistered first. One that is on its way out goes on."""
        if member.state in ENDING:
            return member.activity
        member.activity.end(now)
        activity = self._open(group, f"Terminating EC2 instance: {member.instance_id}", cause, now)
        self._leave(group, member, LifecycleState.TERMINATING, "Terminated", activity, now)
        return activity

    def enter_standby(self, group: ScalingGroup, member: Member, cause: str, now: float) -> Activity:
        activity = self._open(group, f"Moving EC2 instance to Standby: {member.instance_id}", cause, now)
        self._leave(group, member, LifecycleState.ENTERING_STANDBY, "Standby", activity, now)
        return activity

    def exit_standby(self, group: ScalingGroup, member: Member, cause: str, until: float, now: float) -> Activity:
        activity = self._open(group, f"Moving EC2 instance out of Standby: {member.instance_id}", cause, now)
        activity.status = "PreInService"
        member.activity, member.state = activity, LifecycleState.PENDING
        member.pending_until, member.runs_hooks = until, False
        self.targets[member.instance_id] = "InService"
        return activity

    def detach(self, group: ScalingGroup, member: Member, cause: str, now: float) -> Activity:
        activity = self._open(group, f"Detaching EC2 instance: {member.instance_id}", cause, now)
        self._leave(group, member, LifecycleState.DETACHING, "Detached", activity, now)
        return activity

    def attach(self, group: ScalingGroup, instance_id: str, zone: str, cause: str, now: float) -> Activity:
        activity = self._open(group, f"Attaching an existing EC2 instance: {instance_id}", cause, now)
        self.admit(group, instance_id, activity, zone, now).runs_hooks = False
        return activity

    def advance(self, group: ScalingGroup, member: Member, now: float) -> Iterator[Order]:
        """Take the steps of an instance that are due, and say what EC2 must do for them."""
        while (before := member.state) in self._STEPS:
            yield from self._STEPS[before](self, group, member, now)
            if member.state is before:
                return

    def _open(self, group: ScalingGroup, description: str, cause: str, now: float) -> Activity:
        activity = Activity(self.identifier(), group.name, description, cause, now)
        group.activities.append(activity)
        return activity

    def _leave(
        self, group: ScalingGroup, member: Member, state: LifecycleState, target: str, activity: Activity, now: float
    ) -> None:
        """Deregister an instance on its way out of service."""
        member.state, member.activity = state, activity
        member.waits.clear()
        member.in_service_at = None
        self.targets[member.instance_id] = target
        registrations.deregister(self.elb, group.target_groups, member.instance_id, now)
        activity.status = DRAINS

    def _pending(self, group: ScalingGroup, member: Member, now: float) -> Iterator[Order]:
        yield from ()
        if now < member.pending_until:
            return
        if member.runs_hooks:
            member.waits = lifecycle_hook.begin(group.hooks.values(), LAUNCHING, now, self.rng)
        member.state = LifecycleState.PENDING_WAIT if member.waits else LifecycleState.PENDING_PROCEED
        member.activity.status = _HOOK if member.waits else "PreInService"

    def _pending_wait(self, group: ScalingGroup, member: Member, now: float) -> Iterator[Order]:
        yield from ()
        ended = lifecycle_hook.outcome(member.waits, now)
        if ended == ABANDON:
            member.activity.end(now, "Cancelled")
            cause = "an instance was taken out of service in response to a launch that was abandoned."
            self.terminate(group, member, cause, now)
        elif ended is not None:
            member.state = LifecycleState.PENDING_PROCEED

    def _pending_proceed(self, group: ScalingGroup, member: Member, now: float) -> Iterator[Order]:
        yield from ()
        registrations.register(self.elb, group, member.instance_id, now)
        member.state, member.in_service_at, member.health = LifecycleState.IN_SERVICE, now, "Healthy"
        member.waits.clear()
        member.runs_hooks = True
        member.activity.end(now)

    def _terminating(self, group: ScalingGroup, member: Member, now: float) -> Iterator[Order]:
        """The deregistration comes before the hook, except on the final notice of a spot instance [doc]."""
        drains = registrations.drains(self.elb, group, member.instance_id, now)
        if drains and not member.final_notice:
            return
        member.waits = lifecycle_hook.begin(group.hooks.values(), TERMINATING, now, self.rng)
        if member.waits:
            member.state, member.activity.status = LifecycleState.TERMINATING_WAIT, _HOOK
        elif not drains:
            yield self._proceed(member)

    def _terminating_wait(self, group: ScalingGroup, member: Member, now: float) -> Iterator[Order]:
        ended = lifecycle_hook.outcome(member.waits, now)
        if ended == ABANDON and group.retains_on_abandon:
            member.state = LifecycleState.TERMINATING_RETAINED
            member.activity.end(now, "Cancelled")
        elif ended is not None:
            yield self._proceed(member)

    def _proceed(self, member: Member) -> TerminateOrder:
        member.state, member.activity.status = LifecycleState.TERMINATING_PROCEED, "InProgress"
        return TerminateOrder(member.instance_id)

    def _entering_standby(self, group: ScalingGroup, member: Member, now: float) -> Iterator[Order]:
        """It lasts the whole deregistration delay, even with nothing in flight [seen]."""
        yield from ()
        if not registrations.drains(self.elb, group, member.instance_id, now):
            member.state = LifecycleState.STANDBY
            member.activity.end(now)

    def _detaching(self, group: ScalingGroup, member: Member, now: float) -> Iterator[Order]:
        yield from ()
        if not registrations.drains(self.elb, group, member.instance_id, now):
            member.activity.end(now)
            del group.members[member.instance_id]

    _STEPS = {  # noqa: RUF012  # a table, written once
        LifecycleState.PENDING: _pending,
        LifecycleState.PENDING_WAIT: _pending_wait,
        LifecycleState.PENDING_PROCEED: _pending_proceed,
        LifecycleState.TERMINATING: _terminating,
        LifecycleState.TERMINATING_WAIT: _terminating_wait,
        LifecycleState.ENTERING_STANDBY: _entering_standby,
        LifecycleState.DETACHING: _detaching,
    }
