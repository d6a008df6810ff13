"""Reads the settings of an Auto Scaling group from the calls that create and change it."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from zdd_lab.aws.topology_reader import ACCOUNT, REGION
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.lifecycle_hook import ABANDON, LifecycleHook
from zdd_lab.model.aws_error import AwsError

Given = dict[str, Any]
_SOURCES = ("LaunchTemplate", "LaunchConfigurationName", "MixedInstancesPolicy")
# Field of the model by its name in the API.
_FIELDS = {
    "MinSize": "min_size",
    "MaxSize": "max_size",
    "DesiredCapacity": "desired",
    "HealthCheckType": "health_check_type",
    "HealthCheckGracePeriod": "grace",
    "CapacityRebalance": "capacity_rebalance",
    "NewInstancesProtectedFromScaleIn": "protects_new",
}
_DEFAULTS: Given = {  # that AWS tells of a group without these settings
    "DefaultCooldown": 300,
    "TerminationPolicies": ["Default"],
    "ServiceLinkedRoleARN": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/autoscaling.amazonaws.com/\
AWSServiceRoleForAutoScaling",
    "AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "balanced-best-effort"},
    "Tags": [],
}
# What the API repeats and the model does not act on.
_TOLD = (
    *_DEFAULTS,
    "AvailabilityZoneImpairmentPolicy",
    "CapacityReservationSpecification",
    "Context",
    "DefaultInstanceWarmup",
    "DeletionProtection",
    "DesiredCapacityType",
    "InstanceMaintenancePolicy",
    "MaxInstanceLifetime",
    "PlacementGroup",
    "VPCZoneIdentifier",
)


class Ec2Facts:
    """What the settings name and only EC2 knows. Its calls block: make them in another thread."""

    def __init__(self, ec2: Any) -> None:
        self._ec2 = ec2

    def zones(self, given: Given) -> tuple[str, ...]:
        """The zones of a group. Raises AwsError: ValidationError for none."""
        zones = list(given.get("AvailabilityZones", ()))
        if subnets := subnets_of(given):
            found = self._ec2.describe_subnets(SubnetIds=subnets)["Subnets"]
            zones = sorted(one["AvailabilityZone"] for one in found)
        if not zones:
            raise AwsError("ValidationError", "At least one Availability Zone or VPC Subnet is required.")
        return tuple(dict.fromkeys(zones))

    def source(self, given: Given) -> Given | None:
        """Where a group launches from, with a launch template's name and ID both. None when it is not given."""
        source = {name: given[name] for name in _SOURCES if name in given}
        if "LaunchTemplate" in source:
            source["LaunchTemplate"] = self._named(source["LaunchTemplate"])
        if mixed := source.get("MixedInstancesPolicy"):
            template = mixed["LaunchTemplate"]["LaunchTemplateSpecification"]
            mixed["LaunchTemplate"]["LaunchTemplateSpecification"] = self._named(template)
        return source or None

    def _named(self, template: Given) -> Given:
        wanted = {"LaunchTemplateNames": [template["LaunchTemplateName"]]} if "LaunchTemplateName" in template else {}
        if "LaunchTemplateId" in template:
            wanted = {"LaunchTemplateIds": [template["LaunchTemplateId"]]}
        (found,) = self._ec2.describe_launch_templates(**wanted)["LaunchTemplates"]
        names = {name: found[name] for name in ("LaunchTemplateId", "LaunchTemplateName")}
        return names | {"Version": template.get("Version", "$Default")}


def subnets_of(given: Given) -> list[str]:
    return [one.strip() for one in given.get("VPCZoneIdentifier", "").split(",") if one.strip()]


def new_group(given: Given, zones: Sequence[str], source: Given | None) -> ScalingGroup:
    """The group that CreateAutoScalingGroup asks for."""
    name, least = given["AutoScalingGroupName"], given["MinSize"]
    if not re.fullmatch(r"[^:]{1,255}", name):
        raise AwsError("ValidationError", f"Invalid name for AutoScalingGroup: {name}")
    fields = {field: given[one] for one, field in _FIELDS.items() if one in given}
    group = ScalingGroup(
        name=name,
        arn=f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:{uuid4()}:autoScalingGroupName/{name}",
        zones=tuple(zones),
        target_groups=[*given.get("TargetGroupARNs", ()), *traffic_sources(given)],
        retains_on_abandon=_retains(given),
        operator=given.get("Operator", {}).get("Principal"),
        told=_DEFAULTS | {one: given[one] for one in _TOLD if one in given},
        launches_from=source or {},
        **{"desired": least, **fields},
    )
    group.told = {**group.told, "Tags": [_tag(name, one) for one in given.get("Tags", ())]}
    for one in given.get("LifecycleHookSpecificationList", ()):
        group.hooks[one["LifecycleHookName"]] = hook(one)
    return group


def changes(group: ScalingGroup, given: Given, zones: Sequence[str] | None, source: Given | None) -> Given:
    """The fields of a group that UpdateAutoScalingGroup changes."""
    found: Given = {field: given[one] for one, field in _FIELDS.items() if one in given}
    found["told"] = {**group.told, **{one: given[one] for one in _TOLD if one in given}}
    if zones is not None:
        found["zones"] = tuple(zones)
    if source is not None:
        found["launches_from"] = source
    if "InstanceLifecyclePolicy" in given:
        found["retains_on_abandon"] = _retains(given)
    return found


def hook(given: Given, before: LifecycleHook | None = None) -> LifecycleHook:
    """The hook that PutLifecycleHook asks for. What it does not name stays as it was."""
    transition = given.get("LifecycleTransition", before.transition if before else None)
    if transition is None:
        raise AwsError("ValidationError", "Lifecycle Transition is required.")
    repeated = ("NotificationMetadata", "NotificationTargetARN", "RoleARN")
    told: Given = {name: given[name] for name in repeated if name in given}
    return LifecycleHook(
        given["LifecycleHookName"],
        transition,
        float(given.get("HeartbeatTimeout", before.heartbeat_timeout if before else 3600)),
        given.get("DefaultResult", before.default_result if before else ABANDON),
        {**(before.told if before else {}), **told},
    )


def traffic_sources(given: Given) -> list[str]:
    """ARNs of target groups. The lab has no other kind of traffic source."""
    return [one["Identifier"] for one in given.get("TrafficSources", ())]


def with_tags(group: ScalingGroup, tags: Sequence[Given]) -> list[Given]:
    """The group's tags with some of them set."""
    keys = {one["Key"] for one in tags}
    return [one for one in group.told["Tags"] if one["Key"] not in keys] + [_tag(group.name, one) for one in tags]


def _tag(name: str, given: Given) -> Given:
    whose = {"ResourceId": name, "ResourceType": "auto-scaling-group"}
    return whose | {"Key": given["Key"], "Value": given.get("Value", ""), "PropagateAtLaunch": bool(
        given.get("PropagateAtLaunch"))}  # fmt: skip


def _retains(given: Given) -> bool:
    triggers = given.get("InstanceLifecyclePolicy", {}).get("RetentionTriggers", {})
    return bool(triggers.get("TerminateHookAbandon") == "retain")
