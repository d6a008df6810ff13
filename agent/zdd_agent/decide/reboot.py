"""Pure: who may drain a host to reboot it, what gives way to a reboot, and the rejoin after it."""

from __future__ import annotations

from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.operation import Check, Request, Verb
from zdd_agent.model.record import Record


def in_the_way(record: Record, request: Request, boot_id: str, now: float) -> AgentError | None:
    """Why a reboot keeps this drain from being taken up, or is kept from it; None where nothing is in the way.

    A host that somebody has taken out is in the middle of that somebody's work, which a reboot would break off. So is a
    drain that joins one which a reboot follows. Neither holds for a stop that cannot be prevented.

    Args:
        record: as it stands on disk.
        request: a drain.
        boot_id: of this boot of the host; empty where it is not known.
        now: seconds since the epoch.
    """
    one = record.underway
    if not request.reboot:
        if one is None or not one.request.reboot or request.stopping:
            return None
        hint = "wait until it is back, or call the reboot off with `zdd-agent cancel`"
        return AgentError(Kind.BUSY, "cannot drain: this host drains to be rebooted", hint=hint, value=one.id)
    if record.leaving is not None:
        return AgentError(Kind.REFUSED, f"cannot reboot: {record.leaving.why}", hint="leave this instance to its end")
    if not boot_id:
        said = "cannot reboot: the agent cannot tell one boot from the next, so nothing would put this host back"
        return AgentError(Kind.FAILED, said, hint="run the agent as the service zdd-agent.service")
    if Check.DRAINED in request.force:
        return None
    hint = "wait until it is over; or, where it is yours: `zdd-agent reboot --force drained`"
    if one is not None:
        return AgentError(Kind.BUSY, f"cannot reboot: a {one.request.verb} is under way", hint=hint, value=one.id)
    if record.out_since is not None:
        said = f"cannot reboot: this host was taken out {now - record.out_since:.0f} s ago, for other work it seems"
        hint = "put it back with `zdd-agent rejoin`; or, where the work is over: `zdd-agent reboot --force drained`"
        return AgentError(Kind.BUSY, said, hint=hint)
    return None


def after_reboot(record: Record) -> Request | None:
    """The rejoin of a host that has been rebooted, as somebody asked; None where none is to begin.

    Args:
        record: once it is known to be this instance's: only then does its owner hold the ID of this boot.
    """
    reboot = record.reboot
    if reboot is None or reboot.boot_id == record.owner.boot_id or record.left is None or record.leaving is not None:
        return None
    return Request(Verb.REJOIN, reboot.uid, reason="back after a reboot", keep_trying=True)
