"""From a request to its handler: who asks, for which route, with what query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from zdd_agent.api.access import Level, Policy
from zdd_agent.api.decode import decode_query
from zdd_agent.api.http1 import HttpRequest, HttpResponse
from zdd_agent.api.routes import ROUTES
from zdd_agent.api.routing import Backend, Call, find
from zdd_agent.engine.doctor import Doctor
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.status import Reporter
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import NoticeKind
from zdd_agent.ports import Clock

if TYPE_CHECKING:
    from zdd_agent.engine.slots import SlotHolding


class Api:
    """Answers the requests of those who may ask."""

    def __init__(
        self,
        ledger: Ledger,
        reporter: Reporter,
        doctor: Doctor,
        clock: Clock,
        policy: Policy,
        notices: Callable[[], Mapping[NoticeKind, int]] = dict,
        slots: SlotHolding | None = None,
    ) -> None:
        self._backend = Backend(ledger, reporter, doctor, clock, notices, slots)
        self._policy = policy

    def handle(self, request: HttpRequest) -> HttpResponse:
        """The answer to a request.

        Raises:
            AgentError: NOT_FOUND, METHOD_NOT_ALLOWED, FORBIDDEN, USAGE, and whatever the call itself raises.
        """
        allowed = self._policy.level(request.peer)
        # A peer that may do nothing learns nothing, not even which paths exist.
        if allowed is Level.NOTHING:
            raise _forbidden(request, "read from the agent: not root and in no group that may")
        path, _, query = request.target.partition("?")
        route, name = find(ROUTES, request.method, path)
        if allowed < route.access:
            raise _forbidden(request, "operate the agent: not root and not in the operator group")
        return route.handler(self._backend, Call(request, name, decode_query(query, route.query)))


def _forbidden(request: HttpRequest, what: str) -> AgentError:
    return AgentError(
        Kind.FORBIDDEN,
        f"uid {request.peer.uid} may not {what}",
        hint="run it with sudo, or add the user to the group zdd-agent",
        value=request.peer.uid,
    )
