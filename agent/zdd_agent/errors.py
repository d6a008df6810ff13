"""The error tree: every failure has a kind, and this one table says what each kind means outside.

Standard library only: the command imports it at every start.
"""

from __future__ import annotations

from enum import Enum

EXIT_OK = 0
EXIT_INTERRUPTED = 130


class Kind(Enum):
    """What went wrong: (name on the wire, HTTP status, exit code)."""

    FAILED = ("failed", 500, 1)
    CANCELLED = ("cancelled", 409, 1)
    AWS_UNAVAILABLE = ("aws_unavailable", 502, 1)
    METADATA_UNAVAILABLE = ("metadata_unavailable", 502, 1)
    TARGET_GROUP_NOT_FOUND = ("target_group_not_found", 404, 1)
    NO_MEMBERSHIP = ("no_membership", 409, 1)
    STORE = ("store", 500, 1)
    USAGE = ("usage", 400, 2)
    CONFIGURATION = ("configuration", 500, 2)
    NOT_FOUND = ("not_found", 404, 2)
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, 2)
    TOO_LARGE = ("too_large", 413, 2)
    TOO_SLOW = ("too_slow", 408, 2)
    TIMED_OUT = ("timed_out", 504, 3)
    REFUSED = ("refused", 409, 4)
    UNREACHABLE = ("unreachable", 503, 5)
    TOO_MANY_CONNECTIONS = ("too_many_connections", 503, 5)
    AWS_DENIED = ("aws_denied", 502, 6)
    BUSY = ("busy", 409, 7)
    FORBIDDEN = ("forbidden", 403, 8)

    def __init__(self, wire: str, http_status: int, exit_code: int) -> None:
        self.wire = wire
        self.http_status = http_status
        self.exit_code = exit_code


BY_WIRE = {kind.wire: kind for kind in Kind}


def exit_code(wire: str) -> int:
    """The exit code of a kind as it stands on the wire; an unknown kind is a plain failure."""
    return BY_WIRE.get(wire, Kind.FAILED).exit_code


class AgentError(Exception):
    """Something that cannot be done, why, and what to do next.

    Args:
        kind: the row of the table above.
        message: one sentence, "cannot X: cause".
        hint: what to do next, as a command or an instruction; may be empty.
        value: the thing it is about (a setting, an action, a target), for programs.
        transient: waiting and asking again may cure it.
    """

    def __init__(
        self, kind: Kind, message: str, *, hint: str = "", value: object = None, transient: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.value = value
        self.transient = transient


def nearest(word: str, known: list[str]) -> str:
    """`did you mean X?` for the nearest known word, or an empty string."""
    from difflib import get_close_matches  # noqa: PLC0415  only on the way to an error

    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else ""
