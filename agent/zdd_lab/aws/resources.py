"""Creates the lab's AWS resources: a VPC with two zones, a load balancer, a target group, instances."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from zdd_lab.aws.instance_identity import Identity
from zdd_lab.aws.topology_reader import REGION, TopologyReader
from zdd_lab.model.profile import Profile

ZONES = {"a": f"{REGION}a", "b": f"{REGION}b"}
GROUP_NAME = "web"
IMAGE = "ami-12c6146b"  # moto checks only that it exists


@dataclass(frozen=True, slots=True)
class Network:
    """The VPC that hosts are created in."""

    vpc: str
    cidr: str
    subnets: dict[str, str]  # by zone letter


@dataclass(frozen=True, slots=True)
class Front:
    """The lab's own load balancer, its listener and its target group."""

    load_balancer: str  # ARN
    group: str  # ARN
    listener: str  # ARN


def create_network(reader: TopologyReader, prefix: str) -> Network:
    """Create a VPC over the lab's addresses, with a subnet in each zone."""
    cidr = f"{prefix}.0/24"
    vpc = reader.ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
    blocks = {"a": f"{prefix}.0/25", "b": f"{prefix}.128/25"}
    subnets = {
        letter: reader.ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=ZONES[letter])["Subnet"]
        for letter, block in blocks.items()
    }
    return Network(vpc, cidr, {letter: subnet["SubnetId"] for letter, subnet in subnets.items()})


def create_front(reader: TopologyReader, network: Network, profile: Profile, port: int) -> Front:
    """Create a load balancer in both zones, a target group `web` of instances, and a listener that forwards to it."""
    balancer = reader.elb.create_load_balancer(Name="web", Subnets=list(network.subnets.values()))
    balancer_arn: str = balancer["LoadBalancers"][0]["LoadBalancerArn"]
    group = reader.elb.create_target_group(
        Name=GROUP_NAME,
        Protocol="HTTP",
        Port=port,
        VpcId=network.vpc,
        TargetType="instance",
        HealthCheckPath="/healthz",
        HealthCheckIntervalSeconds=round(profile.check_interval / profile.check_scale),
        HealthCheckTimeoutSeconds=round(profile.check_timeout / profile.check_scale),
        HealthyThresholdCount=profile.healthy_threshold,
        UnhealthyThresholdCount=profile.unhealthy_threshold,
    )
    group_arn: str = group["TargetGroups"][0]["TargetGroupArn"]
    delay = {
        "Key": "deregistration_delay.timeout_seconds",
        "Value": str(round(profile.deregistration_delay)),
    }
    reader.elb.modify_target_group_attributes(TargetGroupArn=group_arn, Attributes=[delay])
    listener = reader.elb.create_listener(
        LoadBalancerArn=balancer_arn,
        Protocol="HTTP",
        Port=port,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group_arn}],
    )
    return Front(balancer_arn, group_arn, listener["Listeners"][0]["ListenerArn"])


def create_instance(reader: TopologyReader, network: Network, prefix: str, number: int) -> Identity:
    """Create the instance of host `number`, counted from 1.

    Odd numbers are in zone a at PREFIX.(10 + number), even ones in zone b at PREFIX.(138 + number): each in
    the subnet of its zone, or moto refuses.
    """
    letter, base = ("a", 10) if number % 2 else ("b", 138)
    name, address = f"h{number}", f"{prefix}.{base + number}"
    launched: dict[str, Any] = reader.ec2.run_instances(
        ImageId=IMAGE,
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.micro",
        SubnetId=network.subnets[letter],
        PrivateIpAddress=address,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}],
    )["Instances"][0]
    return Identity(
        host=name,
        instance_id=launched["InstanceId"],
        address=address,
        zone=ZONES[letter],
        mac=launched["NetworkInterfaces"][0]["MacAddress"],
        vpc=network.vpc,
        subnet=network.subnets[letter],
        vpc_cidr=network.cidr,
        access_key=f"ASIAZDDLABHOST{number:06d}",
        tags={"Name": name},
    )


def find_instances(reader: TopologyReader, ids: Sequence[str], first_number: int) -> list[Identity]:
    """Identities of instances that somebody else launched, ordered by address and numbered from `first_number`."""
    pages = reader.ec2.get_paginator("describe_instances").paginate(InstanceIds=list(ids))
    found = [one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]
    vpcs = reader.ec2.describe_vpcs(VpcIds=sorted({one["VpcId"] for one in found}))["Vpcs"]
    blocks = {vpc["VpcId"]: vpc["CidrBlock"] for vpc in vpcs}
    found.sort(key=lambda one: ip_address(one["PrivateIpAddress"]))
    return [
        Identity(
            host=f"h{number}",
            instance_id=one["InstanceId"],
            address=one["PrivateIpAddress"],
            zone=one["Placement"]["AvailabilityZone"],
            mac=one["NetworkInterfaces"][0]["MacAddress"],
            vpc=one["VpcId"],
            subnet=one["SubnetId"],
            vpc_cidr=blocks[one["VpcId"]],
            access_key=f"ASIAZDDLABHOST{number:06d}",
        )
        for number, one in enumerate(found, start=first_number)
    ]
