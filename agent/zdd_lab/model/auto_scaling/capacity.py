"""Keeps a group at its desired capacity: launches, scales in, rebalances zones, replaces instances at risk."""

from collections.abc import Iterator

from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.lifecycle import Lifecycle
from zdd_lab.model.auto_scaling.member import COUNTED, Member
from zdd_lab.model.auto_scaling.orders import Order


def balance(life: Lifecycle, group: ScalingGroup, rebalance_after: float, now: float) -> Iterator[Order]:
    """Bring the group to its desired capacity.

    Args:
        rebalance_after: s that zones are uneven before AZRebalance acts.
    """
    _replace_before_loss(group)
    _even_zones(group, rebalance_after, now)
    if group.extra and len(group.in_service) >= group.desired + group.extra:
        group.extra = 0  # the new ones serve: the old ones go, by the rules of a scale-in
    wanted = group.desired + group.extra
    while group.capacity < wanted and group.runs("Launch") and not group.deleting:
        cause = f"an instance was started in response to a difference between desired and actual capacity, \
increasing the capacity from {group.capacity} to {group.capacity + 1}."
        yield life.launch(group, _emptiest(group), cause, now)
    while not group.extra and group.capacity > wanted and group.runs("Terminate"):
        victim = _victim(group)
        if victim is None:
            return
        cause = f"instance {victim.instance_id} was selected for termination, shrinking the capacity from \
{group.capacity} to {group.capacity - 1}."
        life.terminate(group, victim, cause, now)


def _replace_before_loss(group: ScalingGroup) -> None:
    """Capacity rebalancing: new instances come first, then those at risk go [doc]."""
    at_risk = sum(one.at_risk for one in group.in_service)
    if group.capacity_rebalance and at_risk:
        group.extra = max(group.extra, at_risk)


def _even_zones(group: ScalingGroup, rebalance_after: float, now: float) -> None:
    """AZRebalance: one instance too many in the emptiest zone, and the scale-in takes one from the fullest [doc]."""
    counts = group.spread().values()
    uneven = len(counts) > 1 and max(counts) - min(counts) > 1 and group.capacity == group.desired
    if not uneven or not group.runs("AZRebalance") or group.extra:
        group.uneven_since = None
    elif group.uneven_since is None:
        group.uneven_since = now
    elif now - group.uneven_since >= rebalance_after:
        group.extra = 1


def _emptiest(group: ScalingGroup) -> str:
    spread = group.spread()
    return min(group.zones, key=lambda zone: (spread[zone], zone))


def _victim(group: ScalingGroup) -> Member | None:
    """At risk first, then the oldest in the fullest zone; never one that is protected [doc]."""
    spread = group.spread()
    found = [one for one in group.members.values() if one.state in COUNTED and not one.protected]
    return min(found, key=lambda one: (not one.at_risk, -spread[one.zone], one.launched_at), default=None)
