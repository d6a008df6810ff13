"""Pure: Standby in the host's Auto Scaling group, around a drain and a rejoin.

The drain deregisters first, and enters Standby once no other host has left at the same moment: `EnteringStandby` lasts
as long as the deregistration delay and cannot be left, so there is no going back from there. A rejoin leaves Standby
before it registers.

Source: https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-enter-exit-standby.html
"""

from __future__ import annotations

from zdd_agent.decide.actions import EnterStandby
from zdd_agent.decide.evidence import Evidence
from zdd_agent.errors import Kind
from zdd_agent.model.auto_scaling import IN_SERVICE, IN_STANDBY, ScalingPlace
from zdd_agent.model.operation import Failure, Request
from zdd_agent.model.record import Underway
from zdd_agent.model.service import Rules
from zdd_agent.model.states import Draining, InService, Resting

_HINT = (
    "raise the group's desired capacity by one for the deploy, lower its minimum size, or retry with --wait SECONDS; "
    '`auto_scaling.mode = "watch"` drains without Standby'
)


def group_to_enter(request: Request, place: ScalingPlace | None, before: Resting, rules: Rules) -> str:
    """The group whose Standby this drain enters; empty where it enters none.

    A drain that ends with the host enters none: the host will not come back. Nor does one of a host that an earlier
    drain has put there, and that others have registered since.
    """
    if place is not None and place.state in IN_STANDBY and group_of(before) == place.group.name:
        return ""
    return place.group.name if rules.standby and place is not None and not request.stopping else ""


def refusal(request: Request, place: ScalingPlace | None, before: Resting, rules: Rules) -> Failure | None:
    """Why this drain cannot enter Standby; None when it can, or need not: it is there since an earlier drain."""
    if place is None or not group_to_enter(request, place, before, rules):
        return None
    return no_room(place)


def no_room(place: ScalingPlace) -> Failure | None:
    """Why the group cannot spare this host; None when it can.

    AWS refuses what would bring the group below its minimum size. Asked before anything is changed: a host that finds
    out after its deregistration has to go back.
    """
    group = place.group
    if place.state != IN_SERVICE:
        said = (
            f"this host is {place.state} in the Auto Scaling group {group.name}, and only InService may enter Standby"
        )
        return Failure(Kind.REFUSED.wire, f"cannot drain: {said}", "run `zdd-agent status` to see when that is over")
    if group.desired - 1 < group.minimum:
        said = (
            f"Standby takes one of {group.desired} desired instances of {group.name}, whose minimum is {group.minimum}"
        )
        return Failure(Kind.REFUSED.wire, f"cannot drain: {said}", _HINT)
    return None


def due(state: Draining, one: Underway, evidence: Evidence, rules: Rules) -> EnterStandby | Failure | None:
    """What is left to do before the drain can wait for its end, or why AWS refuses it; None when nothing is."""
    group = state.ending.standby
    if not group or one.request.stopping or not rules.standby:  # the mode may have been turned off meanwhile
        return None
    if evidence.refused is None:
        return EnterStandby(group)
    error, _ = evidence.refused
    return Failure(error.kind.wire, f"cannot drain: {error.message}", error.hint or _HINT)


def group_of(before: Resting) -> str:
    """The group in whose Standby an earlier drain left this host; empty where it is in none."""
    return "" if isinstance(before, InService) else before.left.standby
