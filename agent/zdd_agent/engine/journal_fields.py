"""What readers of the log can rely on: for each kind of event a number that never changes, and its fields."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from zdd_agent.model.aws import Target
from zdd_agent.model.operation import Operation


class EventId(StrEnum):
    """MESSAGE_ID of the journal. `journalctl MESSAGE_ID=…` finds every one of a kind."""

    STARTED = "a0555a4d5c544c6485481b298aa0ad12"
    RESUMED = "5d08b955d4f14f7c8717459cddb2ac4a"
    PHASE = "59886bcbdb5440138819a415a9e8358e"
    CHANGED = "d3543be4aabd463eaa6c16f8d2941d56"
    CANCELLED = "99545c8998c245c69ad1118d9a0a7535"
    ENDED = "e0507710daeb422888648d7de4114281"
    NOTICE = "f3576ed101ab4aaaa7d672e88c9e3431"
    LEAVING = "530edf1e3ecb428796e18e343684fabf"
    COMPLETED = "c5558748bdb7468a918a98b59a317648"
    SLOT = "fa88aa7bbbe54d298ae1bc35707e3f56"


def fields(event: EventId, operation: Operation, targets: tuple[Target, ...] = ()) -> Mapping[str, object]:
    """For `extra=` of a log call: names in capitals are sent to the journal as they stand.

    Args:
        event: what happened.
        operation: what it happened to.
        targets: what it concerns; each target group becomes a field.
    """
    known: dict[str, object] = {
        "MESSAGE_ID": event.value,
        "ZDD_OPERATION": operation.id,
        "ZDD_VERB": operation.verb.value,
        "ZDD_PHASE": operation.phase.value,
        "ZDD_CALLER_UID": operation.request.uid,
    }
    if operation.outcome is not None:
        known["ZDD_OUTCOME"] = operation.outcome.value
    if targets:
        known["ZDD_TARGET_GROUP"] = tuple(sorted({t.group for t in targets}))
    return known
