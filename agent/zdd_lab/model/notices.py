"""What EC2 announces to an instance in its metadata: spot, rebalance and maintenance notices, in their true formats.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_scheduled_events.html
"""

import json
import time
from enum import StrEnum

TARGET_STATE_PATH = "autoscaling/target-lifecycle-state"
SPOT_NOTICE = 120.0  # s before the end [doc]; never scaled, because clients plan with it
MAINTENANCE_LASTS = 1000.0  # s, made up: AWS's example has a window of 17 minutes


class NoticeKind(StrEnum):
    """What EC2 can announce."""

    SPOT = "spot"
    REBALANCE = "rebalance"
    MAINTENANCE = "maintenance"

    @property
    def path(self) -> str:
        """Below /latest/meta-data/."""
        return _PATHS[self]


_PATHS = {
    NoticeKind.SPOT: "spot/instance-action",
    NoticeKind.REBALANCE: "events/recommendations/rebalance",
    NoticeKind.MAINTENANCE: "events/maintenance/scheduled",
}


def text(kind: NoticeKind, at: float, instance_id: str) -> str:
    """What the metadata path of a notice answers.

    Args:
        at: wall time in s: the end of the spot instance, the moment of the recommendation, the start of the window.
    """
    if kind is NoticeKind.SPOT:
        return json.dumps({"action": "terminate", "time": _utc(at)}, separators=(",", ":"))
    if kind is NoticeKind.REBALANCE:
        return json.dumps({"noticeTime": _utc(at)}, separators=(",", ":"))
    event = {
        "NotBefore": _gmt(at),
        "Code": "system-reboot",
        "Description": "scheduled reboot",
        "EventId": f"instance-event-{instance_id.removeprefix('i-')[-17:]:0>17}",
        "NotAfter": _gmt(at + MAINTENANCE_LASTS),
        "State": "active",
    }
    return json.dumps([event], indent=2)


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _gmt(at: float) -> str:
    return time.strftime("%d %b %Y %H:%M:%S GMT", time.gmtime(at))
