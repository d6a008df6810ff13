"""What each route does. A handler is: decode, validate, call, respond."""

from __future__ import annotations

from zdd_agent import __version__
from zdd_agent.api import schema
from zdd_agent.api.answers import json_response
from zdd_agent.api.decode import decode_body
from zdd_agent.api.http1 import HttpResponse
from zdd_agent.api.metrics import render_metrics
from zdd_agent.api.routing import Backend, Call
from zdd_agent.decide.slots import described
from zdd_agent.errors import BY_WIRE, AgentError, Kind
from zdd_agent.model.operation import FORCIBLE, Check, Operation, Request, Verb

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds between two checks whether a waiting caller has hung up.
_SLICE_SECONDS = 1.0


def status(backend: Backend, _: Call) -> HttpResponse:
    """Where the host stands."""
    shot = backend.reporter.snapshot()
    operation, seen = shot.record.operation, shot.seen
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
        auto_scaling=shot.scaling or None,
        slot=described(shot.record.slot, shot.now) if shot.record.slot is not None else None,
        warnings=shot.warnings,
        version=__version__,
    )
    return json_response(200, view)


def drain(backend: Backend, call: Call) -> HttpResponse:
    """Take the host out."""
    return _operate(backend, call, Verb.DRAIN)


def rejoin(backend: Backend, call: Call) -> HttpResponse:
    """Put the host back."""
    return _operate(backend, call, Verb.REJOIN)


def cancel(backend: Backend, call: Call) -> HttpResponse:
    """Stop the operation under way."""
    operation = backend.ledger.cancel(call.request.peer.uid)
    return json_response(202, schema.OperationView.of(operation, backend.clock.now()))


def operation(backend: Backend, call: Call) -> HttpResponse:
    """Show one operation; with `wait`, as soon as there is an event after `after`."""
    after = int(call.query.get("after", 0))
    deadline = backend.clock.now() + call.query.get("wait", 0.0)
    while True:
        left = min(deadline - backend.clock.now(), _SLICE_SECONDS)
        found, events = backend.ledger.events(call.name, after, max(left, 0.0))
        over = found.outcome is not None or backend.clock.now() >= deadline
        if events or over or call.request.gone() or backend.ledger.closed:
            return json_response(200, schema.OperationView.of(found, backend.clock.now(), events))


def forget(backend: Backend, call: Call) -> HttpResponse:
    """Drop a target from the membership."""
    body = decode_body(call.request.body, schema.ForgetBody)
    backend.ledger.forget(*body.parts, call.request.peer.uid)
    return json_response(200, schema.ForgottenView(target=body.target))


def doctor(backend: Backend, _: Call) -> HttpResponse:
    """Find out whether a drain would work here."""
    findings = backend.doctor.examine()
    views = tuple(schema.FindingView(name=f.name, ok=f.ok, said=f.said, hint=f.hint) for f in findings)
    return json_response(200, schema.DoctorView(ok=all(f.ok for f in findings), findings=views))


def metrics(backend: Backend, _: Call) -> HttpResponse:
    """Show the metrics."""
    text = render_metrics(backend.ledger.record(), backend.ledger.counts(), backend.clock.now(), backend.notices())
    return HttpResponse(200, text.encode(), _METRICS_TYPE)


def _operate(backend: Backend, call: Call, verb: Verb) -> HttpResponse:
    body = decode_body(call.request.body, schema.OperationBody)
    _check(body, verb)
    if body.dry_run:
        return _plan(backend, body, verb)
    asked = Request(
        verb=verb,
        uid=call.request.peer.uid,
        timeout=body.timeout,
        reason=body.reason,
        force=body.force,
        wait=body.retry_seconds,
        until=body.until,
        stopping=body.stopping,
        keep_trying=body.keep_trying,
        reboot=body.reboot,
    )
    begun = backend.ledger.begin(asked)
    waits = "wait" in call.query
    reached = _wait(backend, call, begun) if waits else begun
    view = schema.OperationView.of(reached, backend.clock.now())
    if reached.failure is not None:
        return json_response(BY_WIRE[reached.failure.kind].http_status, view)
    return json_response(200 if waits and reached.outcome is not None else 202, view)


def _check(body: schema.OperationBody, verb: Verb) -> None:
    """Raises AgentError USAGE for what this verb does not take."""
    if unfit := [check for check in body.force if check not in FORCIBLE[verb]]:
        known = ", ".join(FORCIBLE[verb])
        hint = f"a {verb} can skip: {known}"
        raise AgentError(Kind.USAGE, f"cannot force {unfit[0]} in a {verb}", hint=hint, value="force")
    if Check.DRAINED in body.force and not body.reboot:
        raise AgentError(Kind.USAGE, "cannot force drained in a drain without `reboot`", value="force")
    of_one_verb = (
        ("until", Verb.DRAIN, body.until is not None),
        ("stopping", Verb.DRAIN, body.stopping),
        ("reboot", Verb.DRAIN, body.reboot),
        ("keep_trying", Verb.REJOIN, body.keep_trying),
    )
    for name, owner, given in of_one_verb:
        if given and verb is not owner:
            raise AgentError(Kind.USAGE, f"cannot {verb} with `{name}`", hint=f"it is for a {owner}", value=name)


def _plan(backend: Backend, body: schema.OperationBody, verb: Verb) -> HttpResponse:
    plan = backend.reporter.plan(verb, body.force)
    targets = tuple(schema.TargetView.of(t, None, asked=False) for t in plan.targets)
    refusal = schema.ErrorView.of(plan.refusal) if plan.refusal else None
    return json_response(200, schema.PlanView(verb=verb, targets=targets, refusal=refusal))


def _wait(backend: Backend, call: Call, begun: Operation) -> Operation:
    """The operation at its end, or when the caller's seconds are over, the caller is gone, or the daemon stops."""
    deadline = backend.clock.now() + call.query["wait"]
    current, after = begun, 0
    while current.outcome is None and backend.clock.now() < deadline and not backend.ledger.closed:
        left = min(deadline - backend.clock.now(), _SLICE_SECONDS)
        current, events = backend.ledger.events(current.id, after, max(left, 0.0))
        after = events[-1].seq if events else after
        if call.request.gone():
            break
    return current
