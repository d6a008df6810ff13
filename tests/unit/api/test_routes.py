"""The API: who may call which route, and what each answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fakes import group
from host import Host
from zdd_agent.adapters.clock import SystemClock
from zdd_agent.api.access import Level, Peer, Policy
from zdd_agent.api.answers import error_response
from zdd_agent.api.dispatch import Api
from zdd_agent.api.http1 import HttpRequest, HttpResponse
from zdd_agent.api.routes import ROUTES
from zdd_agent.api.routing import Route
from zdd_agent.engine.doctor import Doctor
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.operation import Verb

POLICY = Policy(frozenset({0}), frozenset(), frozenset({1001}), frozenset())
UIDS = {Level.NOTHING: 5000, Level.READ: 1001, Level.OPERATE: 0}
ROUTE_NAMES = [f"{route.method} {route.path}" for route in ROUTES]


class Served:
    """The API of a host that is one of the two healthy targets of a group."""

    def __init__(self) -> None:
        self.host = Host(group())
        self.host.aws.put("web")
        self.host.aws.put("web", "i-sibling")
        self.clock = SystemClock()
        self.gone = False
        doctor = Doctor(
            observer=self.host.observer,
            aws=self.host.aws,
            metadata=self.host.metadata,
            prober=self.host.prober,
            clock=self.clock,
            floor=self.host.floor,
            local=[("state file", lambda: "writable")],
        )
        self.api = Api(self.host.ledger, self.host.reporter(), doctor, self.clock, POLICY)

    def ask(self, method: str, target: str, body: bytes = b"", level: Level = Level.OPERATE) -> HttpResponse:
        peer = Peer(1, UIDS[level], frozenset())
        try:
            return self.api.handle(HttpRequest(method, target, body, peer, lambda: self.gone))
        except AgentError as error:
            return error_response(error)

    @contextmanager
    def turning(self) -> Iterator[None]:
        """The host's loop turns meanwhile."""
        loop = threading.Thread(target=self.host.runner.run)
        loop.start()
        try:
            yield
        finally:
            self.host.runner.stop()
            loop.join()


@pytest.fixture
def served() -> Served:
    return Served()


def error(response: HttpResponse) -> tuple[int, str]:
    return response.status, json.loads(response.body)["error"]["kind"]


def said(response: HttpResponse) -> Any:
    return json.loads(response.body)


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


@pytest.mark.parametrize("target", ["/v1/nothing", "/v1/status?x=1", "/v1/drain", "//[", "*", "/v1/operations/4f"])
def test_a_stranger_learns_nothing_not_even_which_paths_exist(served: Served, target: str) -> None:
    answers = {served.ask(method, target, b"{", Level.NOTHING).body for method in ("GET", "POST")}
    assert len(answers) == 1
    assert json.loads(answers.pop())["error"]["kind"] == "forbidden"


def test_a_refused_user_is_told_the_way_in(served: Served) -> None:
    refused = said(served.ask("POST", "/v1/drain", level=Level.READ))["error"]
    assert "uid 1001" in refused["message"]
    assert "zdd-agent" in refused["hint"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/drian", "did you mean /v1/drain?"),
        ("/status", "did you mean /v1/status?"),
        ("/v1/status/", "did you mean /v1/status?"),
        ("/", "see GET /v1/openapi.json"),
        ("//[", "see GET /v1/openapi.json"),
        ("/v1/operations/", "did you mean /v1/operations/ID?"),
        ("/v1/operations/a/b", "did you mean /v1/operations/ID?"),
        ("/v1/../v1/status", "did you mean /v1/status?"),
    ],
)
def test_an_unknown_path_is_a_404_that_names_the_nearest(served: Served, path: str, hint: str) -> None:
    answer = served.ask("GET", path)
    assert error(answer) == (404, "not_found")
    assert said(answer)["error"]["hint"] == hint


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/drain", "POST"),
        ("POST", "/v1/status", "GET"),
        ("DELETE", "/v1/operations/4f", "GET"),
        ("HEAD", "/v1/status", "GET"),
        ("A" * 500, "/v1/status", "GET"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_one(served: Served, method: str, path: str, allow: str) -> None:
    answer = served.ask(method, path)
    assert error(answer) == (405, "method_not_allowed")
    assert dict(answer.headers) == {"allow": allow}
    assert len(answer.body) < 300


@pytest.mark.parametrize(
    "query",
    [
        "wait",
        "wait=",
        "wait=-1",
        "wait=soon",
        "wait=nan",
        "wait=inf",
        "wait=1e3",
        "wait=٣",
        "wait=3601",
        "wait=" + "9" * 5000,
        "wait=1&x=2",
        "wait=1&&",
        "wait=1;after=2",
        "after=1",
        "x=1",
        "a=1&" * 9,
        "%zz",
    ],
)
def test_a_query_that_the_route_does_not_take_is_a_400_and_nothing_is_begun(served: Served, query: str) -> None:
    assert error(served.ask("POST", f"/v1/drain?{query}")) == (400, "usage")
    assert served.host.record().operation is None


def test_a_route_without_parameters_says_so(served: Served) -> None:
    answer = served.ask("GET", "/v1/status?verbose=1")
    assert error(answer) == (400, "usage")
    assert said(answer)["error"]["hint"] == "this path takes no parameters"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"drain", b"\xff\xfe", b'{"timeout": -1}', b'{"target": "i-other"}', b'"' + b"[" * 10_000]
)
def test_a_broken_body_is_a_400_that_names_what_may_stand_there(served: Served, body: bytes) -> None:
    answer = served.ask("POST", "/v1/drain", body)
    assert error(answer) == (400, "usage")
    fields = said(answer)["error"]["hint"].removeprefix("a JSON object of ").split(", ")
    assert {"timeout", "reason", "dry_run", "force"} <= set(fields)
    assert served.host.record().operation is None


