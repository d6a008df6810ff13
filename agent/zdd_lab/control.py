"""The lab's own HTTP API: shows its state, starts and ends faults, restarts apps. Loopback only, no credentials."""

import json
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from zdd_lab.aws.endpoint import Endpoint
from zdd_lab.balancer.data_plane import DataPlane
from zdd_lab.hosts.fleet import Fleet
from zdd_lab.hosts.host import Host
from zdd_lab.model.auto_scaling import group_calls, instance_calls
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.faults import BadFaultError, Fault, FaultKind, FaultTable
from zdd_lab.model.notices import NoticeKind

Body = dict[str, Any]
Route = Callable[["Control", dict[str, str], Body], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Control:
    """What the API shows and changes.

    Args:
        hosts: the lab's own list; it changes when the lab adopts hosts, and when Auto Scaling launches or ends some.
        faults: the table that the endpoint and the hosts read.
        urls: the load balancer's, one for each zone.
        group: ARN of the lab's own target group.
        app_arguments: given to every app at its start.
    """

    endpoint: Endpoint
    plane: DataPlane
    fleet: Fleet
    hosts: list[Host]
    faults: FaultTable
    endpoint_url: str
    urls: list[str]
    group: str
    app_arguments: Sequence[str]

    def targets(self, group: str) -> list[Body]:
        """Health of every target of a group, as DescribeTargetHealth gives it."""
        return [
            {"group": group, "id": one.key.id, "port": one.key.port, "state": one.state, "reason": one.reason}
            for one in self.plane.elb.describe(group, None, time.monotonic())
        ]

    def state(self) -> Body:
        """What goes on in the lab, as plain values for tests and people."""
        return {
            "profile": self.plane.elb.profile.name,
            "endpoint": self.endpoint_url,
            "urls": self.urls,
            "group": self.group,
            "hosts": [host.state() for host in self.hosts],
            "targets": [one for group in self.plane.elb.topology.groups for one in self.targets(group)],
            "groups": [_group(one) for one in self.fleet.account.groups.values()],
            "nodes": {name: node.counters() for name, node in self.plane.nodes.items()},
            "calls": _by_client(self.endpoint.calls),
            "throttled": _by_client(self.endpoint.throttled),
            "imds_v1_requests": sum(host.imds.v1_requests for host in self.hosts),
            "faults": [fault.as_json() for fault in self.faults.all()],
        }

    async def apply_zone_faults(self) -> None:
        """Take down the nodes of the zones that are down in the fault table, and bring up all others."""
        await self.plane.set_zones_down(self.faults.zones_down())


def application(control: Control) -> web.Application:
    app = web.Application()
    for (method, path), route in ROUTES.items():
        app.router.add_route(method, path, _answering(control, route))
    return app


def _answering(control: Control, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.read() or b"{}")
            if not isinstance(body, dict):
                raise BadFaultError("the body must be a JSON object")
            return web.json_response(await route(control, dict(request.match_info), body))
        except LookupError as error:
            return web.json_response({"error": str(error.args[0])}, status=404)
        except (ValueError, AwsError) as error:  # BadFaultError and broken JSON among them
            return web.json_response({"error": str(error)}, status=400)

    return answer


def _by_client(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = defaultdict(dict)
    for (client, action), count in sorted(counts.items()):
        table[client][action] = count
    return table


def _group(group: ScalingGroup) -> Body:
    return {
        "name": group.name,
        "min": group.min_size,
        "desired": group.desired,
        "max": group.max_size,
        "instances": {name: str(one.state) for name, one in group.members.items()},
    }


def _host(control: Control, path: dict[str, str]) -> Host:
    wanted = path["host"]
    for host in control.hosts:
        if wanted in (host.name, host.name.removeprefix("h"), host.identity.instance_id):
            return host
    raise LookupError(f"there is no host {wanted!r}, only {', '.join(host.name for host in control.hosts) or 'none'}")


async def _state(control: Control, _path: dict[str, str], _body: Body) -> Body:
    return control.state()


async def _add_fault(control: Control, _path: dict[str, str], body: Body) -> Body:
    fault = control.faults.add(Fault.parse(body))
    await control.apply_zone_faults()
    return fault.as_json()


async def _clear_faults(control: Control, path: dict[str, str], _body: Body) -> Body:
    control.faults.clear(int(path["id"]) if "id" in path else None)
    await control.apply_zone_faults()
    return {"faults": [fault.as_json() for fault in control.faults.all()]}


async def _zone(control: Control, path: dict[str, str], body: Body) -> Body:
    zone = path["zone"]
    if zone not in ("a", "b"):
        raise LookupError(f"there is no zone {zone!r}, only a and b")
    for fault in control.faults.all():
        if fault.kind is FaultKind.ZONE_DOWN and fault.zone == zone:
            control.faults.clear(fault.id)
    if body.get("down", True):
        control.faults.add(Fault(FaultKind.ZONE_DOWN, zone=zone))
    await control.apply_zone_faults()
    return {"zones_down": sorted(control.faults.zones_down())}


async def _app(control: Control, path: dict[str, str], body: Body) -> Body:
    host = _host(control, path)
    version = body.get("version", host.version or "v1")
    if not isinstance(version, str):
        raise BadFaultError("version must be a string")
    await host.restart_app(version, control.app_arguments)
    return host.state()


async def _agent(control: Control, path: dict[str, str], _body: Body) -> Body:
    host = _host(control, path)
    if path["verb"] == "restart":
        await host.restart_agent()
    elif path["verb"] == "start":
        await host.start_agent()
    else:
        await host.stop_agent()
    return host.state()


async def _signal(control: Control, path: dict[str, str], body: Body) -> Body:
    host = _host(control, path)
    name = f"SIG{body.get('signal', 'TERM')}"
    if name not in signal.Signals.__members__:
        raise BadFaultError(f"unknown signal {body.get('signal')!r}: use a name such as TERM")
    await host.signal_agent(signal.Signals[name])
    return host.state()


async def _imds(control: Control, path: dict[str, str], body: Body) -> Body:
    host = _host(control, path)
    imds = host.imds
    unknown = set(body) - {"down", "off", "throttle", "set", "after", "forget_tokens"}
    if unknown:
        raise BadFaultError(f"unknown key {min(unknown)!r}: known are down, off, throttle, set, after, forget_tokens")
    if "down" in body:
        for fault in control.faults.all():
            if fault.kind is FaultKind.IMDS_DOWN and fault.client == host.name:
                control.faults.clear(fault.id)
        if body["down"]:
            control.faults.add(Fault(FaultKind.IMDS_DOWN, client=host.name))
    imds.off = bool(body.get("off", imds.off))
    imds.throttled = int(body.get("throttle", imds.throttled))
    if body.get("forget_tokens"):
        imds.forget_tokens()
    for name, text in dict(body.get("set", {})).items():
        imds.announce(name, text, float(body.get("after", 0)))
    return host.state()


async def _scale(control: Control, path: dict[str, str], body: Body) -> Body:
    account, name, desired = control.fleet.account, path["group"], body.get("desired")
    if name not in account.groups:
        raise LookupError(f"there is no Auto Scaling group {name!r}, only {', '.join(account.groups) or 'none'}")
    if not isinstance(desired, int):
        raise BadFaultError("desired must be a number")
    group_calls.set_desired(account, name, desired)
    control.fleet.act()
    return _group(account.groups[name])


async def _terminate(control: Control, path: dict[str, str], _body: Body) -> Body:
    """As Auto Scaling does, with a replacement; without a group, as EC2 does."""
    host, account = _host(control, path), control.fleet.account
    instance_id = host.identity.instance_id
    if account.membership(instance_id):
        instance_calls.terminate(account, instance_id, time.monotonic(), decrement=False)
        control.fleet.act()
    else:
        await control.fleet.end(instance_id)
    return host.state()


async def _announce(control: Control, path: dict[str, str], body: Body) -> Body:
    host, kinds, seconds = _host(control, path), list(NoticeKind), body.get("seconds")
    if body.get("kind") not in kinds:
        raise BadFaultError(f"unknown notice {body.get('kind')!r}: accepted are {', '.join(kinds)}")
    control.fleet.announce(host, NoticeKind(body["kind"]), None if seconds is None else float(seconds))
    return host.state()


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/state"): _state,
    ("POST", "/faults"): _add_fault,
    ("DELETE", "/faults"): _clear_faults,
    ("DELETE", r"/faults/{id:\d+}"): _clear_faults,
    ("POST", "/zones/{zone}"): _zone,
    ("POST", "/hosts/{host}/app"): _app,
    ("POST", "/hosts/{host}/agent"): _signal,
    ("POST", "/hosts/{host}/agent/{verb:start|stop|restart}"): _agent,
    ("POST", "/hosts/{host}/imds"): _imds,
    ("POST", "/hosts/{host}/notices"): _announce,
    ("POST", "/hosts/{host}/terminate"): _terminate,
    ("POST", "/groups/{group}"): _scale,
}
