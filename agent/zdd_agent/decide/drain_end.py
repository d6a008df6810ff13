"""Pure: can the kernel's connections end this drain, and have they."""

from __future__ import annotations

from zdd_agent.decide.actions import Sense, Wait
from zdd_agent.decide.evidence import SAMPLE_SECONDS, Senses
from zdd_agent.decide.timing import first_change, longest_floor
from zdd_agent.decide.traffic import silence
from zdd_agent.decide.traffic.quiet import Proof, described, left_of, proof
from zdd_agent.decide.traffic.trust import doubt_of_idle
from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.record import Draining, Ending
from zdd_agent.model.service import Rules

_ENDS = {
    Until.UNUSED: "the API says `unused`",
    Until.CLOSED: "no connection is left",
    Until.IDLE: "no connection has work on it",
}


def rely(
    wanted: Until, membership: Membership, senses: Senses, now: float, *, out: bool = False
) -> Ending | Sense | Wait:
    """Decide, before the deregistration, what ends the drain: what was asked for, if the sensor can be trusted.

    It must have seen this host's traffic; one health-check interval is how long that may take. A host that is `out`
    already is not checked any more: there is nothing to wait for. Nor is there time to, for one that is gone soon.
    """
    if wanted is Until.UNUSED:
        return Ending(Until.UNUSED)
    if senses.blind:
        return Ending(Until.UNUSED, _fallback(senses.blind))
    if senses.trust is None:
        return Sense()
    if doubt := senses.trust.doubt(now):
        if out or now >= senses.trust.settled_at:
            return Ending(Until.UNUSED, _fallback(doubt))
        again = senses.sampled_at + SAMPLE_SECONDS
        return Sense() if now >= again else Wait(senses.trust.settled_at, "waiting to see this host's traffic", again)
    if wanted is Until.IDLE and (doubt := doubt_of_idle(membership)):
        return Ending(Until.CLOSED, f" (until `closed`: {doubt})")
    return Ending(wanted)


def announced(ending: Ending) -> str:
    """What ends the drain, for people."""
    return f"the drain ends when {_ENDS[ending.until]}{ending.doubt}"


def nodes(senses: Senses) -> tuple[str, ...]:
    """The load balancer's addresses, as far as they are known."""
    return tuple(sorted({peer for peer, _ in senses.watch.heard})) if senses.watch is not None else ()


def judge(
    state: Draining, membership: Membership, senses: Senses, now: float, rules: Rules, *, told: bool
) -> Proof | None:
    """Whether the connections prove that the drain may end; None when they are not relied on."""
    until, watch = state.ending.until, senses.watch
    if until is Until.UNUSED or watch is None or senses.blind:
        return None
    floor_ends_at = floor_of(state, membership, senses, rules)
    let_go_at = state.left.accepted_at
    return proof(watch, until=until, told=told, let_go_at=let_go_at, floor_ends_at=floor_ends_at, now=now)


def blocking(state: Draining, senses: Senses, now: float) -> str:
    """The requests under way that hold the drain although the API calls every target `unused`; empty without any.

    With a deregistration delay that is shorter than a request, and for the flows of an NLB, `unused` says nothing of
    them. A connection that is kept open without a request, such as a monitoring system's, holds nothing.
    """
    if state.ending.until is Until.UNUSED or senses.watch is None or senses.blind:
        return ""
    busy = tuple(track for track in senses.watch.open if track.unfinished)
    if not busy:
        return ""
    return f"the API says `unused`, but requests are under way: {described(busy, now, senses.watch.quiet_seconds)}"


def floor_of(state: Draining, membership: Membership, senses: Senses, rules: Rules) -> float:
    """The moment before which a load balancer may still send this host new work, whatever the API says of it.

    With a deregistration delay that is shorter than the nodes' lag, the API says `unused` while they still send.
    """
    let_go_at = state.left.accepted_at
    ends = let_go_at + longest_floor(membership, rules.floor_seconds)
    if rules.adaptive and senses.demands is not None and senses.watch is not None and not senses.blind:
        by_silence = silence.floor_ends_at(senses.demands, senses.watch.heard, let_go_at)
        return min(ends, by_silence) if by_silence is not None else ends
    return ends


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
