"""A lab whose load balancer is HAProxy and whose apps are uvicorn's: neither was written here."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import pytest

from lab.conftest import free_prefix
from zdd_lab.balancer.haproxy_node import HaproxyNode
from zdd_lab.hosts.host import Host
from zdd_lab.model.target import TargetKey
from zdd_lab.threaded import ThreadedLab

_SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"  # sbin is not on every user's PATH
HAPROXY, H2LOAD = shutil.which("haproxy", path=_SEARCH), shutil.which("h2load")
needs_haproxy = pytest.mark.skipif(
    HAPROXY is None or H2LOAD is None,
    reason="it needs haproxy and h2load; run it with: sudo scripts/system-packages.sh haproxy && make test",
)


class UvicornHost(Host):
    """A host whose app runs on uvicorn, and is killed at once when it is stopped: what it still works at is cut."""

    def app_command(self, version: str, arguments: Sequence[str]) -> list[str]:
        folder = str(Path(__file__).parent)
        argv = [sys.executable, "-m", "uvicorn", "uvicorn_app:app", "--app-dir", folder, "--log-level", "warning"]
        argv += ["--host", self.identity.address, "--port", str(self.app_port), "--timeout-keep-alive", "75"]
        return [*argv, "--header", f"X-Host:{self.name}", "--header", f"X-Version:{version}", *arguments]

    async def stop_app(self) -> None:
        if self._app is not None:
            self._app.kill()
            await asyncio.to_thread(self._app.wait)
        self.version = None


class LenientNode(HaproxyNode):
    """Lets requests outlive `unused`, as an NLB does: so one that is cut was cut by the end of the app."""

    def cut(self, key: TargetKey) -> None:
        pass


@contextmanager
def haproxy_lab(node: type[HaproxyNode] = HaproxyNode, **arguments: Any) -> Iterator[ThreadedLab]:
    """A lab whose nodes are HAProxy processes, two of them with a listener. Arguments as of `Lab`."""
    assert HAPROXY is not None
    with TemporaryDirectory(prefix="zdd-haproxy-") as folder:
        make_node = partial(node, binary=HAPROXY, folder=Path(folder))
        words = {"prefix": free_prefix(), "make_node": make_node, "make_host": UvicornHost} | arguments
        with ThreadedLab(**words) as running:
            yield running


@dataclass
class Tally:
    """What h2load counted, once it has ended. Whatever is no whole answer of 200 has failed."""

    requests: int = 0
    failed: int = 0


@contextmanager
def h2load(urls: Sequence[str], rate: int = 40) -> Iterator[Tally]:
    """Load each address for the time of the block, with `rate` requests a second over four kept connections."""
    tally, over = Tally(), Event()
    with ThreadPoolExecutor(len(urls)) as pool:
        going = [pool.submit(_load, f"{url}/", rate, over) for url in urls]
        try:
            yield tally
        finally:
            over.set()
        for one in going:
            requests, succeeded = one.result()
            tally.requests += requests
            tally.failed += requests - succeeded


def _load(url: str, rate: int, over: Event) -> tuple[int, int]:
    """Runs of a second, since h2load counts nothing when it is interrupted."""
    words = [str(H2LOAD), "--h1", "--clients=4", f"--rps={rate / 4:g}", f"--requests={rate}", url]
    requests = succeeded = 0
    while True:
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
        counted = re.search(r"requests: (\d+) total, .* (\d+) succeeded", said)
        assert counted, said
        requests, succeeded = requests + int(counted[1]), succeeded + int(counted[2])
        if over.is_set():
            return requests, succeeded
