"""How an answer, or an error, becomes a response."""

from __future__ import annotations

from pydantic import BaseModel

from zdd_agent.api import schema
from zdd_agent.api.http1 import HttpResponse
from zdd_agent.errors import AgentError, Kind


def json_response(status: int, view: BaseModel) -> HttpResponse:
    """The response with this as its body."""
    return HttpResponse(status, view.model_dump_json().encode())


def error_response(error: AgentError) -> HttpResponse:
    """The response for an error."""
    value = None if error.value is None else str(error.value)
    view = schema.ErrorView(kind=error.kind.wire, message=error.message, hint=error.hint, value=value)
    headers = (("allow", str(error.value)),) if error.kind is Kind.METHOD_NOT_ALLOWED else ()
    body = schema.ErrorBody(error=view).model_dump_json().encode()
    return HttpResponse(error.kind.http_status, body, headers=headers)
