"""What the routes of the slots do: look, and release one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdd_agent.api import slot_schema
from zdd_agent.api.answers import json_response
from zdd_agent.api.decode import decode_body
from zdd_agent.api.http1 import HttpResponse
from zdd_agent.api.routing import Backend, Call
from zdd_agent.errors import AgentError, Kind

if TYPE_CHECKING:
    from zdd_agent.engine.slots import SlotHolding


def slots(backend: Backend, _: Call) -> HttpResponse:
    """Show who holds a slot, and who waits."""
    known = _configured(backend, "show slots")
    table = known.table()
    holders = tuple(slot_schema.HolderView.of(one, alive=known.alive(one)) for one in table.holders)
    return json_response(200, slot_schema.SlotsView.of(table, known.rules, holders))


def release_slot(backend: Backend, call: Call) -> HttpResponse:
    """Release the slot of a host that is dead."""
    known = _configured(backend, "release a slot")
    body = decode_body(call.request.body, slot_schema.ReleaseBody)
    known.release(body.instance, alive_too="alive" in body.force, reason=body.reason, uid=call.request.peer.uid)
    return json_response(200, slot_schema.ReleasedView(service=known.rules.name, instance=body.instance))


def _configured(backend: Backend, what: str) -> SlotHolding:
    if backend.slots is None:
        hint = "set `slots.table` and `slots.name`, and restart the agent"
        raise AgentError(Kind.NOT_FOUND, f"cannot {what}: the settings have none", hint=hint, value="slots")
    return backend.slots
