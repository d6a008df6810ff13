"""Pure: can the kernel's connections end this drain, and have they."""

from __future__ import annotations

from math import inf

from zdd_agent.decide.actions import Sense, Wait
from zdd_agent.decide.evidence import SAMPLE_SECONDS, Senses
from zdd_agent.decide.timing import first_change, longest_floor
from zdd_agent.decide.traffic import after_unused
from zdd_agent.decide.traffic.quiet import Proof, described, left_of, looked_at, proof
from zdd_agent.decide.traffic.trust import doubt_of_idle
from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.service import Rules
from zdd_agent.model.states import Draining, Ending

# Seconds from a sample to a look at AWS after which the sample says nothing of the health checks of now.
_OLD_SECONDS = 2.0

_ENDS = {
    Until.UNUSED: "the API says `unused`",
    Until.CLOSED: "no connection is left",
    Until.IDLE: "no connection has work on it",
}


def rely(
    wanted: Until,
    membership: Membership,
    senses: Senses,
    now: float,
    *,
    looked_at: float,
    left_at: float | None = None,
    seen_before: bool = False,
    by: float = inf,
) -> Ending | Sense | Wait:
    """Decide, before the deregistration, what ends the drain: what was asked for, if the sensor can be trusted.

    It must have seen the load balancer's health checks. An agent that has just started waits for them here: nobody
    knows whether a load balancer goes on checking a target that drains.

    Args:
        wanted: what was asked for.
        membership: the targets of this host.
        senses: what was sensed so far.
        now: seconds.
        looked_at: the look at AWS that goes with it, seconds. A sample of about that moment is new enough, however
            long the look took.
        left_at: when this host left, if it is out already; then there is nothing to wait for. Seconds.
        seen_before: when it left, the sensor was trusted. A daemon that started since needs to see no check.
        by: wait no longer than until this moment, seconds.
    """
    if wanted is Until.UNUSED:
        return Ending(Until.UNUSED)
    if senses.blind:
        return Ending(Until.UNUSED, _fallback(senses.blind))
    if senses.trust is None:
        return Sense()
    trust = senses.trust
    if doubt := trust.blind if seen_before else trust.doubt(now if left_at is None else left_at):
        if looked_at - senses.sampled_at > _OLD_SECONDS:
            return Sense()  # the guard has made this drain wait meanwhile
        latest = min(trust.settled_at, by)
        if left_at is not None or now >= latest:
            return Ending(Until.UNUSED, _fallback(doubt))
        again = senses.sampled_at + SAMPLE_SECONDS
        return Sense() if now >= again else Wait(latest, "waiting to see the load balancer's health checks", again)
    if wanted is Until.IDLE and (doubt := doubt_of_idle(membership)):
        return Ending(Until.CLOSED, f" (until `closed`: {doubt})")
    return Ending(wanted)


def announced(ending: Ending) -> str:
    """What ends the drain, for people."""
    return f"the drain ends when {_ENDS[ending.until]}{ending.doubt}"


def nodes(senses: Senses, ending: Ending) -> tuple[str, ...]:
    """The addresses of the load balancer's nodes that check this host; empty unless the sensor is trusted."""
    if senses.trust is None or ending.until is Until.UNUSED:
        return ()
    return tuple(sorted(senses.trust.checking(senses.sampled_at)))


def judge(
    state: Draining, membership: Membership, senses: Senses, now: float, rules: Rules, *, told: bool
) -> Proof | None:
    """Whether the connections prove that the drain may end; None when they are not relied on."""
    until, watch = state.ending.until, senses.watch
    if until is Until.UNUSED or watch is None or senses.blind:
        return None
    floor_ends_at = floor_of(state, membership, rules)
    let_go_at = state.left.accepted_at
    return proof(watch, until=until, told=told, let_go_at=let_go_at, floor_ends_at=floor_ends_at, now=now)


def must_look(state: Draining, senses: Senses, now: float) -> bool:
    """Whether the connections are relied on but have not been looked at lately, as after a restart."""
    if state.ending.until is Until.UNUSED or senses.blind:
        return False
    return senses.watch is None or not looked_at(senses.watch, now)


