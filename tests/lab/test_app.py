"""The demo's app, as the process that the lab starts."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.data_plane_rig import Client, read_chunk, read_head, run

AGENT = str(Path(__file__).parents[2] / "agent")


@asynccontextmanager
async def app(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A running app, and its address."""
    address = f"127.{random.randint(20, 99)}.{random.randint(1, 250)}.11"
    arguments = ["-m", "zdd_lab.hosts.app", "--host", address, "--name", "h1", "--version", "v2", *options]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env={**os.environ, "PYTHONPATH": AGENT})
    try:
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def connect(address: str) -> Client:
    """A connection to the app, once it listens."""
    async with asyncio.timeout(5):
        while True:
            try:
                return Client(*await asyncio.open_connection(address, 8080))
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)


def post(client: Client, path: str, body: bytes) -> None:
    client.writer.write(
        b"POST %b HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    )


def test_it_says_its_host_and_version() -> None:
    async def promise() -> None:
        async with app() as (_, address):
            client = await connect(address)
            answer = await client.get()
            client.close()
            assert (answer.status, answer.body) == (200, b'{"host": "h1", "version": "v2"}')
            assert (answer.headers["x-host"], answer.headers["x-version"]) == ("h1", "v2")

    run(promise())


def test_its_health_can_be_set() -> None:
    async def promise() -> None:
        async with app() as (_, address):
            client = await connect(address)
            statuses = [(await client.get("/healthz")).status]
            for body in (b'{"code": 503}', b"nonsense", b'{"code": 200}'):
                post(client, "/_lab/health", body)
                statuses += [(await client.answer()).status, (await client.get("/healthz")).status]
            client.close()
            assert statuses == [200, 200, 503, 400, 503, 200, 200]

    run(promise())


def test_it_sleeps_streams_uploads_and_half_closes_as_asked() -> None:
    async def promise() -> None:
        async with app() as (_, address):
            client = await connect(address)
            assert (await client.get("/sleep?seconds=0.05")).status == 200
            assert (await client.get("/sleep?seconds=long")).status == 400
            client.ask("/stream?seconds=0.2&step=0.05")
            assert (await read_head(client.reader)).status == 200
            parts = []
            while part := await read_chunk(client.reader):
                parts.append(part)
            assert len(parts) >= 4
            assert parts[-1] == b"end\n"
            post(client, "/upload", b"x" * 300_000)
            assert (await client.answer()).body == b'{"length": 300000}'
            assert (await client.get("/half-close")).status == 200
            assert await client.reader.read() == b""
            client.close()

    run(promise())


def test_a_plain_stop_breaks_what_is_in_flight() -> None:
    async def promise() -> None:
        async with app() as (process, address):
            client = await connect(address)
            client.ask("/sleep?seconds=5")
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionResetError):
                await client.answer()
            client.close()
            assert await process.wait() == 0

    run(promise())


def test_it_listens_only_once_it_has_booted() -> None:
    async def promise() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with app("--start-seconds", "0.6") as (_, address):
            (await connect(address)).close()
            assert loop.time() - began >= 0.6

    run(promise())
