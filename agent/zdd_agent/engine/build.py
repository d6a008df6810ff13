"""Puts the engine of one service together from the ports and the settings. The daemon and the tests use the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zdd_agent.engine.doctor import Check, Doctor
from zdd_agent.engine.effects import Effects, Pace
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.observer import Observer
from zdd_agent.engine.runner import Runner
from zdd_agent.engine.sampler import Sampler
from zdd_agent.engine.selective_sensor import SelectiveSensor
from zdd_agent.engine.status import Reporter
from zdd_agent.model.kernel import Until
from zdd_agent.model.service import Rules, Timeouts
from zdd_agent.ports import Clock, Instances, LoadBalancing, Metadata, Prober, Sensor, Store, Supervisor
from zdd_agent.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The ports."""

    clock: Clock
    metadata: Metadata
    aws: LoadBalancing
    instances: Instances
    prober: Prober
    sensor: Sensor
    store: Store


@dataclass(frozen=True, slots=True)
class Engine:
    """What carries out the operations of one service."""

    ledger: Ledger
    observer: Observer
    sampler: Sampler
    runner: Runner


def rules(settings: Settings) -> Rules:
    """What the decisions go by, from the settings."""
    return Rules(
        min_healthy=settings.healthy,
        until=settings.drain.until,
        floor_seconds=settings.drain.floor_seconds.by_kind,
        quiet_seconds=settings.drain.quiet_seconds,
        poll_seconds=settings.poll.interval_seconds,
    )


def build_engine(
    outside: Outside, supervisor: Supervisor, settings: Settings, boot_id: str, rng: random.Random | None = None
) -> Engine:
    """The engine of this host.

    Args:
        outside: the ports.
        supervisor: whoever started the daemon.
        settings: of this host.
        boot_id: of this boot of the host; empty where it is not known.
        rng: draws the jitter; a fresh one where None.
    """
    rng = rng or random.Random()  # noqa: S311  jitter, not a secret
    pace = Pace(settings.poll.interval_seconds, settings.poll.jitter_seconds, settings.probe.interval_seconds)
    timeouts = Timeouts(settings.timeouts.drain_seconds, settings.timeouts.rejoin_seconds)
    ledger = Ledger(outside.store, outside.clock, timeouts, boot_id)
    observer = Observer(
        outside.aws,
        outside.instances,
        outside.metadata,
        outside.clock,
        settings.target_groups,
        counts_absent=settings.healthy.percent is not None,
        alive=supervisor.alive,
    )
    ignored = settings.drain.ignored
    sampler = Sampler(
        SelectiveSensor(outside.sensor, ignored) if ignored else outside.sensor,
        outside.metadata,
        outside.clock,
        listens=settings.drain.until is not Until.UNUSED,
        quiet_seconds=settings.drain.quiet_seconds,
    )
    effects = Effects(
        ledger=ledger,
        observer=observer,
        aws=outside.aws,
        metadata=outside.metadata,
        prober=outside.prober,
        sampler=sampler,
        clock=outside.clock,
        supervisor=supervisor,
        pace=pace,
        rng=rng,
    )
    runner = Runner(
        ledger=ledger,
        effects=effects,
        observer=observer,
        metadata=outside.metadata,
        sampler=sampler,
        clock=outside.clock,
        supervisor=supervisor,
        pace=pace,
        rules=rules(settings),
        drained_warning_seconds=settings.drained_warning_seconds,
        rng=rng,
    )
    return Engine(ledger, observer, sampler, runner)


def build_reports(
    outside: Outside,
    engine: Engine,
    settings: Settings,
    notices: Callable[[], tuple[str, ...]] = tuple,
    local: Sequence[tuple[str, Check]] = (),
) -> tuple[Reporter, Doctor]:
    """What answers `status`, dry runs and `doctor`.

    Args:
        outside: the ports.
        engine: of this host.
        settings: of this host.
        notices: what the operator should know of the state file.
        local: the doctor's checks of this machine, by name.
    """
    reporter = Reporter(
        observer=engine.observer,
        metadata=outside.metadata,
        clock=outside.clock,
        record=engine.ledger.record,
        notices=notices,
        poll_seconds=settings.poll.interval_seconds,
        drained_warning_seconds=settings.drained_warning_seconds,
        min_healthy=settings.healthy,
    )
    doctor = Doctor(
        observer=engine.observer,
        aws=outside.aws,
        metadata=outside.metadata,
        prober=outside.prober,
        clock=outside.clock,
        min_healthy=settings.healthy,
        until=settings.drain.until,
        trust=lambda: engine.sampler.trust,
        local=local,
    )
    return reporter, doctor
