"""Fixes moto, within its process, where it differs from AWS so much that a real client is misled."""

import threading
from typing import Any

from moto.ec2.models.security_groups import SecurityGroupRule
from moto.elbv2 import models

_IN_ARN = {"network": "net", "gateway": "gwy"}


def fix_moto() -> None:
    """Fix moto 5.2. Call it once, before moto serves."""
    _describe_rules_of_groups()
    _name_the_kind_in_arns()


def _describe_rules_of_groups() -> None:
    """moto loses the description of a rule that names a security group, so Terraform would set it again each time."""
    described = property(lambda rule: (rule.ip_range or rule.source_group).get("Description"))
    SecurityGroupRule.description = described  # type: ignore[assignment,method-assign]


def _name_the_kind_in_arns() -> None:
    """moto calls every load balancer `loadbalancer/app/…`, so clients take an NLB for an ALB."""
    elbv2: Any = models
    of_this_thread = threading.local()
    make_arn, create = elbv2.make_arn_for_load_balancer, elbv2.ELBv2Backend.create_load_balancer

    def make_true_arn(*args: Any, **words: Any) -> str:
        made: str = make_arn(*args, **words)
        return made.replace(":loadbalancer/app/", f":loadbalancer/{of_this_thread.kind}/", 1)

    def create_with_kind(backend: Any, *args: Any, **words: Any) -> Any:
        of_this_thread.kind = _IN_ARN.get(words.get("loadbalancer_type") or "", "app")
        return create(backend, *args, **words)

    elbv2.make_arn_for_load_balancer = make_true_arn
    elbv2.ELBv2Backend.create_load_balancer = create_with_kind
