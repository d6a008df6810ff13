"""What the benchmarks found: build/bench/report.json, a part for each of them, and docs/benchmarks.md made of it."""

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench"
_REPORT = FOLDER / "report.json"
_PAGE = ROOT / "docs" / "benchmarks.md"

_HEAD = """# Benchmarks
All figures come from [the lab](lab.md), at the true length of an Application Load Balancer: its nodes go on sending for
10 to 20 s after the API call. Nothing here was run against AWS. `make bench-drain` writes this page.
"""
_DRAIN = """
## A rolling restart of two hosts, by deregistration delay
All ways ran side by side, each in its own lab with {rate:g} requests a second. Seconds, calls and CPU are per host:
to take it out, restart its app, and have it `healthy` again. CPU is what ran on the host: the commands, and zdd-agent's
daemon.
- **aws in command tasks**: Ansible {ansible} and awscli {awscli} on the host itself. It asks IMDSv2, deregisters, polls
  until `unused`, restarts, registers, and polls until `healthy`. It makes 10 polls, 10 s apart, unless the table gives
  another number.
- **elb_target**: the module `community.aws.elb_target` with its own wait, which polls every second.
- **zdd-agent**: `zdd-agent drain && restart && zdd-agent rejoin`, without settings. Each agent has been asked for its
  status 30 s before. Without that, one that has just started waits for up to three intervals of the health check first.

"""
_TRUE = """
## What ends a drain, at a deregistration delay of 300 s
Two hosts, {rate:g} requests a second. The app is stopped the moment its drain ends.

"""


def add(part: str, found: dict[str, Any]) -> None:
    """Keep what one benchmark found, in place of what it found before, and write the page anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = json.loads(_REPORT.read_text("utf-8")) if _REPORT.exists() else {}
    report[part] = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine(), **found}
    _REPORT.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    _PAGE.write_text(_page(report), "utf-8")


def machine() -> str:
    """This machine in a line."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GiB, Linux {platform.release()}, Python {version}"


def _page(report: dict[str, Any]) -> str:
    parts = [_HEAD]
    if drain := report.get("drain"):
        parts.append(_DRAIN.format(**drain))
        head = ("delay s", "way", "seconds a host", "failed requests", "ELBv2 calls a host", "CPU s a host")
        parts.append(_table(head, [_drain_row(row) for row in drain["rows"]]))
        parts.append(f"\n{drain['date']}; {drain['machine']}\n")
    if true := report.get("true_length"):
        parts.append(_TRUE.format(**true))
        parts.append(
            _table(("what ends the drain, and the load", "promise", "measured"), [tuple(row) for row in true["rows"]])
        )
        parts.append(f"\n{true['date']}; {true['machine']}\n")
    return "".join(parts)


def _drain_row(row: dict[str, Any]) -> tuple[str, ...]:
    failed = f"{row['failed']} of {row['requests']:,}"
    figures = (f"{row['seconds']:.0f}", failed, f"{row['calls']:.0f}", f"{row['cpu']:.1f}")
    if row["note"]:
        figures = (row["note"], failed, "", "")
    return f"{row['delay']:g}", row["way"], *figures


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
