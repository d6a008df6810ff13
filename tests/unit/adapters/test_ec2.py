"""Where instances are and which run, asked in calls that AWS accepts."""

from typing import Any

import boto3
from botocore.stub import Stubber

from zdd_agent.adapters.ec2 import Ec2


def described(instance: str, state: str = "running") -> dict[str, Any]:
    return {"InstanceId": instance, "Placement": {"AvailabilityZone": "eu-west-1a"}, "State": {"Name": state}}


def stubbed(*parts: list[dict[str, Any]]) -> tuple[Ec2, Stubber]:
    """Each part is one call for the IDs in it and its answer."""
    client = boto3.client("ec2", region_name="eu-west-1", aws_access_key_id="AKIA", aws_secret_access_key="made-up")
    stub = Stubber(client)
    for part in parts:
        asked = {"Filters": [{"Name": "instance-id", "Values": [one["InstanceId"] for one in part]}]}
        stub.add_response("describe_instances", {"Reservations": [{"Instances": part}]}, asked)
    stub.activate()
    return Ec2(lambda: client), stub


def test_more_than_200_instances_are_asked_for_in_several_calls_and_none_is_lost() -> None:
    everyone = [described(f"i-{number:03}") for number in range(450)]
    ec2, stub = stubbed(everyone[:200], everyone[200:400], everyone[400:])
    assert ec2.zones([one["InstanceId"] for one in everyone]) == {one["InstanceId"]: "eu-west-1a" for one in everyone}
    stub.assert_no_pending_responses()


def test_those_that_run_are_told_from_all_others_over_every_call() -> None:
    everyone = [described(f"i-{number:03}", "running" if number % 2 else "stopped") for number in range(201)]
    ec2, stub = stubbed(everyone[:200], everyone[200:])
    assert ec2.running([one["InstanceId"] for one in everyone]) == {f"i-{number:03}" for number in range(1, 201, 2)}
    stub.assert_no_pending_responses()


def test_nobody_is_asked_about_nobody() -> None:
    ec2, _ = stubbed()
    assert ec2.zones([]) == {}
