"""How it came to a world, for people: one line for each step."""

from __future__ import annotations

import itertools

from race.elb import State, state_at
from race.explorer import BEGIN, Explorer, Found, World
from zdd_agent.decide.actions import Discover, Look


def told(explorer: Explorer, found: Found) -> str:
    """The shortest way to the world that the search shows, and what each target really is in it."""
    path = found.path()
    names = [target.id for target in explorer.agents.targets]
    lines = [found.broken or f"fewer than `min_healthy` are healthy for {found.below_seconds} s"]
    for one, after in itertools.pairwise(path):
        for number, name in enumerate(names):
            if one.hosts[number] != after.hosts[number]:
                lines.append(f"{after.now - BEGIN:4d} s  {name} {_said(explorer, number, one, after)}")
    world = path[-1]
    truth = (f"{n} is {state_at(line, world.now) or 'gone'}" for n, line in zip(names, world.lines, strict=True))
    return "\n".join((*lines, f"{world.now - BEGIN:4d} s  in truth {', '.join(truth)}"))


def _said(explorer: Explorer, number: int, one: World, after: World) -> str:
    host, then = explorer.hosts[one.hosts[number]], explorer.hosts[after.hosts[number]]
    call, said = host.call, []
    if call is not None and then.call is not None and then.call.took and not call.took:
        return f"{type(call.action).__name__} takes effect"
    if (states := _answer(explorer, number, one, after)) is not None:
        each = (f"{t.id} {state or 'gone'}" for t, state in zip(explorer.agents.targets, states, strict=True))
        said.append(f"is told: {', '.join(each)}")
    elif call is not None and call.took:
        said.append(f"{type(call.action).__name__} is answered")
    before, now = type(host.record.state).__name__, type(then.record.state).__name__
    if before != now:
        said.append(f"{before} -> {now}")
    if then.record.underway is None and host.record.underway is not None:
        said.append(f"ends: {then.end}")
    if then.call is not None:
        said.append(f"calls {type(then.call.action).__name__}")
    elif then.wake is not None:
        said.append(f"waits until {then.wake - BEGIN} s")
    return "; ".join(said) or "is killed"


def _answer(explorer: Explorer, number: int, one: World, after: World) -> tuple[State | None, ...] | None:
    """What this host was told between two worlds; of several answers that lead there, any."""
    known = one.hosts[number]
    call = explorer.hosts[known].call
    if call is None or one.now != after.now or not isinstance(call.action, Discover | Look):
        return None
    for states in explorer.answers(one, call):
        if explorer.steps.get(("told", known, number, one.now, states)) == after.hosts[number]:
            return states
    return None
