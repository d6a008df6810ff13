"""Auto Scaling in the model: the lab's own group over the truth, and how each agent sees and asks it.

A host that EC2 has ended stays in the play, without turns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fakes import FakeMetadata
from model.eyes import BrokenPromiseError
from model.truth import ZONE, Truth
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import TERMINATED, LifecycleHook, Notice, NoticeKind, ScalingGroup, Transition
from zdd_agent.model.aws import Identity
from zdd_lab.model.auto_scaling import group_calls, instance_calls, lifecycle_hook
from zdd_lab.model.auto_scaling.account import AutoScaling
from zdd_lab.model.auto_scaling.group import ScalingGroup as LabGroup
from zdd_lab.model.auto_scaling.member import IN_STANDBY
from zdd_lab.model.auto_scaling.orders import LaunchOrder, TerminateOrder
from zdd_lab.model.aws_error import AwsError

GROUP = "asg"
MODES = ("standby", "watch")
ACTIONS = ("DescribeAutoScalingInstances", "EnterStandby", "ExitStandby", "CompleteLifecycleAction", "DescribeHooks")
_HOOKS = {Transition.LAUNCH: "ready", Transition.TERMINATION: "last-drain"}


class Scaling:
    """The group of every host that is there at the beginning."""

    def __init__(self, truth: Truth, instances: Collection[str], least: int) -> None:
        self.truth = truth
        self.account = AutoScaling(truth.elb, truth.rng)
        groups = list(truth.elb.topology.groups)
        count = len(instances)
        self.group = LabGroup(GROUP, "arn:asg", 0, count + 5, 0, (ZONE,), groups)
        self.ended: set[str] = set()  # instances that EC2 has ended
        self.launches: list[LaunchOrder] = []
        self._states: list[tuple[str, str]] = []
        group_calls.create(self.account, self.group, self.now)
        instance_calls.attach(self.account, GROUP, tuple(instances), self.now)
        self.advance()
        group_calls.update(self.account, GROUP, {"min_size": min(least, count)})
        for transition, name in _HOOKS.items():
            self.group.hooks[name] = lifecycle_hook.LifecycleHook(name, transition.value)

    @property
    def now(self) -> float:
        return self.truth.clock.time

    def state(self, instance: str) -> str | None:
        found = self.group.members.get(instance)
        return str(found.state) if found else None

    def stands_by(self, instance: str) -> bool:
        return self.state(instance) in {str(state) for state in IN_STANDBY}

    def advance(self) -> None:
        """Take the steps that are due."""
        for order in self.account.advance(self.now):
            if isinstance(order, TerminateOrder):
                self._end(order.instance_id)
            elif isinstance(order, LaunchOrder):
                self.launches.append(order)
        states = [(one.instance_id, one.state) for one in self.group.members.values()]
        if states != self._states:
            self._states = states
            self.truth.others_changed()

    def _end(self, instance: str) -> None:
        keys = {key for key in self.truth.registered() if key.id == instance}
        for key in keys:
            self.truth.deregister(key.group, [(key.id, key.port)])
        self.account.terminated(instance, self.now)
        self.ended.add(instance)


class Metadata(FakeMetadata):
    """The instance metadata service of one host; `failing` are how many of the next questions it does not answer."""

    def __init__(self, who: Identity, scaling: Scaling | None) -> None:
        super().__init__(who)
        self._scaling = scaling
        self.failing = 0
        self.seen_terminated = False

    def state_now(self) -> str | None:
        """What it would say."""
        return self._scaling.account.target_state(self.who.instance_id) if self._scaling is not None else None

    def lifecycle_state(self) -> str | None:
        self._ask()
        found = self.state_now()
        self.seen_terminated = self.seen_terminated or found in TERMINATED
        return found

    def notices(self, kinds: Collection[NoticeKind]) -> tuple[Notice, ...]:
        self._ask()
        return super().notices(kinds)

    def _ask(self) -> None:
        if self.failing > 0:
            self.failing -= 1
            raise AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask: it answered 500", transient=True)


class GroupEyes:
    """Auto Scaling as one agent asks it. `may_complete` says what speaks against the end of a hook; empty: nothing."""

    def __init__(self, scaling: Scaling, me: str, may_complete: Callable[[str], str]) -> None:
        self.scaling = scaling
        self.me = me
        self.may_complete = may_complete
        self.errors: dict[str, list[BaseException]] = {}
        self.errors_after: dict[str, list[BaseException]] = {}

    def instance(self, instance_id: str) -> tuple[str, str] | None:
        self._called("DescribeAutoScalingInstances")
        state = self.scaling.state(instance_id)
        return None if state is None else (GROUP, state)

    def group(self, name: str) -> ScalingGroup:
        self._called("DescribeAutoScalingGroups")
        mine = self.scaling.group
        return ScalingGroup(name, "EC2", mine.min_size, mine.desired, tuple(mine.target_groups))

    def hooks(self, group: str, transition: Transition) -> tuple[LifecycleHook, ...]:
        self._called("DescribeHooks")
        return (LifecycleHook(_HOOKS[transition], 3600.0),)

    def heartbeat(self, hook: str, group: str, instance_id: str) -> None:
        self._change("RecordLifecycleActionHeartbeat", instance_calls.heartbeat, hook, instance_id=self.me, token="")

    def complete(self, hook: str, group: str, instance_id: str) -> None:
        words: tuple[Any, ...] = (hook, lifecycle_hook.CONTINUE)
        self._change("CompleteLifecycleAction", instance_calls.complete, *words, instance_id=self.me, token="")
        if why := self.may_complete(hook):
            raise BrokenPromiseError(f"{self.me} completes {hook}: {why}")
        self._answered("CompleteLifecycleAction")

    def enter_standby(self, group: str, instance_id: str) -> None:
        self._move("EnterStandby", instance_calls.enter_standby, ("Standby", "EnteringStandby"), decrement=True)

    def exit_standby(self, group: str, instance_id: str) -> None:
        self._move("ExitStandby", instance_calls.exit_standby, ("InService", "Pending"))

    def _move(self, action: str, call: Callable[..., Any], there: tuple[str, ...], **more: Any) -> None:
        """As the adapter: a call that is repeated is refused, and done."""
        try:
            self._change(action, call, [self.me], **more)
        except AgentError as error:
            if error.kind is not Kind.REFUSED or self.scaling.state(self.me) not in there:
                raise
        self._answered(action)

    def _change(self, action: str, call: Callable[..., Any], *words: Any, **more: Any) -> None:
        self._called(action)
        try:
            call(self.scaling.account, GROUP, *words, self.scaling.now, **more)
        except AwsError as error:
            raise AgentError(Kind.REFUSED, f"cannot call {action}: {error}", transient=True) from None
        self.scaling.advance()

    def _called(self, action: str) -> None:
        self.scaling.advance()
        if self.errors.get(action):
            raise self.errors[action].pop(0)

    def _answered(self, action: str) -> None:
        if self.errors_after.get(action):
            raise self.errors_after[action].pop(0)
