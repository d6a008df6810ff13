"""The table of the slots on two engines, the lab's DynamoDB and dynalite: what the adapter promises the decisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from threading import Barrier
from typing import TypeVar

import pytest

from lab.dynamodb_rig import ENGINES, client, create_table, lab_on
from zdd_agent.adapters.dynamodb import DynamoDbSlots
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.slots import Holder, Waiter
from zdd_lab.model.faults import Fault, FaultKind
from zdd_lab.threaded import ThreadedLab

T = TypeVar("T")
TABLE = "turns"
ONE = Holder("i-1", 100.0, 100.0, "release 7", "uid 0", ("i-1", "10.0.0.1"))


@pytest.fixture(scope="module", params=ENGINES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedLab]:
    with lab_on(request.param, tmp_path_factory.mktemp("table"), hosts=0, wait_healthy=False) as running:
        create_table(client(running.lab.endpoint_url), TABLE)
        yield running


shared = lru_cache(client)  # one takes half a second of a core, and serves every thread
Make = Callable[..., DynamoDbSlots]


@pytest.fixture
def make(running: ThreadedLab, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes the adapter of one more host. The item of this test's service is not there yet."""
    url, service = running.lab.endpoint_url, request.node.name

    def made(read_timeout: float = 20.0, table: str = TABLE) -> DynamoDbSlots:
        return DynamoDbSlots(lambda: shared(url, None, read_timeout), table, service, time.time)

    yield made
    running.lab.faults.clear()


@pytest.fixture
def slots(make: Make) -> DynamoDbSlots:
    """The adapter of one host, with an item that holds nobody."""
    made = make()
    assert made.table().holders == ()
    return made


def holder(number: int) -> Holder:
    return Holder(f"i-{number}", 100.0 + number, 100.0 + number)


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """The same by so many threads, which begin together."""
    together = Barrier(count)

    def one(number: int) -> T:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_holder_is_read_as_it_was_written(slots: DynamoDbSlots) -> None:
    assert slots.claim(ONE, 1)

    assert slots.table().holders == (ONE,)


def test_no_more_slots_are_taken_than_there_are(slots: DynamoDbSlots) -> None:
    assert [slots.claim(holder(number), 2) for number in range(4)] == [True, True, False, False]
    assert [one.instance for one in slots.table().holders] == ["i-0", "i-1"]


def test_who_holds_a_slot_takes_it_anew_even_beyond_the_limit_and_never_a_second_one(slots: DynamoDbSlots) -> None:
    again = replace(ONE, since=900.0, seen=900.0, reason="later")
    assert slots.claim(ONE, 2)
    assert slots.claim(holder(2), 2)

    assert slots.claim(again, 1)  # the limit is lower now

    assert slots.table().holders == (holder(2), again)


def test_one_of_twenty_hosts_that_claim_at_once_wins(make: Make) -> None:
    hosts = [make() for _ in range(20)]
    hosts[0].table()

    won = at_once(20, lambda number: hosts[number].claim(holder(number), 1))

    assert sum(won) == 1
    assert [one.instance for one in hosts[0].table().holders] == [f"i-{won.index(True)}"]


def test_five_of_twenty_hosts_that_claim_at_once_win_where_there_are_five(make: Make) -> None:
    hosts = [make() for _ in range(20)]
    hosts[0].table()

    won = at_once(20, lambda number: hosts[number].claim(holder(number), 5))

    assert sum(won) == 5
    assert {one.instance for one in hosts[0].table().holders} == {f"i-{n}" for n, one in enumerate(won) if one}


def test_many_hosts_that_make_the_item_at_once_all_find_it_and_lose_nothing(make: Make) -> None:
    hosts = [make() for _ in range(20)]

    def enter(number: int) -> bool:
        hosts[number].table()
        return hosts[number].claim(holder(number), 20)

    assert all(at_once(20, enter))
    assert len(hosts[0].table().holders) == 20


def test_a_host_that_makes_the_item_late_removes_nobody(running: ThreadedLab, make: Make) -> None:
    late, early = make(), make()
    faults = running.lab.faults
    faults.add(Fault(FaultKind.LATENCY, action="PutItem", service="dynamodb", count=1, seconds=1.0))
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(late.table)
        while faults.all():  # until it is on its way: the item was not there
            time.sleep(0.01)
        early.table()
        assert early.claim(ONE, 1)
        assert making.result().holders == (ONE,)


def test_beyond_the_limit_a_host_is_written_in_all_the_same(slots: DynamoDbSlots) -> None:
    assert slots.claim(holder(1), 1)
    assert slots.claim(holder(2), None)
    assert len(slots.table().holders) == 2


def test_who_claims_leaves_the_line(slots: DynamoDbSlots) -> None:
    for number in (1, 2):
        slots.stand_in_line(Waiter(f"i-{number}", 100.0 + number, 100.0 + number, "uid 0"), 50)

    assert slots.claim(holder(1), 1)

    assert [one.instance for one in slots.table().waiters] == ["i-2"]


def test_a_release_may_be_repeated_and_leaves_the_others(slots: DynamoDbSlots) -> None:
    for number in (1, 2):
        slots.claim(holder(number), 2)

    assert slots.release("i-1", holder(1).since)
    assert not slots.release("i-1", holder(1).since)

    assert [one.instance for one in slots.table().holders] == ["i-2"]


def test_others_release_only_the_slot_that_they_looked_at(slots: DynamoDbSlots) -> None:
    slots.claim(ONE, 1)
    slots.release("i-1", ONE.since)
    slots.claim(replace(ONE, since=200.0, seen=200.0), 1)  # taken again since the look

    assert not slots.release("i-1", ONE.since)
    assert [one.since for one in slots.table().holders] == [200.0]
    assert slots.release("i-1", 200.0)
    assert not slots.release("i-1", 200.0)
    assert slots.table().holders == ()


