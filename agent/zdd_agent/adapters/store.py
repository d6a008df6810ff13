"""The state file: one JSON document, replaced whole and synced, set aside when it is damaged."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.operation import Record

log = logging.getLogger(__name__)

_VERSION = 1
# Bytes of a large record: some twenty targets.
_RECORD_BYTES = 16 * 1024
_RECORD: TypeAdapter[dict[str, int | Record]] = TypeAdapter(dict[str, int | Record])


class FileStore:
    """`state.json` in the state folder, mode 0600."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "state.json"
        self._notices: list[str] = []

    def claim(self) -> None:
        """Take the folder for this process, as long as it lives.

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
            hint = "make the folder, writable for the agent, or set `state_directory`"
            raise self._unusable(error.strerror or str(error), hint) from None

    def _unusable(self, cause: str, hint: str) -> AgentError:
        return AgentError(Kind.CONFIGURATION, f"cannot use {self._folder}: {cause}", hint=hint, value="state_directory")

    def notices(self) -> tuple[str, ...]:
        """What the operator should know of the file, as whole sentences, until the next start."""
        return tuple(self._notices)

    def read(self) -> Record:
        """What was written last; an empty record on a new host.

        A damaged file is set aside as state.json.damaged-TIME and said loudly; the membership is then rebuilt from
        what AWS says at the next drain.

        Raises:
            AgentError: STORE when the folder or the file cannot be read.
        """
        try:
            raw = self._file.read_bytes()
        except FileNotFoundError:
            return Record()
        except OSError as error:
            raise self._error("read", error) from None
        try:
            document = _RECORD.validate_json(raw)
            record = document["record"]
        except ValidationError as error:
            self._set_aside(error.errors()[0]["msg"])
            return Record()
        except KeyError:
            self._set_aside("it holds no record")
            return Record()
        if document.get("version") != _VERSION or not isinstance(record, Record):
            self._set_aside(f"it is of version {document.get('version')!r}, not {_VERSION}")
            return Record()
        return record

    def write(self, record: Record) -> None:
        """Replace the file; returns when it and its folder are synced. Raises AgentError STORE, transient."""
        raw = _RECORD.dump_json({"version": _VERSION, "record": record}, indent=1)
        new = self._file.with_suffix(".new")
        try:
            _put(new, raw)
            new.replace(self._file)
            self._sync_folder()
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise self._error("write", error) from None

    def try_write(self) -> None:
        """Write and sync beside the state file, and leave no trace. Raises AgentError STORE, transient."""
        trial = self._folder / "doctor.new"
        try:
            _put(trial, b"x" * _RECORD_BYTES)
            trial.unlink()
            self._sync_folder()
        except OSError as error:
            raise self._error("write beside", error) from None

    def _set_aside(self, cause: str) -> None:
        seconds, fraction = divmod(time.time_ns(), 10**9)  # to the end: a second damaged file gets a name of its own
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
        aside = self._file.with_name(f"state.json.damaged-{moment}.{fraction:09}")
        try:
            self._file.rename(aside)
            self._sync_folder()
        except OSError as failed:
            raise self._error("set aside", failed) from None
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
