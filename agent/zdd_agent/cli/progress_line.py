"""Progress for people: one line that is redrawn on a terminal, one line for each event elsewhere."""

from __future__ import annotations

import os
import shutil
import threading
import time
from types import TracebackType
from typing import Any, Self, TextIO

from zdd_agent.cli.output import plain

# Seconds between two redraws of the countdown.
_REDRAW_SECONDS = 1.0
_DIM, _PLAIN, _CLEAR = "\x1b[2m", "\x1b[0m", "\r\x1b[K"


class Progress:
    """Shows the events of an operation. A context manager, so that the last line is left clean."""

    def __init__(self, verb: str, stream: TextIO) -> None:
        self._verb = verb
        self._stream = stream
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._color = self._live and not os.environ.get("NO_COLOR")
        self._event: dict[str, Any] | None = None
        self._over = threading.Event()
        self._redrawing = threading.Thread(target=self._redraw, daemon=True)

    def __enter__(self) -> Self:
        if self._live:
            self._redrawing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live:
            self._redrawing.join()
            self._write(_CLEAR)

    def show(self, event: dict[str, Any]) -> None:
        """One event of the operation."""
        self._event = event
        if self._live:
            self._draw()
        else:
            self._write(f"{self._line(event)}\n")

    def _redraw(self) -> None:
        while not self._over.wait(_REDRAW_SECONDS):
            self._draw()

    def _draw(self) -> None:
        if self._event is None:
            return
        width = shutil.get_terminal_size().columns
        line = self._line(self._event)[: width - 1]
        self._write(f"{_CLEAR}{_DIM}{line}{_PLAIN}" if self._color else f"{_CLEAR}{line}")

    def _line(self, event: dict[str, Any]) -> str:
        until = event.get("until")
        left = f" (next look in {max(until - time.time(), 0):.0f} s)" if until else ""
        return plain(f"{self._verb}: {event['text']}{left}")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._live = False
