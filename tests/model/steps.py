"""What can happen: each step is a name and numbers, so that a run can be printed, cut shorter, and played again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from model.fleet import Agent, World, ask_for, others_change
from model.scaling import ACTIONS as CALLS
from model.scaling import GROUP, MODES
from troubles import ACTIONS, Killed, away, full
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import Notice, NoticeKind
from zdd_agent.model.aws import MinHealthy
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Verb
from zdd_lab.model.auto_scaling import group_calls, instance_calls

if TYPE_CHECKING:
    from model.play import Play

# A step's name, and two numbers below 1000 that choose the host and the rest.
Step = tuple[str, int, int]
_SPANS = (1.0, 4.0, 12.0, 30.0, 60.0, 120.0, 200.0, 400.0)
_PATHS = ("/healthz", "/ready")
_PORTS = ({8080, 9090}, {8081, 9090}, {8080, 9091})


def drain(play: Play, agent: Agent, which: int) -> None:
    timeout = (None, None, None, 3.0, 40.0)[which % 5]
    wait = (0.0, 0.0, 60.0)[which % 3]
    until = (None, None, Until.UNUSED)[which % 7 % 3]
    play.ask(agent, ask_for(Verb.DRAIN, timeout=timeout, wait=wait, until=until))


def race(play: Play, agent: Agent, which: int) -> None:
    """Two hosts, or all, at the same moment."""
    chosen = play.agents if which % 3 == 0 else [agent, play.agent(play.agents.index(agent) + 1)]
    for one in chosen:
        play.ask(one, ask_for(Verb.DRAIN, wait=(0.0, 0.0, 90.0)[which % 3]))


def force(play: Play, agent: Agent, which: int) -> None:
    play.ask(agent, ask_for(Verb.DRAIN, force=(Check.MIN_HEALTHY,)))


def stop(play: Play, agent: Agent, which: int) -> None:
    play.ask(agent, ask_for(Verb.DRAIN, stopping=True, wait=20.0))


def rejoin(play: Play, agent: Agent, which: int) -> None:
    timeout = (None, None, 3.0)[which % 3]
    play.ask(agent, ask_for(Verb.REJOIN, timeout=timeout, keep_trying=which % 4 == 0))


def cancel(play: Play, agent: Agent, which: int) -> None:
    try:
        agent.host.ledger.cancel(0)
    except AgentError as error:
        if error.kind not in (Kind.NOT_FOUND, Kind.STORE):
            raise
    except Killed:
        agent.restart()
    agent.due = play.truth.clock.time


def time_passes(play: Play, agent: Agent, which: int) -> None:
    play.run(_SPANS[which % len(_SPANS)])


def kill(play: Play, agent: Agent, which: int) -> None:
    agent.restart()


def power_off(play: Play, agent: Agent, which: int) -> None:
    """The host boots, and its unit asks for the rejoin, as it does at every start."""
    agent.restart(boot=True)
    agent.disk.errors.clear()
    agent.disk.after.clear()
    agent.eyes.errors.clear()
    if play.ask(agent, ask_for(Verb.REJOIN, keep_trying=True)) is None:
        play.broken(agent, "the rejoin at the start of the host is refused")


def image(play: Play, agent: Agent, which: int) -> None:
    """An image of this host starts as another instance, in no group."""
    if len(play.agents) < 5 and play.world.target_type == "instance":
        play.meddled = True
        clone = Agent(play.truth, play.world, 50 + len(play.agents), clone_of=agent)
        play.truth.apps[clone.me].paths = set(play.truth.apps[agent.me].paths)
        play.agents.append(clone)
        if which % 2:
            play.ask(clone, ask_for(Verb.REJOIN, keep_trying=True))
        if which % 3 == 0:  # before it knows which instance it is
            clone.restart()


def others_register(play: Play, agent: Agent, which: int) -> None:
    keys = sorted(agent.keys(play.world))
    key = keys[which % len(keys)]
    if others_change(play.truth, agent, key, register=True):
        play.touched(agent, key, registered=True)


def others_deregister(play: Play, agent: Agent, which: int) -> None:
    keys = sorted(agent.keys(play.world))
    key = keys[which % len(keys)]
    if others_change(play.truth, agent, key, register=False):
        play.touched(agent, key, registered=False)


def others_put_back(play: Play, agent: Agent, which: int) -> None:
    """Somebody takes the host out, or out of one group, and puts it back a while later, right before a drain."""
    keys = sorted(agent.keys(play.world))
    keys = keys if which % 2 else keys[which // 2 % len(keys) :][:1]
    for register in (False, True):
        for key in keys:
            if others_change(play.truth, agent, key, register=register):
                play.touched(agent, key, registered=register)
        play.run(1.0 if register else 90.0)
    play.ask(agent, ask_for(Verb.DRAIN))


def others_take_out(play: Play, agent: Agent, which: int) -> None:
    """Somebody takes the host out right before it is to be drained."""
    for key in sorted(agent.keys(play.world)):
        if others_change(play.truth, agent, key, register=False):
            play.touched(agent, key, registered=False)
    play.run(1.0 + which % 4)
    play.ask(agent, ask_for(Verb.DRAIN))


def others_put_one_back(play: Play, agent: Agent, which: int) -> None:
    """Somebody puts a host back into one of its groups; then it and another one leave at the same moment."""
    others_register(play, agent, which)
    play.run(60.0)
    race(play, agent, 1 + which % 2)


def app_fails(play: Play, agent: Agent, which: int) -> None:
    play.truth.apps[agent.me].well = which % 2 == 0
    play.truth.app_changed()
    play.sick_at[agent.me] = play.truth.clock.time


def port_changes(play: Play, agent: Agent, which: int) -> None:
    """The app comes back on another port, and whoever changed it registers that port."""
    ports = _PORTS[which % len(_PORTS)]
    play.truth.apps[agent.me].ports = set(ports)
    play.truth.app_changed()
    play.sick_at[agent.me] = play.truth.clock.time
    for group, target_id, port in sorted(agent.keys(play.world)):
        moved = (group, target_id, port if port in ports else port + 1)
        if moved[2] != port and others_change(play.truth, agent, moved, register=True):
            play.touched(agent, moved, registered=True)


def check_changes(play: Play, agent: Agent, which: int) -> None:
    """The path of a health check changes, in the group and in every app."""
    name, path = play.world.groups[which % len(play.world.groups)][0], _PATHS[which // 7 % 2]
    play.truth.change_check(name, path)
    paths = {group.check.path for group in play.truth.elb.topology.groups.values()}
    for me, app in play.truth.apps.items():
        app.paths = set(paths)
        play.sick_at[me] = play.truth.clock.time
    play.truth.app_changed()


def group_deleted(play: Play, agent: Agent, which: int) -> None:
    name = play.world.groups[which % len(play.world.groups)][0]
    left = {group.name for group in play.truth.elb.topology.groups.values()} & {one for one, _ in play.world.groups}
    if left - {name}:
        play.truth.delete_group(name)
        play.deleted = True


def aws_fault(play: Play, agent: Agent, which: int) -> None:
    """The next calls of this agent fail, or kill it, before or after their effect."""
    table = agent.eyes.errors_after if which % 2 else agent.eyes.errors
    table[ACTIONS[which // 2 % 5]] = [Killed() if which % 3 == 0 else away() for _ in range(1 + which % 4)]


def disk_fault(play: Play, agent: Agent, which: int) -> None:
    if which % 3 == 0:
        agent.disk.after = [Killed()]
    else:
        agent.disk.errors = [full() for _ in range(1 + which % 3)]  # type: ignore[misc]  what a list takes


def faults_end(play: Play, agent: Agent, which: int) -> None:
    for one in play.agents:
        one.eyes.errors.clear()
        one.eyes.errors_after.clear()
        one.disk.errors.clear()
        one.disk.after.clear()
        one.metadata.failing = 0
        if one.group is not None:
            one.asks.errors.clear()
            one.asks.errors_after.clear()


def group_terminates(play: Play, agent: Agent, which: int) -> None:
    """The group takes this host: it is deregistered at once, and the hook waits for the delay."""
    group = play.group
    if group is not None and group.state(agent.me) is not None:
        play.meddled = True
        decrement = group.group.desired > group.group.min_size
        instance_calls.terminate(group.account, agent.me, group.now, decrement=decrement)
        group.advance()
        agent.eyes.forget_answers()
        for key in agent.keys(play.world):
            agent.eyes.touched[key] = group.now
            play.touches.append((group.now, key, False))


def group_launches(play: Play, agent: Agent, which: int) -> None:
    """The group launches a host, and waits for its hook; the rejoin at its start completes that."""
    group = play.group
    if group is None or len(play.agents) >= 5:
        return
    play.meddled = True
    group_calls.set_desired(group.account, GROUP, min(group.group.desired + 1, group.group.max_size))
    group.advance()
    for order in group.launches:
        number = 70 + len(play.agents)
        play.truth.add_host(f"i-{number}", f"127.0.1.{number}")
        paths = {one.check.path for one in play.truth.elb.topology.groups.values()}
        play.truth.apps[f"i-{number}"].paths = paths
        if group.account.launched(order, f"i-{number}", group.now):
            play.agents.append(Agent(play.truth, play.world, number, group=group))
            group.advance()
            play.ask(play.agents[-1], ask_for(Verb.REJOIN, keep_trying=True))
    group.launches.clear()


def notice(play: Play, agent: Agent, which: int) -> None:
    """EC2 recommends to replace this host; or it takes it back in two minutes."""
    if play.group is None or agent.group is None:
        return
    now = play.truth.clock.time
    if which % 3:
        agent.metadata.standing = [Notice(NoticeKind.REBALANCE, "rebalance", now)]
        return
    play.meddled = True
    agent.metadata.standing = [Notice(NoticeKind.SPOT, "terminate", now + 120.0)]
    play.group.account.interrupt(agent.me, now + 120.0, now)


def metadata_fails(play: Play, agent: Agent, which: int) -> None:
    agent.metadata.failing = 1 + which % 6


def scaling_fault(play: Play, agent: Agent, which: int) -> None:
    """The next calls to Auto Scaling fail, or kill the agent, before or after their effect."""
    if agent.group is not None:
        table = agent.asks.errors_after if which % 2 else agent.asks.errors
        table[CALLS[which // 2 % len(CALLS)]] = [Killed() if which % 3 == 0 else away() for _ in range(1 + which % 3)]


def enters_unheard(play: Play, agent: Agent, which: int) -> None:
    """A drain whose step into Standby is never answered is called off, or the host boots."""
    if agent.group is None:
        return
    agent.asks.errors_after["EnterStandby"] = [away() for _ in range(60)]
    play.ask(agent, ask_for(Verb.DRAIN, force=(Check.MIN_HEALTHY,)))
    play.run(45.0)
    (cancel if which % 2 else power_off)(play, agent, which)
    agent.asks.errors_after.clear()


_OPERATIONS = {drain: 10, race: 5, rejoin: 10, cancel: 2, time_passes: 34, kill: 3, power_off: 3, force: 1, stop: 1}
_FAULTS = {aws_fault: 5, disk_fault: 3, faults_end: 3}
_OTHERS = {
    others_register: 5,
    others_deregister: 3,
    others_put_back: 2,
    others_take_out: 2,
    others_put_one_back: 2,
    app_fails: 3,
    image: 2,
}
_CHANGES = {port_changes: 2, check_changes: 2, group_deleted: 1}
_SCALING = {group_terminates: 2, group_launches: 2, notice: 2, metadata_fails: 3, scaling_fault: 8, enters_unheard: 2}
_EVERY = {**_OPERATIONS, **_FAULTS, **_OTHERS, **_CHANGES, **_SCALING}
STEPS: dict[str, Callable[[Play, Agent, int], None]] = {one.__name__: one for one in _EVERY}


def world(seed: int) -> World:
    """The set-up of the run of this seed."""
    rng = random.Random(seed)
    hosts, others = rng.choice(((1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1)))
    minimums = [MinHealthy(1), MinHealthy(1), MinHealthy(percent=50.0), MinHealthy(percent=34.0)]
    kind = rng.choice(("application", "application", "network"))
    until = rng.choice((Until.UNUSED, Until.UNUSED, Until.UNUSED, Until.CLOSED, Until.IDLE))
    made = World(
        seed=seed,
        hosts=hosts,
        others=others,
        groups=rng.choice(((("web", 8080),), (("web", 8080), ("second", 9090)))),
        spare=rng.random() < 0.2,
        kind=kind,
        target_type=rng.choice(("instance", "instance", "ip")),
        delay=float(rng.choice((0, 1, 20, 60, 3600))),
        node_lag=rng.choice((0.0, 2.0, 25.0, 25.0)),
        api_lag=rng.choice((0.0, 3.0, 6.0, 9.9)),
        rare_lag=rng.choice((0.0, 0.0, 0.0, 0.0, 25.0)),
        minimum=rng.choice(minimums),
        until=until,
        named=rng.random() < 0.4,
        takes_draining=rng.random() < 0.5,
        cuts=rng.random() < 0.5,
    )
    if made.rare_lag:  # with both, two looks could agree on what is not so
        made = replace(made, api_lag=0.0)
    if made.minimum.percent is not None:  # hosts that are not listed any more are known as instances only
        made = replace(made, target_type="instance")
    made = replace(made, scaling=rng.choice((*MODES, "", "")), least=rng.choice((0, 0, 1, 2)))
    if made.scaling:
        made = replace(made, target_type="instance", spare=False)
    return replace(made, delay=min(made.delay, 600.0)) if until is not Until.UNUSED else made


def steps(seed: int, count: int) -> list[Step]:
    """So many steps, drawn from what this run may do."""
    rng = random.Random(-1 - seed)
    weights = dict(_OPERATIONS)
    for more in (_FAULTS, _OTHERS, _CHANGES):
        if rng.random() < 0.5:
            weights.update(more)
    if world(seed).scaling:
        weights.update(_SCALING)
    names, shares = [one.__name__ for one in weights], list(weights.values())
    chosen = rng.choices(names, shares, k=count)
    return [(name, rng.randrange(1000), rng.randrange(1000)) for name in chosen]
