"""The lab's own small API: what goes on, faults on request, restarts. Loopback only, no credentials."""

import json
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from zdd_lab.model.faults import BadFaultError, Fault, FaultKind

if TYPE_CHECKING:
    from zdd_lab.hosts.host import Host
    from zdd_lab.lab import Lab

Body = dict[str, Any]
Route = Callable[["Lab", dict[str, str], Body], Awaitable[Any]]


def targets(lab: "Lab", group: str) -> list[Body]:
    """Health of every target of a group, as DescribeTargetHealth has it."""
    pictures = lab.plane.elb.describe(group, None, time.monotonic())
    return [
        {"group": group, "id": one.key.id, "port": one.key.port, "state": one.state, "reason": one.reason}
        for one in pictures
    ]


def state(lab: "Lab") -> Body:
    """Everything that a test or a person may want to see, as plain values."""
    return {
        "profile": lab.profile.name,
        "endpoint": lab.endpoint_url,
        "urls": lab.urls,
        "group": lab.front.group,
        "hosts": [host.state() for host in lab.hosts],
        "targets": [one for group in lab.plane.elb.topology.groups for one in targets(lab, group)],
        "nodes": {name: node.counters() for name, node in lab.plane.nodes.items()},
        "calls": _by_client(lab.endpoint.calls),
        "throttled": _by_client(lab.endpoint.throttled),
        "imds_v1_requests": sum(host.imds.v1_requests for host in lab.hosts),
        "faults": [fault.as_json() for fault in lab.faults.all()],
    }


def application(lab: "Lab") -> web.Application:
    app = web.Application()
    for (method, path), route in ROUTES.items():
        app.router.add_route(method, path, _answering(lab, route))
    return app


def _answering(lab: "Lab", route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.read() or b"{}")
            if not isinstance(body, dict):
                raise BadFaultError("the body must be a JSON object")
            return web.json_response(await route(lab, dict(request.match_info), body))
        except LookupError as error:
            return web.json_response({"error": str(error.args[0])}, status=404)
        except ValueError as error:  # BadFaultError and broken JSON
            return web.json_response({"error": str(error)}, status=400)

    return answer


def _by_client(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = defaultdict(dict)
    for (client, action), count in sorted(counts.items()):
        table[client][action] = count
    return table


def _host(lab: "Lab", path: dict[str, str]) -> "Host":
    wanted = path["host"]
    for host in lab.hosts:
        if wanted in (host.name, host.name.removeprefix("h"), host.identity.instance_id):
            return host
    raise LookupError(f"no host {wanted!r}: there are {', '.join(host.name for host in lab.hosts)}")


async def _state(lab: "Lab", _path: dict[str, str], _body: Body) -> Body:
    return state(lab)


async def _add_fault(lab: "Lab", _path: dict[str, str], body: Body) -> Body:
    fault = lab.faults.add(Fault.parse(body))
    await lab.apply_zone_faults()
    return fault.as_json()


async def _clear_faults(lab: "Lab", path: dict[str, str], _body: Body) -> Body:
    lab.faults.clear(int(path["id"]) if "id" in path else None)
    await lab.apply_zone_faults()
    return {"faults": [fault.as_json() for fault in lab.faults.all()]}


async def _zone(lab: "Lab", path: dict[str, str], body: Body) -> Body:
    zone = path["zone"]
    if zone not in ("a", "b"):
        raise LookupError(f"no zone {zone!r}: there are a, b")
    for fault in lab.faults.all():
        if fault.kind is FaultKind.ZONE_DOWN and fault.zone == zone:
            lab.faults.clear(fault.id)
    if body.get("down", True):
        lab.faults.add(Fault(FaultKind.ZONE_DOWN, zone=zone))
    await lab.apply_zone_faults()
    return {"zones_down": sorted(lab.faults.zones_down())}


async def _app(lab: "Lab", path: dict[str, str], body: Body) -> Body:
    host = _host(lab, path)
    version = body.get("version", host.version or "v1")
    if not isinstance(version, str):
        raise BadFaultError("version must be text")
    await host.restart_app(version, lab.app_arguments)
    return host.state()


async def _agent(lab: "Lab", path: dict[str, str], _body: Body) -> Body:
    host = _host(lab, path)
    if path["deed"] == "restart":
        await host.restart_agent()
    elif path["deed"] == "start":
        await host.start_agent()
    else:
        await host.stop_agent()
    return host.state()


async def _signal(lab: "Lab", path: dict[str, str], body: Body) -> Body:
    host = _host(lab, path)
    name = f"SIG{body.get('signal', 'TERM')}"
    if name not in signal.Signals.__members__:
        raise BadFaultError(f"unknown signal {body.get('signal')!r}")
    await host.signal_agent(signal.Signals[name])
    return host.state()


async def _imds(lab: "Lab", path: dict[str, str], body: Body) -> Body:
    host = _host(lab, path)
    imds = host.imds
    unknown = set(body) - {"down", "off", "throttle", "set", "after", "forget_tokens"}
    if unknown:
        raise BadFaultError(f"unknown key {sorted(unknown)[0]!r}: down, off, throttle, set, after, forget_tokens")
    if "down" in body:
        for fault in lab.faults.all():
            if fault.kind is FaultKind.IMDS_DOWN and fault.client == host.name:
                lab.faults.clear(fault.id)
        if body["down"]:
            lab.faults.add(Fault(FaultKind.IMDS_DOWN, client=host.name))
    imds.off = bool(body.get("off", imds.off))
    imds.throttled = int(body.get("throttle", imds.throttled))
    if body.get("forget_tokens"):
        imds.forget_tokens()
    for name, text in dict(body.get("set", {})).items():
        imds.announce(name, text, float(body.get("after", 0)))
    return host.state()


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/state"): _state,
    ("POST", "/faults"): _add_fault,
    ("DELETE", "/faults"): _clear_faults,
    ("DELETE", r"/faults/{id:\d+}"): _clear_faults,
    ("POST", "/zones/{zone}"): _zone,
    ("POST", "/hosts/{host}/app"): _app,
    ("POST", "/hosts/{host}/agent"): _signal,
    ("POST", "/hosts/{host}/agent/{deed:start|stop|restart}"): _agent,
    ("POST", "/hosts/{host}/imds"): _imds,
}
