"""Every interleaving of hosts that drain at the same time, over the decisions that ship.

A world is a moment: what each target is and was, and where each host stands. From each world the search takes every
step that can come next: a host begins; AWS carries out a call; a host gets an answer, and that one with every mixture
of the states that the targets had within the lag; a host is killed; or time passes to the next moment that matters. It
ends when there is no world that it has not seen. Time has steps of one second, and what happens within one second
happens in every order.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from race.elb import IN_SERVICE, Line, State, answers, changes, deregistered, healthy, is_out, registered, trimmed
from race.host import Agents, Call, Decide, Host, decided
from zdd_agent.decide.actions import Deregister, Refresh, Register
from zdd_agent.decide.evidence import API_LAG_SECONDS
from zdd_agent.model.aws import MinHealthy
from zdd_agent.model.operation import Verb

# The first second: 0 stands for "never" in some places.
BEGIN = 1000
# Seconds after which a path that has not ended never ends: a drain and a rejoin take less than half of it.
_HORIZON = 400


@dataclass(frozen=True, slots=True)
class Race:
    """What is explored. Spans in whole seconds.

    Args:
        count: how many hosts there are; all are healthy, and all drain.
        minimum: `min_healthy`.
        lag: by how much an answer of AWS may be late.
        call: how long a call may take; it takes effect at any moment of that.
        starts: the hosts begin at any moment within this.
        warm: how long a registered target is `initial`.
        delay: the deregistration delay.
        floor: `drain.floor_seconds`.
        wait: `--wait`.
        verbs: what each host does, one after another without a pause.
        kills: how many times a host is killed, at any moment.
        restarts: seconds from a kill to the daemon's start; None: it never starts again.
        decide: what a host does next.
        exact: keep also what no decision goes by; only slower.
    """

    count: int
    minimum: MinHealthy
    lag: int = int(API_LAG_SECONDS)
    call: int = 0
    starts: int = 16
    warm: int = 30
    delay: int = 20
    floor: int = 20
    wait: int = 0
    verbs: tuple[Verb, ...] = (Verb.DRAIN,)
    kills: int = 0
    restarts: tuple[int | None, ...] = (1, 10, None)
    decide: Decide = field(default=decided, repr=False)
    exact: bool = False


class World(NamedTuple):
    """A moment. `hosts` are numbers of `Explorer.hosts`; `below` is since when too few are healthy."""

    now: int
    lines: tuple[Line, ...]
    hosts: tuple[int, ...]
    below: int | None
    kills: int


@dataclass
class Found:
    """What the search found.

    Args:
        steps: how many lead from one world to another.
        ends: how the operations end, the first host's first, and in how many last worlds.
        below_seconds: the longest time with fewer than `min_healthy` healthy targets.
        broken: the first promise that is broken; empty when all are kept.
        shown: the world that breaks it; without one, the one with the longest time.
        came_from: each world, and one that leads to it.
    """

    shown: World
    came_from: dict[World, World | None]
    steps: int = 0
    ends: Counter[tuple[str, ...]] = field(default_factory=Counter)
    below_seconds: int = 0
    broken: str = ""

    def path(self) -> list[World]:
        """From the first world to the one that is shown; no path is shorter."""
        path = [self.shown]
        while (before := self.came_from[path[-1]]) is not None:
            path.append(before)
        return path[::-1]


class Explorer:
    """Searches one race."""

    def __init__(self, race: Race) -> None:
        self.race = race
        self.required = race.minimum.of(race.count)
        self.agents = Agents(race.count, race.minimum, race.decide, race.delay, race.floor, race.wait, exact=race.exact)
        # A world holds numbers, and each step of a host is worked out once.
        self.hosts: list[Host] = []
        self._numbers: dict[Host, int] = {}
        self.steps: dict[tuple[object, ...], int] = {}

    def explore(self) -> Found:
        """Everything that can happen, up to the first promise that is broken."""
        hosts = (self._number(Host(self.race.verbs)),) * self.race.count
        first = World(BEGIN, (IN_SERVICE,) * self.race.count, hosts, None, self.race.kills)
        found, waiting = Found(first, {first: None}), deque([first])
        while waiting:
            world = waiting.popleft()
            if (below := self._below_seconds(world)) > found.below_seconds:
                found.below_seconds, found.shown = below, world
            following = list(self._following(world))
            found.steps += len(following)
            if broken := self._broken(world, last=not following):
                found.broken, found.shown = broken, world
                return found
            if not following:
                found.ends[tuple(self.hosts[n].end for n in world.hosts)] += 1
            for after in following:
                if after not in found.came_from:
                    found.came_from[after] = world
                    waiting.append(after)
        return found

    # What can come next

    def _following(self, world: World) -> Iterator[World]:
        # Nothing tells one second from another before the first host begins: that one begins at once.
        time_may_pass = any(not self.hosts[n].untouched for n in world.hosts)
        for number, known in enumerate(world.hosts):
            host = self.hosts[known]
            if host.call is not None:
                yield from self._call_goes_on(world, number, host, host.call)
                time_may_pass &= world.now - host.call.began < self.race.call
            elif host.may_begin:
                begun = self.step(("begin", known, world.now), lambda h=host: self.agents.begun(h, world.now))
                yield _with(world, number, begun)
                time_may_pass &= host.untouched and world.now - BEGIN < self.race.starts
            if world.kills and (host.call is not None or host.wake is not None):
                for seconds in self.race.restarts:
                    down = self.agents.killed(host, None if seconds is None else world.now + seconds)
                    yield _with(world, number, self._number(down))._replace(kills=world.kills - 1)
        if time_may_pass and (after := self._next_moment(world)) is not None:
            yield self._later(world, after)

    def _call_goes_on(self, world: World, number: int, host: Host, call: Call) -> Iterator[World]:
        known, now = world.hosts[number], world.now
        if isinstance(call.action, Deregister | Register) and not call.took:
            line = world.lines[number]
            if call.action.targets:
                register = isinstance(call.action, Register)
                line = registered(line, now, self.race.warm) if register else deregistered(line, now, self.race.delay)
            lines = (*world.lines[:number], line, *world.lines[number + 1 :])
            taken = self.step(("taken", known), host.taken)
            yield self._counted(_with(world, number, taken)._replace(lines=lines))
        elif isinstance(call.action, Deregister | Register | Refresh):
            yield _with(world, number, self.step(("done", known, now), lambda: self.agents.done(host, now)))
        else:
            for states in self.answers(world, call):
                key = ("told", known, number, now, states)
                yield _with(world, number, self.step(key, lambda s=states: self.agents.told(number, host, s, now)))

    def answers(self, world: World, call: Call) -> Iterator[tuple[State | None, ...]]:
        """All that AWS may answer to this call now: each target's state."""
        return answers(world.lines, call.began - self.race.lag, world.now)

    def _next_moment(self, world: World) -> int | None:
        hosts = [self.hosts[n] for n in world.hosts]
        moments = [h.wake for h in hosts if h.wake is not None]
        if any(h.call is not None or h.may_begin for h in hosts):
            moments.append(world.now + 1)
        return min(moments, default=None)

    def _later(self, world: World, now: int) -> World:
        lines = tuple(trimmed(line, now - self.race.lag - self.race.call) for line in world.lines)
        hosts = tuple(self._number(h.then) if (h := self.hosts[n]).then and h.wake == now else n for n in world.hosts)
        until = self._below_until(world)
        below = None if until is not None and until <= now else world.below
        return World(now, lines, hosts, below, world.kills)

    # What must hold, and what is counted

    def _broken(self, world: World, *, last: bool) -> str:
        hosts = [self.hosts[n] for n in world.hosts]
        if sum(h.drained for h in hosts) > self.race.count - self.required:
            return "so many drains have answered 0 that fewer than `min_healthy` stay"
        if any(h.refused and is_out(line, world.now) for h, line in zip(hosts, world.lines, strict=True)):
            return "a drain that was refused has left its host out"
        if world.now - BEGIN > _HORIZON:
            return "an operation never ends"
        enough = healthy(world.lines, world.now + self.race.warm) >= self.required
        if last and not enough and not any(h.end == "killed" for h in hosts):
            return "all operations have ended, and fewer than `min_healthy` are healthy"
        return ""

    def _counted(self, world: World) -> World:
        if healthy(world.lines, world.now) >= self.required:
            return world._replace(below=None)
        return world if world.below is not None else world._replace(below=world.now)

    def _below_seconds(self, world: World) -> int:
        if world.below is None:
            return 0
        until = self._below_until(world)
        return (world.now if until is None else until) - world.below

    def _below_until(self, world: World) -> int | None:
        """When enough are healthy again, if nobody changes anything more; None where they never are."""
        if world.below is None:
            return None
        later = changes(world.lines, world.now, world.now + self.race.warm)
        return next((m for m in later if healthy(world.lines, m) >= self.required), None)

    def step(self, key: tuple[object, ...], work: Callable[[], Host]) -> int:
        """The number of the host that this step makes."""
        if (number := self.steps.get(key)) is None:
            number = self.steps[key] = self._number(work())
        return number

    def _number(self, host: Host) -> int:
        number = self._numbers.setdefault(host, len(self.hosts))
        if number == len(self.hosts):
            self.hosts.append(host)
        return number


def _with(world: World, number: int, host: int) -> World:
    return world._replace(hosts=(*world.hosts[:number], host, *world.hosts[number + 1 :]))
