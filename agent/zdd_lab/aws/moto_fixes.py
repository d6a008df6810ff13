"""Fixes moto, within its process, where it differs from AWS so much that a real client is misled."""

import threading
from ipaddress import ip_address
from typing import Any

from moto.dynamodb import comparisons
from moto.dynamodb.responses import DynamoHandler
from moto.ec2.models import EC2Backend
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.elbv2 import models

_IN_ARN = {"network": "net", "gateway": "gwy"}


def fix_moto(address: str) -> None:
    """Fix moto 5.2, which is going to serve on `address`. Call it once, before moto serves."""
    _describe_rules_of_groups()
    _name_the_kind_in_arns()
    _answer_dynamodb_one_by_one()
    _compare_the_size_of_nothing()
    if ip_address(address).is_loopback:
        _put_default_vpc_on_loopback(".".join(address.split(".")[:2]) + ".0.0/16")


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


def _answer_dynamodb_one_by_one() -> None:
    """moto checks a condition and then writes, in as many threads as there are callers: two could win one claim."""
    handler: Any = DynamoHandler
    call, one_by_one = handler.call_action, threading.Lock()

    def call_alone(self: Any) -> Any:
        with one_by_one:
            return call(self)

    handler.call_action = call_alone


def _compare_the_size_of_nothing() -> None:
    """moto breaks on size() of an attribute that is not there. For DynamoDB no comparison with it holds."""
    size: Any = comparisons.FuncSize
    of_something = size.expr

    def expr(self: Any, item: Any) -> Any:
        return None if self.attr.get_type(item) is None else of_something(self, item)

    size.expr = expr


def _put_default_vpc_on_loopback(block: str) -> None:
    """moto's default VPC has addresses that the lab cannot run hosts on."""
    backend: Any = EC2Backend
    create = backend.create_vpc

    def create_here(self: Any, cidr_block: str, *args: Any, **words: Any) -> Any:
        return create(self, block if words.get("is_default") else cidr_block, *args, **words)

    backend.create_vpc = create_here
