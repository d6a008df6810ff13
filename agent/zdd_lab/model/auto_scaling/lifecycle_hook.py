"""Lifecycle hooks: their settings, and what a group waits for while one is under way.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from zdd_lab.model.aws_error import AwsError

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
CONTINUE, ABANDON = "CONTINUE", "ABANDON"
_HEARTBEAT = (30.0, 7200.0)  # s [doc]
_LONGEST = 48 * 3600.0  # s [doc]
_HEARTBEATS = 100  # times the heartbeat time-out, if that is shorter than `_LONGEST` [doc]


@dataclass(frozen=True, slots=True)
class LifecycleHook:
    name: str
    transition: str
    heartbeat_timeout: float = 3600.0  # s
    default_result: str = ABANDON
    told: Mapping[str, Any] = field(default_factory=dict)  # what the API repeats and the lab does not act on

    def __post_init__(self) -> None:
        shortest, longest = _HEARTBEAT
        if self.transition not in (LAUNCHING, TERMINATING):
            raise AwsError("ValidationError", "Lifecycle Transition is not valid.")
        if not shortest <= self.heartbeat_timeout <= longest:
            raise AwsError("ValidationError", f"Heartbeat Timeout must be between {shortest:g} and {longest:g} seconds")
        if self.default_result not in (CONTINUE, ABANDON):
            raise AwsError("ValidationError", "Default Result must be CONTINUE or ABANDON")

    @property
    def global_timeout(self) -> float:  # s
        return min(_LONGEST, _HEARTBEATS * self.heartbeat_timeout)


@dataclass(slots=True)
class HookWait:
    """One hook of one instance that is under way."""

    hook: LifecycleHook
    token: str
    times_out: float  # s: without a further heartbeat
    last: float  # s: no heartbeat gets it further
    result: str | None = None

    @property
    def open(self) -> bool:
        return self.result is None

    def beat(self, now: float) -> None:
        self.times_out = min(now + self.hook.heartbeat_timeout, self.last)

    def expire(self, now: float) -> None:
        if self.open and now >= self.times_out:
            self.result = self.hook.default_result


def begin(hooks: Iterable[LifecycleHook], transition: str, now: float, rng: Random) -> list[HookWait]:
    """All hooks of a transition, at once: AWS does not say that they take turns."""
    return [
        HookWait(
            hook,
            str(UUID(int=rng.getrandbits(128), version=4)),
            now + hook.heartbeat_timeout,
            now + hook.global_timeout,
        )
        for hook in hooks
        if hook.transition == transition
    ]


def outcome(waits: Iterable[HookWait], now: float) -> str | None:
    """CONTINUE when every hook is done so, ABANDON as soon as one is, None while the group waits."""
    results = set()
    for wait in waits:
        wait.expire(now)
        results.add(wait.result)
    if ABANDON in results:
        return ABANDON
    return None if None in results else CONTINUE
