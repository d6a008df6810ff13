"""What the agent promises, checked against the truth: at each end of an operation, after each turn, and at the end."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import TYPE_CHECKING

from fakes import arn
from model.eyes import Key
from model.fleet import SPARE, Agent
from zdd_agent.decide.evidence import API_LAG_SECONDS
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Operation, Outcome, Phase, Verb
from zdd_agent.model.record import Record
from zdd_agent.model.states import Claiming, Confirming, Drained, GoingBack, InService
from zdd_lab.model.target import TargetKey

if TYPE_CHECKING:
    from model.play import Play

# Seconds before the end of an operation in which what others do may stay unseen: the API's lag, and the age that the
# last look may have.
UNSEEN_SECONDS = API_LAG_SECONDS + 4.0
# Seconds in which new work may come after a deregistration; the nodes' longest lag is below it.
_FLOOR_SECONDS = 30.0
# A drain in these states has left, or may have, and has not looked again yet.
_UNCONFIRMED = (Claiming, Confirming, GoingBack)


def of_an_end(play: Play, agent: Agent, record: Record, last: Operation) -> None:
    """What the end of an operation promises."""
    if play.world.rare_lag:
        return  # one answer that is so old can deceive it
    if last.outcome is Outcome.SUCCEEDED and play.group is not None:
        _stands_by(play, agent, last)
    if last.outcome is Outcome.SUCCEEDED:
        (_drained if last.verb is Verb.DRAIN else _rejoined)(play, agent, record, last)
    if last.outcome is Outcome.REFUSED:
        _refused(play, agent, record, last)
    if last.outcome is Outcome.TIMED_OUT and (last.ended_at or 0.0) < last.deadline:
        play.broken(agent, f"gave up {last.deadline - (last.ended_at or 0.0):.1f} s early: {last.message}")
    if last.outcome is Outcome.FAILED:
        if not (names_a_group_that_is_gone(play, last) or belongs_nowhere(play, agent, last)):
            play.broken(agent, f"{last.verb} failed: {last.message}")
        if last.failure is not None and (last.failure.value or "") in play.known.get(agent.me, ()):
            play.broken(agent, f"{last.verb} failed for a group that it knew: {last.message}")


def _drained(play: Play, agent: Agent, record: Record, last: Operation) -> None:
    """Exit 0: no node can send this host work, and none is left on it."""
    unseen = _unseen(play, agent, record, last)
    if play.group is not None and play.group.stands_by(agent.me):
        # On the way into Standby the group deregisters what others registered since the drain began, before a look.
        unseen |= {key for at, key, again in play.touches if again and at >= last.started_at}
    registered = {k for k in _mine(agent, play.truth.registered()) if k[0] != arn(SPARE[0])}
    if left := registered - unseen:
        play.broken(agent, f"drained, yet registered: {sorted(left)}: {last.message}")
    if left := _mine(agent, play.truth.routed()) - unseen:
        play.broken(agent, f"drained, yet nodes may send it work: {sorted(left)}: {last.message}")
    if play.asked_until.get(last.id) is Until.UNUSED:
        if drains := {k for k in _mine(agent, play.truth.draining()) if not _touched(play, k)}:
            play.broken(agent, f"asked for `unused`, and ended with {sorted(drains)} draining: {last.message}")
    elif last.changed and not play.deleted and agent.ending is not None and agent.ending.until is not Until.UNUSED:
        known = {target.key for target in record.membership.targets} - unseen
        work = [request for request in play.truth.at_work((agent.id,)) if _plain(request.key) in known]
        if work:
            play.broken(agent, f"drained with {len(work)} requests under way: {last.message}")


def _rejoined(play: Play, agent: Agent, record: Record, last: Operation) -> None:
    """Exit 0: every target that can be healthy is."""
    now, states = play.truth.clock.time, play.truth.states()
    for target in record.membership.targets:
        group = play.truth.elb.topology.groups.get(target.group)
        if group is None or not play.truth.elb.topology.balancers_of(group.arn):
            continue
        state = next((said for key, said in states.items() if _plain(key) == target.key), "unused")
        sick = now - play.sick_at.get(agent.me, float("-inf")) < UNSEEN_SECONDS + 30.0
        if state != "healthy" and not sick and not _touched(play, target.key):
            play.broken(agent, f"rejoined, yet {target} is {state}")
    if (
        not play.meddled
        and not play.deleted
        and (lost := agent.keys(play.world) - _mine(agent, play.truth.registered()))
    ):
        play.broken(agent, f"rejoined without {sorted(lost)}")


def _refused(play: Play, agent: Agent, record: Record, last: Operation) -> None:
    """It went back whole, or never left; and not before the caller's wait was over."""
    if last.verb is Verb.REJOIN and (agent.eyes.leaves() or agent.metadata.seen_terminated):
        return
    if last.verb is Verb.REJOIN:
        play.broken(agent, f"a rejoin is refused: {last.message}")
    assert last.ended_at is not None
    wait = min(last.request.wait, last.request.timeout or last.request.wait)
    tries = 0.0 if last.phase is Phase.GUARDING else API_LAG_SECONDS  # no try begins in the last seconds
    if last.ended_at < last.started_at + wait - tries and last.cancelled_by is None:
        play.broken(agent, f"gave up before its wait was over: {last.message}")
    if last.phase is not Phase.GUARDING and not _recently_touched(play, agent):
        gone = {k for k in agent.eyes.deregistered if k[0] in play.truth.elb.topology.groups}
        if gone - _mine(agent, play.truth.registered()):
            play.broken(agent, f"refused, and not back: {last.message}")


