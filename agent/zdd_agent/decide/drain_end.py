"""Pure: may the kernel's word end this drain, and has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from zdd_agent.decide.actions import Action, Rely, Sample, Wait
from zdd_agent.decide.evidence import SAMPLE_SECONDS, Senses
from zdd_agent.decide.timing import first_change, longest_floor
from zdd_agent.decide.traffic import silence
from zdd_agent.decide.traffic.quiet import Finding, described, left_of, proof
from zdd_agent.decide.traffic.trust import doubt_of_idle
from zdd_agent.model.aws import BalancerKind, Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Operation


class Rules(Protocol):
    """What of the drain's settings counts here."""

    @property
    def floor_seconds(self) -> Mapping[BalancerKind, float]: ...
    @property
    def adaptive(self) -> bool: ...
    @property
    def quiet_seconds(self) -> float: ...


def rely(wanted: Until, membership: Membership, senses: Senses, now: float) -> Action:
    """Decide, before the deregistration, what will end the drain: what was asked for, if the sensor can be believed.

    It must have seen this host's traffic; one health-check interval is how long that may take.
    """
    if wanted is Until.UNUSED:
        return Rely(Until.UNUSED, "")
    if senses.blind:
        return Rely(Until.UNUSED, _fallback(senses.blind))
    if senses.trust is None:
        return Sample()
    if doubt := senses.trust.doubt(now):
        if now >= senses.trust.settled_at:
            return Rely(Until.UNUSED, _fallback(doubt))
        again = senses.sampled_at + SAMPLE_SECONDS
        return Sample() if now >= again else Wait(senses.trust.settled_at, "waiting to see this host's traffic", again)
    if wanted is Until.IDLE and (doubt := doubt_of_idle(membership)):
        return Rely(Until.CLOSED, f" (until `closed`: {doubt})")
    return Rely(wanted, "")


def judge(
    operation: Operation, membership: Membership, senses: Senses, now: float, rules: Rules, *, told: bool
) -> Finding | None:
    """Whether the connections prove that the drain may end; None when they are not relied on."""
    until, watch = operation.until, senses.watch
    if until is None or until is Until.UNUSED or watch is None or senses.blind:
        return None
    floor_ends_at = floor_of(operation, membership, senses, rules)
    return proof(watch, until=until, told=told, let_go_at=_let_go_at(operation), floor_ends_at=floor_ends_at, now=now)


def floor_of(operation: Operation, membership: Membership, senses: Senses, rules: Rules) -> float:
    """The moment before which a load balancer may still send this host new work, whatever the API says of it.

    With a deregistration delay that is shorter than the nodes' lag, the API says `unused` while they still send.
    """
    let_go_at = _let_go_at(operation)
    ends = let_go_at + longest_floor(membership, rules.floor_seconds)
    if rules.adaptive and senses.demands is not None and senses.watch is not None and not senses.blind:
        by_silence = silence.floor_ends_at(senses.demands, senses.watch.heard, let_go_at)
        return min(ends, by_silence) if by_silence is not None else ends
    return ends


def _let_go_at(operation: Operation) -> float:
    # Without a moment of its own the drain found its targets draining, because others had deregistered them or because
    # the agent was killed before it could note the moment: the look that found them so is the latest it can be.
    return operation.accepted_at or operation.guarded_at or operation.started_at


def verdict(
    operation: Operation, membership: Membership, left: tuple[Target, ...], finding: Finding, now: float
) -> str:
    """Why the drain ended, what waiting for the API would have cost, and what `idle` would have saved."""
    said = f"drained: {finding.said}"
    if operation.accepted_at is not None:
        api = first_change(membership, left, operation.accepted_at) - now
        said += f"; the API would have said `unused` in {max(api, 0):.0f} s"
    if operation.until is Until.CLOSED and finding.idle_at is not None and now - finding.idle_at >= 1:
        said += f"; `idle` would have ended it {now - finding.idle_at:.0f} s earlier"
    return said


def hung(operation: Operation, senses: Senses, now: float) -> str:
    """The connections that a drain which timed out still waited for, as the end of a sentence."""
    if operation.until is None or senses.watch is None or senses.blind:
        return ""
    tracks = left_of(senses.watch, operation.until)
    return f"; {described(tracks, now, senses.watch.quiet_seconds)}" if tracks else ""


def _fallback(doubt: str) -> str:
    return f" (until `unused`: {doubt})"
