"""Reads the topology from moto."""

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from zdd_lab.model.target import HealthCheck
from zdd_lab.model.topology import Group, Instance, Listener, LoadBalancer, Topology

REGION = "us-east-1"
ACCOUNT = "123456789012"  # moto's own
LAB_KEY = "AKIAZDDLABITSELF0000"  # made up
MADE_UP_SECRET = "made-up"  # noqa: S105  # nobody checks a signature


def lab_session() -> boto3.session.Session:
    """A session with made-up keys. It reads no file and asks no metadata service."""
    return boto3.session.Session(LAB_KEY, MADE_UP_SECRET, region_name=REGION)


_READINGS = 4  # attempts: `terraform destroy` deletes up to ten things at once
CLIENT_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, proxies={})


class TopologyReader:
    """Reads moto. Its calls block: make them in another thread, one at a time."""

    def __init__(self, url: str) -> None:
        session = lab_session()
        self.elb: Any = session.client("elbv2", endpoint_url=url, config=CLIENT_CONFIG)
        self.ec2: Any = session.client("ec2", endpoint_url=url, config=CLIENT_CONFIG)
        self.scaling: Any = session.client("autoscaling", endpoint_url=url, config=CLIENT_CONFIG)

    def read(self) -> Topology:
        """The topology now. If something is deleted meanwhile, it is read again."""
        for _ in range(_READINGS):
            try:
                return self._read()
            except ClientError as error:
                if not error.response["Error"]["Code"].endswith("NotFound"):
                    raise
        return self._read()

    def _read(self) -> Topology:
        balancers = self._balancers()
        return Topology(
            groups={one.arn: one for one in self._groups()},
            load_balancers={one.arn: one for one in balancers},
            listeners=tuple(listener for one in balancers for listener in self._listeners(one)),
            instances={one.id: one for one in self._instances()},
        )

    def _groups(self) -> list[Group]:
        pages = self.elb.get_paginator("describe_target_groups").paginate()
        return [_group(self.elb, found) for page in pages for found in page["TargetGroups"]]

    def _balancers(self) -> list[LoadBalancer]:
        found = []
        for page in self.elb.get_paginator("describe_load_balancers").paginate():
            for one in page["LoadBalancers"]:
                zones = frozenset(zone["ZoneName"] for zone in one["AvailabilityZones"])
                crosses = one["Type"] != "network" or self._network_crosses_zones(one["LoadBalancerArn"])
                found.append(LoadBalancer(one["LoadBalancerArn"], one["Type"], zones, crosses))
        return found

    def _network_crosses_zones(self, arn: str) -> bool:
        """NLBs only, off by default. An ALB always crosses zones."""
        attributes = self.elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
        return {"Key": "load_balancing.cross_zone.enabled", "Value": "true"} in attributes

    def _listeners(self, balancer: LoadBalancer) -> list[Listener]:
        found = []
        for one in self.elb.describe_listeners(LoadBalancerArn=balancer.arn)["Listeners"]:
            rules = sorted(self.elb.describe_rules(ListenerArn=one["ListenerArn"])["Rules"], key=_priority)
            groups = frozenset(group for rule in rules for group in _forwards_to(rule["Actions"]))
            first = next((group for rule in rules if _takes_all(rule) for group in _forwards_to(rule["Actions"])), None)
            found.append(Listener(one["ListenerArn"], balancer.arn, one["Port"], first, groups))
        return found

    def _instances(self) -> list[Instance]:
        return [
            Instance(
                one["InstanceId"],
                one["State"]["Name"],
                one.get("PrivateIpAddress", ""),
                one["Placement"]["AvailabilityZone"],
            )
            for page in self.ec2.get_paginator("describe_instances").paginate()
            for reservation in page["Reservations"]
            for one in reservation["Instances"]
        ]


def _priority(rule: dict[str, Any]) -> float:
    """The default action is the last rule: its priority reads `default`."""
    return float("inf") if rule["IsDefault"] else int(rule["Priority"])


def _takes_all(rule: dict[str, Any]) -> bool:
    """Whether the rule takes every request. The data plane follows no other rule: it does not look into requests."""
    return all("/*" in one.get("PathPatternConfig", one).get("Values", []) for one in rule.get("Conditions", []))


def _forwards_to(actions: list[dict[str, Any]]) -> list[str]:
    groups = []
    for action in actions:
        if arn := action.get("TargetGroupArn"):
            groups.append(arn)
        groups += [one["TargetGroupArn"] for one in action.get("ForwardConfig", {}).get("TargetGroups", [])]
    return groups


def _group(elb: Any, found: dict[str, Any]) -> Group:
    arn = found["TargetGroupArn"]
    listed = elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    attributes: Mapping[str, str] = {one["Key"]: one["Value"] for one in listed}
    port = found.get("HealthCheckPort", "traffic-port")
    plain = found.get("HealthCheckProtocol", "HTTP") in ("HTTP", "HTTPS")
    check = HealthCheck(
        protocol="HTTP" if plain else "TCP",
        port=None if port == "traffic-port" else int(port),
        path=found.get("HealthCheckPath", "/"),
        interval=float(found.get("HealthCheckIntervalSeconds", 30)),
        timeout=float(found.get("HealthCheckTimeoutSeconds", 5)),
        healthy_threshold=found.get("HealthyThresholdCount", 5),
        unhealthy_threshold=found.get("UnhealthyThresholdCount", 2),
        matcher=found.get("Matcher", {}).get("HttpCode", "200"),
        enabled=found.get("HealthCheckEnabled", True),
    )
    kind = found.get("TargetType", "instance")
    return Group(
        arn,
        found["TargetGroupName"],
        kind,
        found.get("Protocol", ""),
        found.get("Port", 0),
        check,
        attributes,
    )
