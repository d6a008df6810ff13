"""Amazon EC2 through boto3.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zdd_agent.adapters.aws import mapped

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


# AWS takes at most this many values in one filter:
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
_VALUES_A_FILTER = 200


class Ec2:
    """Where instances are, for groups that balance each zone on its own; and which run, for a percentage."""

    def __init__(self, client: Callable[[], EC2Client]) -> None:
        self._client = client

    def zones(self, instance_ids: Sequence[str]) -> Mapping[str, str]:
        """The Availability Zone of each of these instances, without those that EC2 does not know any more."""
        return {one["InstanceId"]: one["Placement"]["AvailabilityZone"] for one in self._described(instance_ids)}

    def running(self, instance_ids: Sequence[str]) -> frozenset[str]:
        """Those of these instances that run."""
        return frozenset(
            one["InstanceId"] for one in self._described(instance_ids) if one["State"]["Name"] == "running"
        )

    def _described(self, instance_ids: Sequence[str]) -> Iterator[Any]:
        with mapped("ec2", "DescribeInstances"):
            pages = self._client().get_paginator("describe_instances")
            for start in range(0, len(instance_ids), _VALUES_A_FILTER):
                some = list(instance_ids[start : start + _VALUES_A_FILTER])
                for page in pages.paginate(Filters=[{"Name": "instance-id", "Values": some}]):
                    for reservation in page["Reservations"]:
                        yield from reservation["Instances"]
