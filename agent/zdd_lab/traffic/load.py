"""Open-loop load: requests are sent at a fixed rate, whatever the answers; latency counts from the intended start.

A closed loop slows down with the server and hides its worst moments ("coordinated omission"). Here each request
is sent when it is due, on a new connection if all others are busy. No request is sent twice.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import uvloop

from zdd_lab.traffic.load_request import LoadRequest, Origin
from zdd_lab.traffic.records import Record, summarize

_FLUSH_EVERY = 0.2  # s: a reader of the file sees a record this late
_BREATHE_EVERY = 16  # requests: after so many, read answers even when sending is late


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, and until when."""

    rate: float  # requests a second, over all origins
    min_requests: int  # send at least this many, even if stdin closes earlier
    until_stdin_closes: bool
    max_duration: float  # s: stop after this long in any case
    connections: int  # at most, per origin


class Load:
    """Sends the requests of a plan and writes a line for each that ends."""

    def __init__(self, origins: list[Origin], plan: Plan, out: TextIO) -> None:
        self._origins = origins
        self._plan = plan
        self._out = out
        self._pending: set[LoadRequest] = set()
        self._stop = False
        self._stdin_open = plan.until_stdin_closes
        self._none_pending = asyncio.Event()
        self.records: list[Record] = []

    def stop(self) -> None:
        """Send nothing more. Requests in flight go on to their end."""
        self._stop = True

    def stdin_closed(self) -> None:
        """Send no more than `min_requests`."""
        self._stdin_open = False

    async def run(self) -> None:
        """Send all, and wait for the answers."""
        start, flushed, sent = time.time(), time.time(), 0
        while not self._over(sent, start):
            due = start + sent / self._plan.rate
            if (early := due - time.time()) > 0:
                await asyncio.sleep(early)
                continue
            request = LoadRequest(self._origins[sent % len(self._origins)], due, self._finished)
            self._pending.add(request)
            request.begin(self._plan.connections)
            sent += 1
            if sent % _BREATHE_EVERY == 0:
                await asyncio.sleep(0)
            if time.time() - flushed > _FLUSH_EVERY:
                flushed = time.time()
                self._out.flush()
        while self._pending:  # each has its own timeout
            self._none_pending.clear()
            await self._none_pending.wait()
        self._out.flush()

    def _over(self, sent: int, start: float) -> bool:
        plan = self._plan
        if self._stop or time.time() - start >= plan.max_duration:
            return True
        asked = plan.min_requests > 0 or plan.until_stdin_closes
        return asked and sent >= plan.min_requests and not self._stdin_open

    def _finished(self, request: LoadRequest, record: Record) -> None:
        self._pending.discard(request)
        self.records.append(record)
        self._out.write(record.line())
        if not self._pending:
            self._none_pending.set()


async def run(urls: list[str], plan: Plan, out: Path) -> list[Record]:
    """Load `urls` as planned. Return the records, which are also appended to `out`."""
    loop = asyncio.get_running_loop()
    with out.open("a", encoding="ascii", errors="replace") as file:
        load = Load([Origin(url) for url in urls], plan, file)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, load.stop)
        if plan.until_stdin_closes:
            await loop.connect_read_pipe(lambda: _UntilEof(load.stdin_closed), sys.stdin)
        await load.run()
    return load.records


class _UntilEof(asyncio.Protocol):
    def __init__(self, closed: Callable[[], None]) -> None:
        self._closed = closed

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._closed()


def main() -> None:
    """Run the load and print its summary."""
    parser = argparse.ArgumentParser(prog="python -m zdd_lab.traffic.load", description="An open-loop HTTP load.")
    parser.add_argument("--url", action="append", required=True, help="address to load; give it once for each")
    parser.add_argument("--rate", type=float, required=True, help="requests a second, over all addresses")
    parser.add_argument("--out", type=Path, required=True, help="file to append a line to for each request")
    parser.add_argument("--min-requests", type=int, default=0, help="send at least this many requests")
    parser.add_argument("--until-stdin-closes", action="store_true", help="go on until standard input closes")
    parser.add_argument("--max-duration", type=float, default=3600.0, help="s: stop after this long in any case")
    parser.add_argument("--connections", type=int, default=512, help="at most this many for each address")
    options = parser.parse_args()
    plan = Plan(
        rate=options.rate,
        min_requests=options.min_requests,
        until_stdin_closes=options.until_stdin_closes,
        max_duration=options.max_duration,
        connections=options.connections,
    )
    print(json.dumps(summarize(uvloop.run(run(options.url, plan, options.out)))), flush=True)


if __name__ == "__main__":
    main()