def _stands_by(play: Play, agent: Agent, last: Operation) -> None:
    """No host comes back from Standby without leaving it; and none is out, by exit 0, that should be in Standby."""
    assert play.group is not None, "the caller's promise"
    there = play.group.stands_by(agent.me)
    if last.verb is Verb.REJOIN and there:
        play.broken(agent, f"rejoined, and {play.group.state(agent.me)} in its group")
    record = agent.host.ledger.record()
    if last.verb is Verb.DRAIN and there and (record.left is None or not record.left.standby):
        play.broken(agent, f"drained, and does not know that it is {play.group.state(agent.me)}")


def stands_where_it_believes(play: Play, agent: Agent) -> None:
    """After a rejoin while all is well, the group counts this host."""
    if play.group is not None and play.group.stands_by(agent.me):
        play.broken(agent, f"everything is well, and it is {play.group.state(agent.me)} in its group")


def note_unconfirmed(play: Play, agent: Agent, record: Record) -> None:
    """Remember who has left and not looked again yet: an end from outside is then one without a look."""
    if record.underway is not None:
        (play.looking.add if isinstance(record.state, _UNCONFIRMED) else play.looking.discard)(agent.me)
    elif agent.me in play.looking:
        play.looking.discard(agent.me)
        if record.last is not None and record.last.outcome is not Outcome.SUCCEEDED and record.left is not None:
            play.unlooked.add(agent.me)
    operation = record.operation
    if operation is not None and operation.id in play.excused and operation.verb is Verb.DRAIN:
        play.unlooked.add(agent.me)


def enough_stay(play: Play) -> None:
    """Hosts that serve or warm, and those whose second look is still to come, are as many as must stay in each group.

    Those count too that were told to leave in any case, and those whose drain was ended from outside (a cancel, a
    time-out, a reboot) before its second look: nobody looks on their behalf.
    """
    if play.meddled or play.world.rare_lag:
        return
    registered = {_plain(key) for key in play.truth.registered()}
    for agent in play.agents:
        if not agent.keys(play.world) - registered:
            play.unlooked.discard(agent.me)
    total = len(play.agents) + len(play.plain)
    minimum = play.world.minimum
    required = minimum.number if minimum.percent is None else ceil(total * minimum.percent / 100)
    for name, _ in play.world.groups:
        if arn(name) not in play.truth.elb.topology.groups:
            continue
        inside = {target_id for group, target_id, _ in registered if group == arn(name)}
        out = [agent for agent in play.agents if agent.id not in inside]
        excused = [a for a in out if a.me in play.unlooked or isinstance(a.host.ledger.record().state, _UNCONFIRMED)]
        if out and len(excused) < len(out) and len(inside) + len(excused) < min(required, total):
            named = ", ".join(a.me for a in out)
            play.broken(out[0], f"{name}: {len(inside)} stay of {total}, {required} must; out are {named}")


