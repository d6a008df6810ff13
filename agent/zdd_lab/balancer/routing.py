"""Chooses the target of a group that gets the next request."""

import time

from zdd_lab.balancer.node_target import NodeTarget
from zdd_lab.model.target import TargetKey

_LEAST_SHARE = 0.01  # share of a full target's requests at the beginning of slow start


class Rotation:
    """Smooth weighted round robin over the targets of a group. The share of a target in slow start grows."""

    def __init__(self) -> None:
        self._candidates: list[NodeTarget] = []
        self._credit: dict[TargetKey, float] = {}

    def update(self, targets: list[NodeTarget]) -> None:
        """Take the group's targets.

        The healthy ones get the requests. If none is healthy, the unhealthy ones get them (it fails open). A target
        that has not passed its first check gets none in either case.
        """
        known = [target for target in targets if not target.deregistered]
        healthy = [target for target in known if target.health.state == "healthy"]
        self._candidates = healthy or [target for target in known if target.health.state == "unhealthy"]
        keys = {target.backend.key for target in self._candidates}
        self._credit = {key: self._credit.get(key, 0.0) for key in keys}

    def next(self) -> NodeTarget | None:
        """Return the next target, or None if there is none."""
        candidates, credit = self._candidates, self._credit
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        chosen, most, total = candidates[0], -1e9, 0.0
        for target in candidates:
            weight = _weight(target)
            total += weight
            key = target.backend.key
            credit[key] += weight
            if credit[key] > most:
                chosen, most = target, credit[key]
        credit[chosen.backend.key] -= total
        return chosen


def _weight(target: NodeTarget) -> float:
    slow_start = target.backend.slow_start
    if not slow_start or target.healthy_since is None:
        return 1.0
    return min(1.0, max(_LEAST_SHARE, (time.time() - target.healthy_since) / slow_start))
