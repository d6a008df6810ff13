"""Answers, pipelines and kept connections through a node."""

import asyncio

from lab.data_plane_rig import PORT, Message, read_chunk, read_head, rig, run, until, whole
from zdd_lab.model.target import Backend

BLOCK = b"x" * 65536


def test_pipelined_requests_are_answered_in_order() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            asked, go = target.holds("/slow")
            target.says("/quick", whole(b"quick"))
            client = await lab.client()
            for path in ("/slow", "/quick", "/", "/quick"):
                client.ask(path)
            await asked.wait()
            assert [one.path for one in target.seen] == ["/slow"]
            go.set()
            assert [(await client.answer()).body for _ in range(4)] == [b"h1", b"quick", b"h1", b"quick"]

    run(promise())


def test_a_thousand_pipelined_requests_are_all_answered() -> None:
    async def promise() -> None:
        async with rig() as lab:
            await lab.healthy()
            client = await lab.client()
            client.writer.write(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n" * 1000)
            assert {(await client.answer()).status for _ in range(1000)} == {200}

    run(promise())


def test_a_streamed_response_passes_chunk_by_chunk() -> None:
    async def promise() -> None:
        async with rig(response_timeout=0.5) as lab:
            target = await lab.healthy()
            go = asyncio.Semaphore(0)

            async def stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Message) -> None:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for n in range(8):
                    await go.acquire()
                    writer.write(b"1\r\n%d\r\n" % n)
                writer.write(b"0\r\n\r\n")

            target.answers["/stream"] = stream
            client = await lab.client()
            client.ask("/stream")
            assert (await read_head(client.reader)).headers["transfer-encoding"] == "chunked"
            for n in range(8):  # longer than the timeout, but never silent for that long
                await asyncio.sleep(0.1)
                go.release()
                assert await read_chunk(client.reader) == b"%d" % n
            assert await read_chunk(client.reader) == b""
            assert (await client.get()).status == 200

    run(promise())


def test_an_answer_that_ends_with_its_connection_is_framed_for_the_client() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            target.says("/old", b"HTTP/1.0 200 OK\r\n\r\nto the end", then_closes=True)
            client = await lab.client()
            assert (await client.get("/old")).body == b"to the end"
            assert (await client.get()).status == 200

    run(promise())


def test_an_app_that_half_closes_after_its_answer_harms_no_request() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()

            async def half_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Message) -> None:
                writer.write(whole(b"bye"))
                writer.write_eof()
                assert await reader.read() == b""

            target.answers["/half-close"] = half_close
            client = await lab.client()
            for _ in range(3):
                assert (await client.get("/half-close")).body == b"bye"
                await until(lambda: target.connections == 0)

    run(promise())


def test_head_and_not_modified_have_no_body_whatever_their_length_says() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            target.says("/head", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            target.says("/same", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
            client = await lab.client()
            for request in (b"HEAD /head", b"GET /same"):
                client.writer.write(request + b" HTTP/1.1\r\nHost: lab\r\n\r\n")
                assert (await read_head(client.reader)).headers["content-length"] == "5"
                assert (await client.get()).body == b"h1"

    run(promise())


def test_a_client_of_http_1_0_gets_an_unframed_answer_that_ends_with_the_connection() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            target.says("/stream", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            client = await lab.client()
            client.writer.write(b"GET /stream HTTP/1.0\r\nHost: lab\r\n\r\n")
            assert (await client.reader.read()).endswith(b"\r\nConnection: close\r\n\r\nabc")

    run(promise())


def test_what_a_target_sends_unasked_is_nobodys_answer() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()

            async def twice(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Message) -> None:
                writer.write(whole(b"asked"))
                await asyncio.sleep(0.05)
                writer.write(whole(b"unasked"))

            target.answers["/twice"] = twice
            assert (await lab.get("/twice")).body == b"asked"
            await until(lambda: lab.counted()["open_connections"] == 0)
            assert (await lab.get()).body == b"h1"

    run(promise())


def test_connections_to_a_target_are_kept_and_used_again() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            for _ in range(5):
                await lab.get()
            assert lab.counted()["open_connections"] == 1
            assert lab.counted()["requests"] == 5
            assert len(target.seen) == 5

    run(promise())


def test_an_ipv6_target_is_served() -> None:
    async def promise() -> None:
        async with rig() as lab:

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await read_head(reader)
                writer.write(whole(b"six"))
                await writer.drain()
                writer.close()

            server = await asyncio.start_server(answer, "::1", 0)
            port = server.sockets[0].getsockname()[1]
            v4 = lab.backend(await lab.target(start=False))
            key = type(v4.key)(v4.key.group, "i-six", port)
            lab.node.register(Backend(key, "::1", v4.check, 0))
            await until(lambda: lab.state("i-six") == "healthy")
            assert (await lab.get()).body == b"six"
            assert port != PORT
            server.close()

    run(promise())
