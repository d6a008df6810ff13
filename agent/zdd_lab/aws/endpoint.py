"""The AWS endpoint: answers target health, registration and Auto Scaling, and passes on all else to moto."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from zdd_lab.aws import dynamodb_calls, wire
from zdd_lab.aws.scaling_api import ScalingApi
from zdd_lab.aws.topology_reader import ACCOUNT
from zdd_lab.aws.wire import Call
from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.call_budget import Budgets
from zdd_lab.model.elb import Elb
from zdd_lab.model.faults import Fault, FaultKind, FaultTable
from zdd_lab.model.iam import Context, Policy, Verdict

_ELB = "elasticloadbalancing"
_READS = ("Describe", "Get", "List", "Search", "Query", "Scan", "BatchGet")
# Services whose calls may change the topology. DynamoDB, IAM and STS never do.
_SHAPING = frozenset({_ELB, "ec2"})
_HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"})
_REFUSALS = {
    FaultKind.THROTTLING: ("Throttling", "Rate exceeded"),
    FaultKind.EXPIRED_TOKEN: ("ExpiredToken", "The security token included in the request is expired"),
    FaultKind.SERVICE_UNAVAILABLE: (
        "ServiceUnavailable",
        "Service is unable to handle request.",
    ),
    FaultKind.INTERNAL_FAILURE: ("InternalFailure", "An internal failure occurred."),
}
_TIMEOUTS = (FaultKind.TIMEOUT_BEFORE_EFFECT, FaultKind.TIMEOUT_AFTER_EFFECT)
Answer = tuple[int, dict[str, str], bytes]  # status, headers, body


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls: a host, by its name, or a person. Without a policy it may do everything.

    `measures`: it compares what the API says of health checks with the checks that really come, so it is told the
    interval of a scaled lab as it is. Everybody else reads what was written: Terraform would see a change.
    """

    name: str
    arn: str
    policy: Policy | None = None
    measures: bool = False


