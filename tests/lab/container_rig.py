"""Hosts whose app is in a container with a published port: each in its own network namespace, beside the lab's."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from containers import Container, Engine, opener
from lab.drain_rig import until_so
from published import BRIDGE, Outside, PublishingHost, inside
from system.netns import enter
from zdd_lab.hosts.host import _SETTINGS, _SETTINGS_SECONDS, IMDS_PORT, Host
from zdd_lab.lab import APP_PORT
from zdd_lab.processes import children
from zdd_lab.threaded import ThreadedLab

PREFIX = "10.77.9"
INNER_PORT = 80
_NODES = range(1, 8)  # addresses of the lab's own, and of a client beside it
_CONTAINER = f'[container]\nname = "web"\nport = {APP_PORT}\ncontainer_port = {INNER_PORT}\n'


class ContainerHost(Host):
    """A host that runs its app in a container named `web`; `opens`: with the opener."""

    def __init__(self, outside: Outside, *words: Any) -> None:
        super().__init__(*words)
        self.net = self.network(outside)
        self.engine: Engine
        self.container: Container | None = None
        self.opens = True
        self._ends = ExitStack()

    def network(self, outside: Outside) -> PublishingHost:
        """The host's own network namespace."""
        return PublishingHost(outside, self.identity.address)

    async def open(self, scale: float) -> None:
        """As any host; its metadata service is in its own network namespace."""
        here = (self.identity.address, IMDS_PORT)
        listener = await asyncio.to_thread(inside, self.net.place, lambda: socket.create_server(here))
        self._imds_server = web.AppRunner(self.imds.application(), access_log=None)
        await self._imds_server.setup()
        await web.SockSite(self._imds_server, listener).start()
        (self.folder / "state").mkdir(parents=True)
        self.folder.chmod(0o755)
        self.engine = Engine(self.folder)
        scaled = _SETTINGS.format(*(one * scale for one in _SETTINGS_SECONDS))
        (self.folder / "config.toml").write_text(scaled + _CONTAINER)

    async def close(self) -> None:
        await super().close()
        self._ends.close()
        self.net.close()

    async def start_app(self, version: str, arguments: Sequence[str] = ()) -> None:
        """In a new container, which takes the place of the one before."""
        argv = [sys.executable, "-m", "zdd_lab.hosts.app", "--host", "0.0.0.0", "--port", str(INNER_PORT)]  # noqa: S104
        words = ["--name", self.name, "--version", version, *arguments]
        self.container, last = await asyncio.to_thread(self.net.container, [*argv, *words])
        inner = (f"{BRIDGE}.{last}", INNER_PORT)
        await until_so(lambda: inside(self.net.place, lambda: _takes(inner)))
        await asyncio.to_thread(self.net.publish, last, APP_PORT, INNER_PORT)
        self.engine.podman("web", self.container.pid)
        self.version = version

    async def stop_app(self) -> None:
        if self.container is not None:
            await asyncio.to_thread(self.container.kill)
            self.engine.forget()
        self.container, self.version = None, None

    async def start_agent(self, extra_env: Mapping[str, str] | None = None) -> None:
        """In the host's network namespace, with the opener beside it."""
        if self.opens:
            path, settings = self.socket.with_name("netns.sock"), self.folder / "config.toml"
            self._ends.enter_context(opener(path, self.engine, settings, host=self.net.place.path))
        enters = [shutil.which("nsenter") or "", f"--net={self.net.place.path}"]
        env = children.bare_environment() | self.settings() | dict(extra_env or {})
        argv = [*enters, sys.executable, "-m", "zdd_agent", "serve"]
        self._agent = children.spawn(argv, env, self.folder / "agent.log")
        await until_so(self._answers)

    def close_opener(self) -> None:
        """As after `systemctl disable --now zdd-netns.socket`."""
        self._ends.close()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0


def _takes(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == 0


@contextmanager
def containers_lab(make: Callable[..., ContainerHost] = ContainerHost, **arguments: Any) -> Iterator[ThreadedLab]:
    """A lab of such hosts. This thread is in the lab's network namespace meanwhile."""
    with Path("/proc/thread-self/ns/net").open() as home:
        outside = Outside(PREFIX, _NODES)
        try:
            enter(outside.place.path)
            hosts = {"make_host": lambda *words: make(outside, *words)}
            with ThreadedLab(prefix=PREFIX, agents=False, **hosts, **arguments) as running:
                yield running
        finally:
            enter(f"/proc/self/fd/{home.fileno()}")
            outside.place.kill()
