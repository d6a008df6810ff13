"""What the data plane's tests stand on: a node, targets that behave as told, and a client that speaks raw HTTP."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvloop

from zdd_lab.balancer.node import Node
from zdd_lab.model.target import Backend, HealthCheck, NodeHealth, NodeSettings, TargetKey

GROUP = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/web/1"
PORT = 8080
CHECK = HealthCheck(path="/healthz", interval=0.05, timeout=0.2, healthy_threshold=3, unhealthy_threshold=2)
ENOUGH = 5.0  # s: what a test waits for before it gives up


def run(promise: Coroutine[Any, Any, None]) -> None:
    """Run a test's body on the loop that the lab runs on."""
    uvloop.run(asyncio.wait_for(promise, 15))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(ENOUGH):
        while not condition():  # noqa: ASYNC110 - what tests wait for has no event
            await asyncio.sleep(0.005)


@dataclass
class Message:
    """A request or a response, whole."""

    first_line: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.first_line.split()[1])

    @property
    def path(self) -> str:
        return self.first_line.split()[1]


async def read_head(reader: asyncio.StreamReader) -> Message:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    return Message(first, {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)})


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline(), 16)
    part = await reader.readexactly(size)
    await reader.readexactly(2)
    return part


async def read_message(reader: asyncio.StreamReader) -> Message:
    message = await read_head(reader)
    if message.headers.get("transfer-encoding") == "chunked":
        while part := await read_chunk(reader):
            message.body += part
    else:
        message.body = await reader.readexactly(int(message.headers.get("content-length", "0")))
    return message


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Message], Awaitable[None]]


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class FakeTarget:
    """A target: counts what it gets, passes its health checks with `health`, answers paths as told."""

    name: str
    address: str
    health: int | None = 200  # None: accepts the check and says nothing
    seen: list[Message] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    checks: int = 0
    connections: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.address, PORT)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._serving:
            task.cancel()
        await until(lambda: not self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    await self._serve_one(reader, writer)
        finally:
            self.connections -= 1
            self._serving.discard(task)
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_head(reader)
        if request.headers.get("user-agent") == "ELB-HealthChecker/2.0":
            self.checks += 1
            if self.health is None:
                await reader.read()
            writer.write(whole(b"", status=f"{self.health} Whatever"))
            return
        self.seen.append(request)
        self.peers.add(writer.get_extra_info("peername")[0])
        answer = self.answers.get(request.path)
        if answer is not None:
            await answer(reader, writer, request)
            return
        await reader.readexactly(int(request.headers.get("content-length", "0")))
        writer.write(whole(self.name.encode()))

    def holds(self, path: str) -> tuple[asyncio.Event, asyncio.Event]:
        """Answer `path` only once the second event is set; the first is set when it has been asked."""
        asked, go = asyncio.Event(), asyncio.Event()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Message) -> None:
            asked.set()
            await go.wait()
            writer.write(whole(self.name.encode()))

        self.answers[path] = answer
        return asked, go

    def says(self, path: str, raw: bytes, *, then_closes: bool = False) -> None:
        """Answer `path` with these very bytes."""

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Message) -> None:
            writer.write(raw)
            if then_closes:
                await writer.drain()
                writer.close()

        self.answers[path] = answer


class Client:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, path: str, *headers: str) -> None:
        self.writer.write("\r\n".join((f"GET {path} HTTP/1.1", "Host: lab", *headers, "", "")).encode())

    async def answer(self) -> Message:
        async with asyncio.timeout(ENOUGH):
            return await read_message(self.reader)

    async def get(self, path: str = "/", *headers: str) -> Message:
        self.ask(path, *headers)
        return await self.answer()

    def close(self) -> None:
        self.writer.transport.abort()


class Rig:
    """One node and its surroundings."""

    def __init__(self, settings: NodeSettings) -> None:
        self.prefix = f"127.{random.randint(20, 99)}.{random.randint(1, 250)}"
        self.reports: list[tuple[str, NodeHealth]] = []
        self.node = Node("node-a", "us-east-1a", f"{self.prefix}.2", settings, self._reported)
        self._targets: list[FakeTarget] = []
        self._clients: list[Client] = []

    def _reported(self, node: str, key: TargetKey, health: NodeHealth) -> None:
        assert node == "node-a"
        self.reports.append((key.id, health))

    def key(self, name: str) -> TargetKey:
        return TargetKey(GROUP, name, PORT)

    def backend(self, target: FakeTarget, check: HealthCheck = CHECK, slow_start: float = 0.0) -> Backend:
        return Backend(self.key(target.name), target.address, check, slow_start)

    async def target(self, name: str = "h1", *, health: int | None = 200, start: bool = True) -> FakeTarget:
        """A target that the node does not know yet."""
        target = FakeTarget(name, f"{self.prefix}.{11 + len(self._targets)}", health)
        self._targets.append(target)
        if start:
            await target.start()
        return target

    async def healthy(self, name: str = "h1") -> FakeTarget:
        """A target that the node has found healthy."""
        target = await self.target(name)
        self.node.register(self.backend(target))
        await until(lambda: self.state(name) == "healthy")
        return target

    def counted(self, name: str = "h1") -> Any:
        return next(found for found in self.node.counters()["targets"] if found["id"] == name)

    def state(self, name: str = "h1") -> str:
        return str(self.counted(name)["state"])

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(self.node.address, PORT))
        self._clients.append(client)
        return client

    async def get(self, path: str = "/", *headers: str) -> Message:
        """One request on its own connection."""
        client = await self.client()
        try:
            return await client.get(path, *headers)
        finally:
            client.close()

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        await self.node.close()
        for target in self._targets:
            await target.stop()


@asynccontextmanager
async def rig(**settings: Any) -> AsyncIterator[Rig]:
    """A node that listens, with settings as given."""
    made = Rig(NodeSettings(**{"idle_timeout": 10.0, "response_timeout": 10.0, **settings}))
    try:
        await made.node.listen(PORT, GROUP)
        yield made
    finally:
        await made.close()
