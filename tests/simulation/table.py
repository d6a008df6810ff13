"""The fleet's item in DynamoDB: each change is atomic, and one partition bears so many units a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from fakes import FakeClock, FakeSlots
from simulation.sdk import Calls
from zdd_agent.adapters.aws import ATTEMPTS
from zdd_agent.model.slots import Holder, SlotTable, Waiter
from zdd_lab.model.call_budget import TokenBucket

_T = TypeVar("_T")
# Of one partition: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
WRITE_UNITS = 1000.0  # a second; one for each KB of the whole item, also where the condition fails
READ_UNITS = 3000.0  # a second; one for each 4 KB
# Bytes of an entry as adapters/dynamodb writes it: names and values, and what the nesting adds.
HOLDER_BYTES, WAITER_BYTES, BARE_BYTES = 130, 75, 60


class Partition:
    """What DynamoDB holds of the fleet, and what it has been asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.slots = FakeSlots(clock)
        self.requests: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.most_bytes = 0
        self._units = {"write": TokenBucket(WRITE_UNITS, WRITE_UNITS), "read": TokenBucket(READ_UNITS, READ_UNITS)}

    def allows(self, action: str) -> bool:
        """One request; False: it is throttled."""
        size = BARE_BYTES + HOLDER_BYTES * len(self.slots.holders) + WAITER_BYTES * len(self.slots.waiters)
        self.most_bytes = max(self.most_bytes, size)
        reads = action == "GetItem"
        units = -(-size // (4096 if reads else 1024))
        bucket, now = self._units["read" if reads else "write"], self.clock.time
        allowed = all(tuple(bucket.take(now) for _ in range(units)))
        (self.requests if allowed else self.throttled)[action] += 1
        self.slots.calls.clear()
        return allowed


class Slots:
    """The fleet's slots as one host asks for them."""

    def __init__(self, partition: Partition, calls: Calls) -> None:
        self._partition = partition
        self._slots = partition.slots
        self._calls = calls

    def table(self) -> SlotTable:
        return self._ask("GetItem", "", self._slots.table)

    def claim(self, holder: Holder, limit: int | None) -> bool:
        return self._ask("UpdateItem", "claim", lambda: self._slots.claim(holder, limit))

    def renew(self, instance: str, seen: float) -> bool:
        return self._ask("UpdateItem", "renew", lambda: self._slots.renew(instance, seen))

    def release(self, instance: str, since: float | None = None) -> bool:
        return self._ask("UpdateItem", "release", lambda: self._slots.release(instance, since))

    def stand_in_line(self, waiter: Waiter, places: int) -> bool:
        return self._ask("UpdateItem", "stand_in_line", lambda: self._slots.stand_in_line(waiter, places))

    def wait_on(self, instance: str, seen: float) -> bool:
        return self._ask("UpdateItem", "wait_on", lambda: self._slots.wait_on(instance, seen))

    def pass_over(self, waiter: Waiter) -> None:
        self._ask("UpdateItem", "pass_over", lambda: self._slots.pass_over(waiter))

    def _ask(self, action: str, what: str, answer: Callable[[], _T]) -> _T:
        return self._calls.make((action, what), lambda: self._partition.allows(action), answer, attempts=ATTEMPTS)
