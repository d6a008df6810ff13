"""Where a node sends requests, and where not."""

import asyncio
import re
from collections import Counter
from itertools import pairwise

import pytest

from lab.data_plane_rig import GROUP, PORT, rig, run, until


def test_requests_go_round_robin_over_the_healthy_targets_only() -> None:
    async def promise() -> None:
        async with rig() as lab:
            first, second = await lab.healthy("h1"), await lab.healthy("h2")
            ill = await lab.healthy("h3")
            ill.health = 503
            await until(lambda: lab.state("h3") == "unhealthy")
            answers = [(await lab.get()).body for _ in range(10)]
            assert Counter(answers) == {b"h1": 5, b"h2": 5}
            assert all(one != other for one, other in pairwise(answers))
            assert (len(first.seen), len(second.seen), len(ill.seen)) == (5, 5, 0)

    run(promise())


def test_a_group_without_a_target_answers_503() -> None:
    async def promise() -> None:
        async with rig() as lab:
            answer = await lab.get()
            assert answer.status == 503
            assert answer.headers["server"] == "awselb/2.0"
            assert lab.node.counters()["elb_503"] == 1

    run(promise())


def test_it_fails_open_when_every_target_is_unhealthy_but_not_to_initial_ones() -> None:
    async def promise() -> None:
        async with rig() as lab:
            for name in ("h1", "h2"):
                target = await lab.target(name, health=503)
                lab.node.register(lab.backend(target))
            await until(lambda: {lab.state("h1"), lab.state("h2")} == {"unhealthy"})
            fresh = await lab.target("h3", health=None)
            lab.node.register(lab.backend(fresh))
            assert {(await lab.get()).body for _ in range(6)} == {b"h1", b"h2"}
            assert fresh.seen == []

    run(promise())


def test_a_target_that_is_deregistered_gets_no_new_request_and_finishes_the_one_in_flight() -> None:
    async def promise() -> None:
        async with rig() as lab:
            leaving, staying = await lab.healthy("h1"), await lab.healthy("h2")
            asked, go = leaving.holds("/slow")
            staying.holds("/slow")[1].set()
            under_way = [asyncio.create_task(lab.get("/slow")) for _ in range(2)]
            await asked.wait()
            lab.node.deregister(lab.key("h1"))
            assert {(await lab.get()).body for _ in range(6)} == {b"h2"}
            assert lab.counted("h1")["in_flight"] == 1
            go.set()
            assert {(await one).status for one in under_way} == {200}
            assert lab.counted("h1")["in_flight"] == 0
            await until(lambda: leaving.connections == 0)

    run(promise())


def test_a_known_target_that_is_deregistered_leaves_a_503_when_nobody_else_is_there() -> None:
    async def promise() -> None:
        async with rig() as lab:
            await lab.healthy()
            lab.node.deregister(lab.key("h1"))
            assert (await lab.get()).status == 503

    run(promise())


def test_idle_connections_are_closed_at_once_on_deregistration() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            await lab.get()
            assert lab.counted()["open_connections"] == 1
            lab.node.deregister(lab.key("h1"))
            await until(lambda: target.connections == 0)

    run(promise())


def test_idle_connections_are_kept_to_their_idle_timeout_on_let_go_where_set_so() -> None:
    async def promise() -> None:
        async with rig(closes_idle_on_deregistration=False, idle_timeout=0.5) as lab:
            target = await lab.healthy()
            await lab.get()
            lab.node.deregister(lab.key("h1"))
            await asyncio.sleep(0.2)
            assert lab.counted()["open_connections"] == 1
            await until(lambda: target.connections == 0)

    run(promise())


def test_cut_breaks_what_is_in_flight_and_forgets_the_target() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            asked, _ = target.holds("/slow")
            under_way = asyncio.create_task(lab.get("/slow"))
            await asked.wait()
            lab.node.deregister(lab.key("h1"))
            lab.node.cut(lab.key("h1"))
            assert (await under_way).status == 502
            assert lab.node.counters()["targets"] == []

    run(promise())


def test_cut_resets_the_client_when_its_answer_had_begun() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            target.says("/half", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            client = await lab.client()
            client.ask("/half")
            await client.reader.readuntil(b"half")
            lab.node.cut(lab.key("h1"))
            with pytest.raises(ConnectionResetError):
                await client.reader.readexactly(1)

    run(promise())


def test_a_target_in_slow_start_gets_a_small_share_at_first() -> None:
    async def promise() -> None:
        async with rig() as lab:
            await lab.healthy("h1")
            fresh = await lab.target("h2")
            lab.node.register(lab.backend(fresh, slow_start=300))
            await until(lambda: lab.state("h2") == "healthy")
            for _ in range(30):
                await lab.get()
            assert len(fresh.seen) <= 2

    run(promise())


def test_a_target_sees_each_node_as_a_peer_with_its_own_address() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            await lab.get()
            assert target.peers == {lab.node.address}

    run(promise())


def test_requests_carry_the_headers_that_alb_adds() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            await lab.get("/", "X-Forwarded-For: 192.0.2.7", "Connection: close, X-Hop", "X-Hop: 1")
            headers = target.seen[0].headers
            assert re.fullmatch(r"192\.0\.2\.7, 127\.0\.0\.1", headers["x-forwarded-for"])
            assert headers["x-forwarded-proto"] == "http"
            assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", headers["x-amzn-trace-id"])
            assert headers["host"] == "lab"
            assert "x-hop" not in headers
            assert "connection" not in headers

    run(promise())


def test_a_listener_is_pointed_to_another_group_and_stops_when_told() -> None:
    async def promise() -> None:
        async with rig() as lab:
            await lab.healthy()
            await lab.node.listen(PORT, "another group")
            assert (await lab.get()).status == 503
            await lab.node.listen(PORT, GROUP)
            assert (await lab.get()).status == 200
            await lab.node.unlisten(PORT)
            with pytest.raises(ConnectionRefusedError):
                await lab.get()

    run(promise())


def test_a_zone_that_is_down_resets_and_refuses_connections_and_checks_nothing_until_it_is_back() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            client = await lab.client()
            await client.get()
            await lab.node.set_down(True)
            with pytest.raises(ConnectionResetError):
                await client.reader.readexactly(1)
            with pytest.raises(ConnectionRefusedError):
                await lab.get()
            await until(lambda: target.connections == 0)
            before = target.checks
            await asyncio.sleep(0.2)
            assert target.checks == before
            await lab.node.set_down(False)
            assert (await lab.get()).status == 200
            await until(lambda: target.checks > before)

    run(promise())