def blocking(state: Draining, membership: Membership, senses: Senses, now: float) -> str:
    """What holds the drain although the API calls every target `unused`, for people; empty when nothing does."""
    if state.ending.until is Until.UNUSED or senses.watch is None or senses.blind:
        return ""
    if held := after_unused.work_of(senses.watch, _bringers(state, membership, senses)):
        return f"the API says `unused`, but work is left: {described(held, now, senses.watch.quiet_seconds)}"
    seen = senses.trust.nodes if senses.trust is not None else frozenset[str]()
    known = frozenset[str]() if _shows_clients(membership) else seen.union(state.left.nodes)
    if node := after_unused.still_sending(senses.watch, known, now):
        return f"the API says `unused`, but the load balancer's node {node} still sends"
    if known and state.left.nodes and now < senses.watch.began_at + senses.watch.quiet_seconds:  # a fresh daemon
        return "the API says `unused`, but nobody has looked for long enough whether the load balancer still sends"
    return ""


def at_work(state: Draining, senses: Senses, now: float) -> str:
    """What visibly works although AWS calls every target `unused`, for people; empty when nothing does.

    For a host that is about to be gone, whose sensor was not trusted when it left: nothing comes after this drain but
    the end, and the flows of a Network Load Balancer outlive the deregistration.
    """
    if not state.ending.doubt or senses.watch is None or senses.blind:
        return ""
    held = after_unused.work_of(senses.watch, frozenset())
    return (
        f"the API says `unused`, but work is left: {described(held, now, senses.watch.quiet_seconds)}" if held else ""
    )


def unproved(state: Draining, membership: Membership, senses: Senses, now: float) -> str:
    """What a drain that ended with the API's `unused` did not wait for, as the end of a sentence.

    That is the connections of peers that are no nodes, or all of them where the kernel told nothing any more.
    """
    if state.ending.until is Until.UNUSED or senses.watch is None:
        return ""
    if senses.blind:
        return f"; by the API's `unused` alone: {senses.blind}"
    tracks = after_unused.of_others(senses.watch, _bringers(state, membership, senses))
    return f"; not waited for: {described(tracks, now, senses.watch.quiet_seconds)}" if tracks else ""


def _bringers(state: Draining, membership: Membership, senses: Senses) -> frozenset[str]:
    """The peers that may bring the load balancer's work; empty when any peer may, also one that was not seen yet."""
    if _shows_clients(membership) or senses.trust is None or not senses.trust.nodes:
        return frozenset()
    if not senses.trust.knows_all(state.left.accepted_at):
        return frozenset()
    return senses.trust.nodes | senses.trust.candidates


def _shows_clients(membership: Membership) -> bool:
    return any(group.preserve_client_ip for group in membership.groups)


def floor_of(state: Draining, membership: Membership, rules: Rules) -> float:
    """The moment before which a load balancer may still send this host new work, whatever the API says of it.

    With a deregistration delay that is shorter than the nodes' lag, the API says `unused` while they still send.
    """
    return state.left.accepted_at + longest_floor(membership, rules.floor_seconds)


def verdict(state: Draining, membership: Membership, left: tuple[Target, ...], finding: Proof, now: float) -> str:
    """Why the drain ended, what waiting for the API would have cost, and what `idle` would have saved."""
    said = f"drained: {finding.said}"
    if left:
        api = first_change(membership, left, state.left.accepted_at) - now
        said += f"; the API would have said `unused` in {max(api, 0):.0f} s"
    if state.ending.until is Until.CLOSED and finding.idle_at is not None and now - finding.idle_at >= 1:
        said += f"; `idle` would have ended it {now - finding.idle_at:.0f} s earlier"
    return said


def hung(state: Draining, senses: Senses, now: float) -> str:
    """The connections that a drain which timed out still waited for, as the end of a sentence."""
    if senses.watch is None or senses.blind:
        return ""
    tracks = left_of(senses.watch, state.ending.until)
    return f"; {described(tracks, now, senses.watch.quiet_seconds)}" if tracks else ""


def _fallback(doubt: str) -> str:
    return f" (until `unused`: {doubt})"
