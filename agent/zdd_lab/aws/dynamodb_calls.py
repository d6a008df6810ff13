"""What IAM knows about a call of DynamoDB: the table that it is for, and whose items.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html
"""

import json
from collections.abc import Mapping

from zdd_lab.aws.topology_reader import ACCOUNT
from zdd_lab.aws.wire import Call

SERVICE = "dynamodb"
_TARGET = "DynamoDB_20120810.DescribeTable"


def resource(call: Call) -> str:
    """The ARN that a permission for the call is for; `*` where there is none."""
    name = str(call.document.get("TableName") or call.document.get("ResourceArn") or "")
    if not name or name.startswith("arn:"):
        return name or "*"
    return f"arn:aws:dynamodb:{call.region}:{ACCOUNT}:table/{name}"


def ask_for_table(call: Call, headers: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    """Headers and body of DescribeTable for the table of a call, signed as that call is: nobody checks it."""
    signed = {"Authorization": headers["Authorization"], "Content-Type": "application/x-amz-json-1.0"}
    return signed | {"X-Amz-Target": _TARGET}, json.dumps({"TableName": call.document.get("TableName")}).encode()


def leading_keys(call: Call, table: bytes) -> tuple[str, ...]:
    """`dynamodb:LeadingKeys`: the partition keys of the items that a call is for.

    Args:
        call: only those for one item are understood. Of all others the answer is empty.
        table: DescribeTable's answer, which says what the partition key is called.
    """
    schema = json.loads(table)["Table"]["KeySchema"]
    name = next(one["AttributeName"] for one in schema if one["KeyType"] == "HASH")
    item = call.document.get("Key") or call.document.get("Item") or {}
    return tuple(str(value) for value in item.get(name, {}).values())
