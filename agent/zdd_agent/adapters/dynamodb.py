"""The slots of one service in Amazon DynamoDB, through boto3.

One item a service: `holders` and `waiters` are maps from instance ID to what it says of itself. Every change is one
conditional UpdateItem, so that two hosts never both take the last slot. There is no version attribute: it would make
hosts that do not touch each other's entries fail each other's conditions.

Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.UpdateExpressions.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zdd_agent.adapters.aws import Service
from zdd_agent.adapters.limit import Limit
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.slots import Holder, SlotTable, Waiter

_NOT_SO = "ConditionalCheckFailedException"


class DynamoDbSlots:
    """The calls that the agent makes, and no others. Moments are whole seconds.

    Args:
        client: makes or returns the SDK's client.
        table: the table's name.
        service: the item's key.
        now: seconds since the epoch.
        limit: shared by all calls.
    """

    def __init__(
        self, client: Callable[[], Any], table: str, service: str, now: Callable[[], float], limit: Limit | None = None
    ) -> None:
        self._client = client
        self._table = table
        self._key = {"service": {"S": service}}
        self._now = now
        self._service = Service("dynamodb", limit or Limit())

    def table(self) -> SlotTable:
        """Who holds one and who waits, not staler than the call. Makes the item of the service where there is none."""
        item = self._item()
        if item is None:
            self._make()
            item = self._item() or {}
        holders = [_holder(name, one["M"]) for name, one in item.get("holders", {}).get("M", {}).items()]
        waiters = [_waiter(name, one["M"]) for name, one in item.get("waiters", {}).get("M", {}).items()]
        # Of hosts that came in the same second, the instance ID decides, for everybody alike.
        return SlotTable(
            tuple(sorted(holders, key=lambda one: (one.since, one.instance))),
            tuple(sorted(waiters, key=lambda one: (one.since, one.instance))),
            seen_at=self._now(),
        )

    def claim(self, holder: Holder, limit: int | None) -> bool:
        """Take a slot unless `limit` are taken (None: in any case), and leave the line; False: none is free.

        Safe to repeat. Who holds one already takes it anew, with its new `since`.
        """
        taken = "attribute_exists(holders.#me) OR size(holders) < :limit"
        return self._update(
            "SET holders.#me = :holder REMOVE waiters.#me",
            "attribute_exists(holders)" if limit is None else taken,
            holder.instance,
            {":holder": {"M": _of_holder(holder)}, **({} if limit is None else {":limit": _number(limit)})},
        )

    def renew(self, instance: str, seen: float) -> bool:
        """Give a sign of life as a holder; False where this instance holds none."""
        return self._update(
            "SET holders.#me.seen = :seen", "attribute_exists(holders.#me)", instance, {":seen": _number(seen)}
        )

    def release(self, instance: str, since: float) -> bool:
        """Give back the slot that was taken at that very moment (seconds), and leave the line; False where it was not.

        Safe to repeat. It names the moment since a call can take effect long after it was given up, on a later slot.
        """
        return self._update(
            "REMOVE holders.#me, waiters.#me", "holders.#me.since = :since", instance, {":since": _number(since)}
        )

    def stand_in_line(self, waiter: Waiter, places: int) -> bool:
        """Take a place in the line unless `places` are taken; False: all are."""
        return self._update(
            "SET waiters.#me = if_not_exists(waiters.#me, :waiter)",
            "attribute_exists(waiters.#me) OR size(waiters) < :places",
            waiter.instance,
            {":waiter": {"M": _of_waiter(waiter)}, ":places": _number(places)},
        )

    def wait_on(self, instance: str, seen: float) -> bool:
        """Give a sign of life in the line; False where this instance has no place there."""
        return self._update(
            "SET waiters.#me.seen = :seen", "attribute_exists(waiters.#me)", instance, {":seen": _number(seen)}
        )

    def pass_over(self, waiter: Waiter) -> None:
        """Take a waiter out of the line unless it has given a sign of life since."""
        self._update("REMOVE waiters.#me", "waiters.#me.seen = :seen", waiter.instance, {":seen": _number(waiter.seen)})

    def _item(self) -> Mapping[str, Any] | None:
        found = self._call(
            "GetItem",
            lambda: self._client().get_item(TableName=self._table, Key=self._key, ConsistentRead=True),
        )
        item: Mapping[str, Any] | None = found.get("Item")
        return item

    def _make(self) -> None:
        empty: dict[str, Any] = {"M": {}}
        try:
            self._call(
                "PutItem",
                lambda: self._client().put_item(
                    TableName=self._table,
                    Item={**self._key, "holders": empty, "waiters": empty},
                    ConditionExpression="attribute_not_exists(service)",
                ),
                changes=True,
            )
        except AgentError as error:
            if error.value != _NOT_SO:  # another host was faster
                raise

    def _update(self, change: str, condition: str, instance: str, values: Mapping[str, Any]) -> bool:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": self._key,
            "UpdateExpression": change,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#me": instance},
        }
        if values:
            request["ExpressionAttributeValues"] = dict(values)
        try:
            self._call("UpdateItem", lambda: self._client().update_item(**request), changes=True)
        except AgentError as error:
            if error.value != _NOT_SO:
                raise
            return False
        return True

    def _call(self, operation: str, ask: Callable[[], Any], *, changes: bool = False) -> Any:
        try:
            return self._service.call(operation, ask, changes=changes)
        except AgentError as error:
            if error.value != "ResourceNotFoundException":
                raise
            said = f"cannot use slots: DynamoDB has no table {self._table} in this Region"
            hint = "make the table (the Terraform module does, with `slots`), or correct `slots.table`"
            raise AgentError(Kind.CONFIGURATION, said, hint=hint, value="slots.table") from None


def _number(value: float) -> dict[str, str]:
    return {"N": str(int(value))}


def _text(value: str) -> dict[str, str]:
    return {"S": value}


def _of_holder(one: Holder) -> dict[str, Any]:
    return {
        "since": _number(one.since),
        "seen": _number(one.seen),
        "reason": _text(one.reason),
        "who": _text(one.who),
        "targets": {"L": [_text(target) for target in one.targets]},
    }


def _of_waiter(one: Waiter) -> dict[str, Any]:
    return {"since": _number(one.since), "seen": _number(one.seen), "who": _text(one.who)}


def _holder(instance: str, said: Mapping[str, Any]) -> Holder:
    targets = tuple(one["S"] for one in said.get("targets", {}).get("L", ()))
    return Holder(instance, *_moments(said), _said(said, "reason"), _said(said, "who"), targets)


def _waiter(instance: str, said: Mapping[str, Any]) -> Waiter:
    return Waiter(instance, *_moments(said), _said(said, "who"))


def _moments(said: Mapping[str, Any]) -> tuple[float, float]:
    since = float(said["since"]["N"])
    return since, float(said.get("seen", said["since"])["N"])


def _said(said: Mapping[str, Any], name: str) -> str:
    return str(said.get(name, {}).get("S", ""))
