"""Request bodies through a node, and who waits for whom."""

import asyncio

from lab.data_plane_rig import Message, read_chunk, read_head, rig, run, until, whole

BLOCK = b"x" * 65536


def test_a_slow_upload_reaches_the_target_as_it_comes() -> None:
    async def promise() -> None:
        async with rig(response_timeout=0.5) as lab:
            target = await lab.healthy()
            got = bytearray()

            async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Message) -> None:
                while len(got) < 8:
                    got.extend(await reader.read(100))
                writer.write(whole(bytes(got)))

            target.answers["/upload"] = take
            client = await lab.client()
            client.writer.write(b"POST /upload HTTP/1.1\r\nHost: lab\r\nContent-Length: 8\r\n\r\n")
            for n in range(8):  # takes longer than the timeout, but is never silent for that long
                client.writer.write(b"%d" % n)
                await until(lambda n=n: len(got) == n + 1)  # type: ignore[misc]
                await asyncio.sleep(0.1)
            assert (await client.answer()).body == b"01234567"

    run(promise())


def test_a_chunked_upload_passes_through() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()

            async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Message) -> None:
                parts = []
                while part := await read_chunk(reader):
                    parts.append(part)
                writer.write(whole(b"+".join(parts)))

            target.answers["/upload"] = take
            client = await lab.client()
            client.writer.write(b"POST /upload HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.writer.write(b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: gone\r\n\r\n")
            assert (await client.answer()).body == b"abc+de"
            assert (await client.get()).status == 200

    run(promise())


def test_a_client_that_does_not_read_stops_the_target_from_writing() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            written, total = 0, 1000 * len(BLOCK)

            async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Message) -> None:
                nonlocal written
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
                for _n in range(1000):
                    writer.write(BLOCK)
                    await writer.drain()
                    written += len(BLOCK)

            target.answers["/flood"] = flood
            client = await lab.client()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.ask("/flood")
            await until(lambda: written > 0)
            before = -1
            while before != written:
                before = written
                await asyncio.sleep(0.3)
            assert written < total / 2, "what fits into the sockets' buffers, and no more"
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len((await client.answer()).body) == total

    run(promise())


def test_an_interim_answer_is_passed_on_before_the_body_is_sent() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()

            async def careful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Message) -> None:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                writer.write(whole(await reader.readexactly(4)))

            target.answers["/careful"] = careful
            client = await lab.client()
            client.writer.write(
                b"PUT /careful HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
            )
            assert (await read_head(client.reader)).status == 100
            client.writer.write(b"body")
            assert (await client.answer()).body == b"body"

    run(promise())


def test_an_answer_before_the_end_of_an_upload_leaves_the_client_connection_in_step() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()

            async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Message) -> None:
                writer.write(whole(b"enough", status="413 Content Too Large"))
                await reader.readexactly(40)  # a request sent on this connection would be taken for the body

            target.answers["/upload"] = too_large
            client = await lab.client()
            client.writer.write(b"POST /upload HTTP/1.1\r\nHost: lab\r\nContent-Length: 40\r\n\r\n")
            assert (await client.answer()).status == 413
            client.writer.write(b"GET /smuggled HTTP/1.1\r\nHost: lab\r\n\r\n".ljust(40, b"-"))
            assert (await client.get("/next")).status == 200
            assert [one.path for one in target.seen] == ["/upload", "/next"]

    run(promise())


def test_a_refused_upload_is_read_to_its_end_and_the_connection_goes_on() -> None:
    async def promise() -> None:
        async with rig() as lab:
            client = await lab.client()
            client.writer.write(b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 655360\r\n\r\n")
            client.writer.write(BLOCK * 10)
            assert (await client.answer()).status == 503
            await lab.healthy()
            assert (await client.get()).status == 200

    run(promise())


def test_a_target_that_does_not_read_stops_the_client_from_writing() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            _, go = target.holds("/upload")
            client = await lab.client()
            client.writer.write(b"POST /upload HTTP/1.1\r\nHost: lab\r\nContent-Length: 65536000\r\n\r\n")
            written = 0

            async def upload() -> None:
                nonlocal written
                for _ in range(1000):
                    client.writer.write(BLOCK)
                    await client.writer.drain()
                    written += len(BLOCK)

            uploading = asyncio.create_task(upload())
            before = -1
            while before != written:
                before = written
                await asyncio.sleep(0.3)
            assert 0 < written < 32_768_000, "what fits into the sockets' buffers, and no more"
            go.set()
            assert (await client.answer()).status == 200
            await uploading

    run(promise())
