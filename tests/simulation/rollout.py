"""A rollout over a whole fleet in simulated time: a loop over moments, and in each of them the host that is due."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from simulation.account import Account
from simulation.member import Member
from simulation.table import Partition

# Seconds; what ends a drain here is the API's `unused`, as late as the sensor's proof at a floor of 30 s.
DELAY = 30.0
RESTART = 5.0
# All hosts are told to deploy within this many seconds.
STARTS = 5.0


@dataclass
class Found:
    """What came of it."""

    hosts: int
    limit: int
    way: str
    deploy_seconds: float = 0.0
    ideal_seconds: float = 0.0
    throttled: int = 0
    gave_up: int = 0
    longest_throttled_seconds: float = 0.0
    elbv2_calls: int = 0
    peak_elbv2_per_second: int = 0
    dynamodb_requests: int = 0
    dynamodb_throttled: int = 0
    most_item_bytes: int = 0
    most_out_at_once: int = 0
    failed: int = 0
    overtaken: list[int] = field(default_factory=list)


def rollout(hosts: int, limit: int, *, seed: int = 1) -> Found:
    """All hosts deploy at once."""
    rng = random.Random(seed)
    account = Account(hosts, DELAY, rng)
    partition = Partition(account.clock)
    members = [
        Member(account, partition, n, random.Random(seed * 1_000_003 + n), limit=limit, wait=1e7, restart=RESTART)
        for n in range(hosts)
    ]
    begin = account.clock.time
    due = [(begin + rng.uniform(0.0, STARTS), n) for n in range(hosts)]
    heapq.heapify(due)
    while due:
        at, number = heapq.heappop(due)
        account.clock.time = max(at, account.clock.time)
        if (again := members[number].turn()) is not None:
            heapq.heappush(due, (again, number))
    found = Found(hosts, limit, "zdd-agent")
    found.deploy_seconds = max(m.back_at for m in members) - begin
    found.gave_up = sum(m.calls.gave_up for m in members)
    found.longest_throttled_seconds = max(m.calls.longest for m in members)
    found.dynamodb_requests = partition.requests.total()
    found.dynamodb_throttled = partition.throttled.total()
    found.most_item_bytes = partition.most_bytes
    found.failed = sum(m.tries for m in members)
    return summed_up(found, account)


def summed_up(found: Found, account: Account) -> Found:
    """With what the account has counted."""
    found.throttled = account.throttled.total()
    found.elbv2_calls = account.calls.total()
    found.peak_elbv2_per_second = max(account.a_second.values())
    found.most_out_at_once = account.most_out
    return found
