"""The log: with fields to systemd's journal under systemd, to standard error elsewhere.

Sources: systemd.journal-fields(7); JOURNAL_STREAM in systemd.exec(5).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping

from systemd.journal import JournalHandler, sendv

_IDENTIFIER = "zdd-agent"


def log_to(environ: Mapping[str, str]) -> None:
    """Send the log to the journal when systemd connected standard error to it, and to standard error otherwise."""
    handler: logging.Handler
    if _is_journal(environ.get("JOURNAL_STREAM", "")):
        handler = Journal()
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class Journal(logging.Handler):
    """Sends each entry with what `extra` names in capitals; a tuple becomes a field for each of its values."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send it. A journal that does not take it is no reason to stop."""
        try:
            sendv(*_fields(record, self.format(record)))
        except Exception:  # noqa: BLE001  logging's own rule: report it, and go on
            self.handleError(record)


def _fields(record: logging.LogRecord, message: str) -> Iterator[str]:
    yield f"MESSAGE={message}"
    yield f"PRIORITY={JournalHandler.map_priority(record.levelno)}"
    yield f"SYSLOG_IDENTIFIER={_IDENTIFIER}"
    yield f"CODE_FILE={record.pathname}"
    yield f"CODE_LINE={record.lineno}"
    yield f"CODE_FUNC={record.funcName}"
    for name, value in vars(record).items():
        if name.isupper():
            for one in value if isinstance(value, tuple) else (value,):
                yield f"{name}={one}"


def _is_journal(stream: str) -> bool:
    try:
        stat = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{stat.st_dev}:{stat.st_ino}"
