"""Shows the demo's progress: a line for each step, and on a terminal one line on the load that is redrawn."""

import asyncio
import time
from pathlib import Path
from typing import TextIO

from zdd_lab.traffic.records import parse_line

_EVERY = 0.5  # s between two redraws
_CLEAR = "\r\x1b[K"


class Screen:
    """Writes progress to a stream. Only a terminal gets the redrawn line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Write a step as a line that stays."""
        self._write(f"{_CLEAR if self._live else ''}{time.monotonic() - self._began:6.1f} s  {text}\n")

    def clear(self) -> None:
        """Remove the redrawn line."""
        if self._live:
            self._write(_CLEAR)

    async def watch(self, file: Path) -> None:
        """Redraw the line from what the load generator writes to `file`, until cancelled."""
        if not self._live:
            return
        total, failed, versions = 0, 0, dict[str, int]()
        while not file.exists():  # noqa: ASYNC110  a file has no event to wait for
            await asyncio.sleep(_EVERY)
        with file.open(encoding="ascii", errors="replace") as lines:
            rest = ""
            while True:
                *whole, rest = (rest + lines.read()).split("\n")
                records = [parse_line(line) for line in whole]
                total += len(records)
                failed += sum(record.failed for record in records)
                for record in records:
                    versions[f"{record.host} {record.version}"] = versions.get(f"{record.host} {record.version}", 0) + 1
                now = {f"{r.host} {r.version}" for r in records if not r.failed}
                self._write(f"{_CLEAR}{total:,} requests, {failed:,} failed, answering: {', '.join(sorted(now))}")
                await asyncio.sleep(_EVERY)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
