"""The API: one route table, with the access of each route, and what each route does.

A handler is: decode, validate, call, respond.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from zdd_agent import __version__
from zdd_agent.api import schema
from zdd_agent.api.access import Level, Policy
from zdd_agent.api.http1 import HttpRequest, HttpResponse
from zdd_agent.api.metrics import render_metrics
from zdd_agent.api.openapi import document
from zdd_agent.engine.doctor import Doctor
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.status import Reporter
from zdd_agent.errors import BY_WIRE, AgentError, Kind, nearest
from zdd_agent.model.operation import FORCIBLE, Operation, Request, Verb
from zdd_agent.ports import Clock

# Seconds that one request may wait, so that a forgotten caller does not hold its connection for ever.
MAX_WAIT_SECONDS = 3600.0
# Characters of a number in a query; Python refuses to read an integer of thousands.
_NUMBER_CHARACTERS = 64
# Seconds between two looks whether a waiting caller has hung up.
_SLICE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. `query` names the parameters that the route takes."""

    method: str
    path: str
    access: Level
    handler: str
    query: tuple[str, ...] = ()


ROUTES = (
    Route("GET", "/v1/status", Level.READ, "status"),
    Route("POST", "/v1/drain", Level.OPERATE, "drain", ("wait",)),
    Route("POST", "/v1/rejoin", Level.OPERATE, "rejoin", ("wait",)),
    Route("POST", "/v1/cancel", Level.OPERATE, "cancel"),
    Route("GET", "/v1/operations/ID", Level.READ, "operation", ("wait", "after")),
    Route("POST", "/v1/doctor", Level.OPERATE, "doctor"),
    Route("GET", "/v1/metrics", Level.READ, "metrics"),
    Route("GET", "/v1/openapi.json", Level.READ, "openapi"),
)


@dataclass(frozen=True, slots=True)
class _Call:
    request: HttpRequest
    name: str
    query: Mapping[str, float]


