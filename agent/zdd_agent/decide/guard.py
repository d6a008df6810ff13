"""Pure: may this host leave now, and why not.

Two hosts that ask at once may both pass. Both then deregister, look again after `SETTLE_SECONDS`, and once more when
the API's lag is over; a host stays out only when these looks find that enough others stay. Each of the two sees the
other, so at most one of them can find that too early. As many hosts as are missing go back: those whose claim is
later. Claims are ordered by Id, which needs no clock in common and no word between the hosts. The others wait until
these are back; when they are not after `YIELD_SECONDS` (killed, cancelled, cut off from AWS), they go back themselves.
So does a host that deregistered later than `CLAIM_SECONDS` after the look that allowed it to leave, whatever its Id.

What this cannot do without a lock that all hosts share: from the two deregistrations until the host that goes back is
`healthy` again, both are out. docs/operations.md states how long that can last; tests/race checks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zdd_agent.decide.population import keys, serves
from zdd_agent.errors import Kind
from zdd_agent.model.aws import (
    GroupMinimum,
    Membership,
    MinHealthy,
    State,
    Target,
    TargetGroup,
    TargetHealth,
    TargetKey,
)
from zdd_agent.model.operation import Check, Failure, Observation
from zdd_agent.model.states import Claim, Departure

# Seconds from the look that allows a host to leave to its deregistration, at the most: two API calls.
CLAIM_SECONDS = 2.0
# Seconds from the deregistration to the second look: above CLAIM_SECONDS, and long enough for the API to show, as a
# rule, what it has accepted. A host that has to go back must go back soon: this look does not wait for the whole lag.
SETTLE_SECONDS = 4.0
# Seconds from the deregistration after which a host no longer waits for the one that should go back: that one's own
# deregistration, second look and registration.
YIELD_SECONDS = CLAIM_SECONDS + 2 * SETTLE_SECONDS
_LEFT = frozenset({State.DRAINING, State.UNUSED})


@dataclass(frozen=True, slots=True)
class Shortage:
    """A target group, or a zone of it, that cannot spare this host."""

    group: TargetGroup
    zone: str | None
    healthy: int
    required: int

    def __str__(self) -> str:
        where = f" in {self.zone}" if self.zone else ""
        return f"{self.group.name}{where} has {self.healthy} other healthy, {self.required} must stay"


def refusal(
    membership: Membership, seen: Observation, minimum: MinHealthy, force: tuple[Check, ...] = ()
) -> Failure | None:
    """Why the guard keeps this host in; None when it may leave.

    Args:
        membership: which targets are this host.
        seen: every target of its groups.
        minimum: how many others must stay healthy.
        force: the checks that the caller skips.
    """
    short = () if Check.MIN_HEALTHY in force else shortages(leaving(membership, seen), seen, minimum)
    return refused(short, "this host is needed") if short else None


def refused(short: tuple[Shortage, ...], why: str) -> Failure:
    """The failure that names these shortages."""
    return Failure(
        Kind.REFUSED.wire,
        f"cannot drain: {why}: {'; '.join(map(str, short))}",
        "retry later or with --wait SECONDS, lower `min_healthy`, or skip this check with --force min-healthy",
        ", ".join(s.group.name for s in short),
    )


def shortages(
    membership: Membership,
    seen: Observation,
    minimum: MinHealthy,
    belonging: Iterable[Target] = (),
    returning: Iterable[Target] = (),
) -> tuple[Shortage, ...]:
    """The groups and zones that would be, or are, short of hosts without this one.

    A percentage is of the hosts that belong: those that are listed now, on their way out or not, and those that were
    listed at this agent's last look and that EC2 still calls running.

    Args:
        membership: which targets are this host.
        seen: every target of its groups.
        minimum: how many must stay; a group's own minimum, where one is set, counts as well.
        belonging: further targets that belong although they are not listed: this host's claim counted on them.
        returning: targets that were healthy a moment ago and have registered themselves again: they count as healthy.
    """
    found = []
    back = keys(returning)
    for group in membership.groups:
        own = {t.key: t for t in membership.targets if t.group == group.arn}
        if not own or not group.balancers:  # a group that is on no load balancer serves nobody
            continue
        others = [h for h in seen.population if h.target.group == group.arn and h.target.key not in own]
        unlisted = _unlisted(group, others, (*seen.absent, *belonging), own)
        for zone in sorted(_zones(group, own, seen), key=str):
            near = [h for h in others if zone is None or h.target.zone == zone]
            gone = [t for t in unlisted if zone is None or t.zone == zone]
            belong = len(own) + len(near) + len(gone)
            healthy = sum(serves(h) or h.target.key in back for h in near)
            required = max(minimum.of(belong), 0 if group.minimum == GroupMinimum() else group.minimum.of(belong))
            if healthy < required:
                found.append(Shortage(group, zone, healthy, required))
    return tuple(found)


def leaving(membership: Membership, seen: Observation) -> Membership:
    """The part of the membership that a load balancer may send work to; only that can leave a gap."""
    arns = {t.group for t in membership.targets if (h := seen.of(t)) is not None and h.state not in _LEFT}
    return membership.only_groups(frozenset(arns))


@dataclass(frozen=True, slots=True)
class Race:
    """What a look after the deregistration found: `short` is what is missing, `gives_way` who has to go back."""

    short: tuple[Shortage, ...] = ()
    gives_way: bool = False


def race(claim: Claim, left: Departure, membership: Membership, seen: Observation, minimum: MinHealthy) -> Race:
    """Whether this host, having deregistered, may stay out, must wait for another one, or has to return.

    Args:
        claim: what the guard went by.
        left: how this host left.
        membership: which targets are this host.
        seen: a look after the deregistration.
        minimum: how many must stay.
    """
    counted = keys(claim.counted)
    out = [h.target for h in seen.population if h.state in _LEFT and h.target.key in counted]
    listed = keys(h.target for h in seen.population)  # not `seen.of` for each: a group may hold a thousand targets
    gone = [t for t in claim.counted if t.key not in listed]
    returning = [h.target for h in seen.population if h.state is State.INITIAL and h.target.key in counted]
    short = shortages(membership, seen, minimum, gone, returning)
    late = _is_late(claim, left, seen)
    return Race(short, late or any(_is_later(s, membership, [*out, *gone]) for s in short))


def _is_later(shortage: Shortage, membership: Membership, rivals: Iterable[Target]) -> bool:
    """Whether this host is among the last so many claims that the shortage needs back."""
    near = [t for t in rivals if t.group == shortage.group.arn and shortage.zone in (None, t.zone)]
    own = [t for t in membership.targets if t.group == shortage.group.arn]
    claims = sorted(t.key for t in (*near, *own))
    back = claims[-(shortage.required - shortage.healthy) :]
    return any(t.key in back for t in own) or len(claims) <= len(own)


def _is_late(claim: Claim, left: Departure, seen: Observation) -> bool:
    """Whether this host claimed too late, or has waited long enough for another one."""
    return left.accepted_at - claim.at > CLAIM_SECONDS or seen.seen_at >= left.accepted_at + YIELD_SECONDS


def _unlisted(
    group: TargetGroup, listed: list[TargetHealth], targets: Iterable[Target], own: dict[TargetKey, Target]
) -> list[Target]:
    known = {h.target.key for h in listed} | own.keys()
    return list({t.key: t for t in targets if t.group == group.arn and t.key not in known}.values())


def _zones(group: TargetGroup, own: dict[TargetKey, Target], seen: Observation) -> set[str | None]:
    """The zones that must keep enough hosts on their own; None stands for all of them together."""
    if group.cross_zone:
        return {None}
    return {health.target.zone if (health := seen.of(t)) is not None else t.zone for t in own.values()}
