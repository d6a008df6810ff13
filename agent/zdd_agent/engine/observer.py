"""Asks AWS which targets are this host and how they are, and keeps the last answer for other callers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from zdd_agent.engine.discovery import find, named_targets
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Membership, Target, TargetGroup, TargetHealth
from zdd_agent.model.operation import Observation, Verb
from zdd_agent.ports import Clock, Instances, LoadBalancing, Metadata


class Observer:
    """Asks AWS through the ports.

    Args:
        aws: Elastic Load Balancing.
        instances: Amazon EC2.
        metadata: who this host is.
        clock: the time.
        names: `target_groups` of the settings; empty to search the VPC.
        counts_absent: `min_healthy` is a percentage, and hosts that are not listed any more may still belong.
        attached: the ARNs of the target groups that this host's Auto Scaling group registers its instances with.
        alive: called before each call to AWS, since many calls in a row would outlast systemd's watchdog.
    """

    def __init__(
        self,
        aws: LoadBalancing,
        instances: Instances,
        metadata: Metadata,
        clock: Clock,
        names: Sequence[str] = (),
        *,
        counts_absent: bool = False,
        attached: Callable[[], tuple[str, ...]] = tuple,
        alive: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._aws = aws
        self._instances = instances
        self._metadata = metadata
        self._clock = clock
        self._names = tuple(names)
        self._counts_absent = counts_absent
        self._attached = attached
        self._alive = alive
        self._lock = threading.Lock()
        self._latest: tuple[Membership, Observation] | None = None

    def discover(
        self, verb: Verb, before: Membership, listed: Iterable[Target], pace: float, by: float, *, out: bool = False
    ) -> tuple[Membership, Observation]:
        """Find the membership afresh.

        Args:
            verb: a rejoin also takes the groups that the settings name and that this host is not in yet; without any,
                and for a host that is in none, those of its Auto Scaling group.
            before: the membership as it was known.
            listed: every target at the last look.
            pace: seconds until it is worth looking again.
            by: give up at this moment, seconds.
            out: this host is out since an earlier drain: keep that membership, without the groups that are deleted.

        Raises:
            AgentError: as `discovery.find` and `look` do.
        """
        began = self._clock.now()
        identity = self._metadata.identity()
        known = {*before.named, *(word for g in before.groups for word in (g.arn, g.name))}
        left = before.groups if out else ()
        found, asked, population = find(self._aws, identity, self._names, known, self._attached, left)
        if verb is Verb.REJOIN and (belongs := self._belongs(found, asked, out=out)):
            absent = tuple(g for g in belongs if g.arn not in {h.arn for h in found.groups})
            absent = tuple(self._aws.with_attributes(g) for g in absent)
            found = found.joined(Membership(absent, named_targets(identity, absent)))
        missing: frozenset[str] = frozenset()
        if out:
            unasked = [g for g in before.groups if g.arn not in {h.arn for h in asked}]
            more, missing = self._ask(unasked, by)
            population = (*population, *more)
            found = before.without_groups(missing).joined(found)
        return found, self._observed(found, population, missing, listed, began, pace)

    def look(self, membership: Membership, listed: Iterable[Target], pace: float, by: float) -> Observation:
        """The health of every target of the membership's groups. A group that is gone counts as missing.

        Args:
            membership: which targets are this host.
            listed: every target at the last look.
            pace: seconds until it is worth looking again.
            by: give up at this moment, seconds.

        Raises:
            AgentError: of a call, or AWS_UNAVAILABLE, transient, when the moment has come before every group has
                answered.
        """
        began = self._clock.now()
        population, missing = self._ask(membership.groups, by)
        return self._observed(membership, population, missing, listed, began, pace)

    def refreshed(self, membership: Membership) -> tuple[Membership, frozenset[str]]:
        """The membership with its groups' settings of now, and the groups (ARNs) that are gone, which it leaves out.

        Raises:
            AgentError: of a call.
        """
        found, _ = self._aws.named_groups([g.arn for g in membership.groups])
        gone = frozenset(g.arn for g in membership.groups) - {g.arn for g in found}
        old = {g.arn: g for g in membership.groups}
        # The attributes cost a call for each group, and a rejoin does not need them.
        newer = [g.with_attributes_of(old[g.arn]) for g in found]
        return membership.without_groups(gone).with_groups(newer), gone

    def latest(self) -> tuple[Membership, Observation] | None:
        """The last answer, however old."""
        with self._lock:
            return self._latest

    def _belongs(self, found: Membership, asked: tuple[TargetGroup, ...], *, out: bool) -> tuple[TargetGroup, ...]:
        """The groups that this host belongs to although it may not be in them yet."""
        if self._names:
            return asked
        arns = () if found.targets or out else self._attached()
        return self._aws.named_groups(arns)[0] if arns else ()

    def _ask(self, groups: Sequence[TargetGroup], by: float) -> tuple[tuple[TargetHealth, ...], frozenset[str]]:
        population: list[TargetHealth] = []
        missing: set[str] = set()
        for number, group in enumerate(groups):
            if number and self._clock.now() >= by:
                said = f"cannot look at {len(groups)} target groups in time: {number} have answered"
                raise AgentError(Kind.AWS_UNAVAILABLE, said, hint="check the network to the endpoint", transient=True)
            self._alive(f"asking AWS about {group.name}")
            try:
                population.extend(self._aws.health(group.arn))
            except AgentError as error:
                if error.kind is not Kind.TARGET_GROUP_NOT_FOUND:
                    raise
                missing.add(group.arn)
        return tuple(population), frozenset(missing)

    def _observed(
        self,
        membership: Membership,
        population: tuple[TargetHealth, ...],
        missing: frozenset[str],
        listed: Iterable[Target],
        began: float,
        pace: float,
    ) -> Observation:
        population = self._zoned(membership.groups, population)
        absent = self._absent(membership, population, listed) if self._counts_absent else ()
        seen = Observation(population, missing, began, self._clock.now() + pace, absent=absent)
        with self._lock:
            self._latest = (membership, seen)
        return seen

    def _absent(
        self, membership: Membership, population: tuple[TargetHealth, ...], listed: Iterable[Target]
    ) -> tuple[Target, ...]:
        """The instances that were listed at the last look, are not now, and still run, where EC2 may be asked."""
        arns = {g.arn for g in membership.groups if g.target_type == "instance"}
        known = {h.target.key for h in population}
        vanished = tuple(t for t in listed if t.group in arns and t.key not in known)
        if not vanished:
            return ()
        try:
            running = self._instances.running(sorted({t.id for t in vanished}))
        except AgentError as error:
            if error.kind is not Kind.AWS_DENIED:
                raise
            return ()
        return tuple(t for t in vanished if t.id in running)

    def _zoned(self, groups: Sequence[TargetGroup], population: tuple[TargetHealth, ...]) -> tuple[TargetHealth, ...]:
        """The same with the zones of instances filled in: the guard needs them, and ELB does not tell them."""
        arns = {g.arn for g in groups if not g.cross_zone and g.target_type == "instance"}
        ids = sorted({h.target.id for h in population if h.target.group in arns})
        if not ids:
            return population
        zones = self._instances.zones(ids)
        return tuple(
            replace(h, target=replace(h.target, zone=zones.get(h.target.id))) if h.target.group in arns else h
            for h in population
        )
