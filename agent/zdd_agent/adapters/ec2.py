"""Amazon EC2 through boto3.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from zdd_agent.adapters.aws import mapped

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


class Ec2:
    """Where instances are; asked only for groups that balance each zone on its own."""

    def __init__(self, client: Callable[[], EC2Client]) -> None:
        self._client = client

    def zones(self, instance_ids: Sequence[str]) -> Mapping[str, str]:
        """The Availability Zone of each of these instances, without those that EC2 does not know any more."""
        with mapped("ec2", "DescribeInstances"):
            pages = self._client().get_paginator("describe_instances")
            return {
                instance["InstanceId"]: instance["Placement"]["AvailabilityZone"]
                for page in pages.paginate(Filters=[{"Name": "instance-id", "Values": list(instance_ids)}])
                for reservation in page["Reservations"]
                for instance in reservation["Instances"]
            }
