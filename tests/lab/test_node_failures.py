"""What a client gets when a target breaks its request."""

import asyncio

import pytest

from lab.data_plane_rig import ENOUGH, Client, FakeTarget, Message, Rig, rig, run, until


async def resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Message) -> None:
    writer.transport.abort()


async def answer_of(lab: Rig, target: FakeTarget, path: str) -> int:
    status = (await lab.get(path)).status
    assert len([one for one in target.seen if one.path == path]) == 1, "sent once, never retried"
    return status


def test_a_reset_is_502_and_never_retried() -> None:
    async def promise() -> None:
        async with rig() as lab:
            broken, other = await lab.healthy("h1"), await lab.healthy("h2")
            broken.answers["/"] = other.answers["/"] = resets
            assert [(await lab.get()).status for _ in range(4)] == [502] * 4
            assert len(broken.seen) + len(other.seen) == 4
            counters = lab.node.counters()
            assert counters["elb_502"] == 4
            assert [(one["target"], one["status"]) for one in counters["refusals"]] == [
                ("h1", 502),
                ("h2", 502),
                ("h1", 502),
                ("h2", 502),
            ]

    run(promise())


def test_a_refused_connection_is_502() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            await target.stop()
            assert (await lab.get()).status == 502
            (refusal,) = lab.node.counters()["refusals"]
            assert "refused" in refusal["why"]

    run(promise())


@pytest.mark.parametrize(
    "raw",
    [b"what?\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/9 200\r\n\r\n"],
    ids=["garbage", "nothing", "half a head", "another protocol"],
)
def test_an_answer_that_is_no_http_or_none_is_502(raw: bytes) -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            target.says("/odd", raw, then_closes=True)
            assert await answer_of(lab, target, "/odd") == 502

    run(promise())


def test_a_kept_connection_that_the_target_closes_under_a_request_is_502() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            assert (await lab.get("/first")).status == 200
            target.answers["/second"] = resets
            assert await answer_of(lab, target, "/second") == 502

    run(promise())


def test_a_connection_that_the_target_closed_while_idle_is_not_used_again() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            target.says("/", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", then_closes=True)
            for _ in range(3):
                assert (await lab.get()).status == 200
                await until(lambda: lab.counted()["open_connections"] == 0)

    run(promise())


def test_an_answer_that_breaks_off_half_way_resets_the_client() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            target.says("/half", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", then_closes=True)
            client = await lab.client()
            client.ask("/half")
            with pytest.raises(ConnectionResetError):
                await client.answer()
            assert lab.node.counters()["broken"] == 1

    run(promise())


def test_no_answer_in_time_is_504() -> None:
    async def promise() -> None:
        async with rig(response_timeout=0.2) as lab:
            target = await lab.healthy()
            target.holds("/slow")
            assert await answer_of(lab, target, "/slow") == 504
            assert lab.node.counters()["elb_504"] == 1
            assert lab.counted()["in_flight"] == 0

    run(promise())


def test_a_body_that_stops_coming_is_408() -> None:
    async def promise() -> None:
        async with rig(response_timeout=0.2) as lab:
            await lab.healthy()
            client = await lab.client()
            client.writer.write(b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 10\r\n\r\nhalf")
            assert (await client.answer()).status == 408
            assert await client.reader.read() == b""

    run(promise())


def test_a_client_that_leaves_takes_its_request_with_it() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            asked, _ = target.holds("/slow")
            client = await lab.client()
            client.ask("/slow")
            await asked.wait()
            client.close()
            await until(lambda: lab.counted()["in_flight"] == 0)
            assert lab.counted()["open_connections"] == 0
            assert lab.node.counters()["client_left"] == 1

    run(promise())


@pytest.mark.parametrize(
    ("first", "then"),
    [(b"hello", b"\r\n\r\n"), (b"GET / HTTP/1.1\r\nX: ", b"x" * 70_000)],
    ids=["not HTTP", "a head without end"],
)
def test_what_is_no_request_gets_400_and_the_node_goes_on(first: bytes, then: bytes) -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            client = await lab.client()
            client.writer.write(first)
            await asyncio.sleep(0.05)
            client.writer.write(then)
            assert (await client.answer()).status == 400
            assert target.seen == []
            assert (await lab.get()).status == 200

    run(promise())


def test_an_idle_client_connection_is_closed_after_the_idle_timeout() -> None:
    async def promise() -> None:
        async with rig(idle_timeout=0.2) as lab:
            await lab.healthy()
            client = await lab.client()
            await client.get()
            async with asyncio.timeout(ENOUGH):
                assert await client.reader.read() == b""

    run(promise())


def test_the_idle_timeout_does_not_end_a_request_that_is_being_answered() -> None:
    async def promise() -> None:
        async with rig(idle_timeout=0.1) as lab:
            target = await lab.healthy()
            asked, go = target.holds("/slow")
            client: Client = await lab.client()
            client.ask("/slow")
            await asked.wait()
            await asyncio.sleep(0.4)
            go.set()
            assert (await client.answer()).status == 200

    run(promise())
