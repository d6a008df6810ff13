"""The load balancer's health check, made by this host against its own app.

Sources: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html and
https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html
"""

from __future__ import annotations

from contextlib import closing
from math import inf

from zdd_agent.adapters import probe_http1, probe_http2
from zdd_agent.adapters.timed_socket import TimedSocket
from zdd_agent.errors import AgentError
from zdd_agent.model.aws import Target, TargetGroup
from zdd_agent.model.operation import ProbeResult
from zdd_agent.ports import Metadata

# Seconds that one probe may take, whatever the group allows (up to 120): the loop must be back for the watchdog.
LIMIT_SECONDS = 40.0
_USER_AGENT = "ELB-HealthChecker/2.0"
# What ELB takes where the group names none.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html
_GRPC_PATH = "/AWS.ALB/healthcheck"
_GRPC_MATCHER = "12"  # UNIMPLEMENTED: a gRPC server without that method is up
_HTTP_PATH = "/"
_HTTP_MATCHER = "200"


class LocalProbe:
    """Asks this host's own address, as the load balancer would; and from that address, so the sensor ignores it."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def check(self, group: TargetGroup, target: Target) -> ProbeResult:
        """One check in the group's own protocol, within its own timeout or LIMIT_SECONDS, whichever is shorter.

        HTTP/2 is spoken from the first byte (in TLS after ALPN), gRPC as a call of the method that the path names.
        """
        check = group.health_check
        port = target.port if check.port == "traffic-port" else int(check.port)
        who = self._metadata.identity(inf)  # discovery asks it afresh; a probe must not fail with that service
        try:
            address = target.id if group.target_type == "ip" else who.address_in(group)
            with closing(TimedSocket(address, port, min(check.timeout, LIMIT_SECONDS))) as connection:
                passed, said = _ask(group, connection, address, port)
        except AgentError as error:
            passed, said = False, error.message
        except OSError as error:
            passed, said = False, f"port {port}: {_cause(error)}"
        return ProbeResult(target, passed, said)


def matches(matcher: str, code: int) -> bool:
    """Whether a code fits a matcher such as `200`, `200,202` or `200-299`."""
    for part in matcher.split(","):
        low, _, high = part.strip().partition("-")
        if low.isdigit() and int(low) <= code <= int(high or low):
            return True
    return False


def _ask(group: TargetGroup, connection: TimedSocket, address: str, port: int) -> tuple[bool, str]:
    check = group.health_check
    if check.protocol not in ("HTTP", "HTTPS"):
        return True, f"port {port} accepts connections"
    if check.protocol == "HTTPS":
        connection.encrypt(() if group.version == "HTTP1" else ("h2",))
    scheme = check.protocol.lower()
    authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        if group.version == "GRPC":
            path = check.path or _GRPC_PATH
            status = probe_http2.call(connection, scheme, authority, path, _USER_AGENT)
            said = f"{path} on port {port} answered {'no gRPC status' if status is None else f'gRPC status {status}'}"
            return _judged(status, check.matcher or _GRPC_MATCHER, said)
        path = check.path or _HTTP_PATH
        if group.version == "HTTP2":
            status = probe_http2.get(connection, scheme, authority, path, _USER_AGENT)
        else:
            status = probe_http1.status(connection, authority, path, _USER_AGENT)
    except ValueError as error:
        spoken = "HTTP" if group.version == "HTTP1" else "HTTP/2"
        return False, f"port {port} answered something that is not {spoken} ({error})"
    return _judged(status, check.matcher or _HTTP_MATCHER, f"GET {path} on port {port} answered {status}")


def _judged(status: int | None, matcher: str, said: str) -> tuple[bool, str]:
    if status is not None and matches(matcher, status):
        return True, said
    return False, f"{said}, wanted {matcher}"


def _cause(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error) or type(error).__name__
