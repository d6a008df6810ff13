"""TOML files and ZDD_AGENT_* variables become the settings, or one exact complaint."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from zdd_agent.errors import AgentError, Kind, nearest
from zdd_agent.settings import Settings

DEFAULT_FILE = Path("/etc/zdd-agent/config.toml")
PREFIX = "ZDD_AGENT_"
_VARIABLE = "variable "  # how a complaint names a source that is not a file
# Where the file is, the unit's boot ID, and the tests' failpoints: ours, but no settings.
_NOT_SETTINGS = frozenset({"ZDD_AGENT_BOOT_ID", "ZDD_AGENT_CONFIG", "ZDD_AGENT_FAILPOINT"})
# How similar the name of a variable must be to that of a setting to count as a typo: SOKET does (0.91), and STATE_DIR
# (0.75); SOCKET_PATH (0.71) is somebody else's.
_SLIP_RATIO = 0.75

log = logging.getLogger(__name__)


def load(environ: Mapping[str, str]) -> Settings:
    """Read the files, lay the variables over them, and check the whole.

    `ZDD_AGENT_CONFIG` names a file other than /etc/zdd-agent/config.toml; `conf.d/*.toml` beside it is read after
    it, in the order of the names. `ZDD_AGENT_POLL__INTERVAL_SECONDS=5` sets `poll.interval_seconds`. A variable that is
    neither a setting nor like one is somebody else's: it is logged and ignored.

    Raises:
        AgentError: CONFIGURATION, with file, key, what was found and what is accepted.
    """
    main = Path(environ.get("ZDD_AGENT_CONFIG", str(DEFAULT_FILE)))
    merged: dict[str, Any] = {}
    origin: dict[tuple[str, ...], str] = {}
    named = "ZDD_AGENT_CONFIG" in environ
    for file in (main, *sorted(main.parent.glob("conf.d/*.toml"))):
        _merge(merged, _read(file, optional=file is main and not named), str(file), origin, ())
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in _NOT_SETTINGS:
            continue
        if not _is_meant_for_us(name):
            log.warning("ignored the variable %s: it is not a setting of zdd-agent", name)
            continue
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        _merge(merged, _nested(path, environ[name]), f"{_VARIABLE}{name}", origin, ())
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise _complaint(error, origin) from None
    if settings.outdated:
        log.warning(settings.outdated)
    return settings


def _read(file: Path, *, optional: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        if optional and isinstance(error, FileNotFoundError):
            return {}
        raise AgentError(
            Kind.CONFIGURATION, f"cannot read {file}: {error}", hint="fix the file or its permissions"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise AgentError(
            Kind.CONFIGURATION, f"cannot read {file}: {error}", hint="see https://toml.io for the syntax"
        ) from None


def _merge(
    into: dict[str, Any],
    new: Mapping[str, Any],
    source: str,
    origin: dict[tuple[str, ...], str],
    at: tuple[str, ...],
) -> None:
    for key, value in new.items():
        path = (*at, key)
        if isinstance(value, dict) and not isinstance(into.get(key, {}), dict) and _table(_field(path)) is not None:
            continue  # a value where a table belongs: it stays, so that the complaint names its source
        origin[path] = source
        if not isinstance(value, dict):
            into[key] = value
            continue
        if not isinstance(into.get(key), dict):
            into[key] = {}
        _merge(into[key], value, source, origin, path)


def _nested(path: tuple[str, ...], text: str) -> dict[str, Any]:
    value: Any = text
    if _is_list(path):
        value = _toml(text) if text.lstrip().startswith("[") else [w.strip() for w in text.split(",") if w.strip()]
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _is_list(path: tuple[str, ...]) -> bool:
    field = _field(path)
    return field is not None and get_origin(field.annotation) is tuple


def _field(path: tuple[str, ...]) -> FieldInfo | None:
    """The setting, or the table, of this path; None when there is none."""
    table: type[BaseModel] | None = Settings
    for key in path[:-1]:
        table = _table(table.model_fields.get(key)) if table is not None else None
    return table.model_fields.get(path[-1]) if table is not None else None


def _table(field: FieldInfo | None) -> type[BaseModel] | None:
    """The model of a table, also of one that may be left out."""
    kinds = (field.annotation, *get_args(field.annotation)) if field is not None else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _known(path: tuple[str, ...]) -> list[str]:
    return sorted(((_table(_field(path)) if path else None) or Settings).model_fields)


def _variables(table: type[BaseModel] = Settings, at: str = PREFIX) -> Iterator[str]:
    """The variable of every setting."""
    for name, field in table.model_fields.items():
        inner = _table(field)
        yield from (_variables(inner, f"{at}{name.upper()}__") if inner is not None else [f"{at}{name.upper()}"])


def _is_meant_for_us(name: str) -> bool:
    """Whether a variable is a setting or a typo of one, rather than somebody else's with the same prefix."""
    key = name.removeprefix(PREFIX)
    if _table(Settings.model_fields.get(key.partition("_")[0].lower())) is not None:
        return True
    known = [variable.removeprefix(PREFIX) for variable in _variables()]
    return bool(get_close_matches(key.upper(), known, n=1, cutoff=_SLIP_RATIO))


def _complaint(error: ValidationError, origin: Mapping[tuple[str, ...], str]) -> AgentError:
    lines = []
    for fault in error.errors(include_url=False):
        keys = tuple(part for part in fault["loc"] if isinstance(part, str))  # numbers are places in a list
        source = next((origin[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in origin), "settings")
        name = ".".join(keys)
        if fault["type"] == "extra_forbidden":
            lines.append(f"{source}: unknown setting `{name}`: {_guess(source, keys)}")
            continue
        found = "missing" if fault["type"] == "missing" else repr(fault["input"])
        lines.append(f"{source}: `{name}` is {found}: must be {_accepted(keys)}")
    return AgentError(
        Kind.CONFIGURATION,
        "cannot use the settings: " + "; ".join(lines),
        hint="fix them, then run `zdd-agent check-config`",
        value=name,
    )


def _accepted(path: tuple[str, ...]) -> str:
    field = _field(path)
    if (table := _table(field)) is not None and (field is None or field.description is None):
        return f"a table of {', '.join(sorted(table.model_fields))}"
    return (field.description if field is not None else None) or "left out"


def _guess(source: str, path: tuple[str, ...]) -> str:
    known = _known(path[:-1])
    if len(path) == 1 and source.startswith(_VARIABLE):
        return nearest(source.removeprefix(_VARIABLE), list(_variables()))
    return nearest(path[-1], known) or f"known here: {', '.join(known)}"
