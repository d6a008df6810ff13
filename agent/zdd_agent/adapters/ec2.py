"""Amazon EC2 through boto3.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from zdd_agent.adapters.aws import Service
from zdd_agent.adapters.limit import Limit

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


# "The maximum number of filter values specified on a single call is 200": FilterLimitExceeded, whose limit the pages of
# the API do not name (https://github.com/gjbae1212/gossm/issues/47).
_IDS_A_CALL = 200


class Ec2:
    """Where instances are; asked only for groups that balance each zone on its own."""

    def __init__(self, client: Callable[[], EC2Client], limit: Limit | None = None) -> None:
        self._client = client
        self._service = Service("ec2", limit or Limit())

    def zones(self, instance_ids: Sequence[str]) -> Mapping[str, str]:
        """The Availability Zone of each of these instances, without those that EC2 does not know any more."""

        def ask() -> dict[str, str]:
            pages = self._client().get_paginator("describe_instances")
            # A filter, not InstanceIds: that refuses the whole call for one instance that is gone.
            return {
                instance["InstanceId"]: instance["Placement"]["AvailabilityZone"]
                for start in range(0, len(instance_ids), _IDS_A_CALL)
                for page in pages.paginate(
                    Filters=[{"Name": "instance-id", "Values": list(instance_ids[start : start + _IDS_A_CALL])}]
                )
                for reservation in page["Reservations"]
                for instance in reservation["Instances"]
            }

        return self._service.call("DescribeInstances", ask)
