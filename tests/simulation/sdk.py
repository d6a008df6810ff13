"""The SDK of one host in simulated time: a throttled call is tried again with the SDK's own back-off."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

from fakes import FakeClock
from zdd_agent.errors import AgentError, Kind

_T = TypeVar("_T")


class Later(BaseException):
    """The call goes on at this moment (seconds)."""

    def __init__(self, at: float) -> None:
        self.at = at


class Calls:
    """The SDK of one host: tries a throttled call again with its own back-off, while the host's loop waits for it.

    The loop is not suspended in the middle of a call: it turns again from the same record, and gets what it was told
    before from here.
    """

    def __init__(self, clock: FakeClock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._answers: list[tuple[object, Any]] = []
        self._given = 0
        self._tries = 0
        self._since: dict[object, float] = {}
        self.longest = 0.0  # seconds that a throttled call has cost, from its first try to its answer
        self.gave_up = 0  # calls that the SDK has given up

    def begin(self) -> None:
        self._given = 0

    def end(self) -> None:
        self._answers.clear()
        self._given = 0

    def make(self, key: object, allows: Callable[[], bool], answer: Callable[[], _T], *, attempts: int) -> _T:
        if self._given < len(self._answers) and self._answers[self._given][0] == key:
            self._given += 1
            return self._answers[self._given - 1][1]
        del self._answers[self._given :]
        now = self._clock.time
        if allows():
            self._tries = 0
            self.longest = max(self.longest, now - self._since.pop(key, now))
            told = answer()
            self._answers.append((key, told))
            self._given += 1
            return told
        self._since.setdefault(key, now)
        self._tries += 1
        if self._tries >= attempts:
            self._tries = 0
            self.gave_up += 1
            raise AgentError(Kind.AWS_UNAVAILABLE, f"cannot call {key}: throttled", transient=True)
        # The SDK's mode `standard`: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
        raise Later(now + self._rng.random() * min(2.0 ** (self._tries - 1), 20.0))