class Api:
    """Answers requests from the ledger and the reporter."""

    def __init__(self, ledger: Ledger, reporter: Reporter, doctor: Doctor, clock: Clock, policy: Policy) -> None:
        self._examiner = doctor
        self._ledger = ledger
        self._reporter = reporter
        self._clock = clock
        self._policy = policy

    def handle(self, request: HttpRequest) -> HttpResponse:
        """The answer to a request.

        Raises:
            AgentError: NOT_FOUND, METHOD_NOT_ALLOWED, FORBIDDEN, USAGE, and whatever the call itself raises.
        """
        allowed = self._policy.level(request.peer)
        # A peer that may nothing learns nothing, not even which paths exist.
        if allowed is Level.NOTHING:
            raise _forbidden(request, "read")
        path, _, query = request.target.partition("?")
        route, name = _route(request.method, path)
        if allowed < route.access:
            raise _forbidden(request, "operate")
        handler: Callable[[_Call], HttpResponse] = getattr(self, f"_{route.handler}")
        return handler(_Call(request, name, _query(query, route)))

    def _status(self, _: _Call) -> HttpResponse:
        shot = self._reporter.snapshot()
        operation = shot.record.operation
        seen = shot.seen
        view = schema.StatusView(
            posture=shot.posture,
            instance_id=shot.identity.instance_id if shot.identity else None,
            region=shot.identity.region if shot.identity else None,
            zone=shot.identity.zone if shot.identity else None,
            targets=tuple(
                schema.TargetView.of(t, seen.of(t) if seen else None, asked=seen is not None)
                for t in shot.membership.targets
            ),
            seen_seconds_ago=round(max(shot.now - seen.seen_at, 0.0), 3) if seen else None,
            drained_since=shot.out_since,
            operation=schema.OperationView.of(operation, shot.now) if operation else None,
            warnings=shot.warnings,
            version=__version__,
        )
        return _json(200, view)

    def _drain(self, call: _Call) -> HttpResponse:
        return self._operate(call, Verb.DRAIN)

    def _rejoin(self, call: _Call) -> HttpResponse:
        return self._operate(call, Verb.REJOIN)

    def _operate(self, call: _Call, verb: Verb) -> HttpResponse:
        body = _body(call.request.body)
        if unfit := [check for check in body.force if check not in FORCIBLE[verb]]:
            known = ", ".join(FORCIBLE[verb])
            raise AgentError(
                Kind.USAGE, f"cannot force {unfit[0]} in a {verb}", hint=f"it knows: {known}", value="force"
            )
        if body.dry_run:
            plan = self._reporter.plan(verb, body.force)
            targets = tuple(schema.TargetView.of(t, None, asked=False) for t in plan.targets)
            refusal = schema.ErrorView.of(plan.refusal) if plan.refusal else None
            return _json(200, schema.PlanView(verb=verb, targets=targets, refusal=refusal))
        uid = call.request.peer.uid
        if verb is Verb.REJOIN and body.until is not None:
            raise AgentError(Kind.USAGE, "cannot rejoin until something: that is for a drain", value="until")
        asked = Request(verb, uid, body.timeout, body.reason, body.force, body.retry_seconds, body.until)
        operation = self._ledger.begin(asked)
        if "wait" in call.query:
            operation = self._wait(call, operation)
        return self._operation_answer(operation, call)

    def _cancel(self, call: _Call) -> HttpResponse:
        operation = self._ledger.cancel(call.request.peer.uid)
        return _json(202, schema.OperationView.of(operation, self._clock.now()))

    def _operation(self, call: _Call) -> HttpResponse:
        after = int(call.query.get("after", 0))
        deadline = self._clock.now() + call.query.get("wait", 0.0)
        while True:
            left = min(deadline - self._clock.now(), _SLICE_SECONDS)
            operation, events = self._ledger.events(call.name, after, max(left, 0.0))
            over = operation.outcome is not None or self._clock.now() >= deadline
            if events or over or call.request.gone() or self._ledger.closed:
                return _json(200, schema.OperationView.of(operation, self._clock.now(), events))

    def _doctor(self, _: _Call) -> HttpResponse:
        findings = self._examiner.examine()
        views = tuple(schema.FindingView(name=f.name, ok=f.ok, said=f.said, hint=f.hint) for f in findings)
        return _json(200, schema.DoctorView(ok=all(f.ok for f in findings), findings=views))

    def _metrics(self, _: _Call) -> HttpResponse:
        text = render_metrics(self._ledger.record(), self._ledger.counts(), self._clock.now())
        return HttpResponse(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _openapi(self, _: _Call) -> HttpResponse:
        return HttpResponse(200, json.dumps(document(ROUTES)).encode())

    def _wait(self, call: _Call, operation: Operation) -> Operation:
        deadline = self._clock.now() + call.query["wait"]
        after = 0
        while operation.outcome is None and self._clock.now() < deadline and not self._ledger.closed:
            left = min(deadline - self._clock.now(), _SLICE_SECONDS)
            operation, events = self._ledger.events(operation.id, after, max(left, 0.0))
            after = events[-1].seq if events else after
            if call.request.gone():
                break
        return operation

    def _operation_answer(self, operation: Operation, call: _Call) -> HttpResponse:
        view = schema.OperationView.of(operation, self._clock.now())
        if operation.outcome is None:
            return _json(202, view)
        if operation.failure is None:
            return _json(200 if "wait" in call.query else 202, view)
        return _json(BY_WIRE[operation.failure.kind].http_status, view)


def error_response(error: AgentError) -> HttpResponse:
    """The answer that an error becomes."""
    value = None if error.value is None else str(error.value)
    view = schema.ErrorView(kind=error.kind.wire, message=error.message, hint=error.hint, value=value)
    headers = (("allow", str(error.value)),) if error.kind is Kind.METHOD_NOT_ALLOWED else ()
    body = schema.ErrorBody(error=view).model_dump_json().encode()
    return HttpResponse(error.kind.http_status, body, headers=headers)


def _route(method: str, path: str) -> tuple[Route, str]:
    fitting = []
    for route in ROUTES:
        fixed = route.path.removesuffix("ID")
        name = path.removeprefix(fixed) if fixed != route.path and path.startswith(fixed) else ""
        if path == route.path or (name and "/" not in name):
            fitting.append((route, name))
    for route, name in fitting:
        if route.method == method:
            return route, name
    if fitting:
        allow = fitting[0][0].method
        raise AgentError(
            Kind.METHOD_NOT_ALLOWED,
            f"cannot {method[:16]} {fitting[0][0].path}",
            hint=f"use {allow}",
            value=allow,
        )
    guess = nearest(path, [route.path for route in ROUTES])
    raise AgentError(Kind.NOT_FOUND, "cannot find this path", hint=guess or "see GET /v1/openapi.json")


def _query(text: str, route: Route) -> dict[str, float]:
    values: dict[str, float] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=8)
    except ValueError:
        raise AgentError(Kind.USAGE, "cannot read the query: malformed") from None
    for key, value in pairs:
        if key not in route.query:
            hint = f"this path takes {', '.join(route.query)}" if route.query else "this path takes none"
            raise AgentError(Kind.USAGE, f"cannot read the query: unknown parameter {key[:32]!r}", hint=hint)
        limit, number, points = (MAX_WAIT_SECONDS, float, 1) if key == "wait" else (2**53, int, 0)
        digits = value.replace(".", "", points)
        if len(value) > _NUMBER_CHARACTERS or not (digits.isascii() and digits.isdigit()) or number(value) > limit:
            raise AgentError(
                Kind.USAGE,
                f"cannot read the query: {key} is {value[:32]!r}",
                hint=f"a number from 0 to {limit:.0f}",
                value=key,
            )
        values[key] = float(value)
    return values


def _body(raw: bytes) -> schema.OperationBody:
    if not raw.strip():
        return schema.OperationBody()
    try:
        return schema.OperationBody.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise AgentError(
            Kind.USAGE,
            f"cannot read the request: {key + ': ' if key else ''}{fault['msg']}",
            hint=f"a JSON object of {', '.join(schema.OperationBody.model_fields)}",
            value=key or None,
        ) from None


def _forbidden(request: HttpRequest, verb: str) -> AgentError:
    return AgentError(
        Kind.FORBIDDEN,
        f"cannot let uid {request.peer.uid} {verb}: not root and not in the operator group",
        hint="run it with sudo, or add the user to the group zdd-agent",
        value=request.peer.uid,
    )


def _json(status: int, view: BaseModel) -> HttpResponse:
    return HttpResponse(status, view.model_dump_json().encode())
