"""Health checks of one target by one node: a new connection for each, thresholds, reasons as in the API."""

import asyncio
import random
from collections.abc import Callable

from zdd_lab.balancer.connection_pool import connect
from zdd_lab.http1.client import ClientConnection
from zdd_lab.http1.connection import ResponseHead, encode_request, surface
from zdd_lab.model.target import Backend, HealthCheck, NodeHealth

INITIAL = NodeHealth("initial", "Elb.InitialHealthChecking", "Initial health checks in progress")
HEALTHY = NodeHealth("healthy")
TIMED_OUT = NodeHealth("unhealthy", "Target.Timeout", "Request timed out")
FAILED = NodeHealth("unhealthy", "Target.FailedHealthChecks", "Health checks failed")
_JITTER = 0.1  # share of the interval, so that two nodes never stay in step


def matches(matcher: str, status: int) -> bool:
    """Whether a status passes a matcher such as "200", "200-299" or "200,202"."""
    for part in matcher.split(","):
        low, _, high = part.strip().partition("-")
        if int(low) <= status <= int(high or low):
            return True
    return False


def wrong_status(status: int) -> NodeHealth:
    """The health of a target that answers its checks with this status."""
    return NodeHealth("unhealthy", "Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status}]")


class Checker:
    """Checks a target until stopped, and reports each change of its health."""

    def __init__(
        self,
        backend: Backend,
        source: str,
        *,
        one_is_enough: bool,
        report: Callable[[NodeHealth], None],
        health: NodeHealth = INITIAL,
    ) -> None:
        self.health = health
        self._backend = backend
        self._source = source
        self._one_is_enough = one_is_enough
        self._report = report
        self._passed = 0  # in a row
        self._missed = 0  # in a row
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start checking. The first check comes at a random moment of the first interval."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())
            self._running.add_done_callback(surface)

    def stop(self) -> None:
        """Stop checking. The health stays as it is."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    async def _run(self) -> None:
        check = self._backend.check
        self._report(self.health)
        if not check.enabled:
            self._tell(HEALTHY)
            return
        await asyncio.sleep(random.uniform(0, check.interval))
        while True:
            next_check = asyncio.get_running_loop().time() + check.interval * random.uniform(1 - _JITTER, 1 + _JITTER)
            self._judge(await self._check_once(check))
            await asyncio.sleep(next_check - asyncio.get_running_loop().time())

    def _judge(self, failure: NodeHealth | None) -> None:
        check = self._backend.check
        if failure is None:
            self._passed, self._missed = self._passed + 1, 0
            enough = 1 if self.health.state == "initial" and self._one_is_enough else check.healthy_threshold
            if self.health.state != "healthy" and self._passed >= enough:
                self._tell(HEALTHY)
            return
        self._passed, self._missed = 0, self._missed + 1
        if self.health.state == "unhealthy" or self._missed >= check.unhealthy_threshold:
            self._tell(failure)

    def _tell(self, health: NodeHealth) -> None:
        if health != self.health:
            self.health = health
            self._report(health)

    async def _check_once(self, check: HealthCheck) -> NodeHealth | None:
        probe = _Probe()
        connection = ClientConnection(lambda _: None)
        port = check.port or self._backend.key.port
        try:
            async with asyncio.timeout(check.timeout):
                await connect(connection, self._backend.address, port, self._source)
                if check.protocol == "TCP":
                    return None
                host = f"[{self._backend.address}]" if ":" in self._backend.address else self._backend.address
                headers = [
                    (b"Host", f"{host}:{port}".encode()),
                    (b"Connection", b"close"),
                    (b"User-Agent", b"ELB-HealthChecker/2.0"),
                    (b"Accept-Encoding", b"gzip, compressed"),
                ]
                path = check.path.encode()
                connection.request(b"GET", encode_request(b"GET", path, headers), probe)
                status = await probe.status
        except TimeoutError:
            return TIMED_OUT
        except OSError:
            return FAILED
        finally:
            connection.close()
        return None if matches(check.matcher, status) else wrong_status(status)


class _Probe:
    """Takes the answer to one check: a status, or ConnectionError."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._seen = 0

    def response_started(self, head: ResponseHead) -> None:
        self._seen = head.status

    def response_body(self, part: bytes) -> None:
        pass

    def response_ended(self) -> None:
        if not self.status.done():
            self.status.set_result(self._seen)

    def response_failed(self, why: str) -> None:
        if not self.status.done():
            self.status.set_exception(ConnectionError(why))
