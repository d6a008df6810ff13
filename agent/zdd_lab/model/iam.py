"""Decides as IAM does whether a policy allows a call. It knows some condition operators and refuses others. No I/O.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Self

_VARIABLE = re.compile(r"\$\{([^}]+)\}")
_STATEMENT = frozenset({"Sid", "Effect", "Action", "Resource", "Condition"})
_OPERATORS = frozenset({"StringEquals", "StringNotEquals", "StringLike", "Bool", "Null"})
_SEVERAL_VALUES = frozenset({"dynamodb:leadingkeys"})  # keys of a request that may have more than one
# The values of a condition key in a request. A key of _SEVERAL_VALUES has a tuple.
Context = Mapping[str, str | tuple[str, ...]]


class BadPolicyError(ValueError):
    """A policy that the lab cannot evaluate: it does not guess a verdict."""


class Verdict(StrEnum):
    """Whether a call is allowed. The values are the ends of AWS's error message."""

    ALLOWED = ""
    NOT_ALLOWED = "because no identity-based policy allows the {action} action"
    DENIED = "with an explicit deny in an identity-based policy"


@dataclass(frozen=True, slots=True)
class _Test:
    """One line of a condition."""

    operator: str
    quantifier: str  # ForAllValues, ForAnyValue or nothing
    if_exists: bool
    key: str
    values: tuple[str, ...]

    def holds(self, context: Context) -> bool:
        found = context.get(self.key)
        if self.operator == "Null":
            return (found is None) == ("true" in self.values)
        if self.quantifier:
            several = (found,) if isinstance(found, str) else found or ()
            every = [self._holds_for(one, context) for one in several]
            return all(every) if self.quantifier == "ForAllValues" else any(every)
        if found is None:
            return self.if_exists or self.operator == "StringNotEquals"
        return isinstance(found, str) and self._holds_for(found, context)

    def _holds_for(self, found: str, context: Context) -> bool:
        wanted = [_filled(value, context) for value in self.values]
        if self.operator == "StringLike":
            return any(value is not None and fnmatchcase(found, _pattern(value)) for value in wanted)
        if self.operator == "Bool":
            return found.lower() in self.values
        return (found in wanted) != (self.operator == "StringNotEquals")


@dataclass(frozen=True, slots=True)
class _Statement:
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    tests: tuple[_Test, ...]

    def applies(self, action: str, resource: str, context: Context) -> bool:
        return (
            any(fnmatchcase(action.lower(), _pattern(one.lower())) for one in self.actions)
            and any(fnmatchcase(resource, _pattern(one)) for one in self.resources)
            and all(test.holds(context) for test in self.tests)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """An identity-based policy."""

    statements: tuple[_Statement, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a policy document.

        Raises:
            BadPolicyError: the text is no policy, or holds something that is not evaluated here.
        """
        try:
            document = json.loads(text)
            return cls(tuple(_statement(one) for one in _several(document["Statement"])))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise BadPolicyError(f"cannot evaluate this policy: {error}") from error

    def verdict(self, action: str, resource: str, context: Context) -> Verdict:
        """Decide about a call.

        Args:
            action: such as `ec2:DescribeInstances`.
            resource: an ARN; `*` for an action that takes none.
            context: condition keys of the request, in any spelling of their case.
        """
        known = {key.lower(): value for key, value in context.items()}
        effects = {one.allows for one in self.statements if one.applies(action, resource, known)}
        if False in effects:
            return Verdict.DENIED
        return Verdict.ALLOWED if True in effects else Verdict.NOT_ALLOWED


def _statement(one: dict[str, Any]) -> _Statement:
    if unknown := set(one) - _STATEMENT:
        raise ValueError(f"unknown element {min(unknown)}")
    if one["Effect"] not in ("Allow", "Deny"):
        raise ValueError(f"Effect is {one['Effect']!r}")
    tests = [_test(name, *line) for name, lines in one.get("Condition", {}).items() for line in lines.items()]
    return _Statement(one["Effect"] == "Allow", _several(one["Action"]), _several(one["Resource"]), tuple(tests))


def _test(name: str, key: str, values: Any) -> _Test:
    quantifier, _, single = name.rpartition(":")
    operator = single.removesuffix("IfExists")
    if operator not in _OPERATORS or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise ValueError(f"unknown condition operator {name}")
    if key.lower() in _SEVERAL_VALUES and not quantifier and operator != "Null":
        raise ValueError(f"{key} has several values: it needs ForAllValues or ForAnyValue")
    wanted = tuple(str(value) for value in _several(values))
    return _Test(operator, quantifier, operator != single, key.lower(), wanted)


def _several(value: Any) -> tuple[Any, ...]:
    """A list as a tuple. IAM also accepts the only entry instead of a list."""
    return tuple(value) if isinstance(value, list) else (value,)


def _filled(value: str, context: Context) -> str | None:
    """The value with its variables filled in. None, which matches nothing, when the request lacks one of them."""
    names: Iterable[str] = _VARIABLE.findall(value)
    if not all(isinstance(context.get(name.lower()), str) for name in names):
        return None
    return _VARIABLE.sub(lambda found: str(context[found[1].lower()]), value)


def _pattern(text: str) -> str:
    """A pattern for fnmatch: IAM's wildcards are * and ?, but not brackets."""
    return text.replace("[", "[[]")
