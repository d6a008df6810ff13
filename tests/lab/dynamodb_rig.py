"""Two DynamoDBs for the same tests, behind the lab's endpoint: the lab's, and dynalite, which was not written here."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from lab.conftest import SHORT, free_prefix
from zdd_lab.hosts.host import Host
from zdd_lab.processes import children
from zdd_lab.processes.serving import listens
from zdd_lab.threaded import ThreadedLab

_DYNALITE = Path(__file__).parents[2] / "build" / "dynalite" / "node_modules" / "dynalite" / "cli.js"
_NODE = shutil.which("node")
_PORT = 4569
needs_dynalite = pytest.mark.skipif(
    _NODE is None or not _DYNALITE.exists(),
    reason="it needs dynalite, so node 20 and npm; run it with: scripts/dynalite.sh && make test",
)
ENGINES = ["lab", pytest.param("dynalite", marks=needs_dynalite)]


@contextmanager
def lab_on(engine: str, folder: Path, hosts: int = 1, **arguments: Any) -> Iterator[ThreadedLab]:
    """A lab whose DynamoDB is the engine, with its access control and its faults.

    Args:
        engine: one of ENGINES.
        folder: for the engine's log.
    """
    given = {"profile": SHORT, "agents": False, "seed": 5, **arguments}
    with ExitStack() as ends:
        running = ends.enter_context(ThreadedLab(prefix=free_prefix(), hosts=hosts, **given))
        if engine == "dynalite":
            url = ends.enter_context(_dynalite(f"{running.lab.prefix}.1", folder / "dynalite.log"))
            running.lab.endpoint.elsewhere["dynamodb"] = url
        yield running


@contextmanager
def _dynalite(address: str, log: Path) -> Iterator[str]:
    at_once = [word for step in ("create", "update", "delete") for word in (f"--{step}TableMs", "0")]
    argv = [str(_NODE), str(_DYNALITE), "--host", address, "--port", str(_PORT), *at_once]
    child = children.spawn(argv, children.bare_environment(), log)
    try:
        asyncio.run(until_it_listens(address, _PORT))
        yield f"http://{address}:{_PORT}"
    finally:
        children.stop(child)


async def until_it_listens(address: str, port: int) -> None:
    async with asyncio.timeout(30):
        while not await listens(address, port):  # noqa: ASYNC110  a process has no event
            await asyncio.sleep(0.05)


def client(url: str, host: Host | None = None, read_timeout: float = 20) -> Any:
    """DynamoDB without retries, as a person or as a host."""
    key = host.identity.access_key if host else "AKIAZDDLABPERSON0000"
    config = Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout, max_pool_connections=20, proxies={})
    session = boto3.session.Session(key, "made-up", region_name="us-east-1")
    return session.client("dynamodb", endpoint_url=url, config=config)


def create_table(dynamodb: Any, table: str) -> None:
    """As Terraform makes it, without what only AWS has."""
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "service", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "service", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1})
