"""Puts the engine of one service together from the ports and the settings. The daemon and the tests use the same."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdd_agent.engine.doctor import Check, Doctor
from zdd_agent.engine.effects import Effects, Pace
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.observer import Observer
from zdd_agent.engine.runner import Runner
from zdd_agent.engine.sampler import Sampler
from zdd_agent.engine.selective_sensor import SelectiveSensor
from zdd_agent.engine.status import Reporter
from zdd_agent.model.auto_scaling import Transition
from zdd_agent.model.kernel import Until
from zdd_agent.model.service import Rules, Timeouts
from zdd_agent.ports import (
    AutoScaling,
    Clock,
    Instances,
    LoadBalancing,
    Metadata,
    Postures,
    Prober,
    Sensor,
    Slots,
    Store,
    Supervisor,
)
from zdd_agent.settings import Settings

if TYPE_CHECKING:
    from zdd_agent.engine.lifecycle import Lifecycle
    from zdd_agent.engine.scaling import Scaling
    from zdd_agent.engine.slots import SlotHolding


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The ports. `auto_scaling` and `slots` are None where the settings have no use for them.

    `postures` is None where nobody looks.
    """

    clock: Clock
    metadata: Metadata
    aws: LoadBalancing
    instances: Instances
    prober: Prober
    sensor: Sensor
    store: Store
    auto_scaling: AutoScaling | None = None
    slots: Slots | None = None
    postures: Postures | None = None


@dataclass(frozen=True, slots=True)
class Engine:
    """What carries out the operations of one service."""

    ledger: Ledger
    observer: Observer
    sampler: Sampler
    runner: Runner
    scaling: Scaling | None
    lifecycle: Lifecycle | None
    slots: SlotHolding | None


def rules(settings: Settings) -> Rules:
    """What the decisions go by, from the settings."""
    return Rules(
        min_healthy=settings.healthy,
        until=settings.drain.until,
        floor_seconds=settings.drain.floor_seconds.by_kind,
        quiet_seconds=settings.drain.quiet_seconds,
        poll_seconds=settings.poll.interval_seconds,
        strict=settings.auto_scaling.mode == "strict",
        standby=settings.auto_scaling.mode == "standby",
        slots=settings.slots.rules if settings.slots is not None else None,
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
    scaling = _scaling(outside, settings)
    lifecycle = _lifecycle(outside, settings, ledger, scaling)
    slots = _slots(outside, settings, ledger, rng)
    observer = Observer(
        outside.aws,
        outside.instances,
        outside.metadata,
        outside.clock,
        settings.target_groups,
        counts_absent=settings.healthy.percent is not None,
        alive=supervisor.alive,
        attached=scaling.attached if scaling is not None else tuple,
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
        scaling=scaling,
        slots=slots,
        rules=rules(settings),
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
        lifecycle=lifecycle,
        slots=slots,
        postures=outside.postures,
    )
    return Engine(ledger, observer, sampler, runner, scaling, lifecycle, slots)


def _scaling(outside: Outside, settings: Settings) -> Scaling | None:
    if outside.auto_scaling is None:
        return None
    from zdd_agent.engine.scaling import Scaling  # noqa: PLC0415  only where a setting asks for it

    hooks = {
        Transition.LAUNCH: settings.auto_scaling.launch_hook,
        Transition.TERMINATION: settings.auto_scaling.termination_hook,
    }
    standby = settings.auto_scaling.mode == "standby"
    return Scaling(outside.auto_scaling, outside.metadata, outside.clock, hooks, standby=standby)


def _lifecycle(outside: Outside, settings: Settings, ledger: Ledger, scaling: Scaling | None) -> Lifecycle | None:
    heeded = settings.notices.heeded
    if scaling is None and not heeded:
        return None
    from zdd_agent.engine.lifecycle import Lifecycle  # noqa: PLC0415  only where a setting asks for it

    return Lifecycle(
        ledger=ledger,
        metadata=outside.metadata,
        scaling=scaling,
        clock=outside.clock,
        heeded=heeded,
        rules=rules(settings),
        uid=os.geteuid(),
    )


def _slots(outside: Outside, settings: Settings, ledger: Ledger, rng: random.Random) -> SlotHolding | None:
    if outside.slots is None or settings.slots is None:
        return None
    from zdd_agent.engine.slots import SlotHolding  # noqa: PLC0415  only where a setting asks for it

    return SlotHolding(
        slots=outside.slots,
        instances=outside.instances,
        ledger=ledger,
        clock=outside.clock,
        rules=settings.slots.rules,
        rng=rng,
        uid=os.geteuid(),
    )


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

    def said() -> tuple[str, ...]:
        watched = [one for one in (engine.lifecycle, engine.slots) if one is not None]
        return (*notices(), *(line for one in watched for line in one.said()))

    reporter = Reporter(
        observer=engine.observer,
        metadata=outside.metadata,
        clock=outside.clock,
        record=engine.ledger.record,
        notices=said,
        poll_seconds=settings.poll.interval_seconds,
        drained_warning_seconds=settings.drained_warning_seconds,
        min_healthy=settings.healthy,
        scaling=engine.scaling,
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
        scaling=engine.scaling,
        slots=engine.slots,
    )
    return reporter, doctor