def test_the_fault_of_a_body_is_named_with_its_field(served: Served) -> None:
    answer = said(served.ask("POST", "/v1/drain", b'{"reason": "ok", "timeuot": 5}'))["error"]
    assert "timeuot" in answer["message"]
    assert answer["value"] == "timeuot"


def test_a_post_answers_202_with_the_operation_and_does_not_wait(served: Served) -> None:
    answer = served.ask("POST", "/v1/drain", b'{"timeout": 42, "reason": "release 7"}')
    assert answer.status == 202
    view = said(answer)
    assert (view["verb"], view["outcome"], view["reason"], view["uid"]) == ("drain", None, "release 7", 0)
    assert view["deadline"] - view["started_at"] == 42
    operation = served.host.record().operation
    assert operation is not None
    assert operation.id == view["id"]


def test_a_second_post_of_the_same_verb_joins_and_of_the_other_is_busy(served: Served) -> None:
    first = said(served.ask("POST", "/v1/drain"))
    assert said(served.ask("POST", "/v1/drain"))["id"] == first["id"]
    busy = served.ask("POST", "/v1/rejoin")
    assert error(busy) == (409, "busy")
    assert "zdd-agent cancel" in said(busy)["error"]["hint"]


def test_a_post_with_wait_is_a_whole_drain(served: Served) -> None:
    with served.turning():
        answer = served.ask("POST", "/v1/drain?wait=60")
    assert answer.status == 200
    assert said(answer)["outcome"] == "succeeded"


def test_a_post_with_wait_answers_202_when_its_seconds_are_over(served: Served) -> None:
    answer = served.ask("POST", "/v1/drain?wait=0.05")
    assert (answer.status, said(answer)["outcome"]) == (202, None)


def test_a_wait_for_an_operation_that_fails_answers_with_its_status_and_the_operation(served: Served) -> None:
    served.host.aws.errors["DeregisterTargets"] = [AgentError(Kind.AWS_DENIED, "cannot call", value="x:Y")]
    with served.turning():
        answer = served.ask("POST", "/v1/drain?wait=60")
    assert answer.status == 502
    assert (said(answer)["verb"], said(answer)["error"]["kind"]) == ("drain", "aws_denied")


def test_a_caller_that_hung_up_is_not_waited_for_and_its_operation_goes_on(served: Served) -> None:
    served.gone = True
    answer = served.ask("POST", "/v1/drain?wait=3600")
    assert answer.status == 202
    assert served.host.ledger.running() is not None


def test_a_daemon_on_its_way_out_lets_everybody_go(served: Served) -> None:
    served.host.ledger.close()
    operation = said(served.ask("POST", "/v1/drain?wait=3600"))["id"]
    last = said(served.ask("GET", f"/v1/operations/{operation}"))["events"][-1]["seq"]
    answer = served.ask("GET", f"/v1/operations/{operation}?wait=3600&after={last}")
    assert (answer.status, said(answer)["events"]) == (200, [])


def test_a_long_poll_answers_with_the_first_event_after_the_one_it_knows(served: Served) -> None:
    operation = served.host.begin(Verb.DRAIN)
    events = said(served.ask("GET", f"/v1/operations/{operation.id}?after=0&wait=60"))["events"]
    assert [event["text"] for event in events] == ["drain started"]
    telling = threading.Thread(target=served.host.ledger.say, args=("something else",))
    answers: list[Any] = []
    target = f"/v1/operations/{operation.id}?after={events[-1]['seq']}&wait=60"
    polling = threading.Thread(target=lambda: answers.append(said(served.ask("GET", target))))
    polling.start()
    telling.start()
    polling.join()
    telling.join()
    assert [event["text"] for event in answers[0]["events"]] == ["something else"]


