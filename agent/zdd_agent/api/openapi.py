"""The description of the API, made from the route table.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from zdd_agent import __version__
from zdd_agent.api.routing import Parameter, Route
from zdd_agent.api.schema import ErrorBody, OperationView

_REF = "#/components/schemas/{model}"


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    models: dict[type[BaseModel], None] = {ErrorBody: None}  # a set that keeps its order
    paths: dict[str, Any] = {}
    for route in routes:
        models |= dict.fromkeys((*route.answers, *((route.body,) if route.body else ())))
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route)
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
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


def _operation(route: Route) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": [_in_query(parameter) for parameter in route.query],
        "responses": _responses(route),
    }
    if "{id}" in route.template:
        said["parameters"].append(
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        )
    if route.body is not None:
        said["requestBody"] = {"content": _content(route.body)}
        if any(field.is_required() for field in route.body.model_fields.values()):
            said["requestBody"]["required"] = True
    return said


def _in_query(parameter: Parameter) -> dict[str, Any]:
    kind = "integer" if parameter.whole else "number"
    return {"name": parameter.name, "in": "query", "schema": {"type": kind, "minimum": 0, "maximum": parameter.maximum}}


def _responses(route: Route) -> dict[str, Any]:
    answers: dict[str, Any] = {"default": {"description": "An error.", "content": _content(ErrorBody)}}
    if not route.answers:
        answers["200"] = {"description": route.summary, "content": {route.content_type: {}}}
        return answers
    answers["200"] = {"description": "Done.", "content": _content(*route.answers)}
    if OperationView in route.answers and route.method == "POST":
        answers["202"] = {"description": "Under way.", "content": _content(OperationView)}
        answers["default"] = {
            "description": "An error, or an operation that did not succeed.",
            "content": _content(ErrorBody, OperationView),
        }
    return answers


def _content(*models: type[BaseModel]) -> dict[str, Any]:
    refs = [{"$ref": _REF.format(model=model.__name__)} for model in models]
    return {"application/json": {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}
