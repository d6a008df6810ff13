"""A small ELBv2 for the explorer: one target group, each target's states over time, and what a late answer may show."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from zdd_agent.model.aws import State

# What a target is, from which second on: oldest first, and what is sure to come (healthy, gone) included. None: AWS
# does not list it.
Line = tuple[tuple[int, State | None], ...]
IN_SERVICE: Line = ((0, State.HEALTHY),)


def state_at(line: Line, now: int) -> State | None:
    """What the target is at this second."""
    found = line[0][1]
    for since, state in line:
        if since > now:
            break
        found = state
    return found


def deregistered(line: Line, now: int, delay: int) -> Line:
    """Accepted now: `draining` for the deregistration delay, then not listed."""
    if is_out(line, now):
        return line
    return (*_until(line, now), (now, State.DRAINING), (now + delay, None))


def registered(line: Line, now: int, warm: int) -> Line:
    """Accepted now: `initial` until the first health check has passed."""
    if not is_out(line, now):
        return line
    return (*_until(line, now), (now, State.INITIAL), (now + warm, State.HEALTHY))


def trimmed(line: Line, since: int) -> Line:
    """Without what no answer can show any more that reaches back to this second."""
    keep = max(i for i, (moment, _) in enumerate(line) if i == 0 or moment <= since)
    return ((0, line[keep][1]), *line[keep + 1 :])


def shown(line: Line, since: int, until: int) -> tuple[State | None, ...]:
    """All that an answer may show which is of any moment between these two, both included."""
    ends = [moment for moment, _ in line[1:]] + [until + 1]
    states = [state for (moment, state), end in zip(line, ends, strict=True) if moment <= until and end > since]
    return tuple(dict.fromkeys(states))


def answers(lines: Sequence[Line], since: int, until: int) -> Iterator[tuple[State | None, ...]]:
    """All answers: each target's state may be of another moment. AWS does not promise one moment for all of them."""
    return itertools.product(*(shown(line, since, until) for line in lines))


def is_out(line: Line, now: int) -> bool:
    """Whether the target is not registered at this second."""
    return state_at(line, now) in (State.DRAINING, None)


def healthy(lines: Iterable[Line], now: int) -> int:
    """How many targets are really healthy."""
    return sum(state_at(line, now) is State.HEALTHY for line in lines)


def changes(lines: Iterable[Line], after: int, until: int) -> list[int]:
    """The moments in which a state changes by itself: later than `after`, at `until` the latest."""
    return sorted({moment for line in lines for moment, _ in line if after < moment <= until})


def _until(line: Line, now: int) -> Line:
    return tuple(entry for entry in line if entry[0] <= now)
