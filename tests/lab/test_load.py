"""The open-loop load generator."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lab.data_plane_rig import PORT, FakeTarget, Message, Rig, rig, run, until, whole
from zdd_lab.traffic.records import Record, parse_line, read_records, summarize

AGENT = str(Path(__file__).parents[2] / "agent")


class Load:
    """A load generator's process against a node."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def summary(self) -> Any:
        """Wait for its end."""
        assert self.process.stdout is not None
        out = await self.process.stdout.read()
        assert await self.process.wait() == 0
        return json.loads(out)


async def load(lab: Rig, out: Path, *options: str) -> Load:
    url = f"http://{lab.node.address}:{PORT}/"
    return Load(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "zdd_lab.traffic.load", "--url", url, "--out", str(out)),
            *("--max-duration", "8", *options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": AGENT},
        )
    )


async def labelled(lab: Rig) -> FakeTarget:
    target = await lab.healthy()
    target.says("/", whole(b"hello", "X-Host: h1", "X-Version: v1"))
    return target


def test_it_sends_at_its_rate_and_writes_a_line_for_each_request(tmp_path: Path) -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await labelled(lab)
            summary = await (await load(lab, tmp_path / "out", "--rate", "200", "--min-requests", "100")).summary()
            records = list(read_records(tmp_path / "out"))
            assert (summary["requests"], summary["failed"], summary["versions_seen"]) == (100, 0, ["v1"])
            assert summary == summarize(records)
            assert len(target.seen) == 100
            starts = sorted(record.started for record in records)
            assert starts[-1] - starts[0] == pytest.approx(99 / 200, abs=0.001)

    run(promise())


def test_it_waits_for_no_slow_answer_and_counts_from_the_intended_start(tmp_path: Path) -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await labelled(lab)
            asked, go = target.holds("/")
            running = await load(lab, tmp_path / "out", "--rate", "100", "--min-requests", "50")
            await asked.wait()
            await until(lambda: len(target.seen) == 50)
            await asyncio.sleep(0.2)
            go.set()
            summary = await running.summary()
            assert (summary["requests"], summary["failed"]) == (50, 0)
            assert min(record.latency_ms for record in read_records(tmp_path / "out")) >= 200

    run(promise())


def test_beyond_its_connections_a_request_has_failed(tmp_path: Path) -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await labelled(lab)
            _, go = target.holds("/")
            running = await load(lab, tmp_path / "out", "--rate", "100", "--min-requests", "20", "--connections", "5")
            await until(lambda: (tmp_path / "out").exists() and len(target.seen) == 5)
            await asyncio.sleep(0.4)
            go.set()
            assert (await running.summary())["failed"] == 15
            errors = Counter(record.error for record in read_records(tmp_path / "out"))
            assert errors == {"-": 5, "all 5 connections are busy": 15}

    run(promise())


def test_failures_are_recorded_and_never_sent_again(tmp_path: Path) -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await labelled(lab)

            async def resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Message) -> None:
                writer.transport.abort()

            target.answers["/"] = resets
            summary = await (await load(lab, tmp_path / "out", "--rate", "100", "--min-requests", "10")).summary()
            assert (summary["requests"], summary["failed"], len(target.seen)) == (10, 10, 10)
            assert {record.status for record in read_records(tmp_path / "out")} == {502}

    run(promise())


def test_what_cannot_connect_or_breaks_off_has_failed(tmp_path: Path) -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await labelled(lab)
            running = await load(lab, tmp_path / "out", "--rate", "100", "--until-stdin-closes")
            await until(lambda: len(target.seen) > 10)
            await lab.node.set_down(True)
            await asyncio.sleep(0.3)
            assert running.process.stdin is not None
            running.process.stdin.close()
            summary = await running.summary()
            assert summary["failed"] >= 10
            errors = {record.error.split(":")[0] for record in read_records(tmp_path / "out")}
            assert "cannot connect" in errors

    run(promise())


@pytest.mark.parametrize("ends_by", ["stdin", "SIGTERM", "duration"])
def test_it_ends_when_told_and_finishes_what_is_in_flight(tmp_path: Path, ends_by: str) -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await labelled(lab)
            limit = ("--max-duration", "0.5") if ends_by == "duration" else ()
            running = await load(lab, tmp_path / "out", "--rate", "50", "--until-stdin-closes", *limit)
            await until(lambda: len(target.seen) > 5)
            if ends_by == "stdin":
                assert running.process.stdin is not None
                running.process.stdin.close()
            elif ends_by == "SIGTERM":
                running.process.send_signal(signal.SIGTERM)
            summary = await running.summary()
            assert summary["failed"] == 0
            assert summary["requests"] == len(target.seen) == len(list(read_records(tmp_path / "out")))

    run(promise())


def test_a_record_survives_its_line() -> None:
    record = Record(1700000000.123456, 12.345, 200, "h1", "v1", "-")
    assert parse_line(record.line()) == record
    failed = Record(1700000000.5, 3.0, 0, "-", "-", "reset the connection")
    assert parse_line(failed.line()) == failed
    assert failed.line() == "1700000000.500000\t3.000\t-\t-\t-\treset the connection\n"


def test_a_summary_counts_everything_but_a_complete_200_as_failed() -> None:
    records = [Record(0, float(n), 200, "h1", "v1", "-") for n in range(98)]
    records += [Record(0, 500, 502, "-", "-", "-"), Record(0, 600, 200, "h2", "v2", "reset the connection")]
    assert summarize(records) == {
        "requests": 100,
        "failed": 2,
        "p50_ms": 50.0,
        "p99_ms": 600.0,
        "versions_seen": ["v1", "v2"],
    }
    assert summarize([])["p99_ms"] is None
