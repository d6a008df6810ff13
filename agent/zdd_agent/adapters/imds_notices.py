"""The notices of the instance metadata service: where each kind is, and how to read it.

A notice that cannot be read is none: EC2 may change what it says, and no host must drain because of that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from zdd_agent.model.auto_scaling import Notice, NoticeKind

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
PATHS: Mapping[NoticeKind, str] = MappingProxyType(
    {
        NoticeKind.SPOT: "spot/instance-action",
        NoticeKind.REBALANCE: "events/recommendations/rebalance",
        NoticeKind.MAINTENANCE: "events/maintenance/scheduled",
    }
)
# `21 Jan 2019 09:00:43 GMT`:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_scheduled_events.html
_MAINTENANCE_TIME = "%d %b %Y %H:%M:%S GMT"

log = logging.getLogger(__name__)


def read(kind: NoticeKind, text: str) -> tuple[Notice, ...]:
    """The notices in what the service answers for this kind."""
    try:
        document = json.loads(text)
        if kind is NoticeKind.SPOT:
            return (Notice(kind, str(document["action"]), _moment(document["time"])),)
        if kind is NoticeKind.REBALANCE:
            return (Notice(kind, "rebalance", _moment(document["noticeTime"])),)
        return tuple(_event(one) for one in document if one.get("State", "active") == "active")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("cannot read the %s notice of the instance metadata service: %r: %.200r", kind, error, text)
        return ()


def _event(one: Any) -> Notice:
    begins = datetime.strptime(one["NotBefore"], _MAINTENANCE_TIME).replace(tzinfo=UTC)
    return Notice(NoticeKind.MAINTENANCE, str(one["Code"]), begins.timestamp(), str(one.get("EventId", "")))


def _moment(text: str) -> float:
    """Seconds since the epoch of `2017-09-18T08:22:00Z`."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
