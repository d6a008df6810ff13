"""What IAM knows about a call of DynamoDB: the table that it is for, and whose items.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html
"""

import json
from collections.abc import Mapping
from typing import Any

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
    same = {name: text for name, text in headers.items() if name.lower() != "x-amz-target"}
    return same | {"X-Amz-Target": _TARGET}, json.dumps({"TableName": call.document.get("TableName")}).encode()


def leading_keys(call: Call, table: Mapping[str, Any] | None) -> tuple[str, ...]:
    """`dynamodb:LeadingKeys`: the partition keys of the items that a call is for.

    Args:
        call: only those for one item are understood. Of all others the answer is empty.
        table: as DescribeTable describes it, with the name of its partition key. Without it every attribute of the item
            counts: a table that cannot be described must not widen what a role may do.
    """
    item = call.document.get("Key") or call.document.get("Item") or {}
    schema = table["KeySchema"] if table else ()
    names = {one["AttributeName"] for one in schema if one["KeyType"] == "HASH"} or set(item)
    return tuple(str(value) for name, typed in item.items() if name in names for value in typed.values())
