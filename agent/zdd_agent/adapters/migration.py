"""Turns a state file of version 0.1.0 into a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Failure, Operation, Outcome, Phase, Request, Verb
from zdd_agent.model.record import Record, Underway, Wanted
from zdd_agent.model.states import (
    Claim,
    Claiming,
    Confirming,
    Departure,
    Drained,
    Draining,
    Ending,
    Guarding,
    InService,
    Joining,
    Out,
    Probing,
    Resting,
    State,
    Warming,
)

# The `version` in the files of 0.1.0.
VERSION = 1


def migrated(document: Mapping[str, Any]) -> Record:
    """The record that 0.1.0 left, without an owner: it is this host's if its targets name this host.

    Args:
        document: the `state.json` of 0.1.0.

    Raises:
        ValueError: it is not such a document.
    """
    try:
        old = document["record"]
        membership = TypeAdapter(Membership).validate_python(old["membership"] or {})
        operation, out_since = old["operation"], old["out_since"]
        resting = _resting(old, membership)
        wanted = Wanted.IN if out_since is None else Wanted.OUT
        if operation is None:
            return Record(membership=membership, wanted=wanted, state=resting)
        request = TypeAdapter(Request).validate_python(operation["request"])
        if operation["outcome"] is not None:
            return Record(membership=membership, wanted=wanted, state=resting, last=_ended(operation, request))
        wanted = Wanted.OUT if request.verb is Verb.DRAIN else Wanted.IN
        underway = Underway(
            operation["id"], request, operation["started_at"], operation["deadline"], operation["cancelled_by"]
        )
        state = _state(operation, resting, membership)
        return Record(membership=membership, wanted=wanted, state=state, underway=underway)
    except (KeyError, TypeError) as error:
        raise ValueError(f"it lacks {error}") from None


def _resting(old: Mapping[str, Any], membership: Membership) -> Resting:
    since = old["out_since"]
    if since is None:
        return InService()
    operation = old["operation"] or {}
    drained = operation.get("request", {}).get("verb") == Verb.DRAIN
    accepted_at = (operation.get("accepted_at") if drained else None) or since
    left = Departure(since, accepted_at, membership.targets, tuple(old["nodes"]))
    if old["settled"]:
        return Drained(left, "proved by version 0.1.0", operation.get("ended_at") or since)
    return Out(left, "left by version 0.1.0")


def _state(operation: Mapping[str, Any], resting: Resting, membership: Membership) -> State:
    started, phase = operation["started_at"], Phase(operation["phase"])
    # 0.1.0 marked a host as out before its first deregistration: that mark may be this drain's own.
    own = not isinstance(resting, InService) and resting.left.since >= started
    before = InService() if own else resting
    guarded_at = operation["guarded_at"] or started
    accepted_at = operation["accepted_at"]
    since = started if isinstance(resting, InService) else resting.left.since
    nodes = () if isinstance(resting, InService) else resting.left.nodes
    left = Departure(since, accepted_at or guarded_at, membership.targets, nodes)
    claim = Claim(TypeAdapter(tuple[Target, ...]).validate_python(operation["guarded"]), guarded_at)
    ending = Ending(Until(operation["until"] or Until.UNUSED), operation["doubt"])
    match phase:
        case Phase.GUARDING:
            return Guarding(resting)
        case Phase.DEREGISTERING:
            return Claiming(before, since, membership.targets, nodes, claim, ending)
        case Phase.DRAINING if not operation["confirmed"]:
            return Confirming(before, left, claim, ending)
        case Phase.DRAINING:
            return Draining(left, ending)
        case Phase.PROBING:
            return Probing(resting)
        case Phase.REGISTERING:
            return Joining(resting)
        case Phase.WARMING:
            return Warming(resting, accepted_at or started, accepted_at is not None)
        case Phase.SETTLED | Phase.IN_SERVICE:
            raise ValueError(f"an operation is under way in {phase}")


def _ended(operation: Mapping[str, Any], request: Request) -> Operation:
    return Operation(
        id=operation["id"],
        request=request,
        phase=Phase(operation["phase"]),
        started_at=operation["started_at"],
        deadline=operation["deadline"],
        ended_at=operation["ended_at"],
        outcome=Outcome(operation["outcome"]),
        message=operation["message"],
        failure=TypeAdapter(Failure | None).validate_python(operation["failure"]),
        changed=operation["accepted_at"] is not None or operation["guarded_at"] is not None,
        cancelled_by=operation["cancelled_by"],
    )
