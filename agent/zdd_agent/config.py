"""Settings: TOML files and ZDD_AGENT_* variables become one frozen value, or one exact complaint."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from zdd_agent.errors import AgentError, Kind, nearest
from zdd_agent.model.aws import BalancerKind, Floor
from zdd_agent.model.kernel import Until

DEFAULT_FILE = Path("/etc/zdd-agent/config.toml")
PREFIX = "ZDD_AGENT_"
# Variables of the command, of the unit and of the file's place, not settings.
_NOT_SETTINGS = frozenset({"ZDD_AGENT_BOOT_ID", "ZDD_AGENT_FAILPOINT", "ZDD_AGENT_CONFIG"})


def _no_bool(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take `true` for 1.0
        raise ValueError("not a number")  # noqa: TRY004  pydantic reports this one
    return value


_Number = Annotated[float, BeforeValidator(_no_bool)]
Seconds = Annotated[_Number, Field(gt=0, le=172_800)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Poll(_Table):
    """How often AWS is asked while a target changes. The API budget belongs to the whole account."""

    interval_seconds: Seconds = Field(10.0, description="seconds between two looks, more than 0")
    jitter_seconds: Annotated[_Number, Field(ge=0, le=600)] = Field(
        5.0, description="seconds drawn at random and added to each interval, 0 or more"
    )


class Probe(_Table):
    """How the app is asked before anything is registered."""

    interval_seconds: Seconds = Field(1.0, description="seconds between two probes, more than 0")


class FloorSeconds(_Table):
    """For how long after a deregistration new work may still come, by the kind of load balancer."""

    # Requests still came for 17 to 25 s after the call; waiting for 25 s cured it, 5 s did not:
    # https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/1064. AWS gives no figure.
    application: Seconds = Field(30.0, description="seconds, more than 0")
    # New connections for 120 s whatever the deregistration delay, https://github.com/aws/containers-roadmap/issues/470
    # and https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/2366; up to 300 s are quoted.
    network: Seconds = Field(300.0, description="seconds, more than 0")
    # Nobody has published a measurement; as the other balancer that forwards flows.
    gateway: Seconds = Field(300.0, description="seconds, more than 0")

    @property
    def by_kind(self) -> Mapping[BalancerKind, float]:
        """The same as a mapping."""
        return {kind: getattr(self, kind.value) for kind in BalancerKind}


class Drain(_Table):
    """What ends a drain."""

    until: Until = Field(Until.CLOSED, description="`closed`, `idle` or `unused`")
    floor: Literal["fixed", "adaptive"] = Field("fixed", description="`fixed` or `adaptive`")
    floor_seconds: FloorSeconds = FloorSeconds()
    quiet_seconds: Seconds = Field(5.0, description="seconds, more than 0")


class Timeouts(_Table):
    """Spans after which an operation ends as timed out. Derived from the target groups when not given."""

    drain_seconds: Seconds | None = Field(None, description="seconds, more than 0")
    rejoin_seconds: Seconds | None = Field(None, description="seconds, more than 0")


class Access(_Table):
    """Who may read and who may operate, besides root and the agent's own user. Names or numbers."""

    operator_users: tuple[str, ...] = Field((), description="a list of user names or numbers")
    operator_groups: tuple[str, ...] = Field(("zdd-agent",), description="a list of group names or numbers")
    reader_users: tuple[str, ...] = Field((), description="a list of user names or numbers")
    reader_groups: tuple[str, ...] = Field((), description="a list of group names or numbers")


class Settings(_Table):
    """All settings. None is needed: without them the agent finds its own target groups."""

    socket: Path = Field(Path("/run/zdd-agent/agent.sock"), description="an absolute path")
    state_directory: Path = Field(Path("/var/lib/zdd-agent"), description="an absolute path")
    target_groups: tuple[str, ...] = Field(
        (), description="a list of target group names or ARNs; empty to search the VPC"
    )
    min_healthy: int | str = Field(1, description="a number of targets, 0 or more, or a percentage such as '50%'")
    drained_warning_seconds: Seconds = Field(3600.0, description="seconds, more than 0")
    poll: Poll = Poll()
    probe: Probe = Probe()
    drain: Drain = Drain()
    timeouts: Timeouts = Timeouts()
    access: Access = Access()

    @property
    def floor(self) -> Floor:
        """`min_healthy` as a number or a percentage."""
        if isinstance(self.min_healthy, str):
            return Floor(percent=float(self.min_healthy.removesuffix("%")))
        return Floor(self.min_healthy)

    @field_validator("min_healthy", mode="before")
    @classmethod
    def _floor(cls, value: object) -> object:
        if isinstance(value, str) and value.isascii() and value.isdigit():  # from a variable
            value = int(value)
        if isinstance(value, str) and value.endswith("%"):
            number = value.removesuffix("%")
            fits = number.replace(".", "", 1).isdecimal() and float(number) <= 100
        else:
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not fits:
            raise ValueError("neither a number nor a percentage")
        return value

    @field_validator("socket", "state_directory")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("not an absolute path")
        return value


def load(environ: Mapping[str, str]) -> Settings:
    """Read the files, lay the variables over them, and check the whole.

    `ZDD_AGENT_CONFIG` names another file than /etc/zdd-agent/config.toml; `conf.d/*.toml` beside it is read after
    it, in the order of the names. `ZDD_AGENT_POLL__INTERVAL_SECONDS=5` sets `poll.interval_seconds`.

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
        if name.startswith(PREFIX) and name not in _NOT_SETTINGS:
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            _merge(merged, _nested(path, environ[name]), f"variable {name}", origin, ())
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise _complaint(error, origin) from None


def _read(file: Path, *, optional: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        if optional and isinstance(error, FileNotFoundError):
            return {}
        raise AgentError(Kind.CONFIGURATION, f"cannot read {file}: {error}", hint="mend the file or its mode") from None
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
        origin[(*at, key)] = source
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, source, origin, (*at, key))
        elif isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value, source, origin, (*at, key))
        else:
            into[key] = value


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
    return field is not None and "list" in (field.description or "")


def _field(path: tuple[str, ...]) -> Any:
    table: type[BaseModel] = Settings
    for key in path[:-1]:
        inner = table.model_fields[key].annotation if key in table.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return None
        table = inner
    return table.model_fields.get(path[-1])


def _known(path: tuple[str, ...]) -> list[str]:
    field = _field(path) if path else None
    table = field.annotation if field is not None else Settings
    return sorted(table.model_fields)


def _complaint(error: ValidationError, origin: Mapping[tuple[str, ...], str]) -> AgentError:
    lines = []
    for fault in error.errors(include_url=False):
        keys = tuple(part for part in fault["loc"] if isinstance(part, str))  # numbers are places in a list
        source = next((origin[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in origin), "settings")
        name = ".".join(keys)
        if fault["type"] == "extra_forbidden":
            known = _known(keys[:-1])
            guess = nearest(keys[-1], known) or f"known here: {', '.join(known)}"
            lines.append(f"{source}: unknown setting `{name}`: {guess}")
            continue
        field = _field(keys)
        accepted = (field.description if field is not None else None) or "a table"
        lines.append(f"{source}: `{name}` is {fault['input']!r}: accepted is {accepted}")
    return AgentError(
        Kind.CONFIGURATION,
        "cannot use the settings: " + "; ".join(lines),
        hint="mend them, then run `zdd-agent check-config`",
        value=name,
    )
