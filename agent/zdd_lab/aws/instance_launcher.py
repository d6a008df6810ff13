"""Launches and terminates instances in moto, as an Auto Scaling group asks."""

from ipaddress import ip_address, ip_network
from typing import Any

from zdd_lab.aws.instance_identity import Identity
from zdd_lab.aws.resources import IMAGE, find_instances
from zdd_lab.aws.scaling_settings import subnets_of
from zdd_lab.aws.topology_reader import TopologyReader
from zdd_lab.model.auto_scaling.group import ScalingGroup

_FIRST_HOST = 10  # hosts have addresses above it in their subnet: the load balancers' nodes are below


def launch(reader: TopologyReader, group: ScalingGroup, zone: str, number: int, prefix: str) -> tuple[Identity, str]:
    """Launch host `number` in a zone. Returns its identity and instance type. Blocks.

    Args:
        prefix: of the lab's own network.

    Raises:
        botocore.exceptions.ClientError: EC2 refuses.
    """
    subnet = _subnet(reader, group, zone)
    address = str(ip_network(subnet["CidrBlock"])[_FIRST_HOST + number])
    placed = {"PrivateIpAddress": address} if runs_here(address, prefix) else {}
    tags = [{"Key": "aws:autoscaling:groupName", "Value": group.name}]
    tags += [
        {"Key": one["Key"], "Value": one["Value"]} for one in group.told.get("Tags", ()) if one["PropagateAtLaunch"]
    ]
    launched: dict[str, Any] = reader.ec2.run_instances(
        **_source(reader, group),
        **placed,
        MinCount=1,
        MaxCount=1,
        SubnetId=subnet["SubnetId"],
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )["Instances"][0]
    (identity,) = find_instances(reader, [launched["InstanceId"]], number)
    return identity, launched["InstanceType"]


def terminate(reader: TopologyReader, instance_id: str) -> None:
    """Terminate an instance. Blocks."""
    reader.ec2.terminate_instances(InstanceIds=[instance_id])


def runs_here(address: str, prefix: str) -> bool:
    """Whether the lab can have a host at an address: on loopback, and in its own network, whose prefix this is."""
    return ip_address(address).is_loopback or address.startswith(f"{prefix}.")


def _subnet(reader: TopologyReader, group: ScalingGroup, zone: str) -> Any:
    wanted: dict[str, Any] = {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
    if named := subnets_of(dict(group.told)):
        wanted = {"SubnetIds": named}
    return next(one for one in reader.ec2.describe_subnets(**wanted)["Subnets"] if one["AvailabilityZone"] == zone)


def _source(reader: TopologyReader, group: ScalingGroup) -> dict[str, Any]:
    """What the instance is launched from, in the words of RunInstances."""
    source = group.launches_from
    template = source.get("LaunchTemplate")
    if mixed := source.get("MixedInstancesPolicy"):
        template = mixed["LaunchTemplate"]["LaunchTemplateSpecification"]
    if template:
        return {"LaunchTemplate": {"LaunchTemplateId": template["LaunchTemplateId"], "Version": template["Version"]}}
    if name := source.get("LaunchConfigurationName"):
        (found,) = reader.scaling.describe_launch_configurations(LaunchConfigurationNames=[name])[
            "LaunchConfigurations"
        ]
        return {"ImageId": found["ImageId"], "InstanceType": found["InstanceType"]}
    return {"ImageId": IMAGE, "InstanceType": "t3.micro"}