def test_a_sign_of_life_changes_nothing_else_and_makes_no_holder(slots: DynamoDbSlots) -> None:
    slots.claim(ONE, 1)

    assert slots.renew("i-1", 160.0)
    assert not slots.renew("i-2", 160.0)

    assert slots.table().holders == (replace(ONE, seen=160.0),)


def test_fifty_wait_in_the_order_of_their_arrival_and_nobody_else_gets_a_place(slots: DynamoDbSlots) -> None:
    came = [Waiter(f"i-{number}", 1000.0 - number, 1000.0, "uid 0") for number in range(50)]

    assert all(slots.stand_in_line(one, 50) for one in came)
    assert not slots.stand_in_line(Waiter("i-50", 1.0, 1.0), 50)
    assert slots.stand_in_line(replace(came[7], since=2000.0), 50)  # it has its place

    assert slots.table().waiters == tuple(reversed(came))


def test_at_most_fifty_of_sixty_that_come_at_once_get_a_place(make: Make) -> None:
    hosts = [make() for _ in range(60)]
    hosts[0].table()

    stood = at_once(60, lambda number: hosts[number].stand_in_line(Waiter(f"i-{number}", 100.0, 100.0), 50))

    assert sum(stood) == 50
    assert len(hosts[0].table().waiters) == 50


def test_a_waiter_that_gives_a_sign_of_life_is_not_passed_over(slots: DynamoDbSlots) -> None:
    silent, lives = Waiter("i-1", 100.0, 100.0), Waiter("i-2", 101.0, 101.0)
    for one in (silent, lives):
        slots.stand_in_line(one, 50)
    assert slots.wait_on("i-2", 161.0)
    assert not slots.wait_on("i-3", 161.0)

    for one in (silent, lives):  # as they were looked at before
        slots.pass_over(one)

    assert slots.table().waiters == (replace(lives, seen=161.0),)


@pytest.mark.parametrize("lost", [FaultKind.TIMEOUT_AFTER_EFFECT, FaultKind.TIMEOUT_BEFORE_EFFECT])
def test_a_claim_whose_answer_is_lost_is_repeated_without_harm(
    running: ThreadedLab, make: Make, lost: FaultKind
) -> None:
    ours, others = make(read_timeout=0.5), make()
    ours.table()
    running.lab.faults.add(Fault(lost, action="UpdateItem", service="dynamodb", count=1))

    with pytest.raises(AgentError) as silent:
        ours.claim(ONE, 1)
    assert (silent.value.kind, silent.value.transient) == (Kind.AWS_UNAVAILABLE, True)
    taken = lost is FaultKind.TIMEOUT_AFTER_EFFECT
    assert (others.table().holder("i-1") is not None) == taken

    assert ours.claim(replace(ONE, since=200.0), 1)
    found = others.table().holder("i-1")
    assert found is not None
    assert found.since == 200.0
    assert not others.claim(holder(2), 1)


def test_a_release_whose_answer_is_lost_is_repeated_without_harm(running: ThreadedLab, make: Make) -> None:
    ours, others = make(read_timeout=0.5), make()
    ours.table()
    ours.claim(ONE, 1)
    running.lab.faults.add(Fault(FaultKind.TIMEOUT_AFTER_EFFECT, action="UpdateItem", service="dynamodb", count=1))

    with pytest.raises(AgentError):
        ours.release("i-1", ONE.since)
    assert others.claim(holder(2), 1)
    ours.release("i-1", ONE.since)

    assert [one.instance for one in others.table().holders] == ["i-2"]


def test_an_item_whose_making_lost_its_answer_is_used(running: ThreadedLab, make: Make) -> None:
    ours = make(read_timeout=0.5)
    running.lab.faults.add(Fault(FaultKind.TIMEOUT_AFTER_EFFECT, action="PutItem", service="dynamodb", count=1))

    with pytest.raises(AgentError):
        ours.table()

    assert ours.table().holders == ()
    assert ours.claim(ONE, 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.THROTTLING),
        Fault(FaultKind.ERROR, code="ProvisionedThroughputExceededException"),
        Fault(FaultKind.INTERNAL_FAILURE),
        Fault(FaultKind.SERVICE_UNAVAILABLE),
    ],
    ids=lambda fault: fault.code or fault.kind.value,
)
def test_what_may_be_better_the_next_time_is_said_to_be(
    running: ThreadedLab, slots: DynamoDbSlots, fault: Fault
) -> None:
    running.lab.faults.add(replace(fault, service="dynamodb"))

    with pytest.raises(AgentError) as refused:
        slots.table()

    assert refused.value.transient


def test_what_the_role_may_not_do_is_named_and_is_final(running: ThreadedLab, slots: DynamoDbSlots) -> None:
    running.lab.faults.add(Fault(FaultKind.ACCESS_DENIED, action="UpdateItem", service="dynamodb"))

    with pytest.raises(AgentError) as denied:
        slots.claim(ONE, 1)

    assert (denied.value.kind, denied.value.transient) == (Kind.AWS_DENIED, False)
    assert "dynamodb:UpdateItem" in f"{denied.value.message} {denied.value.value}"


def test_a_table_that_is_not_there_is_a_wrong_setting(make: Make) -> None:
    with pytest.raises(AgentError) as missing:
        make(table="nothing").table()

    assert missing.value.kind is Kind.CONFIGURATION
    assert "nothing" in missing.value.message
