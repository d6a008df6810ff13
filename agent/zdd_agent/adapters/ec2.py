"""Amazon EC2 through boto3.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zdd_agent.adapters.aws import Service
from zdd_agent.adapters.limit import Limit

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


# "The maximum number of filter values specified on a single call is 200": FilterLimitExceeded, whose limit the pages of
# the API do not name (https://github.com/gjbae1212/gossm/issues/47).
_IDS_A_CALL = 200


class Ec2:
    """Where instances are, for groups that balance each zone on its own; and which of them run, or are gone."""

    def __init__(self, client: Callable[[], EC2Client], limit: Limit | None = None) -> None:
        self._client = client
        self._service = Service("ec2", limit or Limit())

    def zones(self, instance_ids: Sequence[str]) -> Mapping[str, str]:
        """The Availability Zone of each of these instances, without those that EC2 does not know any more."""
        return self._service.call(
            "DescribeInstances",
            lambda: {one["InstanceId"]: one["Placement"]["AvailabilityZone"] for one in self._described(instance_ids)},
        )

    def running(self, instance_ids: Sequence[str]) -> frozenset[str]:
        """The running ones of these instances."""
        return self._service.call(
            "DescribeInstances",
            lambda: frozenset(
                one["InstanceId"] for one in self._described(instance_ids) if one["State"]["Name"] == "running"
            ),
        )

    def terminated(self, instance_ids: Sequence[str]) -> frozenset[str]:
        """Those of these instances that EC2 lists as terminated; it lists one for about an hour."""
        return self._service.call(
            "DescribeInstances",
            lambda: frozenset(
                one["InstanceId"] for one in self._described(instance_ids) if one["State"]["Name"] == "terminated"
            ),
        )

    def _described(self, instance_ids: Sequence[str]) -> Iterator[Any]:
        pages = self._client().get_paginator("describe_instances")
        for start in range(0, len(instance_ids), _IDS_A_CALL):
            some = list(instance_ids[start : start + _IDS_A_CALL])
            # A filter, not InstanceIds: that refuses the whole call for one instance that is gone.
            for page in pages.paginate(Filters=[{"Name": "instance-id", "Values": some}]):
                for reservation in page["Reservations"]:
                    yield from reservation["Instances"]
