"""The route table: who may call which route, and what each answers."""

import pytest

from served import Served, error, said
from zdd_agent.api.access import Level
from zdd_agent.api.http1 import HttpResponse
from zdd_agent.api.routes import ROUTES
from zdd_agent.api.routing import Route
from zdd_agent.model.operation import Verb
from zdd_agent.model.slots import Holder

ROUTE_NAMES = [f"{route.method} {route.path}" for route in ROUTES]
# The routes that answer only after the drain, and the bodies that some routes need.
AFTER_THE_DRAIN = ("/v1/rejoin", "/v1/forget")
BODIES = {
    "/v1/forget": b'{"target": "web i-me:8080"}',
    "/v1/slots/release": b'{"instance": "i-dead", "reason": "its disk died"}',
}


@pytest.fixture
def served() -> Served:
    served = Served(slots={"table": "slots", "name": "web", "limit": 2})
    served.host.slots.holders["i-dead"] = Holder("i-dead", 1.0, 2.0)
    return served


def called(served: Served, route: Route, level: Level = Level.OPERATE) -> HttpResponse:
    """The answer of this route on a host that drains, or has drained where the route needs that."""
    operation = served.host.begin(Verb.DRAIN)
    if route.path in AFTER_THE_DRAIN:
        served.host.finish()
    before = served.host.record()
    answer = served.ask(route.method, route.path.replace("ID", operation.id), BODIES.get(route.path, b""), level)
    assert answer.status < 400 or served.host.record() == before
    return answer


@pytest.mark.parametrize("route", ROUTES, ids=ROUTE_NAMES)
@pytest.mark.parametrize("level", [Level.NOTHING, Level.READ, Level.OPERATE])
def test_every_route_lets_in_whom_its_row_says_and_nobody_else(served: Served, route: Route, level: Level) -> None:
    answer = called(served, route, level)
    if level >= route.access:
        assert answer.status in (200, 202)
    else:
        assert error(answer) == (403, "forbidden")


def test_reading_is_for_what_changes_nothing_and_operating_for_the_rest() -> None:
    assert {route.method for route in ROUTES if route.access is Level.READ} == {"GET"}
    assert {route.access for route in ROUTES if route.method == "POST"} == {Level.OPERATE}
    assert all(route.access > Level.NOTHING for route in ROUTES)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.answers], ids=lambda route: route.path)
def test_every_answer_has_a_model_that_its_row_names(served: Served, route: Route) -> None:
    assert set(said(called(served, route))) in [set(model.model_fields) for model in route.answers]
