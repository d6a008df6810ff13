"""HAProxy as a node of a load balancer: a data plane that this project did not write.

HAProxy forwards the requests and checks the servers by itself, and what it thinks of them is the node's health. The lab
tells it through its runtime socket only what a node of AWS learns: that a target is registered or deregistered.
https://www.haproxy.com/documentation/haproxy-runtime-api/
"""

import asyncio
import csv
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal

from zdd_lab.balancer.haproxy_config import SLOTS, backend_name, haproxy_config
from zdd_lab.balancer.health_checks import FAILED, HEALTHY, INITIAL, TIMED_OUT, wrong_status
from zdd_lab.http1.connection import surface
from zdd_lab.model.target import Backend, HealthCheck, HealthReport, NodeHealth, NodeSettings, TargetKey
from zdd_lab.processes import children

_LOOK_EVERY = 0.1  # s between two looks at HAProxy's statistics: the fast profile checks every second
_START_TIMEOUT = 10.0  # s for HAProxy to answer on its socket; it takes less than 0.1 s unless the machine is busy


class HaproxyError(RuntimeError):
    """HAProxy refused a command of its runtime socket."""


@dataclass(slots=True)
class _Server:
    """A target in one of HAProxy's server slots. Each registration takes the next slot, where no old result counts."""

    backend: Backend
    slot: str  # as HAProxy's commands name it: backend/server
    state: Literal["in", "leaving", "gone"] = "in"  # from register, deregister and cut
    told: str = ""  # the last command that HAProxy got for it
    health: NodeHealth = INITIAL
    statistics: Mapping[str, str] | None = None  # HAProxy's last line about it


