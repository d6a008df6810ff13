"""The state file: one JSON document, replaced whole and synced, set aside when it is damaged."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from zdd_agent.adapters import migration, record_json
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.record import Record
from zdd_agent.model.service import HOST

log = logging.getLogger(__name__)

# Bytes of a large record: some twenty targets.
_RECORD_BYTES = 16 * 1024


class FileStore:
    """`NAME.json` in the state folder, mode 0600: one file for each service.

    Args:
        folder: the state folder.
        name: of the service.
    """

    def __init__(self, folder: Path, name: str = HOST) -> None:
        self._folder = folder
        self._file = folder / f"{name}.json"
        # What 0.1.0 wrote is the host's.
        self._old_file = folder / "state.json" if name == HOST else None
        self._document: dict[str, Any] = {}
        self._notices: list[str] = []

    def claim(self) -> None:
        """Take the folder for as long as this process lives.

        Raises:
            AgentError: CONFIGURATION when it is missing, cannot be used, or another agent has it: two of them would
                undo each other's work.
        """
        try:
            self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._unusable("another zdd-agent uses it", "stop that one first") from None
        except OSError as error:
            hint = "create the folder, writable for the agent, or set `state_directory`"
            raise self._unusable(error.strerror or str(error), hint) from None

    def _unusable(self, cause: str, hint: str) -> AgentError:
        return AgentError(Kind.CONFIGURATION, f"cannot use {self._folder}: {cause}", hint=hint, value="state_directory")

    def notices(self) -> tuple[str, ...]:
        """What the operator should know of the file, as whole sentences, until the next start."""
        return tuple(self._notices)

    def read(self) -> Record:
        """What was written last; an empty record on a new host.

        A damaged file is set aside as NAME.json.damaged-TIME, which is logged; the membership is then rebuilt from
        what AWS says at the next drain. A file of 0.1.0 is read as well; the first write replaces it.

        Raises:
            AgentError: STORE when the folder or the file cannot be read.
        """
        for file in self._files():
            raw = self._raw(file)
            if raw is None:
                continue
            try:
                return self._decoded(raw)
            except ValueError as error:
                self._put_aside(file, "damaged", " ".join(str(error).split()))
        return Record()

    def write(self, record: Record) -> None:
        """Replace the file; returns when it and its folder are synced. Raises AgentError STORE, transient."""
        document = record_json.kept(record_json.encoded(record), self._document)
        new = self._file.with_suffix(".new")
        try:
            _put(new, json.dumps(document, indent=1).encode())
            new.replace(self._file)
            if self._old_file is not None and self._old_file.exists():
                self._old_file.rename(self._old_file.with_name("state.json.migrated"))
            self._sync_folder()
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise self._error("write", error) from None

    def set_aside(self, cause: str) -> None:
        """Keep the file under another name, and log that. Raises AgentError STORE, transient."""
        self._document = {}
        for file in self._files():
            if file.exists():
                self._put_aside(file, "foreign", cause)

    def _files(self) -> tuple[Path, ...]:
        return (self._file,) if self._old_file is None else (self._file, self._old_file)

    def _raw(self, file: Path) -> bytes | None:
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("read", error) from None

    def _decoded(self, raw: bytes) -> Record:
        """Raises ValueError for what is not a record."""
        document = json.loads(raw)
        if not isinstance(document, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY004  one error for all that is not a record
        if "membership" not in document and document.get("version") == migration.VERSION:
            return migration.migrated(document)
        record, unread = record_json.decoded(document, time.time())
        self._document = {name: value for name, value in document.items() if name not in ("record", "version")}
        if unread:
            log.warning("cannot read all of %s (%s): the membership is kept", self._file, unread)
        return record

    def try_write(self) -> None:
        """Write and sync beside the state file, and leave no trace. Raises AgentError STORE, transient."""
        trial = self._folder / "doctor.new"
        try:
            _put(trial, b"x" * _RECORD_BYTES)
            trial.unlink()
            self._sync_folder()
        except OSError as error:
            raise self._error("write beside", error) from None

    def _put_aside(self, file: Path, why: str, cause: str) -> None:
        seconds, fraction = divmod(time.time_ns(), 10**9)  # a second damaged file gets its own name
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
        aside = file.with_name(f"{file.name}.{why}-{moment}.{fraction:09}")
        try:
            file.rename(aside)
            self._sync_folder()
        except OSError as failed:
            raise self._error("set aside", failed) from None
        if why == "foreign":
            log.warning("the state file is set aside as %s: %s", aside, cause)
            return
        notice = (
            f"the state file was damaged ({cause}) and is set aside as {aside}: "
            "what an earlier drain took out is known only as far as AWS still lists it; compare with that file"
        )
        log.critical("%s", notice)
        self._notices.append(notice)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _error(self, verb: str, error: OSError) -> AgentError:
        return AgentError(
            Kind.STORE,
            f"cannot {verb} {self._file}: {error.strerror or error}",
            hint=f"make {self._folder} writable for the agent, with free space",
            value=str(self._file),
            transient=True,
        )


def _put(path: Path, raw: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
