"""What each route does and answers."""

import threading
from typing import Any

import pytest

from served import Served, error, said
from zdd_agent.api.access import Level
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.operation import Outcome, Reboot, Verb


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


def test_a_stop_that_cannot_be_prevented_reaches_the_operation(served: Served) -> None:
    assert served.ask("POST", "/v1/drain", b'{"stopping": true, "retry_seconds": 20}').status == 202
    operation = served.host.record().operation
    assert operation is not None
    assert (operation.request.stopping, operation.request.wait) == (True, 20)


def test_a_drain_that_a_reboot_follows_reaches_the_record_with_the_uid_that_asks(served: Served) -> None:
    assert served.ask("POST", "/v1/drain", b'{"reboot": true, "force": ["drained"]}').status == 202
    assert served.host.record().reboot == Reboot("boot-1", 0)


def test_only_a_reboot_can_pass_over_a_host_that_is_out(served: Served) -> None:
    answer = served.ask("POST", "/v1/drain", b'{"force": ["drained"]}')
    assert error(answer) == (400, "usage")
    assert served.host.record().operation is None


def test_a_drain_for_a_stop_that_cannot_be_prevented_goes_on_after_its_wait_though_refused_and_says_so(
    served: Served,
) -> None:
    served.host.aws.break_target(served.host.aws.put("web", "i-sibling"), "Target.ResponseCodeMismatch")
    began = served.host.clock.now()
    operation = said(served.ask("POST", "/v1/drain", b'{"stopping": true, "retry_seconds": 20}'))["id"]
    ended = served.host.finish()
    texts = [event["text"] for event in said(served.ask("GET", f"/v1/operations/{operation}"))["events"]]
    assert ended.outcome is Outcome.SUCCEEDED
    assert ended.ended_at is not None
    assert ended.ended_at >= began + 20
    assert any("drains although the guard refuses" in text for text in texts)


@pytest.mark.parametrize(
    ("verb", "body", "owner"),
    [
        ("rejoin", b'{"until": "idle"}', "drain"),
        ("rejoin", b'{"stopping": true}', "drain"),
        ("rejoin", b'{"reboot": true}', "drain"),
        ("rejoin", b'{"until": "idle", "dry_run": true}', "drain"),
        ("drain", b'{"keep_trying": true}', "rejoin"),
        ("drain", b'{"keep_trying": true, "dry_run": true}', "rejoin"),
    ],
)
def test_what_is_for_the_other_verb_is_refused(served: Served, verb: str, body: bytes, owner: str) -> None:
    answer = served.ask("POST", f"/v1/{verb}", body)
    assert error(answer) == (400, "usage")
    assert said(answer)["error"]["hint"] == f"it is for a {owner}"
    assert served.host.record().operation is None


def test_a_rejoin_that_nobody_waits_for_is_tried_again_after_a_failure_and_status_warns_until_it_works(
    served: Served,
) -> None:
    served.host.do(Verb.DRAIN)
    served.host.aws.errors["RegisterTargets"] = [AgentError(Kind.AWS_DENIED, "cannot call", value="x:Y")]
    first = said(served.ask("POST", "/v1/rejoin", b'{"keep_trying": true}'))["id"]
    assert served.host.finish().outcome is Outcome.FAILED
    assert any("trying the rejoin again in" in text for text in said(served.ask("GET", "/v1/status"))["warnings"])
    served.host.rest(600)
    again = served.host.record().last
    assert again is not None
    assert (again.verb, again.outcome, again.id != first) == (Verb.REJOIN, Outcome.SUCCEEDED, True)
    assert said(served.ask("GET", "/v1/status"))["warnings"] == []


def test_a_target_that_is_forgotten_is_in_the_membership_no_more(served: Served) -> None:
    served.host.aws.put("web", port=9090)
    served.host.do(Verb.DRAIN)
    answer = served.ask("POST", "/v1/forget", b'{"target": "web i-me:9090"}')
    assert (answer.status, said(answer)) == (200, {"target": "web i-me:9090"})
    membership = served.host.record().membership
    assert [target.port for target in membership.targets] == [8080]


@pytest.mark.parametrize("target", ["web i-me:9090", "web i-sibling:8080", "api i-me:8080"])
def test_a_target_that_this_host_does_not_have_cannot_be_forgotten(served: Served, target: str) -> None:
    served.host.do(Verb.DRAIN)
    before = served.host.record()
    answer = served.ask("POST", "/v1/forget", f'{{"target": "{target}"}}'.encode())
    assert error(answer) == (404, "not_found")
    assert target in said(answer)["error"]["message"]
    assert served.host.record() == before


def test_nothing_is_forgotten_while_a_drain_is_under_way(served: Served) -> None:
    served.host.begin(Verb.DRAIN)
    while not served.host.record().membership.targets:
        served.host.turn()
    assert error(served.ask("POST", "/v1/forget", b'{"target": "web i-me:8080"}')) == (409, "busy")


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
