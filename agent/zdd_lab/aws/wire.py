"""AWS's wire formats: reads the caller and the call from a signed request, writes answers and errors.

Query protocol: https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4
from xml.sax.saxutils import escape

from zdd_lab.model.aws_error import AwsError
from zdd_lab.model.registration import TargetSpec
from zdd_lab.model.target_health import TargetHealth

ELB_NAMESPACE = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"
STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d+/([^/]*)/([^/]+)/aws4_request")
_INTERVAL = re.compile(rb"(?<=<HealthCheckIntervalSeconds>)\d+")
_TARGET = re.compile(r"Targets\.member\.(\d+)\.(Id|Port|AvailabilityZone)")

# Services give the same refusal different names.
_CODES = {
    "ec2": {
        "Throttling": "RequestLimitExceeded",
        "AccessDenied": "UnauthorizedOperation",
        "ExpiredToken": "RequestExpired",
        "ServiceUnavailable": "Unavailable",
        "InternalFailure": "InternalError",
    },
    "dynamodb": {
        "Throttling": "ThrottlingException",
        "AccessDenied": "AccessDeniedException",
        "ExpiredToken": "ExpiredTokenException",
        "InternalFailure": "InternalServerError",
    },
}

# AWS may add these to any entry; clients must accept them.
_NO_OVERRIDE = (
    "<AdministrativeOverride><State>no_override</State><Reason>AdministrativeOverride.NoOverride</Reason>"
    "<Description>No override is currently active on target</Description></AdministrativeOverride>"
)
_NO_ANOMALY = "<AnomalyDetection><Result>normal</Result><MitigationInEffect>no</MitigationInEffect></AnomalyDetection>"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API."""

    service: str  # as in the credential scope: elasticloadbalancing, ec2, sts...
    action: str
    access_key: str
    region: str
    params: Mapping[str, str]
    document: Mapping[str, Any] = field(default_factory=dict)  # of a service that speaks JSON, in place of params


def read_call(authorization: str, target: str, body: bytes) -> Call:
    """Read a request from its Authorization header (SigV4), X-Amz-Target header and body.

    Raises:
        AwsError: MissingAuthenticationToken when it is not signed.
    """
    scope = _CREDENTIAL.search(authorization)
    if scope is None:
        raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token")
    access_key, region, service = scope.groups()
    if target:
        return Call(service, target.rpartition(".")[2], access_key, region, {}, _document(body))
    params = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return Call(service, params.get("Action", ""), access_key, region, params)


def _document(body: bytes) -> Mapping[str, Any]:
    """The JSON of a body. Whoever answers the call refuses what is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read_targets(params: Mapping[str, str]) -> list[TargetSpec]:
    """The `Targets` list of a call, in its order.

    Raises:
        AwsError: ValidationError for an entry without an Id, or with an impossible port.
    """
    entries: dict[int, dict[str, str]] = {}
    for name, value in params.items():
        if found := _TARGET.fullmatch(name):
            entries.setdefault(int(found[1]), {})[found[2]] = value
    specs = []
    for _, entry in sorted(entries.items()):
        port = entry.get("Port")
        if not entry.get("Id") or (port is not None and not (port.isdecimal() and 1 <= int(port) <= 65535)):
            raise AwsError("ValidationError", "Targets: a target needs an Id; its Port, if any, is 1 to 65535")
        specs.append(TargetSpec(entry["Id"], int(port) if port else None, entry.get("AvailabilityZone")))
    return specs


def required(params: Mapping[str, str], name: str) -> str:
    """Return a parameter. Raises AwsError: ValidationError when it is missing."""
    value = params.get(name)
    if not value:
        raise AwsError("ValidationError", f"{name} is required")
    return value


def element(name: str, text: str | int | None) -> str:
    """An XML element, or an empty string when there is no text."""
    return "" if text is None else f"<{name}>{escape(str(text))}</{name}>"


def answer(action: str, result: str, namespace: str = ELB_NAMESPACE) -> bytes:
    """A whole answer of the query protocol, from the XML of its result."""
    request_id = element("RequestId", str(uuid4()))
    return (
        f'<{action}Response xmlns="{namespace}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata>{request_id}</ResponseMetadata></{action}Response>"
    ).encode()


def checks_as_measured(told: bytes, scale: float) -> bytes:
    """An answer of DescribeTargetGroups with the intervals at which the nodes really check, in whole seconds.

    Args:
        told: as moto gives it.
        scale: real seconds for each second that the API was told.
    """
    return _INTERVAL.sub(lambda said: b"%d" % max(round(int(said[0]) * scale), 1), told)


def target_health(entries: list[tuple[TargetHealth, int]], *, anomalies: bool) -> str:
    """The result of DescribeTargetHealth.

    Args:
        entries: each with its health check port.
        anomalies: the caller asked for AnomalyDetection.
    """
    members = []
    for entry, check_port in entries:
        target = element("Id", entry.key.id) + element("Port", entry.key.port)
        health = element("State", entry.state) + element("Reason", entry.reason)
        members.append(
            f"<member><HealthCheckPort>{check_port}</HealthCheckPort>"
            f"<TargetHealth>{health}{element('Description', entry.description)}</TargetHealth>"
            f"<Target>{target}{element('AvailabilityZone', entry.zone)}</Target>"
            f"{_NO_OVERRIDE if entry.state != 'unused' else ''}{_NO_ANOMALY if anomalies else ''}</member>"
        )
    return f"<TargetHealthDescriptions>{''.join(members)}</TargetHealthDescriptions>"


def error(service: str, refusal: AwsError) -> tuple[int, str, bytes]:
    """Status, content type and body of an error, in the protocol of a service."""
    code = _CODES.get(service, {}).get(refusal.code, refusal.code)
    request_id = str(uuid4())
    if service == "dynamodb":
        body = {"__type": f"com.amazon.coral.service#{code}", "message": refusal.message}
        status = refusal.status if refusal.status >= 500 else 400
        return status, "application/x-amz-json-1.0", json.dumps(body).encode()
    inner = element("Code", code) + element("Message", refusal.message)
    if service == "ec2":
        status = 503 if refusal.code == "Throttling" else refusal.status
        body_ = f"<Response><Errors><Error>{inner}</Error></Errors>{element('RequestID', request_id)}</Response>"
        return status, "text/xml", body_.encode()
    fault = "Sender" if refusal.status < 500 else "Receiver"
    text = (
        f'<ErrorResponse xmlns="{ELB_NAMESPACE}"><Error><Type>{fault}</Type>{inner}</Error>'
        f"{element('RequestId', request_id)}</ErrorResponse>"
    )
    return refusal.status, "text/xml", text.encode()
