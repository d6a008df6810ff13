"""What a request says, decoded within limits: its query and its body."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from zdd_agent.api.routing import Parameter
from zdd_agent.errors import AgentError, Kind

_Body = TypeVar("_Body", bound=BaseModel)

# Characters of a number in a query; Python refuses to read an integer of thousands of digits.
_NUMBER_CHARACTERS = 64


def decode_query(text: str, parameters: tuple[Parameter, ...]) -> dict[str, float]:
    """The parameters that were given, by name. Raises AgentError USAGE for everything else."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=8)
    except ValueError:
        raise AgentError(Kind.USAGE, "cannot read the query: malformed") from None
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, float] = {}
    for key, value in pairs:
        if key not in known:
            hint = f"this path takes {', '.join(known)}" if known else "this path takes no parameters"
            raise AgentError(Kind.USAGE, f"cannot read the query: unknown parameter {key[:32]!r}", hint=hint)
        values[key] = _number(known[key], value)
    return values


def _number(parameter: Parameter, text: str) -> float:
    digits = text if parameter.whole else text.replace(".", "", 1)
    if len(text) <= _NUMBER_CHARACTERS and digits.isascii() and digits.isdigit():
        value = int(text) if parameter.whole else float(text)
        if value <= parameter.maximum:
            return float(value)
    raise AgentError(
        Kind.USAGE,
        f"cannot read the query: {parameter.name} is {text[:32]!r}",
        hint=f"a number from 0 to {parameter.maximum}",
        value=parameter.name,
    )


def decode_body(raw: bytes, model: type[_Body]) -> _Body:
    """The body as this model; no body is an empty object. Raises AgentError USAGE, which names the field."""
    try:
        return model.model_validate_json(raw if raw.strip() else b"{}")
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        key, said = ".".join(str(part) for part in fault["loc"]), fault["msg"].removeprefix("Value error, ")
        raise AgentError(
            Kind.USAGE,
            f"cannot read the request: {key + ': ' if key else ''}{said}",
            hint=f"a JSON object of {', '.join(model.model_fields)}",
            value=key or None,
        ) from None
