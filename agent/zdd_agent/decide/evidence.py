"""Pure: all that a decision may go by besides the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zdd_agent.decide.traffic import health_checks
from zdd_agent.decide.traffic.trust import Trust
from zdd_agent.decide.traffic.watch import Node, Watch
from zdd_agent.errors import AgentError
from zdd_agent.model.aws import Membership
from zdd_agent.model.kernel import Sample
from zdd_agent.model.operation import Observation, Tally

# Seconds between two samples: what is shorter is still seen, since the kernel tells of each connection that ended.
SAMPLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Senses:
    """What was sensed so far. Moments are seconds of the agent's clock.

    Args:
        trust: whether the sensor can be believed, judged before the deregistration.
        watch: what is open and what works.
        sampled_at: the last sample.
        blind: why the sensor tells nothing any more; empty while it does.
        demands: how long each node must be silent, from before the deregistration; None for the fixed floor.
    """

    trust: Trust | None = None
    watch: Watch | None = None
    sampled_at: float = float("-inf")
    blind: str = ""
    demands: Mapping[Node, float] | None = None

    def after(self, sample: Sample, membership: Membership, quiet_seconds: float) -> Senses:
        """What is known after one more sample of the membership's ports."""
        checks = health_checks.schedules(membership)
        watch = self.watch.after(sample) if self.watch else Watch.begin(sample, checks, quiet_seconds)
        trust = self.trust.after(sample) if self.trust else Trust.begin(sample, membership)
        return replace(self, trust=trust, watch=watch, sampled_at=sample.at)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Gone after a restart, and asked for anew.

    Args:
        seen: what AWS said last since the last change of ours.
        earlier: the looks before that, the latest first.
        tallies: the probes of the app before a registration.
        probe_again_at: the moment of the next one, seconds.
        refused: why AWS would not register, for a reason that may pass.
        senses: what the kernel told; our own changes do not end it.
    """

    seen: Observation | None = None
    earlier: tuple[Observation, ...] = ()
    tallies: tuple[Tally, ...] = ()
    probe_again_at: float = 0.0
    refused: AgentError | None = None
    senses: Senses = Senses()

    def outdated(self) -> Evidence:
        """After a change of ours: what AWS said before counts no more."""
        return Evidence(senses=self.senses)
