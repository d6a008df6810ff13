"""One host of the lab: its instance metadata, its app, its agent and its folder."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from aiohttp import web

from zdd_lab.aws.instance_identity import Identity
from zdd_lab.hosts.imds import Imds
from zdd_lab.model.faults import FaultTable
from zdd_lab.processes import children
from zdd_lab.processes.serving import listens, serve

IMDS_PORT = 1338
# Agent settings that scale with the profile: their defaults in s, and the file that they are written to.
_SETTINGS_SECONDS = (10.0, 5.0, 1.0, 5.0, 30.0, 300.0)
_SETTINGS = """# Scaled with the lab's profile: these are not the agent's defaults.
[poll]
interval_seconds = {0:g}
jitter_seconds = {1:g}
[probe]
interval_seconds = {2:g}
[drain]
quiet_seconds = {3:g}
[drain.floor_seconds]
application = {4:g}
network = {5:g}
"""
_START_TIMEOUT = 20.0  # s for a child to listen; it takes less than 1 s unless the machine is busy


class Host:
    """An instance with its own address. `restart_app` is a deploy tool's plain restart: stop, then start."""

    def __init__(self, identity: Identity, folder: Path, endpoint_url: str, faults: FaultTable, app_port: int) -> None:
        self.identity = identity
        self.name = identity.host
        self.folder = folder
        self.app_port = app_port
        self.version: str | None = None
        self.socket = folder / "agent.sock"
        self.imds = Imds(self.name, time.time, faults, lambda: identity.leaves(time.time()))
        self.imds_url = f"http://{identity.address}:{IMDS_PORT}"
        self._endpoint_url = endpoint_url
        self._imds_server: web.AppRunner | None = None
        self._app: Popen[bytes] | None = None
        self._agent: Popen[bytes] | None = None

    async def open(self, scale: float) -> None:
        """Create the folder with the agent's settings, and serve instance metadata."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "state").mkdir(mode=0o700, exist_ok=True)
        config = self.folder / "config.toml"
        if not config.exists():  # keep what a person has edited
            config.write_text(_SETTINGS.format(*(one * scale for one in _SETTINGS_SECONDS)), "utf-8")
        self._imds_server = await serve(self.imds.application(), self.identity.address, IMDS_PORT)

    async def close(self) -> None:
        await self.stop_agent()
        await asyncio.to_thread(children.stop, self._app)
        if self._imds_server is not None:
            await self._imds_server.cleanup()

    def settings(self) -> dict[str, str]:
        """Environment variables for the SDK and the agent on this host. They hold no key, only the lab's endpoints."""
        return {
            "AWS_ENDPOINT_URL": self._endpoint_url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds_url,
            "AWS_EC2_METADATA_V1_DISABLED": "true",
            "ZDD_AGENT_CONFIG": str(self.folder / "config.toml"),
            "ZDD_AGENT_SOCKET": str(self.socket),
            "ZDD_AGENT_STATE_DIRECTORY": str(self.folder / "state"),
        }

    def app_command(self, version: str, arguments: Sequence[str]) -> list[str]:
        """The argument list that starts the app. A host with another app overrides it."""
        argv = [sys.executable, "-m", "zdd_lab.hosts.app", "--host", self.identity.address, "--port"]
        return [*argv, str(self.app_port), "--name", self.name, "--version", version, *arguments]

    async def start_app(self, version: str, arguments: Sequence[str] = ()) -> None:
        """Start the app and wait until it listens.

        Raises:
            children.ChildStartError: it ended instead.
        """
        address, port, log = self.identity.address, self.app_port, self.folder / "app.log"
        self._app = children.spawn(self.app_command(version, arguments), children.bare_environment(), log)
        self.version = version
        await _until(lambda: listens(address, port), self._app, log)

    async def stop_app(self) -> None:
        await asyncio.to_thread(children.stop, self._app)
        self.version = None

    async def restart_app(self, version: str, arguments: Sequence[str] = ()) -> None:
        await self.stop_app()
        await self.start_app(version, arguments)

    async def start_agent(self, extra_env: Mapping[str, str] | None = None) -> None:
        """Start this host's `zdd-agent serve` and wait until its socket answers.

        Raises:
            children.ChildStartError: it ended instead.
        """
        argv = [sys.executable, "-m", "zdd_agent", "serve"]
        log = self.folder / "agent.log"
        self._agent = children.spawn(argv, children.bare_environment() | self.settings() | dict(extra_env or {}), log)
        await _until(self._agent_listens, self._agent, log)

    async def stop_agent(self) -> None:
        await asyncio.to_thread(children.stop, self._agent)

    async def restart_agent(self) -> None:
        await self.stop_agent()
        await self.start_agent()

    async def signal_agent(self, number: signal.Signals) -> None:
        """Send the agent a signal. After SIGKILL, wait until the process is gone."""
        if self._agent is None or self._agent.poll() is not None:
            return
        self._agent.send_signal(number)
        if number is signal.SIGKILL:
            await asyncio.to_thread(self._agent.wait)

    @property
    def agent_pid(self) -> int | None:
        """The agent's process, or None when it does not run."""
        return self._agent.pid if self._agent is not None and self._agent.poll() is None else None

    @property
    def app_pid(self) -> int | None:
        return self._app.pid if self._app is not None and self._app.poll() is None else None

    def state(self) -> dict[str, Any]:
        """This host in the control API's GET /state."""
        identity = self.identity
        return {
            "name": self.name,
            "instance_id": identity.instance_id,
            "address": identity.address,
            "zone": identity.zone,
            "access_key": identity.access_key,
            "folder": str(self.folder),
            "app": {
                "version": self.version,
                "pid": self.app_pid,
                "url": f"http://{identity.address}:{self.app_port}",
            },
            "agent": {"pid": self.agent_pid, "socket": str(self.socket)},
            "imds": {
                "endpoint": self.imds_url,
                "requests": self.imds.requests,
                "v1_requests": self.imds.v1_requests,
            },
        }

    async def _agent_listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(os.fspath(self.socket))
        except OSError:
            return False
        writer.close()
        return True


async def _until(ready: Callable[[], Awaitable[bool]], child: Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_TIMEOUT
    while not await ready():
        if child.poll() is not None or time.monotonic() > until:
            raise children.ChildStartError(f"cannot start a process of the lab: see {log}")
        await asyncio.sleep(0.02)
