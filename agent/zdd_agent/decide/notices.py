"""Pure: what a notice of EC2 asks of this host, once each."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from zdd_agent.decide.actions import Leave
from zdd_agent.decide.timing import MARGIN_SECONDS, drain_timeout
from zdd_agent.model.auto_scaling import Notice, NoticeKind
from zdd_agent.model.operation import Request, Verb
from zdd_agent.model.record import Record
from zdd_agent.model.service import Rules

# Seconds for which a drain that a guard refuses is tried again, where the notice is only advice.
ADVICE_SECONDS = 600.0
# Seconds after the announced end of a spot instance from which one that still runs stays: it has woken up from
# hibernation, in the same boot, or EC2 has changed its mind.
_OUTLIVED_SECONDS = 60.0


def leave(standing: Collection[Notice], drains: Collection[NoticeKind]) -> Leave | None:
    """The end of this instance that a spot notice announces; the nearest one."""
    spot = [one for one in standing if one.kind is NoticeKind.SPOT and one.kind in drains]
    first = min(spot, key=lambda one: one.at, default=None)
    return Leave(sentence(first), first.at) if first is not None else None


def outlived(record: Record, standing: Collection[Notice], now: float) -> bool:
    """Whether the end that a spot notice announced is over, the notice gone, and this instance still here."""
    leaving = record.leaving
    if leaving is None or leaving.deadline is None or any(one.kind is NoticeKind.SPOT for one in standing):
        return False
    return now > leaving.deadline + _OUTLIVED_SECONDS


def advised(
    record: Record,
    standing: Collection[Notice],
    drains: Collection[NoticeKind],
    now: float,
    rules: Rules,
    uid: int,
) -> tuple[Notice, Request] | None:
    """The drain that a rebalance or a maintenance notice asks for now. The guard stays: it is advice.

    A maintenance event may lie weeks ahead: its drain starts so that it is over in time.
    """
    for one in standing:
        if one.kind is NoticeKind.SPOT or one.kind not in drains or sentence(one) in record.heeded:
            continue
        ahead = drain_timeout(record.membership, rules.floor_seconds) + MARGIN_SECONDS + ADVICE_SECONDS
        if one.kind is NoticeKind.REBALANCE or now >= one.at - ahead:
            return one, Request(Verb.DRAIN, uid, reason=sentence(one), wait=ADVICE_SECONDS)
    return None


def sentence(one: Notice) -> str:
    """What is announced, for people."""
    at = datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    match one.kind:
        case NoticeKind.SPOT:
            return f"EC2 announces: this spot instance will {one.what} at {at}"
        case NoticeKind.REBALANCE:
            return f"EC2 recommends to replace this spot instance, as of {at}"
        case NoticeKind.MAINTENANCE:
            return f"EC2 announces: {one.what} from {at} on ({one.event})"
