"""Who a host is: its instance, its role's made-up credentials, and the metadata about both."""

import json
import time
from dataclasses import dataclass, field

from zdd_lab.aws.topology_reader import ACCOUNT, MADE_UP_SECRET, REGION

ROLE = "zdd-host"
CREDENTIALS_LAST = 6 * 3600.0  # s, about as long as EC2's own


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


@dataclass(frozen=True, slots=True)
class Identity:
    """One host of the lab as its instance metadata describes it."""

    host: str  # h1, h2...
    instance_id: str
    address: str
    zone: str
    mac: str
    vpc: str
    subnet: str
    vpc_cidr: str
    access_key: str  # of its role; unique, so that the endpoint knows who calls
    started_at: float = field(default_factory=time.time)  # s, wall time
    tags: dict[str, str] = field(default_factory=dict)  # in the metadata only if there are any, as they are opt-in

    @property
    def role_arn(self) -> str:
        """The caller as STS and AccessDenied name it."""
        return f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{self.instance_id}"

    def leaves(self, now: float) -> dict[str, str]:
        """Every metadata path under /latest/ that always exists, with its text. `now` is wall time, s."""
        interface = f"meta-data/network/interfaces/macs/{self.mac}"
        leaves = {
            "meta-data/ami-id": "ami-0123456789abcdef0",
            "meta-data/hostname": f"ip-{self.address.replace('.', '-')}.ec2.internal",
            "meta-data/iam/info": self._iam_info(now),
            f"meta-data/iam/security-credentials/{ROLE}": self._credentials(now),
            "meta-data/instance-id": self.instance_id,
            "meta-data/instance-life-cycle": "on-demand",
            "meta-data/instance-type": "t3.micro",
            "meta-data/local-hostname": f"ip-{self.address.replace('.', '-')}.ec2.internal",
            "meta-data/local-ipv4": self.address,
            "meta-data/mac": self.mac,
            f"{interface}/device-number": "0",
            f"{interface}/local-ipv4s": self.address,
            f"{interface}/mac": self.mac,
            f"{interface}/owner-id": ACCOUNT,
            f"{interface}/subnet-id": self.subnet,
            f"{interface}/vpc-id": self.vpc,
            f"{interface}/vpc-ipv4-cidr-block": self.vpc_cidr,
            "meta-data/placement/availability-zone": self.zone,
            "meta-data/placement/availability-zone-id": f"use1-az{ord(self.zone[-1]) - ord('a') + 1}",
            "meta-data/placement/region": REGION,
            "meta-data/services/domain": "amazonaws.com",
            "meta-data/services/partition": "aws",
            "dynamic/instance-identity/document": self._document(),
        }
        return leaves | {f"meta-data/tags/instance/{name}": value for name, value in self.tags.items()}

    def _iam_info(self, now: float) -> str:
        arn = f"arn:aws:iam::{ACCOUNT}:instance-profile/{ROLE}"
        told = {"Code": "Success", "LastUpdated": _stamp(now), "InstanceProfileArn": arn}
        return json.dumps(told | {"InstanceProfileId": "AIPAZDDLAB0000000000"}, indent=2)

    def _credentials(self, now: float) -> str:
        # The end moves on with every look, the key stays: so the endpoint always knows the caller.
        told = {
            "Code": "Success",
            "LastUpdated": _stamp(now),
            "Type": "AWS-HMAC",
            "AccessKeyId": self.access_key,
            "SecretAccessKey": MADE_UP_SECRET,
            "Token": f"made-up-session-of-{self.host}",
            "Expiration": _stamp(now + CREDENTIALS_LAST),
        }
        return json.dumps(told, indent=2)

    def _document(self) -> str:
        told = {
            "accountId": ACCOUNT,
            "architecture": "x86_64",
            "availabilityZone": self.zone,
            "imageId": "ami-0123456789abcdef0",
            "instanceId": self.instance_id,
            "instanceType": "t3.micro",
            "pendingTime": _stamp(self.started_at),
            "privateIp": self.address,
            "region": REGION,
            "version": "2017-09-30",
        }
        return json.dumps(told, indent=2)
