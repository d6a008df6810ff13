"""An Auto Scaling group over the load balancers' model, under a clock that only a test moves."""

import random
from dataclasses import replace
from typing import Any

from lab.model_rig import TCP, WEB, ZONE_A, ZONE_B, Scene
from zdd_lab.model.auto_scaling import group_calls, instance_calls
from zdd_lab.model.auto_scaling.account import AutoScaling
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.lifecycle_hook import CONTINUE, LAUNCHING, TERMINATING, LifecycleHook
from zdd_lab.model.auto_scaling.orders import LaunchOrder
from zdd_lab.model.profile import ALB, Profile
from zdd_lab.model.target import NodeHealth
from zdd_lab.model.topology import Instance

GROUP = "web"
LAUNCH_HOOK = LifecycleHook("launch", LAUNCHING, 120.0)
END_HOOK = LifecycleHook("end", TERMINATING, 120.0, CONTINUE)


class ScalingScene:
    """A group `web` in zones a and b, attached to the target group WEB; EC2 obeys at once.

    `delay` is the deregistration delay in s.
    """

    def __init__(
        self,
        size: tuple[int, int, int] = (1, 2, 4),
        *,
        delay: float = 60,
        profile: Profile = ALB,
        hooks: tuple[LifecycleHook, ...] = (),
        target_groups: tuple[str, ...] = (WEB,),
        **settings: Any,
    ) -> None:
        least, desired, most = size
        self.scene = Scene(profile, delay=delay)
        self.account = AutoScaling(self.scene.elb, random.Random(3))
        self.ended: list[tuple[float, str]] = []  # when EC2 terminated which instance
        self.group = ScalingGroup(
            GROUP, "arn:asg", least, most, desired, (ZONE_A, ZONE_B), list(target_groups), **settings
        )
        for hook in hooks:
            self.group.hooks[hook.name] = hook
        group_calls.create(self.account, self.group, self.now)
        self.act()

    @property
    def now(self) -> float:
        return self.scene.now

    @property
    def instances(self) -> list[str]:
        return list(self.group.members)

    @property
    def states(self) -> list[str]:
        return [str(one.state) for one in self.group.members.values()]

    def state(self, instance: str) -> str | None:
        found = self.group.members.get(instance)
        return str(found.state) if found else None

    def target(self, instance: str, group: str = WEB) -> str:
        """The state of an instance in a target group; `absent` when it is not listed."""
        return next((one.state for one in self.scene.listed(group) if one.key.id == instance), "absent")

    def act(self) -> None:
        """Take the steps that are due, and do what EC2 must do for them, until nothing changes."""
        while orders := self.account.advance(self.now):
            for order in orders:
                if isinstance(order, LaunchOrder):
                    self.account.launched(order, self.launch(order.zone), self.now)
                else:
                    self.ended.append((self.now, order.instance_id))
                    self.end(order.instance_id)
                    self.account.terminated(order.instance_id, self.now)

    def launch(self, zone: str = ZONE_A) -> str:
        """A running instance of EC2."""
        name = f"i-{len(self.scene.elb.topology.instances)}"
        self._put(Instance(name, "running", "127.1.2.99", zone))
        return name

    def end(self, instance: str, state: str = "terminated") -> None:
        self._put(replace(self.scene.elb.topology.instances[instance], state=state))

    def pass_time(self, seconds: float) -> None:
        """Move the clock in steps of at most 1 s."""
        end = self.now + seconds
        while self.now < end:
            self.scene.pass_time(min(1.0, end - self.now))
            self.act()

    def settle(self) -> "ScalingScene":
        """Let every instance be launched and healthy."""
        self.pass_time(60)
        assert all(self.target(one, arn) == "healthy" for one in self.instances for arn in (WEB,))
        return self

    def fail(self, instance: str, group: str = WEB) -> None:
        """The nodes find an instance unhealthy."""
        failed = NodeHealth("unhealthy", "Target.Timeout", "Request timed out")
        for node in ("alb-a", "alb-b") if group != TCP else ("nlb-a", "nlb-b"):
            self.scene.report(failed, node, group, instance)

    def enter_standby(self, *instances: str, decrement: bool = True) -> None:
        instance_calls.enter_standby(self.account, GROUP, instances, self.now, decrement=decrement)
        self.act()

    def exit_standby(self, *instances: str) -> None:
        instance_calls.exit_standby(self.account, GROUP, instances, self.now)
        self.act()

    def terminate(self, instance: str, *, decrement: bool = True) -> None:
        instance_calls.terminate(self.account, instance, self.now, decrement=decrement)
        self.act()

    def complete(self, hook: str, instance: str, result: str = CONTINUE) -> None:
        instance_calls.complete(self.account, GROUP, hook, result, self.now, instance_id=instance, token="")
        self.act()

    def beat(self, hook: str, instance: str) -> None:
        instance_calls.heartbeat(self.account, GROUP, hook, self.now, instance_id=instance, token="")

    def desire(self, count: int) -> None:
        group_calls.set_desired(self.account, GROUP, count)
        self.act()

    def _put(self, instance: Instance) -> None:
        topology = self.scene.elb.topology
        known = {**topology.instances, instance.id: instance}
        self.scene.elb.configure(replace(topology, instances=known), self.now)
