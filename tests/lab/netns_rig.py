"""Gives a host's agent its own network namespace, from which it still reaches its instance metadata and AWS."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from lab.drain_rig import until_so
from system.netns import inside
from zdd_lab.hosts.host import IMDS_PORT, Host
from zdd_lab.lab import ENDPOINT_PORT, Lab
from zdd_lab.processes import children

T = TypeVar("T")


def may_make_namespaces() -> bool:
    """Whether this process is allowed to, and has the tools."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip")):
        return False
    return subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode == 0


class Namespace:
    """One that lives as long as its keeper, a process that does nothing."""

    def __init__(self, keeper: subprocess.Popen[str]) -> None:
        self.keeper = keeper
        self.path = f"/proc/{keeper.pid}/ns/net"

    def inside(self, call: Callable[[], T]) -> T:
        """Run `call` in a thread that is in there, and return its result. A socket that it opens stays in there."""
        return inside(self.path, call)

    def argv(self, *words: str) -> list[str]:
        """The words that run a program in there."""
        return [shutil.which("nsenter") or "nsenter", f"--net={self.path}", *words]

    def ip(self, *words: str) -> None:
        """Run `ip` in there."""
        subprocess.run(self.argv("ip", *words), check=True)


@asynccontextmanager
async def namespace(lab: Lab, host: Host) -> AsyncIterator[Namespace]:
    """One with a way out to AWS's endpoint and to this host's instance metadata, and to nothing else."""
    argv = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"]
    keeper = subprocess.Popen(  # noqa: ASYNC220  it starts at once
        children.dies_with_parent([shutil.which(argv[0]) or "", *argv[1:]]), stdout=subprocess.PIPE, text=True
    )
    async with AsyncExitStack() as ends:
        ends.callback(_end, keeper)
        assert keeper.stdout is not None
        assert await asyncio.to_thread(keeper.stdout.readline) == "up\n"
        made = Namespace(keeper)
        for address, port in ((f"{lab.prefix}.1", ENDPOINT_PORT), (host.identity.address, IMDS_PORT)):
            await ends.enter_async_context(_way_out(made, address, port))
        yield made


def _end(keeper: subprocess.Popen[str]) -> None:
    keeper.kill()
    keeper.wait()
    assert keeper.stdout is not None
    keeper.stdout.close()


@asynccontextmanager
async def _way_out(made: Namespace, address: str, port: int) -> AsyncIterator[None]:
    """What connects to this address in there reaches the same address out here."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while part := await reader.read(65_536):
                writer.write(part)
        finally:
            writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        out_reader, out_writer = await asyncio.open_connection(address, port)
        await asyncio.gather(pump(reader, out_writer), pump(out_reader, writer), return_exceptions=True)

    listener = await asyncio.to_thread(made.inside, lambda: socket.create_server((address, port)))
    server = await asyncio.start_server(carry, sock=listener)
    try:
        yield
    finally:
        server.close()


async def start_agent(made: Namespace, lab: Lab, host: Host, settings: dict[str, str]) -> None:
    """Start this host's agent in there; its socket is a file, and so the same for everyone."""
    argv = made.argv(sys.executable, "-m", "zdd_agent", "serve")
    host._agent = children.spawn(argv, lab.env(host) | settings, host.folder / "agent.log")
    await until_so(lambda: host.socket.exists() and _answers(host))


def _answers(host: Host) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(host.socket)) == 0
