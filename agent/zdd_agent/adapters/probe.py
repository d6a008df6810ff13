"""The load balancer's health check, made by this host against its own app.

Sources: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html and
https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html
"""

from __future__ import annotations

import socket
import time

from zdd_agent.model.aws import Target, TargetGroup
from zdd_agent.model.operation import ProbeResult
from zdd_agent.ports import Metadata

# Seconds that one probe may take, whatever the group allows (up to 120): the loop must be back for the watchdog.
LIMIT_SECONDS = 40.0
_USER_AGENT = "ELB-HealthChecker/2.0"


class LocalProbe:
    """Asks this host's own address, as the load balancer would; and from it, so that the sensor knows its own."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def check(self, group: TargetGroup, target: Target) -> ProbeResult:
        """One check within the group's own timeout, or LIMIT_SECONDS.

        HTTPS is taken without looking at the certificate, as ELB does. gRPC is not probed: it passes, and says so.
        """
        if group.version == "GRPC":
            return ProbeResult(target, True, "not probed: gRPC health checks are not supported")
        check = group.health_check
        address = target.id if group.target_type == "ip" else self._metadata.identity().addresses[0]
        port = target.port if check.port == "traffic-port" else int(check.port)
        try:
            if check.protocol in ("HTTP", "HTTPS"):
                passed, said = _ask_http(group, address, port)
            else:
                socket.create_connection((address, port), _limit(group), (address, 0)).close()
                passed, said = True, f"port {port} accepts connections"
        except OSError as error:
            passed, said = False, f"port {port}: {_cause(error)}"
        return ProbeResult(target, passed, said)


def _limit(group: TargetGroup) -> float:
    return min(group.health_check.timeout, LIMIT_SECONDS)


def matches(matcher: str, code: int) -> bool:
    """Whether an HTTP code fits a matcher such as `200`, `200,202` or `200-299`."""
    for part in matcher.split(","):
        low, _, high = part.strip().partition("-")
        if low.isdigit() and int(low) <= code <= int(high or low):
            return True
    return False


def _ask_http(group: TargetGroup, address: str, port: int) -> tuple[bool, str]:
    import http.client  # noqa: PLC0415  5 MB that the daemon at rest does without
    import ssl  # noqa: PLC0415  likewise

    check = group.health_check
    ends = time.monotonic() + _limit(group)
    connection: http.client.HTTPConnection
    if check.protocol == "HTTPS":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            address, port, timeout=_limit(group), source_address=(address, 0), context=context
        )
    else:
        connection = http.client.HTTPConnection(address, port, timeout=_limit(group), source_address=(address, 0))
    try:
        connection.request("GET", check.path, headers={"User-Agent": _USER_AGENT, "Connection": "close"})
        code = connection.getresponse().status
    except http.client.HTTPException as error:
        return False, f"port {port} answered something that is not HTTP ({type(error).__name__})"
    finally:
        connection.close()
    if time.monotonic() > ends:  # the socket's own time-out starts again with every byte
        raise TimeoutError
    wanted = check.matcher or "200"
    said = f"GET {check.path} on port {port} answered {code}"
    return (True, said) if matches(wanted, code) else (False, f"{said}, wanted {wanted}")


def _cause(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error) or type(error).__name__
