"""What AWS says of this host: found, looked at, and kept for as long as asking again would be a waste."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from zdd_agent.engine.discovery import find, named_targets
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Membership, TargetGroup, TargetHealth
from zdd_agent.model.operation import Observation, Verb
from zdd_agent.ports import Instances, LoadBalancing, Metadata


class Observer:
    """Asks AWS through the ports.

    Args:
        names: `target_groups` of the settings; empty to search the VPC.
    """

    def __init__(self, aws: LoadBalancing, instances: Instances, metadata: Metadata, names: Sequence[str]) -> None:
        self._aws = aws
        self._instances = instances
        self._metadata = metadata
        self._names = tuple(names)
        self._lock = threading.Lock()
        self._latest: tuple[Membership, Observation] | None = None

    def discover(self, verb: Verb, old: Membership | None, now: float, pace: float) -> tuple[Membership, Observation]:
        """Find the membership afresh.

        Args:
            verb: for a rejoin the groups that the settings name count even where this host is not in them yet.
            old: what an earlier drain took out and no rejoin brought back; it is kept, less what is deleted.
            now: seconds since the epoch.
            pace: seconds until it is worth to look again.
        """
        identity = self._metadata.identity()
        found, asked, population = find(self._aws, identity, self._names)
        if verb is Verb.REJOIN and self._names:
            absent = tuple(g for g in asked if g.arn not in {h.arn for h in found.groups})
            absent = tuple(self._aws.with_attributes(g) for g in absent)
            found = found.joined(Membership(absent, named_targets(identity, absent)))
        missing: frozenset[str] = frozenset()
        if old is not None:
            unasked = [g for g in old.groups if g.arn not in {h.arn for h in asked}]
            more, missing = self._ask(unasked)
            population = (*population, *more)
            found = old.without_groups(missing).joined(found)
        population = self._zoned(found.groups, population)
        return found, self._keep(found, Observation(population, frozenset(), now, now + pace))

    def look(self, membership: Membership, now: float, pace: float) -> Observation:
        """The health of every target of the membership's groups. A group that is gone is named as missing."""
        population, missing = self._ask(membership.groups)
        population = self._zoned(membership.groups, population)
        return self._keep(membership, Observation(population, missing, now, now + pace))

    def latest(self) -> tuple[Membership, Observation] | None:
        """The last answer, however old."""
        with self._lock:
            return self._latest

    def _ask(self, groups: Sequence[TargetGroup]) -> tuple[tuple[TargetHealth, ...], frozenset[str]]:
        population: list[TargetHealth] = []
        missing: set[str] = set()
        for group in groups:
            try:
                population.extend(self._aws.health(group.arn))
            except AgentError as error:
                if error.kind is not Kind.TARGET_GROUP_NOT_FOUND:
                    raise
                missing.add(group.arn)
        return tuple(population), frozenset(missing)

    def _zoned(self, groups: Sequence[TargetGroup], population: tuple[TargetHealth, ...]) -> tuple[TargetHealth, ...]:
        """The same with the zones filled in that the guard needs and ELB does not tell: those of instances."""
        arns = {g.arn for g in groups if not g.cross_zone and g.target_type == "instance"}
        ids = sorted({h.target.id for h in population if h.target.group in arns})
        if not ids:
            return population
        zones = self._instances.zones(ids)
        return tuple(
            replace(h, target=replace(h.target, zone=zones.get(h.target.id))) if h.target.group in arns else h
            for h in population
        )

    def _keep(self, membership: Membership, seen: Observation) -> Observation:
        with self._lock:
            self._latest = (membership, seen)
        return seen
