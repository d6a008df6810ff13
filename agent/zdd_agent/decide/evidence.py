"""Pure: all that a decision may go by besides the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from zdd_agent.decide.actions import Action, Deregister, ExitStandby, GoBack, Launch, Register, Retry
from zdd_agent.decide.results import (
    Done,
    Found,
    NotTaken,
    Probed,
    Refreshed,
    Result,
    Seen,
    SlotMissed,
    SlotsSeen,
    SlotsSilent,
)
from zdd_agent.decide.slot_actions import ClaimSlot
from zdd_agent.decide.slot_evidence import SlotEvidence
from zdd_agent.decide.traffic import health_checks
from zdd_agent.decide.traffic.trust import Trust
from zdd_agent.decide.traffic.watch import Watch
from zdd_agent.errors import AgentError
from zdd_agent.model.auto_scaling import ScalingPlace
from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Sample
from zdd_agent.model.operation import Observation, ProbeResult, Tally

# Seconds by which an answer of AWS's API may lag behind what it has accepted. No figure is documented; two looks that
# must agree are at least this far apart.
API_LAG_SECONDS = 10.0
# Looks that are kept: enough for three that agree, and for two that are API_LAG_SECONDS apart.
_KEPT_LOOKS = 8
# Seconds between two samples: what is shorter is still seen, since the kernel tells of each connection that ended.
SAMPLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Senses:
    """What was sensed so far. Moments are seconds of the agent's clock.

    Args:
        trust: whether the sensor can be believed, as of the time before the deregistration.
        watch: what is open and what works.
        sampled_at: the last sample.
        blind: why the sensor tells nothing any more; empty while it does.
    """

    trust: Trust | None = None
    watch: Watch | None = None
    sampled_at: float = float("-inf")
    blind: str = ""

    def after(self, sample: Sample, membership: Membership, quiet_seconds: float) -> Senses:
        """What is known after one more sample of the membership's ports, apart from the trust in it."""
        checks = health_checks.schedules(membership)
        watch = self.watch.after(sample) if self.watch else Watch.begin(sample, checks, quiet_seconds)
        return replace(self, watch=watch, sampled_at=sample.at)


@dataclass(frozen=True, slots=True)
class Sensed:
    """The result of a look at the kernel."""

    senses: Senses


@dataclass(frozen=True, slots=True)
class Evidence:
    """Gone after a restart, and asked for anew.

    Args:
        looks: what AWS said since the last change of ours, the latest first.
        looked_at: when the last of them was complete, seconds.
        found_at: when the last discovery began, seconds: it sees every group that holds this host.
        nothing_since: when a discovery first found that no target group holds this host, seconds; None while one does.
        refreshed: the groups' settings have been read, and whether this instance is terminated, since a registration.
        terminating: Auto Scaling is about to terminate this instance.
        place: where it stands in its Auto Scaling group; None where it is in none, or nobody asked.
        tallies: the probes of the app before a registration.
        probe_again_at: the moment of the next one, seconds.
        returned_at: when what a drain that goes back deregistered was registered again, seconds; None before.
        refused: why AWS would not do what was asked, and when it said so (seconds).
        refused_since: when it said so first, seconds.
        senses: what the kernel told; our own changes do not end it.
        slots: who holds a slot of this host's fleet, and who waits.
    """

    looks: tuple[Observation, ...] = ()
    looked_at: float = float("-inf")
    found_at: float = float("-inf")
    nothing_since: float | None = None
    refreshed: bool = False
    terminating: bool = False
    place: ScalingPlace | None = None
    tallies: tuple[Tally, ...] = ()
    probe_again_at: float = 0.0
    returned_at: float | None = None
    refused: tuple[AgentError, float] | None = None
    refused_since: float = 0.0
    senses: Senses = Senses()
    slots: SlotEvidence = field(default_factory=SlotEvidence)

    @property
    def seen(self) -> Observation | None:
        """The last look; None when there was none since the last change of ours."""
        return self.looks[0] if self.looks else None

    def agreed(self, shown: Callable[[Observation], Iterable[Target]]) -> frozenset[Target]:
        """The targets that looks show which are at least as far apart as the API may lag, and all between them.

        One look can be stale: AWS does not say how far its answers lag.
        """
        common: frozenset[Target] | None = None
        for look in self.looks:
            common = frozenset(shown(look)) if common is None else common.intersection(shown(look))
            if self.looks[0].seen_at - look.seen_at >= API_LAG_SECONDS:
                return common
        return frozenset()

    def after(self, action: Action, result: Result | Sensed, now: float) -> Evidence:
        """What is known once this is done.

        Args:
            action: what was done.
            result: what came of it.
            now: seconds since the epoch.
        """
        match result:
            case Found(membership, seen, terminating, place):
                since = None if membership.targets else self.nothing_since or now
                told = replace(self._looked(seen, now), refreshed=True, terminating=terminating, place=place)
                return replace(told, nothing_since=since, found_at=seen.seen_at)
            case Refreshed(_, _, terminating):
                return replace(self, refreshed=True, terminating=terminating)
            case Seen(seen):
                return self._looked(seen, now)
            case Probed(results, again_at):
                return self._probed(results, again_at)
            case Sensed(senses):
                return replace(self, senses=senses)
            case NotTaken(error):
                since = now if self.refused is None else self.refused_since
                return replace(self._outdated(), refused=(error, now), refused_since=since)
            case SlotsSeen() | SlotMissed() | SlotsSilent():
                return replace(self, slots=self.slots.after(result, now))
            case Done():
                return self._done(action, now)

    def _done(self, action: Action, now: float) -> Evidence:
        match action:
            case Deregister() | GoBack():
                return self._outdated()
            case ExitStandby():
                # To leave can take as long as the deregistration delay: the end of this host may be decided meanwhile.
                return replace(self._outdated(), refreshed=False)
            case Register() | Launch():
                # The group may begin to terminate this host meanwhile: asked again before it is registered again.
                return replace(self._outdated(), returned_at=now, refreshed=False)
            case Retry():
                return Evidence(senses=self.senses)
            case ClaimSlot(holder):
                return replace(self, slots=self.slots.claimed(holder, now))
            case _:
                return self

    def _outdated(self) -> Evidence:
        """After a change of ours: what AWS said before counts no more."""
        return Evidence(
            senses=self.senses,
            refreshed=self.refreshed,
            terminating=self.terminating,
            place=self.place,
            slots=self.slots,
        )

    def _looked(self, seen: Observation, now: float) -> Evidence:
        return replace(self, looks=(seen, *self.looks)[:_KEPT_LOOKS], looked_at=now)

    def _probed(self, results: tuple[ProbeResult, ...], again_at: float) -> Evidence:
        passes = {t.target: t.passes for t in self.tallies}
        new = {r.target: Tally(r.target, passes.get(r.target, 0) + 1 if r.passed else 0, r.said) for r in results}
        tallies = (*(t for t in self.tallies if t.target not in new), *new.values())
        looks = (replace(self.looks[0], probes=results), *self.looks[1:]) if self.looks else ()
        return replace(self, tallies=tallies, probe_again_at=again_at, looks=looks)