class HaproxyNode:
    """One HAProxy process: a node in one zone, on its own address.

    A deregistered server is in `maint` if `settings` close idle connections on deregistration: HAProxy closes them a
    few at a time, and stops its checks. Otherwise it is in `drain`: the last ones can stay, and the checks go on. At
    the end of the deregistration delay its sessions are shut down. A new target has to pass as many checks as one that
    was unhealthy. A change of the listeners or of a health check restarts the process, with all its connections. HTTP
    targets on IPv4 only.

    Args:
        binary: path of haproxy.
        folder: for the configuration, the socket and the log. A short path: a socket's name takes at most 107 bytes.
    """

    def __init__(
        self,
        name: str,
        zone: str,
        address: str,
        settings: NodeSettings,
        on_health: HealthReport,
        *,
        binary: str,
        folder: Path,
    ) -> None:
        self.name, self.zone, self.address = name, zone, address
        self._settings = settings
        self._on_health = on_health
        self._binary = binary
        self._files = {suffix: folder / f"{name}.{suffix}" for suffix in ("cfg", "sock", "log")}
        self._groups: dict[int, str] = {}  # by listener's port
        self._checks: dict[str, HealthCheck] = {}  # by group, once a target of it is known
        self._servers: dict[TargetKey, _Server] = {}
        self._slots: Iterator[int] = itertools.cycle(range(1, SLOTS + 1))
        self._down = False
        self._process: Popen[bytes] | None = None
        self._config = ""  # of the process that runs
        self._changed = asyncio.Event()
        self._applying = asyncio.Lock()
        self._driver: asyncio.Task[None] | None = None

    async def listen(self, port: int, group: str) -> None:
        """Forward every request on `port` to a target group.

        Raises:
            children.ChildStartError: HAProxy does not start.
        """
        self._groups[port] = group
        await self._apply()
        if self._driver is None:
            self._driver = asyncio.get_running_loop().create_task(self._drive())
            self._driver.add_done_callback(surface)

    async def unlisten(self, port: int) -> None:
        """Close a listener."""
        self._groups.pop(port, None)
        await self._apply()

    def register(self, backend: Backend) -> None:
        """Learn of a registration."""
        key = backend.key
        known = self._servers.get(key)
        if known is not None and known.backend == backend and known.state == "in":
            return
        self._checks[key.group] = backend.check
        if known is not None and known.state == "in":
            slot = known.slot
        else:
            slot = f"{backend_name(key.group)}/s{next(self._slots)}"
        self._servers[key] = _Server(backend, slot)
        self._on_health(self.name, key, INITIAL)
        self._changed.set()

    def deregister(self, key: TargetKey) -> None:
        """Learn of a deregistration: send no new request. Those in flight finish."""
        if key in self._servers:
            self._servers[key].state = "leaving"
            self._changed.set()

    def cut(self, key: TargetKey) -> None:
        """Learn that a deregistration delay is over: cut what is in flight to the target."""
        if key in self._servers:
            self._servers[key].state = "gone"
            self._changed.set()

    async def set_down(self, down: bool) -> None:
        """Start or end an outage of the zone: the process is killed, or started again."""
        self._down = down
        await self._apply()

    async def close(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.wait([self._driver])
        await asyncio.to_thread(children.stop, self._process)

    def counters(self) -> dict[str, Any]:
        """What HAProxy said last, as plain values."""
        targets = [_counters(key, server) for key, server in self._servers.items()]
        return {"requests": sum(one["requests"] for one in targets), "targets": targets}

    async def _drive(self) -> None:
        while True:
            self._changed.clear()
            await self._apply()
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _apply(self) -> None:
        """Bring HAProxy in step with what this node knows, then look at what HAProxy thinks."""
        async with self._applying:
            servers = dict(self._servers)  # more may come while HAProxy is asked; the next round takes them
            wanted = "" if self._down or not self._groups else self._wanted_config()
            if wanted != self._config:
                await self._restart(wanted, servers)
            if not self._config:
                return
            for server in servers.values():
                command = self._command(server)
                if command != server.told:
                    await self._tell(command)
                    server.told = command
            await self._look(servers)

    def _wanted_config(self) -> str:
        return haproxy_config(self.address, self._files["sock"], self._groups, self._checks, self._settings)

    async def _restart(self, config: str, servers: Mapping[TargetKey, _Server]) -> None:
        await asyncio.to_thread(children.stop, self._process)
        self._process, self._config = None, ""
        for key, server in servers.items():
            server.told, server.health = "", INITIAL
            self._on_health(self.name, key, INITIAL)
        if not config:
            return
        self._files["cfg"].write_text(config)
        self._files["sock"].unlink(missing_ok=True)
        argv = [self._binary, "-db", "-f", str(self._files["cfg"])]
        self._process = children.spawn(argv, children.bare_environment(), self._files["log"])
        async with asyncio.timeout(_START_TIMEOUT):
            while not self._files["sock"].exists():
                if self._process.poll() is not None:
                    raise children.ChildStartError(f"cannot start HAProxy: see {self._files['log']}")
                await asyncio.sleep(0.01)
        self._config = config

    def _command(self, server: _Server) -> str:
        slot, backend = server.slot, server.backend
        if server.state == "gone":
            return f"set server {slot} state maint; shutdown sessions server {slot}"
        if server.state == "leaving":
            return f"set server {slot} state {'maint' if self._settings.closes_idle_on_deregistration else 'drain'}"
        # HAProxy takes a server that leaves maintenance for healthy. So it stays in drain until it is marked as down,
        # and then has to pass its checks.
        return (
            f"set server {slot} state maint; set server {slot} addr {backend.address} port {backend.key.port}; "
            f"set server {slot} state drain; set server {slot} health down; set server {slot} state ready"
        )

    async def _tell(self, commands: str) -> None:
        answer = await self._ask(commands)
        wrong = [line for line in answer.splitlines() if line and not line.startswith(("IP changed", "no need"))]
        if wrong:
            raise HaproxyError(f"{commands}: {wrong[0]}")

    async def _ask(self, commands: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._files["sock"]))
        try:
            writer.write(f"{commands}\n".encode())
            return (await reader.read()).decode()
        finally:
            writer.close()

    async def _look(self, servers: Mapping[TargetKey, _Server]) -> None:
        head, *lines = (await self._ask("show stat")).removeprefix("# ").splitlines()
        used = {server.slot for server in servers.values()}  # to read all slots takes ten times as long
        lines = [line for line in lines if "/".join(line.split(",", 2)[:2]) in used]
        found = {f"{one['pxname']}/{one['svname']}": one for one in csv.DictReader([head, *lines])}
        for key, server in servers.items():
            server.statistics = found[server.slot]
            health = _health(server)
            if health != server.health:
                server.health = health
                self._on_health(self.name, key, health)


def _health(server: _Server) -> NodeHealth:
    """HAProxy's view in the API's words. https://docs.haproxy.org/2.6/management.html#9.1"""
    assert server.statistics is not None  # noqa: S101  # the caller has just set it
    status, result = server.statistics["status"], server.statistics["check_status"].removeprefix("* ")
    if status.startswith("UP"):
        return HEALTHY
    if not status.startswith("DOWN") or result in ("", "INI", "L7OK"):
        return server.health
    if result in ("L4TOUT", "L7TOUT"):
        return TIMED_OUT
    return wrong_status(int(server.statistics["check_code"])) if result == "L7STS" else FAILED


def _counters(key: TargetKey, server: _Server) -> dict[str, Any]:
    told = server.statistics or {}
    return {
        "group": key.group,
        "id": key.id,
        "port": key.port,
        "state": server.health.state,
        "deregistered": server.told != "" and not server.told.endswith("ready"),
        "requests": int(told.get("stot", 0)),
        "in_flight": int(told.get("scur", 0)),
    }
