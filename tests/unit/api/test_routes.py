"""The route table: who may call which route, and what each answers."""

import pytest

from served import Served, error, said
from zdd_agent.api.access import Level
from zdd_agent.api.routes import ROUTES
from zdd_agent.api.routing import Route
from zdd_agent.model.operation import Verb

ROUTE_NAMES = [f"{route.method} {route.path}" for route in ROUTES]


@pytest.mark.parametrize("route", ROUTES, ids=ROUTE_NAMES)
@pytest.mark.parametrize("level", [Level.NOTHING, Level.READ, Level.OPERATE])
def test_every_route_lets_in_whom_its_row_says_and_nobody_else(served: Served, route: Route, level: Level) -> None:
    operation = served.host.begin(Verb.DRAIN)
    target, method = route.path.replace("ID", operation.id), route.method
    if route.path == "/v1/rejoin":
        served.host.finish()
    before = served.host.record()
    answer = served.ask(method, target, level=level)
    if level >= route.access:
        assert answer.status in (200, 202)
    else:
        assert error(answer) == (403, "forbidden")
        assert served.host.record() == before


def test_reading_is_for_what_changes_nothing_and_operating_for_the_rest() -> None:
    assert {route.method for route in ROUTES if route.access is Level.READ} == {"GET"}
    assert {route.access for route in ROUTES if route.method == "POST"} == {Level.OPERATE}
    assert all(route.access > Level.NOTHING for route in ROUTES)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.answers], ids=lambda route: route.path)
def test_every_answer_has_a_model_that_its_row_names(served: Served, route: Route) -> None:
    operation = served.host.begin(Verb.DRAIN)
    if route.path == "/v1/rejoin":
        served.host.finish()
    answer = served.ask(route.method, route.path.replace("ID", operation.id))
    names = set(said(answer))
    assert names in [set(model.model_fields) for model in route.answers]