def record_agrees(play: Play, agent: Agent) -> None:
    """What the agent believes of itself is so."""
    record = agent.host.ledger.record()
    registered = _mine(agent, play.truth.registered())
    groups = play.truth.elb.topology.groups
    believed = {t.key for t in record.membership.targets if t.group in groups}
    if isinstance(record.state, InService) and record.last is not None and believed - registered:
        play.broken(agent, f"in service, yet not registered: {sorted(believed - registered)}")
    if isinstance(record.state, Drained) and believed & registered:
        play.broken(agent, f"drained, yet registered: {sorted(believed & registered)}")
    if not play.meddled and not play.deleted and (lost := agent.keys(play.world) - registered):
        play.broken(agent, f"is not back in {sorted(lost)}")


def belongs_nowhere(play: Play, agent: Agent, last: Operation) -> bool:
    """Whether no group holds this host any more, and it says so."""
    kind = last.failure.kind if last.failure is not None else ""
    unknown = not _mine(agent, play.truth.registered()) or _recently_touched(play, agent)
    return kind in ("no_membership", "target_group_not_found") and unknown


def names_a_group_that_is_gone(play: Play, last: Operation) -> bool:
    """Whether the settings name a group that was deleted, and the operation says so."""
    kind = last.failure.kind if last.failure is not None else ""
    return play.world.named and play.deleted and kind == "target_group_not_found"


def can_spare(play: Play, agent: Agent) -> bool:
    """Whether this host is in a group of a load balancer, and enough others serve in each."""
    states = {_plain(key): state for key, state in play.truth.states().items()}
    mine = {key for key in states if key[1] == agent.id and key[0] != arn(SPARE[0])}
    total = len(play.agents) + len(play.plain)
    minimum = play.world.minimum
    required = minimum.number if minimum.percent is None else ceil(total * minimum.percent / 100)
    if not mine or (play.meddled and minimum.percent is not None):
        return False
    for group in {key[0] for key in mine}:
        serving = {key[1] for key, state in states.items() if key[0] == group and state == "healthy"}
        if len(serving - {agent.id}) < required:
            return False
    return True


def registered_anywhere(play: Play, agent: Agent) -> bool:
    return bool(_mine(agent, play.truth.registered()) or agent.host.ledger.record().membership.targets)


def _mine(agent: Agent, keys: Iterable[TargetKey]) -> set[Key]:
    return {_plain(key) for key in keys if key.id == agent.id}


def _plain(key: TargetKey) -> Key:
    return key.group, key.id, key.port


def _touched(play: Play, key: Key) -> bool:
    """Whether others changed this registration so lately that a look may not show it, nor a node know it."""
    since = play.truth.clock.time - UNSEEN_SECONDS - _FLOOR_SECONDS
    return any(at >= since and one == key for at, one, _ in play.touches)


def _recently_touched(play: Play, agent: Agent) -> bool:
    since = play.truth.clock.time - UNSEEN_SECONDS - _FLOOR_SECONDS
    return any(at > since for at in agent.eyes.touched.values())


def _unseen(play: Play, agent: Agent, record: Record, last: Operation) -> set[Key]:
    """The targets that others registered during this drain so late, or for so short, that no two looks show it."""
    now = play.truth.clock.time
    # A drain that asks right after another one has ended gets the answer of that one.
    state = record.state
    repeated = not last.changed and isinstance(state, Drained) and last.started_at - state.at < API_LAG_SECONDS
    since = min(last.started_at, now - UNSEEN_SECONDS) if repeated else last.started_at
    looked_at = {group.arn for group in record.membership.groups}
    found = set()
    for number, (at, key, registered) in enumerate(play.touches):
        if key[1] != agent.id:
            continue
        # Of a group that the agent has never known, and that does not list this host any more, nobody tells it.
        unknown = repeated or key[0] not in looked_at
        if not registered and unknown and at >= now - _FLOOR_SECONDS - API_LAG_SECONDS:
            found.add(key)
        if not registered or at < since:
            continue
        undone = any(k == key and not again for _, k, again in play.touches[number + 1 :])
        # A drain looks at the groups that held the host, by its looks at its beginning; of others nobody tells it.
        if at >= now - UNSEEN_SECONDS or undone or (last.changed and key[0] not in looked_at):
            found.add(key)
    return found
