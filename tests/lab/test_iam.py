"""IAM's verdict on a call, by the rules of its documentation."""

import json
from typing import Any

import pytest

from zdd_lab.model.iam import BadPolicyError, Policy, Verdict

GROUP = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123456789abcdef"
SIBLING = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web2/0123456789abcdef"
REGISTER = "elasticloadbalancing:RegisterTargets"


def policy(*statements: dict[str, Any]) -> Policy:
    whole = [{"Effect": "Allow", "Action": "*", "Resource": "*"} | one for one in statements]
    return Policy.parse(json.dumps({"Version": "2012-10-17", "Statement": whole}))


def on(operator: str, key: str, value: Any) -> dict[str, Any]:
    return {"Condition": {operator: {key: value}}}


def allowed(tested: Policy, action: str = REGISTER, resource: str = GROUP, **context: str) -> bool:
    named = {name.replace("__", ":"): value for name, value in context.items()}
    return tested.verdict(action, resource, named) is Verdict.ALLOWED


def test_what_no_statement_names_is_not_allowed() -> None:
    assert policy({"Action": "ec2:*"}).verdict(REGISTER, GROUP, {}) is Verdict.NOT_ALLOWED


def test_an_action_is_matched_whatever_its_case_and_with_wildcards() -> None:
    assert allowed(policy({"Action": "ElasticLoadBalancing:registertargets"}))
    assert allowed(policy({"Action": ["ec2:*", "elasticloadbalancing:Register*"]}))
    assert not allowed(policy({"Action": "elasticloadbalancing:RegisterTarget"}))


def test_a_resource_is_matched_to_the_letter() -> None:
    assert allowed(policy({"Resource": [SIBLING, GROUP]}))
    assert not allowed(policy({"Resource": SIBLING}))
    assert not allowed(policy({"Resource": GROUP.replace("web", "WEB")}))
    assert allowed(policy({"Resource": GROUP[:-16] + "*"}))


def test_an_action_without_resource_needs_a_statement_for_all_of_them() -> None:
    assert not allowed(policy({"Resource": GROUP}), "ec2:DescribeInstances", "*")


def test_a_bracket_is_no_wildcard() -> None:
    assert not allowed(policy({"Resource": "table/[ab]"}), resource="table/a")
    assert allowed(policy({"Resource": "table/[ab]"}), resource="table/[ab]")


def test_a_deny_is_stronger_than_any_allow() -> None:
    tested = policy({}, {"Effect": "Deny", "Action": REGISTER})

    assert tested.verdict(REGISTER, GROUP, {}) is Verdict.DENIED
    assert allowed(tested, "ec2:DescribeInstances")


def test_every_line_of_a_condition_must_hold() -> None:
    tested = policy({"Condition": {"StringEquals": {"a": "1", "b": "2"}, "Bool": {"c": "true"}}})

    assert allowed(tested, a="1", b="2", c="True")
    assert not allowed(tested, a="1", b="2", c="false")
    assert not allowed(tested, a="1", b="3", c="true")


@pytest.mark.parametrize(
    ("operator", "value", "present", "other", "absent"),
    [
        ("StringEquals", "eu", True, False, False),
        ("StringEquals", ["eu", "us"], True, True, False),
        ("StringEqualsIfExists", "eu", True, False, True),
        ("StringNotEquals", "eu", False, True, True),
        ("StringLike", "e?", True, False, False),
        ("Null", "true", False, False, True),
        ("Null", "false", True, True, False),
        ("BoolIfExists", "false", False, False, True),
    ],
)
def test_an_operator_on_a_key_that_is_there_or_not(
    operator: str, value: Any, present: bool, other: bool, absent: bool
) -> None:
    tested = policy(on(operator, "aws:Where", value))

    assert allowed(tested, aws__where="eu") is present
    assert allowed(tested, aws__WHERE="us") is other
    assert allowed(tested) is absent


def test_a_variable_is_what_the_request_says_and_equals_nothing_when_it_does_not() -> None:
    tested = policy(on("StringNotEquals", "aws:Ec2InstanceSourceVpc", "${aws:SourceVpc}") | {"Effect": "Deny"}, {})

    assert allowed(tested, aws__Ec2InstanceSourceVpc="vpc-1", aws__SourceVpc="vpc-1")
    assert not allowed(tested, aws__Ec2InstanceSourceVpc="vpc-1", aws__SourceVpc="vpc-2")
    assert not allowed(tested, aws__Ec2InstanceSourceVpc="vpc-1")


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"Statement": [{"Effect": "Perhaps", "Action": "*", "Resource": "*"}]}',
        '{"Statement": {"Effect": "Allow", "NotAction": "*", "Resource": "*"}}',
        '{"Statement": {"Effect": "Allow", "Action": "*"}}',
        '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"a": "b"}}}}',
    ],
)
def test_what_cannot_be_evaluated_is_refused(text: str) -> None:
    with pytest.raises(BadPolicyError):
        Policy.parse(text)


@pytest.mark.parametrize(
    ("operator", "none", "one", "both", "other"),
    [
        ("ForAllValues:StringEquals", True, True, True, False),
        ("ForAnyValue:StringEquals", False, True, True, False),
        ("ForAllValues:StringLike", True, True, True, False),
    ],
)
def test_a_key_of_several_values_is_compared_value_by_value(
    operator: str, none: bool, one: bool, both: bool, other: bool
) -> None:
    tested = policy(on(operator, "dynamodb:LeadingKeys", ["web", "api"]))

    def holds(*keys: str) -> bool:
        return tested.verdict("dynamodb:GetItem", "table", {"dynamodb:LeadingKeys": keys}) is Verdict.ALLOWED

    assert allowed(tested) is none  # a request without the key: AWS says so of ForAllValues
    assert holds("web") is one
    assert holds("web", "api") is both
    assert holds("another") is other


def test_one_foreign_value_is_enough_to_be_refused() -> None:
    tested = policy(on("ForAllValues:StringEquals", "dynamodb:LeadingKeys", ["web"]))

    context = {"dynamodb:LeadingKeys": ("web", "api")}
    assert tested.verdict("dynamodb:BatchGetItem", "table", context) is Verdict.NOT_ALLOWED


def test_a_key_of_several_values_needs_a_word_about_all_or_any_of_them() -> None:
    with pytest.raises(BadPolicyError, match="ForAllValues"):
        policy(on("StringEquals", "dynamodb:LeadingKeys", ["web"]))
    assert not allowed(policy(on("Null", "dynamodb:LeadingKeys", "false")))
