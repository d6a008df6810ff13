"""The record as JSON: a part that every version reads, and the rest that only this version does.

The first part holds the owner, the membership, what is wanted, since when the host is out, in whose Standby, why it
leaves, whether it comes back after a reboot, and its slot. A newer or an older version of the rest never costs these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.operation import Operation, Reboot
from zdd_agent.model.record import (
    Claiming,
    Confirming,
    Departure,
    Drained,
    Draining,
    GoingBack,
    Guarding,
    InService,
    Joining,
    Leaving,
    Out,
    Owner,
    Probing,
    Record,
    Underway,
    Wanted,
    Warming,
)
from zdd_agent.model.slots import Slot

# The version of the part that only this version reads.
VERSION = 2
_STATES = {
    state.__name__: state
    for state in (
        InService,
        Drained,
        Out,
        Guarding,
        Claiming,
        Confirming,
        Draining,
        GoingBack,
        Probing,
        Joining,
        Warming,
    )
}


def encoded(record: Record) -> dict[str, Any]:
    """The record as a document."""
    return {
        "owner": _plain(record.owner),
        "wanted": record.wanted.value,
        "out_since": record.out_since,
        "standby": record.left.standby if record.left is not None else "",
        "leaving": _plain(record.leaving),
        "reboot": _plain(record.reboot),
        "slot": _plain(record.slot),
        "membership": _plain(record.membership),
        "version": VERSION,
        "record": {
            "state": _plain(record.state),
            "underway": _plain(record.underway),
            "last": _plain(record.last),
            "listed": _plain(record.listed),
        },
    }


def decoded(document: Mapping[str, Any], now: float) -> tuple[Record, str]:
    """The record in a document, and why its rest could not be read, for people; empty when all could.

    Args:
        document: as `encoded` makes it, of this version or another.
        now: seconds since the epoch: when a host is out and only another version knows more, the floor of the next
            drain counts from here.

    Raises:
        ValueError: not even the part that every version reads can be read.
    """
    try:
        owner = TypeAdapter(Owner).validate_python(document.get("owner", {}))
        membership = TypeAdapter(Membership).validate_python(document["membership"])
        wanted = Wanted(document.get("wanted", "in"))
        out_since = TypeAdapter(float | None).validate_python(document.get("out_since"))
        standby = TypeAdapter(str).validate_python(document.get("standby", ""))
        leaving = TypeAdapter(Leaving | None).validate_python(document.get("leaving"))
        reboot = TypeAdapter(Reboot | None).validate_python(document.get("reboot"))
        slot = TypeAdapter(Slot | None).validate_python(document.get("slot"))
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from None
    try:
        if document.get("version") != VERSION:
            raise ValueError(f"it is of version {document.get('version')!r}")  # noqa: TRY301  one way to give up
        rest = document["record"]
        return Record(
            owner=owner,
            membership=membership,
            wanted=wanted,
            state=_state(rest["state"]),
            underway=TypeAdapter(Underway | None).validate_python(rest["underway"]),
            last=TypeAdapter(Operation | None).validate_python(rest["last"]),
            listed=TypeAdapter(tuple[Target, ...]).validate_python(rest["listed"]),
            leaving=leaving,
            reboot=reboot,
            slot=slot,
        ), ""
    except (ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())
        left = Departure(now if out_since is None else out_since, now, standby=standby)
        state = InService() if out_since is None else Out(left, "as another version left it")
        known = Record(owner=owner, membership=membership, wanted=wanted, state=state, leaving=leaving)
        return replace(known, reboot=reboot, slot=slot), why


def kept(new: dict[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The new document with the fields of an old one that this version does not know."""
    membership, before = new["membership"], old.get("membership")
    if isinstance(before, Mapping):
        for name, key in (("groups", ("arn",)), ("targets", ("group", "id", "port"))):
            known = {tuple(one.get(k) for k in key): one for one in before.get(name, ()) if isinstance(one, Mapping)}
            membership[name] = [{**known.get(tuple(one[k] for k in key), {}), **one} for one in membership[name]]
        new["membership"] = {**before, **membership}
    return {**old, **new}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = {"is": type(value).__name__} if type(value).__name__ in _STATES else {}
        return {**named, **{one.name: _plain(getattr(value, one.name)) for one in fields(value)}}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def _state(document: Mapping[str, Any]) -> Any:
    values = dict(document)
    name = values.pop("is")
    if name not in _STATES:
        raise ValueError(f"it holds the unknown state {name!r}")
    if "before" in values:
        values["before"] = _state(values["before"])
    return TypeAdapter(_STATES[name]).validate_python(values)
