"""Prometheus text, version 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from zdd_agent.model.auto_scaling import NoticeKind
from zdd_agent.model.operation import Outcome, Verb
from zdd_agent.model.record import Record


def render_metrics(
    record: Record,
    counts: Mapping[tuple[Verb, Outcome], int],
    now: float,
    notices: Mapping[NoticeKind, int] = MappingProxyType({}),
) -> str:
    """The metrics of one host. Moments and spans are in seconds; counts start at zero with the daemon."""
    operation = record.operation
    running = operation if operation is not None and operation.outcome is None else None
    lines = [
        "# HELP zdd_agent_out_seconds Seconds since this host was taken out; 0 while it is in.",
        "# TYPE zdd_agent_out_seconds gauge",
        f"zdd_agent_out_seconds {_since(record.out_since, now):.3f}",
        "# HELP zdd_agent_drained_since_timestamp_seconds When this host was taken out; 0 while it is in.",
        "# TYPE zdd_agent_drained_since_timestamp_seconds gauge",
        f"zdd_agent_drained_since_timestamp_seconds {record.out_since or 0:.3f}",
        "# HELP zdd_agent_operation_age_seconds Seconds since the operation under way started.",
        "# TYPE zdd_agent_operation_age_seconds gauge",
        f"zdd_agent_operation_age_seconds {_since(running.started_at if running else None, now):.3f}",
        "# HELP zdd_agent_targets Targets of this host's membership.",
        "# TYPE zdd_agent_targets gauge",
        f"zdd_agent_targets {len(record.membership.targets) if record.membership else 0}",
        "# HELP zdd_agent_operations_total Operations ended, by verb and outcome.",
        "# TYPE zdd_agent_operations_total counter",
    ]
    lines += [
        f'zdd_agent_operations_total{{verb="{verb}",outcome="{outcome}"}} {counts.get((verb, outcome), 0)}'
        for verb in Verb
        for outcome in Outcome
    ]
    if notices:
        lines += [
            "# HELP zdd_agent_notices_total Notices of EC2, by kind.",
            "# TYPE zdd_agent_notices_total counter",
            *(f'zdd_agent_notices_total{{kind="{kind}"}} {count}' for kind, count in notices.items()),
        ]
    return "\n".join(lines) + "\n"


def _since(moment: float | None, now: float) -> float:
    return 0.0 if moment is None else max(now - moment, 0.0)
