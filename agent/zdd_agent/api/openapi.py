"""The description of the API, made from the route table and the schema.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from pydantic.json_schema import models_json_schema

from zdd_agent import __version__
from zdd_agent.api import schema

_REF = "#/components/schemas/{model}"
_BODIES = (
    schema.OperationBody,
    schema.ErrorBody,
    schema.OperationView,
    schema.PlanView,
    schema.DoctorView,
    schema.StatusView,
)
_ANSWERS = {
    "status": ("StatusView",),
    "drain": ("OperationView", "PlanView"),
    "rejoin": ("OperationView", "PlanView"),
    "cancel": ("OperationView",),
    "operation": ("OperationView",),
    "doctor": ("DoctorView",),
}
_SAYS = {
    "status": "Where the host stands.",
    "drain": "Take the host out; joins a drain that is under way.",
    "rejoin": "Put the host back; joins a rejoin that is under way.",
    "cancel": "Stop the operation under way where it is.",
    "operation": "One operation; with wait, a long poll for events after the number given.",
    "doctor": "Whether a drain would work here; changes nothing.",
    "metrics": "Prometheus text.",
    "openapi": "This document.",
}


class RouteLike(Protocol):
    """What a row of the route table tells."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def handler(self) -> str: ...
    @property
    def query(self) -> tuple[str, ...]: ...


def document(routes: Iterable[RouteLike]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    _, definitions = models_json_schema([(body, "validation") for body in _BODIES], ref_template=_REF)
    paths: dict[str, Any] = {}
    for route in routes:
        path = route.path.replace("ID", "{id}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zdd-agent",
            "version": __version__,
            "summary": "HTTP/1.1 over the Unix socket /run/zdd-agent/agent.sock",
        },
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }


def _operation(route: RouteLike) -> dict[str, Any]:
    error = {"description": "An error.", "content": _content("ErrorBody")}
    said: dict[str, Any] = {
        "operationId": route.handler,
        "summary": _SAYS[route.handler],
        "parameters": [
            {
                "name": name,
                "in": "query",
                "schema": {"type": "number", "minimum": 0, "maximum": 3600}
                if name == "wait"
                else {"type": "integer", "minimum": 0, "maximum": 2**53},
            }
            for name in route.query
        ],
        "responses": {"default": error},
    }
    if "{id}" in route.path.replace("ID", "{id}"):
        said["parameters"].append(
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        )
    answers = _ANSWERS.get(route.handler)
    if answers is None:
        kind = "text/plain" if route.handler == "metrics" else "application/json"
        said["responses"]["200"] = {"description": _SAYS[route.handler], "content": {kind: {}}}
        return said
    said["responses"]["200"] = {"description": "Done.", "content": _content(*answers)}
    if "OperationView" in answers and route.method == "POST":
        said["responses"]["202"] = {"description": "Under way.", "content": _content("OperationView")}
        said["responses"]["default"] = {
            "description": "An error, or an operation that did not succeed.",
            "content": _content("ErrorBody", "OperationView"),
        }
    if route.handler in ("drain", "rejoin"):
        said["requestBody"] = {"content": _content("OperationBody")}
    return said


def _content(*names: str) -> dict[str, Any]:
    refs = [{"$ref": _REF.format(model=name)} for name in names]
    return {"application/json": {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}
