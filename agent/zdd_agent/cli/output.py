"""Text for people."""

from __future__ import annotations

import os
import sys


def plain(text: str) -> str:
    """The text on one line, without anything that acts on a terminal: it may hold what AWS or another user said."""
    return "".join(c if c.isprintable() else " " if c in "\t\r\n" else "?" for c in text)


def say(text: str) -> None:
    """Print a result on standard output."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # `zdd-agent status | head`: the reader has what it wanted, and the exit code stays the same.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def span(seconds: float) -> str:
    """A span for people: `42 s`, `5 min 3 s`, `2 h 4 min`."""
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
