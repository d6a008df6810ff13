"""The API's call budget: token buckets per account and Region, shared by every client."""

from dataclasses import dataclass, field

from zdd_lab.model.profile import Profile

_CHANGES = frozenset({"RegisterTargets", "DeregisterTargets"})


@dataclass(slots=True)
class TokenBucket:
    """Holds `burst` calls when full and regains `rate` calls a second."""

    burst: float  # calls
    rate: float  # calls/s
    _level: float = field(init=False)
    _at: float | None = None  # s: when `_level` was computed

    def __post_init__(self) -> None:
        self._level = self.burst

    def take(self, now: float) -> bool:
        """Spend one call. False when there is none left."""
        if self._at is not None:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


@dataclass(slots=True)
class Budgets:
    """The budgets of elasticloadbalancing, for each Region. No other service is limited."""

    profile: Profile
    _buckets: dict[tuple[str, str], TokenBucket] = field(default_factory=dict)

    def allow(self, region: str, action: str, now: float) -> bool:
        """Spend one call of the budget that the action belongs to. False when there is none left."""
        profile = self.profile
        if action in _CHANGES:
            fresh = TokenBucket(profile.change_burst, profile.change_rate)
            return self._buckets.setdefault((region, "change"), fresh).take(now)
        if action.startswith("Describe"):
            fresh = TokenBucket(profile.describe_burst, profile.describe_rate)
            return self._buckets.setdefault((region, "describe"), fresh).take(now)
        return True
