"""What looks at AWS agree on."""

from __future__ import annotations

from fakes import START, arn
from zdd_agent.decide.evidence import API_LAG_SECONDS, Evidence
from zdd_agent.model.aws import State, Target, TargetHealth
from zdd_agent.model.operation import Observation

WEB, SECOND = Target(arn("web"), "i-me", 8080), Target(arn("second"), "i-me", 9090)


def look(at: float, *targets: Target) -> Observation:
    healthy = tuple(TargetHealth(target, State.HEALTHY) for target in targets)
    return Observation(healthy, frozenset(), at, at + 10)


def shown(seen: Observation) -> tuple[Target, ...]:
    return tuple(health.target for health in seen.population)


def test_looks_agree_only_on_what_each_of_them_shows() -> None:
    later = START + API_LAG_SECONDS
    assert not Evidence((look(later, SECOND), look(START, WEB))).agreed(shown)
    assert Evidence((look(later, SECOND, WEB), look(START, WEB))).agreed(shown) == {WEB}


def test_looks_within_the_lag_of_the_api_agree_on_nothing() -> None:
    sooner = START + API_LAG_SECONDS - 0.1
    assert not Evidence((look(sooner, WEB), look(START, WEB))).agreed(shown)


def test_one_look_between_that_shows_something_else_breaks_the_agreement() -> None:
    evidence = Evidence((look(START + 20, WEB), look(START + 12), look(START, WEB)))
    assert not evidence.agreed(shown)