@dataclass(slots=True)
class Endpoint:
    """One endpoint for every service, in front of moto.

    Args:
        clients: by access key. Whoever has an unknown key is named by that key.
        elsewhere: URL by service, for a service that neither the lab nor moto is to answer.
        reshaped: awaited after a call that moto took and that may have changed the topology.
        retimed: called after a change of the model: the next command may be due sooner.
    """

    elb: Elb
    scaling: ScalingApi
    faults: FaultTable
    upstream: str
    clients: dict[str, Client]
    reshaped: Callable[[], Awaitable[None]]
    retimed: Callable[[], None]
    budgets: Budgets = field(init=False)
    elsewhere: dict[str, str] = field(default_factory=dict)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # (client, action)
    throttled: Counter[tuple[str, str]] = field(default_factory=Counter)
    _session: aiohttp.ClientSession | None = None

    def __post_init__(self) -> None:
        self.budgets = Budgets(self.elb.profile)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.cleanup_ctx.append(self._with_session)
        return app

    async def _with_session(self, _app: web.Application) -> AsyncIterator[None]:
        # moto's server handles one request on a connection well, and several badly.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            yield

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        service = ""
        try:
            call = wire.read_call(
                request.headers.get("Authorization", ""), request.headers.get("X-Amz-Target", ""), body
            )
            service = call.service
            client = self.clients.get(call.access_key) or _stranger(call.access_key)
            self.calls[client.name, call.action] += 1
            status, headers, answer = await self._served(call, client, request, body)
        except AwsError as refusal:
            status, kind, answer = wire.error(service, refusal)
            headers = {"Content-Type": kind}
        except _NoAnswerError:
            if request.transport:
                request.transport.abort()
            return web.Response()
        return web.Response(status=status, headers=headers, body=answer)

    async def _served(self, call: Call, client: Client, request: web.Request, body: bytes) -> Answer:
        """Answer a call, after all that faults and the budget do to it."""
        if late := self._fault(call, client, FaultKind.LATENCY):
            await asyncio.sleep(late.duration)
        context = await self._context(call, client, request)
        self._refuse(call, client, context)
        hang = self._fault(call, client, *_TIMEOUTS)
        if hang is None or hang.kind is FaultKind.TIMEOUT_AFTER_EFFECT:
            answer = await self._effect(call, client, request, body)
        if hang is not None:
            await asyncio.sleep(hang.duration)
            raise _NoAnswerError
        return answer

    def _fault(self, call: Call, client: Client, *kinds: FaultKind) -> Fault | None:
        return self.faults.take(*kinds, action=call.action, service=call.service, client=client.name)

    async def _context(self, call: Call, client: Client, request: web.Request) -> Context:
        """What the conditions of a policy may ask about the call."""
        told: dict[str, str | tuple[str, ...]] = {"aws:RequestedRegion": call.region}
        if client.policy is not None and call.service == dynamodb_calls.SERVICE:
            question = dynamodb_calls.ask_for_table(call, request.headers)
            status, _, answer = await self._asked(call.service, "POST", "/", *question)
            table = json.loads(answer)["Table"] if status < 300 else None
            if keys := dynamodb_calls.leading_keys(call, table):
                told["dynamodb:LeadingKeys"] = keys
        return told

    def _refuse(self, call: Call, client: Client, context: Context) -> None:
        if fault := self._fault(call, client, *_REFUSALS):
            if fault.kind is FaultKind.THROTTLING:
                self.throttled[client.name, call.action] += 1
            raise AwsError(*_REFUSALS[fault.kind])
        if (asked := self._fault(call, client, FaultKind.ERROR)) and asked.code:
            raise AwsError(asked.code, "The lab was told to answer this.")
        resource = self._resource(call)
        verdict = _verdict(call, client, resource, context)
        if verdict is Verdict.ALLOWED and self._fault(call, client, FaultKind.ACCESS_DENIED):
            verdict = Verdict.NOT_ALLOWED
        if verdict is not Verdict.ALLOWED:
            raise AwsError("AccessDenied", _denied(call, client, resource, verdict))
        if call.service == _ELB and not self.budgets.allow(call.region, call.action, time.monotonic()):
            self.throttled[client.name, call.action] += 1
            raise AwsError("Throttling", "Rate exceeded")

    def _resource(self, call: Call) -> str:
        """The resource that the permission is for. The lab knows those of DynamoDB and of the calls that it answers."""
        if call.service == dynamodb_calls.SERVICE:
            return dynamodb_calls.resource(call)
        if call.action.startswith("Describe"):
            return "*"
        return call.params.get("TargetGroupArn") or self.scaling.resource(call)

    async def _effect(self, call: Call, client: Client, request: web.Request, body: bytes) -> Answer:
        own = self._OURS.get((call.service, call.action))
        if own is not None:
            return 200, {"Content-Type": "text/xml"}, own(self, call)
        if self.scaling.knows(call):
            return 200, {"Content-Type": "text/xml"}, await self.scaling.answer(call)
        if call.service == "sts" and call.action == "GetCallerIdentity":
            return 200, {"Content-Type": "text/xml"}, _identity(call, client)
        answer = await self._asked(call.service, request.method, request.raw_path, request.headers, body)
        if call.action == "DescribeTargetGroups" and client.measures:
            status, headers, told = answer
            told = wire.checks_as_measured(told, self.elb.profile.check_scale)
            return status, {name: text for name, text in headers.items() if name.lower() != "content-length"}, told
        if call.service in _SHAPING and not call.action.startswith(_READS) and answer[0] < 300:
            await self.reshaped()
        return answer

    async def _asked(self, service: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What moto answers, or whoever answers for the service."""
        assert self._session is not None  # noqa: S101  # the server runs only within _with_session
        sent = {name: text for name, text in headers.items() if name.lower() not in _HOP_HEADERS}
        url = self.elsewhere.get(service, self.upstream) + path
        async with self._session.request(method, url, data=body, headers=sent) as reply:
            back = {name: text for name, text in reply.headers.items() if name.lower() not in _HOP_HEADERS}
            return reply.status, back, await reply.read()

    def _register(self, call: Call) -> bytes:
        group = wire.required(call.params, "TargetGroupArn")
        self.elb.register(group, wire.read_targets(call.params), time.monotonic())
        self.retimed()
        return wire.answer(call.action, "")

    def _deregister(self, call: Call) -> bytes:
        group = wire.required(call.params, "TargetGroupArn")
        self.elb.deregister(group, wire.read_targets(call.params), time.monotonic())
        self.retimed()
        return wire.answer(call.action, "")

    def _describe(self, call: Call) -> bytes:
        group = wire.required(call.params, "TargetGroupArn")
        entries = self.elb.describe(group, wire.read_targets(call.params), time.monotonic())
        check = self.elb.topology.groups[group].check
        included = {text for name, text in call.params.items() if name.startswith("Include.member.")}
        ports = [(one, check.port or one.key.port) for one in entries]
        return wire.answer(call.action, wire.target_health(ports, anomalies=bool(included)))

    _OURS = {  # noqa: RUF012  # a table, written once
        (_ELB, "RegisterTargets"): _register,
        (_ELB, "DeregisterTargets"): _deregister,
        (_ELB, "DescribeTargetHealth"): _describe,
    }


class _NoAnswerError(Exception):
    """A fault says that this call gets no answer."""


def _stranger(access_key: str) -> Client:
    return Client(access_key, f"arn:aws:iam::{ACCOUNT}:user/{access_key}")


def _verdict(call: Call, client: Client, resource: str, context: Context) -> Verdict:
    if client.policy is None or (call.service, call.action) == (
        "sts",
        "GetCallerIdentity",
    ):  # nobody needs permission for it
        return Verdict.ALLOWED
    return client.policy.verdict(f"{call.service}:{call.action}", resource, context)


def _denied(call: Call, client: Client, resource: str, verdict: Verdict) -> str:
    action = f"{call.service}:{call.action}"
    why = verdict.format(action=action)
    return f"User: {client.arn} is not authorized to perform: {action} on resource: {resource} {why}"


def _identity(call: Call, client: Client) -> bytes:
    told = wire.element("Arn", client.arn) + wire.element("UserId", f"AROAZDDLAB:{client.arn.rpartition('/')[2]}")
    return wire.answer(call.action, told + wire.element("Account", ACCOUNT), wire.STS_NAMESPACE)
