"""DynamoDB in the lab: conditional writes to nested maps, each atomic; who may touch which item; and faults."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from lab.conftest import free_prefix
from lab.dynamodb_rig import ENGINES, client, create_table, lab_on, until_it_listens
from zdd_lab.model.faults import Fault, FaultKind
from zdd_lab.model.iam import Policy
from zdd_lab.threaded import ThreadedLab

AWS = Path(sys.executable).with_name("aws")
TABLE = "turns"
ARN = f"arn:aws:dynamodb:us-east-1:123456789012:table/{TABLE}"
KEY = {"service": {"S": "web"}}
# Threads that switch after each step find every gap between a condition and its write.
_HASTY = (
    "import runpy, sys; sys.setswitchinterval(1e-6); runpy.run_module('zdd_lab.aws.moto_process', run_name='__main__')"
)


def put(dynamodb: Any, service: str = "web", **condition: str) -> None:
    dynamodb.put_item(
        TableName=TABLE, Item={"service": {"S": service}, "holders": {"M": {}}, "waiters": {"M": {}}}, **condition
    )


def claim(dynamodb: Any, who: str, limit: int = 1, service: str = "web") -> Any:
    return dynamodb.update_item(
        TableName=TABLE,
        Key={"service": {"S": service}},
        UpdateExpression="SET holders.#me = :me REMOVE waiters.#me",
        ConditionExpression="attribute_exists(holders.#me) OR size(holders) < :limit",
        ExpressionAttributeNames={"#me": who},
        ExpressionAttributeValues={":me": {"M": {"since": {"N": "7"}}}, ":limit": {"N": str(limit)}},
        ReturnValues="ALL_NEW",
    )["Attributes"]


def holders(dynamodb: Any) -> dict[str, Any]:
    read = dynamodb.get_item(TableName=TABLE, Key=KEY, ConsistentRead=True)
    found: dict[str, Any] = read["Item"]["holders"]["M"]
    return found


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(ClientError) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == code


def winners(url: str, callers: ThreadPoolExecutor) -> int:
    """How many of twenty claims at once are granted."""
    dynamodb, together = client(url), Barrier(20)
    refusal = (
        dynamodb.exceptions.ConditionalCheckFailedException
    )  # made once: twenty threads would make several classes
    put(dynamodb)

    def wins(number: int) -> bool:
        together.wait()
        with suppress(refusal):
            return bool(claim(dynamodb, f"i-{number}"))
        return False

    won = sum(callers.map(wins, range(20)))
    assert len(holders(dynamodb)) == won
    return won


@pytest.fixture(scope="module", params=ENGINES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedLab]:
    with lab_on(request.param, tmp_path_factory.mktemp("dynamodb")) as running:
        create_table(client(running.lab.endpoint_url), TABLE)
        yield running


@pytest.fixture
def dynamodb(running: ThreadedLab) -> Iterator[Any]:
    """The table, whose only item holds nobody."""
    made = client(running.lab.endpoint_url)
    put(made)
    yield made
    running.lab.faults.clear()


def test_the_labs_own_dynamodb_never_switches_between_a_condition_and_its_write() -> None:
    address = f"{free_prefix()}.1"
    argv = [sys.executable, "-c", _HASTY, address, "4568"]
    with subprocess.Popen(argv) as moto, ThreadPoolExecutor(20) as callers:
        try:
            asyncio.run(until_it_listens(address, 4568))
            url = f"http://{address}:4568"
            create_table(client(url), TABLE)
            assert [winners(url, callers) for _ in range(5)] == [1] * 5
        finally:
            moto.kill()


def test_one_of_twenty_claims_at_once_wins(running: ThreadedLab) -> None:
    with ThreadPoolExecutor(20) as callers:
        for _ in range(3):
            assert winners(running.lab.endpoint_url, callers) == 1


def test_a_condition_that_does_not_hold_changes_nothing(dynamodb: Any) -> None:
    claim(dynamodb, "i-1")
    with refused("ConditionalCheckFailedException"):
        claim(dynamodb, "i-2")
    with refused("ConditionalCheckFailedException"):
        put(dynamodb, ConditionExpression="attribute_not_exists(service)")
    assert set(holders(dynamodb)) == {"i-1"}


def test_a_write_to_one_entry_of_a_map_leaves_the_others(dynamodb: Any) -> None:
    claim(dynamodb, "i-1", limit=2)
    found = claim(dynamodb, "i-2", limit=2)
    assert set(found["holders"]["M"]) == {"i-1", "i-2"}

    gone = {"UpdateExpression": "REMOVE holders.#x", "ExpressionAttributeNames": {"#x": "i-1"}}
    for _ in range(2):  # what is not there is removed, too
        dynamodb.update_item(TableName=TABLE, Key=KEY, **gone)
    assert set(holders(dynamodb)) == {"i-2"}


def test_no_comparison_with_the_size_of_what_is_not_there_holds(dynamodb: Any) -> None:
    with refused("ConditionalCheckFailedException"):
        claim(dynamodb, "i-1", service="nobody's")
    assert "Item" not in dynamodb.get_item(TableName=TABLE, Key={"service": {"S": "nobody's"}})


def test_a_path_into_an_item_that_is_not_there_is_refused(dynamodb: Any) -> None:
    with refused("ValidationException"):
        dynamodb.update_item(
            TableName=TABLE, Key={"service": {"S": "nobody's"}}, UpdateExpression="SET holders.a = :n",
            ExpressionAttributeValues={":n": {"N": "1"}},
        )  # fmt: skip


def test_a_table_that_is_not_there_is_named_as_aws_names_it(dynamodb: Any) -> None:
    with refused("ResourceNotFoundException"):
        dynamodb.get_item(TableName="nothing", Key=KEY)


def test_the_aws_command_reads_and_writes_items(running: ThreadedLab, dynamodb: Any) -> None:
    def aws(*argv: str) -> Any:
        command = [AWS, "dynamodb", *argv, "--table-name", TABLE]
        env = running.lab.env(running.lab.hosts[0])
        return json.loads(subprocess.run(command, env=env, capture_output=True, timeout=60, check=True).stdout or "{}")

    names, values = json.dumps({"#me": "i-1"}), json.dumps({":me": {"M": {}}})
    update = ("--update-expression", "SET holders.#me = :me", "--expression-attribute-names", names)
    aws("update-item", "--key", json.dumps(KEY), *update, "--expression-attribute-values", values)
    assert aws("get-item", "--key", json.dumps(KEY), "--consistent-read")["Item"]["holders"]["M"] == {"i-1": {"M": {}}}
    assert aws("describe-table")["Table"]["TableName"] == TABLE


def give(running: ThreadedLab, **rest: Any) -> Any:
    """A client of the first host, whose role may do this much with the table."""
    host, clients = running.lab.hosts[0], running.lab.endpoint.clients
    actions = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": ARN, **rest}
    key = host.identity.access_key
    clients[key] = replace(clients[key], policy=Policy.parse(json.dumps({"Statement": [statement]})))
    return client(running.lab.endpoint_url, host)


def test_a_role_may_not_touch_the_item_of_another_service(running: ThreadedLab, dynamodb: Any) -> None:
    put(dynamodb, "other")
    only_web = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["web"]}}
    ours = give(running, Condition=only_web)

    claim(ours, "i-1")
    assert set(holders(ours)) == {"i-1"}
    put(ours)

    with refused("AccessDeniedException"):
        claim(ours, "i-1", service="other")
    with refused("AccessDeniedException"):
        put(ours, "other")
    with refused("AccessDeniedException"):
        ours.get_item(TableName=TABLE, Key={"service": {"S": "other"}})


def test_a_table_that_cannot_be_described_widens_nothing(running: ThreadedLab, dynamodb: Any) -> None:
    ours = give(running, Condition={"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["web"]}}, Resource="*")
    with refused("AccessDeniedException"):
        ours.get_item(TableName="nothing", Key={"service": {"S": "other"}})


def test_a_denial_names_the_caller_the_action_and_the_table(running: ThreadedLab) -> None:
    ours = give(running)
    with pytest.raises(ClientError) as caught:
        ours.delete_item(TableName=TABLE, Key=KEY)
    said, instance = caught.value.response["Error"]["Message"], running.lab.hosts[0].identity.instance_id
    assert said == (
        f"User: arn:aws:sts::123456789012:assumed-role/zdd-host/{instance} is not authorized to perform: "
        f"dynamodb:DeleteItem on resource: {ARN} because no identity-based policy allows the dynamodb:DeleteItem action"
    )
    with refused("AccessDeniedException"):
        ours.get_item(TableName="another", Key=KEY)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(FaultKind.THROTTLING), "ThrottlingException"),
        (
            Fault(FaultKind.ERROR, code="ProvisionedThroughputExceededException"),
            "ProvisionedThroughputExceededException",
        ),
        (Fault(FaultKind.SERVICE_UNAVAILABLE), "ServiceUnavailable"),
        (Fault(FaultKind.INTERNAL_FAILURE), "InternalServerError"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_refusal_is_spelled_as_dynamodb_spells_it(
    running: ThreadedLab, dynamodb: Any, fault: Fault, code: str
) -> None:
    running.lab.faults.add(replace(fault, service="dynamodb"))

    with refused(code):
        claim(dynamodb, "i-1")

    running.lab.client("elbv2").describe_target_groups()  # another service has no fault
    running.lab.faults.clear()
    assert holders(dynamodb) == {}


@pytest.mark.parametrize(
    ("kind", "found"), [(FaultKind.TIMEOUT_AFTER_EFFECT, {"i-1"}), (FaultKind.TIMEOUT_BEFORE_EFFECT, set())]
)
def test_an_answer_is_lost_after_the_claim_or_before_it(
    running: ThreadedLab, dynamodb: Any, kind: FaultKind, found: set[str]
) -> None:
    running.lab.faults.add(Fault(kind, action="UpdateItem", service="dynamodb", count=1))

    with pytest.raises(ReadTimeoutError):
        claim(client(running.lab.endpoint_url, read_timeout=0.5), "i-1")

    assert set(holders(dynamodb)) == found
