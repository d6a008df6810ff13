"""The metrics, read the way Prometheus does."""

import re

from fakes import START, arn
from zdd_agent.api.metrics import render_metrics
from zdd_agent.model.auto_scaling import NoticeKind
from zdd_agent.model.aws import Membership, Target
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Operation, Outcome, Phase, Request, Verb
from zdd_agent.model.record import Record, Underway
from zdd_agent.model.states import Departure, Draining, Ending

SAMPLE = re.compile(
    r'^(?P<name>[a-z_]+)(?:\{(?P<labels>[a-z]+="[a-z_]+"(?:,[a-z]+="[a-z_]+")*)\})? (?P<value>[0-9.]+)$'
)
DRAIN = Underway("4f", Request(Verb.DRAIN, 0), START + 10, START + 300)
OUT = Draining(Departure(START, START), Ending(Until.UNUSED))


def samples(text: str) -> dict[str, float]:
    """Name and labels to value. Fails on other text, and on a sample without HELP and TYPE before it."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    described: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert rest
            described.setdefault(name, set()).add(word)
            continue
        sample = SAMPLE.match(line)
        assert sample, line
        assert described[sample["name"]] == {"HELP", "TYPE"}
        key = line.rsplit(" ", 1)[0]
        assert key not in found
        found[key] = float(sample["value"])
    return found


def test_a_new_host_has_every_metric_at_zero() -> None:
    found = samples(render_metrics(Record(), {}, START))
    assert set(found.values()) == {0}
    assert sum(name.startswith("zdd_agent_operations_total{") for name in found) == len(Verb) * len(Outcome)


def test_a_host_that_is_out_shows_for_how_long_and_an_operation_its_age() -> None:
    membership = Membership((), (Target(arn("web"), "i-me", 80), Target(arn("web"), "i-me", 81)))
    found = samples(render_metrics(Record(membership=membership, state=OUT, underway=DRAIN), {}, START + 42.5))
    assert found["zdd_agent_out_seconds"] == 42.5
    assert found["zdd_agent_operation_age_seconds"] == 32.5
    assert found["zdd_agent_targets"] == 2


def test_an_operation_that_has_ended_has_no_age() -> None:
    ended = Operation("4f", DRAIN.request, Phase.SETTLED, START, START + 9, START + 5, Outcome.SUCCEEDED)
    assert samples(render_metrics(Record(last=ended), {}, START + 42))["zdd_agent_operation_age_seconds"] == 0


def test_notices_are_counted_by_kind_where_any_is_heeded() -> None:
    found = samples(render_metrics(Record(), {}, START, {NoticeKind.SPOT: 1, NoticeKind.REBALANCE: 0}))
    assert found['zdd_agent_notices_total{kind="spot"}'] == 1
    assert found['zdd_agent_notices_total{kind="rebalance"}'] == 0
    assert "zdd_agent_notices_total" not in render_metrics(Record(), {}, START)


def test_operations_are_counted_by_verb_and_outcome() -> None:
    found = samples(render_metrics(Record(), {(Verb.REJOIN, Outcome.TIMED_OUT): 3}, START))
    assert found['zdd_agent_operations_total{verb="rejoin",outcome="timed_out"}'] == 3
    assert found['zdd_agent_operations_total{verb="rejoin",outcome="succeeded"}'] == 0


def test_a_clock_that_was_set_back_over_a_restart_shows_no_negative_span() -> None:
    found = samples(render_metrics(Record(state=OUT, underway=DRAIN), {}, START - 60))
    assert found["zdd_agent_out_seconds"] == 0
    assert found["zdd_agent_operation_age_seconds"] == 0
