"""A fake of AWS whose answers are late."""

from __future__ import annotations

from collections.abc import Sequence

from fakes import FakeAws, FakeClock
from zdd_agent.model.aws import Target, TargetGroup, TargetHealth


class LaggingAws(FakeAws):
    """Its answers are this many seconds old; changes take effect at once."""

    def __init__(self, clock: FakeClock, groups: Sequence[TargetGroup], lag: float) -> None:
        super().__init__(clock, groups)
        self.lag = lag
        self._history = [(0.0, dict(self._targets))]

    def remember(self) -> None:
        self._history.append((self.clock.time, dict(self._targets)))

    def put(self, *words: str, **more: str) -> Target:  # type: ignore[override]  as the fake's
        target = super().put(*words, **more)  # type: ignore[arg-type]  likewise
        self.remember()
        return target

    def register(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        super().register(asked, targets)
        self.remember()

    def deregister(self, asked: TargetGroup, targets: Sequence[Target]) -> None:
        super().deregister(asked, targets)
        self.remember()

    def health(self, asked: str) -> tuple[TargetHealth, ...]:
        now, targets = self.clock.time, self._targets
        then = now - self.lag
        self._targets = [known for moment, known in self._history if moment <= then][-1]
        self.clock.time = then
        try:
            return super().health(asked)
        finally:
            self.clock.time, self._targets = now, targets
