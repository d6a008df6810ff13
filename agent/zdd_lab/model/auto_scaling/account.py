"""Every Auto Scaling group of the account, and what time does to them. No I/O, no clock.

The model asks for instances with orders; whoever carries them out reports back with `launched` and `terminated`.
`advance` may be called as often as one likes: it takes the steps that are due.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from zdd_lab.model.auto_scaling import capacity, health, refresh_steps
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.lifecycle import Lifecycle
from zdd_lab.model.auto_scaling.member import ENDING, Member
from zdd_lab.model.auto_scaling.orders import LaunchOrder, Order, TerminateOrder
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.elb import Elb


@dataclass(slots=True)
class AutoScaling:
    """`now` is in s, of the clock of the load balancers' model. Groups register in that model."""

    elb: Elb
    rng: Random
    life: Lifecycle = field(init=False)
    groups: dict[str, ScalingGroup] = field(default_factory=dict)  # by name
    interruptions: dict[str, float] = field(default_factory=dict)  # instance -> when EC2 takes it back

    def __post_init__(self) -> None:
        self.life = Lifecycle(self.elb, self.rng)

    def group(self, name: str) -> ScalingGroup:
        """Raises AwsError: ValidationError for a name that is unknown."""
        found = self.groups.get(name)
        if found is None:
            raise AwsError("ValidationError", f"AutoScalingGroup name not found - no such group: {name}")
        return found

    def group_to_change(self, name: str) -> ScalingGroup:
        """Raises AwsError: ValidationError; AccessDenied where another service manages the group [doc]."""
        found = self.group(name)
        if found.operator:
            text = f"Auto Scaling group {name} is managed by {found.operator}, and cannot be changed by you."
            raise AwsError("AccessDenied", text)
        return found

    def membership(self, instance_id: str) -> tuple[ScalingGroup, Member] | None:
        """The group of an instance, and its place there."""
        for group in self.groups.values():
            if member := group.members.get(instance_id):
                return group, member
        return None

    def target_state(self, instance_id: str) -> str | None:
        """The text of the metadata path autoscaling/target-lifecycle-state. None: the path is 404."""
        return self.life.targets.get(instance_id)

    def launched(self, order: LaunchOrder, instance_id: str, now: float, instance_type: str = "t3.micro") -> bool:
        """EC2 made the instance of an order. False when its group is gone: it has to be terminated."""
        group = self.groups.get(order.group)
        if group is None or order.activity not in group.launching:
            return False
        del group.launching[order.activity]
        activity = next(one for one in group.activities if one.id == order.activity)
        activity.description = f"Launching a new EC2 instance: {instance_id}"
        self.life.admit(group, instance_id, activity, order.zone, now).instance_type = instance_type
        return True

    def launch_failed(self, order: LaunchOrder, why: str, now: float) -> None:
        """EC2 refused. The group stops launching until somebody resumes it: the lab does not try for hours."""
        group = self.groups.get(order.group)
        if group is None or group.launching.pop(order.activity, None) is None:
            return
        activity = next(one for one in group.activities if one.id == order.activity)
        activity.description += f". Status Reason: {why}. Launching EC2 instance failed."
        activity.end(now, "Failed")
        group.suspended.add("Launch")

    def terminated(self, instance_id: str, now: float) -> None:
        """EC2 ended an instance."""
        self.interruptions.pop(instance_id, None)
        found = self.membership(instance_id)
        if found and found[1].state in ENDING:
            group, member = found
            member.activity.end(now)
            del group.members[instance_id]

    def recommend_rebalance(self, instance_id: str) -> None:
        """EC2 says that a spot instance is at a higher risk. Groups with capacity rebalancing replace it."""
        if found := self.membership(instance_id):
            found[1].at_risk = True

    def interrupt(self, instance_id: str, at: float, now: float) -> None:
        """The spot notice: EC2 takes the instance back at `at`, whatever the group does.

        With capacity rebalancing, or on its way out already, its termination hook begins at once. Any other group
        replaces it when it is gone [doc].
        """
        self.interruptions[instance_id] = at
        found = self.membership(instance_id)
        if not found:
            return
        group, member = found
        member.final_notice = True
        if group.capacity_rebalance:
            cause = "an instance was taken out of service in response to an EC2 Spot interruption notice."
            self.life.terminate(group, member, cause, now)

    def advance(self, now: float) -> list[Order]:
        """Take every step that is due, and return what EC2 must do. Each order is returned once."""
        self.elb.expire(now)
        orders: list[Order] = [TerminateOrder(name) for name, at in self.interruptions.items() if at <= now]
        for order in orders:
            self.interruptions.pop(order.instance_id, None)  # type: ignore[union-attr]  # all are of this kind
        for group in list(self.groups.values()):
            orders += self._advance(group, now)
            if group.deleting and not group.members and not group.launching:
                del self.groups[group.name]
        return list(dict.fromkeys(orders))  # its time may be up in two ways at once

    def _advance(self, group: ScalingGroup, now: float) -> Iterator[Order]:
        profile = self.elb.profile
        health.check(
            self.life,
            group,
            profile.scaling_check_interval,
            now,
            replaces_deregistered=profile.replaces_deregistered,
        )
        refresh_steps.advance(self.life, group, now)
        yield from capacity.balance(self.life, group, profile.rebalance_after, now)
        for member in list(group.members.values()):
            yield from self.life.advance(group, member, now)
