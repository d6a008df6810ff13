"""The route table: method, path, access, handler, models and summary of each route, and nothing else."""

from __future__ import annotations

import json

from zdd_agent.api import handlers, schema, slot_handlers, slot_schema
from zdd_agent.api.access import Level
from zdd_agent.api.http1 import HttpResponse
from zdd_agent.api.openapi import document
from zdd_agent.api.routing import Backend, Call, Parameter, Route

# Seconds that one request may wait, so that a forgotten caller does not hold its connection for ever.
WAIT = Parameter("wait", 3600)
# The number of an event; larger ones are not exact in JSON.
AFTER = Parameter("after", 2**53, whole=True)


def openapi(_: Backend, __: Call) -> HttpResponse:
    """Describe the API: this table as an OpenAPI document."""
    return HttpResponse(200, json.dumps(document(ROUTES)).encode())


ROUTES = (
    Route(
        "GET",
        "/v1/status",
        Level.READ,
        handlers.status,
        "Where the host stands.",
        answers=(schema.StatusView,),
    ),
    Route(
        "POST",
        "/v1/drain",
        Level.OPERATE,
        handlers.drain,
        "Take the host out; joins a drain that is under way.",
        answers=(schema.OperationView, schema.PlanView),
        body=schema.OperationBody,
        query=(WAIT,),
    ),
    Route(
        "POST",
        "/v1/rejoin",
        Level.OPERATE,
        handlers.rejoin,
        "Put the host back; joins a rejoin that is under way.",
        answers=(schema.OperationView, schema.PlanView),
        body=schema.OperationBody,
        query=(WAIT,),
    ),
    Route(
        "POST",
        "/v1/cancel",
        Level.OPERATE,
        handlers.cancel,
        "Stop the operation under way where it is.",
        answers=(schema.OperationView,),
    ),
    Route(
        "GET",
        "/v1/operations/ID",
        Level.READ,
        handlers.operation,
        "One operation; with wait, a long poll for events after the number given.",
        answers=(schema.OperationView,),
        query=(WAIT, AFTER),
    ),
    Route(
        "POST",
        "/v1/forget",
        Level.OPERATE,
        handlers.forget,
        "Forget a target that this host no longer has, so that no rejoin registers it.",
        answers=(schema.ForgottenView,),
        body=schema.ForgetBody,
    ),
    Route(
        "GET",
        "/v1/slots",
        Level.READ,
        slot_handlers.slots,
        "Who holds a slot of this service, and who waits for one.",
        answers=(slot_schema.SlotsView,),
    ),
    Route(
        "POST",
        "/v1/slots/release",
        Level.OPERATE,
        slot_handlers.release_slot,
        "Release the slot of a host that is dead.",
        answers=(slot_schema.ReleasedView,),
        body=slot_schema.ReleaseBody,
    ),
    Route(
        "POST",
        "/v1/doctor",
        Level.OPERATE,
        handlers.doctor,
        "Whether a drain would work here; changes nothing.",
        answers=(schema.DoctorView,),
    ),
    Route(
        "GET",
        "/v1/metrics",
        Level.READ,
        handlers.metrics,
        "Prometheus text.",
        content_type="text/plain",
    ),
    Route("GET", "/v1/openapi.json", Level.READ, openapi, "This document."),
)
