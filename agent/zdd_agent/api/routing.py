"""What a route is, what its handler gets, and which route a request asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from zdd_agent.api.access import Level
from zdd_agent.api.http1 import HttpRequest, HttpResponse
from zdd_agent.engine.doctor import Doctor
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.status import Reporter
from zdd_agent.errors import AgentError, Kind, nearest
from zdd_agent.model.auto_scaling import NoticeKind
from zdd_agent.ports import Clock

if TYPE_CHECKING:
    from zdd_agent.engine.slots import SlotHolding

# Stands for a name in the path of a route.
_NAME = "ID"


@dataclass(frozen=True, slots=True)
class Backend:
    """What the handlers call. `notices` counts those that are not ignored; `slots` is None without settings of them."""

    ledger: Ledger
    reporter: Reporter
    doctor: Doctor
    clock: Clock
    notices: Callable[[], Mapping[NoticeKind, int]] = dict
    slots: SlotHolding | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number in the query, from 0 to `maximum`. `whole`: no fraction."""

    name: str
    maximum: int
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a route: `name` stands for ID in the path, `query` holds the parameters that were given."""

    request: HttpRequest
    name: str
    query: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table.

    Args:
        method: of HTTP.
        path: `ID` at its end stands for a name.
        access: what a caller must be allowed to do.
        handler: decodes, validates, calls, responds; its name is the operation's in the OpenAPI document.
        summary: one sentence for that document.
        answers: the models of the answers below 400; empty when these have no model.
        body: the model of the request's body.
        query: the parameters that the route takes.
        content_type: of an answer without a model.
    """

    method: str
    path: str
    access: Level
    handler: Callable[[Backend, Call], HttpResponse]
    summary: str
    answers: tuple[type[BaseModel], ...] = ()
    body: type[BaseModel] | None = None
    query: tuple[Parameter, ...] = ()
    content_type: str = "application/json"

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return self.path.replace(_NAME, "{id}")

    def name_in(self, path: str) -> str | None:
        """What stands for ID in this path, an empty string for a route without ID, None when the path does not fit."""
        if not self.path.endswith(_NAME):
            return "" if path == self.path else None
        fixed = self.path.removesuffix(_NAME)
        name = path.removeprefix(fixed) if path.startswith(fixed) else ""
        return name if name and "/" not in name else None


def find(routes: Iterable[Route], method: str, path: str) -> tuple[Route, str]:
    """The route that a request asks for, and what stands for ID in its path.

    Raises:
        AgentError: NOT_FOUND with the nearest path, METHOD_NOT_ALLOWED with the right method.
    """
    known = tuple(routes)
    fitting = [(route, name) for route in known if (name := route.name_in(path)) is not None]
    for route, name in fitting:
        if route.method == method:
            return route, name
    if fitting:
        allow = fitting[0][0].method
        raise AgentError(
            Kind.METHOD_NOT_ALLOWED, f"cannot {method[:16]} {fitting[0][0].path}", hint=f"use {allow}", value=allow
        )
    guess = nearest(path, [route.path for route in known])
    raise AgentError(Kind.NOT_FOUND, "cannot find this path", hint=guess or "see GET /v1/openapi.json")