def test_a_long_poll_answers_at_once_when_the_operation_has_ended(served: Served) -> None:
    operation = served.host.do(Verb.DRAIN)
    last = said(served.ask("GET", f"/v1/operations/{operation.id}"))["events"][-1]["seq"]
    answer = said(served.ask("GET", f"/v1/operations/{operation.id}?wait=3600&after={last}"))
    assert (answer["outcome"], answer["events"]) == ("succeeded", [])


def test_a_long_poll_without_news_ends_with_its_seconds(served: Served) -> None:
    operation = served.host.begin(Verb.DRAIN)
    last = said(served.ask("GET", f"/v1/operations/{operation.id}"))["events"][-1]["seq"]
    answer = said(served.ask("GET", f"/v1/operations/{operation.id}?wait=0.05&after={last}"))
    assert (answer["outcome"], answer["events"]) == (None, [])


def test_an_operation_that_is_not_there_is_a_404(served: Served) -> None:
    assert error(served.ask("GET", "/v1/operations/4f")) == (404, "not_found")


def test_cancel_answers_202_with_the_operation_and_404_without_one(served: Served) -> None:
    assert error(served.ask("POST", "/v1/cancel")) == (404, "not_found")
    operation = served.host.begin(Verb.DRAIN)
    answer = served.ask("POST", "/v1/cancel")
    assert (answer.status, said(answer)["id"]) == (202, operation.id)
    assert served.host.finish().cancelled_by == 0


def test_a_dry_run_says_what_would_be_done_and_does_nothing(served: Served) -> None:
    answer = served.ask("POST", "/v1/drain", b'{"dry_run": true}')
    assert answer.status == 200
    plan = said(answer)
    assert (plan["verb"], plan["dry_run"]) == ("drain", True)
    assert [(t["target_group"], t["id"], t["port"]) for t in plan["targets"]] == [("web", "i-me", 8080)]
    assert served.host.record().operation is None
    assert not {"RegisterTargets", "DeregisterTargets"} & set(served.host.aws.calls)


def test_a_dry_run_is_for_operators_like_the_operation_itself(served: Served) -> None:
    assert error(served.ask("POST", "/v1/drain", b'{"dry_run": true}', Level.READ)) == (403, "forbidden")


def test_status_tells_posture_targets_and_who_this_host_is(served: Served) -> None:
    view = said(served.ask("GET", "/v1/status"))
    assert (view["posture"], view["instance_id"], view["zone"]) == ("in_service", "i-me", "eu-west-1a")
    assert [(t["target_group"], t["port"], t["state"]) for t in view["targets"]] == [("web", 8080, "healthy")]
    assert (view["operation"], view["drained_since"], view["warnings"]) == (None, None, [])


def test_status_answers_though_the_metadata_service_is_down(served: Served) -> None:
    served.host.metadata.errors = [AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask", hint="check it", transient=True)]
    answer = served.ask("GET", "/v1/status")
    assert answer.status == 200
    assert (said(answer)["posture"], said(answer)["instance_id"]) == ("unknown", None)
    assert said(answer)["warnings"] == ["cannot ask (check it)"]


def test_metrics_are_prometheus_text(served: Served) -> None:
    answer = served.ask("GET", "/v1/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# TYPE zdd_agent_operations_total counter" in answer.body


def test_the_description_is_served_as_well(served: Served) -> None:
    assert said(served.ask("GET", "/v1/openapi.json"))["openapi"] == "3.1.0"


def test_the_doctor_answers_with_every_finding_and_whether_all_is_well(served: Served) -> None:
    served.host.metadata.errors = [AgentError(Kind.METADATA_UNAVAILABLE, "cannot ask", hint="check it", transient=True)]
    answer = served.ask("POST", "/v1/doctor")
    assert answer.status == 200
    assert said(answer)["ok"] is False
    assert said(answer)["findings"][0] == {"name": "state file", "ok": True, "said": "writable", "hint": ""}
    assert said(answer)["findings"][1]["hint"] == "check it"


def test_a_check_that_this_verb_does_not_know_cannot_be_forced(served: Served) -> None:
    answer = served.ask("POST", "/v1/rejoin", b'{"force": ["min_healthy"]}')
    assert error(answer) == (400, "usage")
    assert served.host.record().operation is None
