"""What the load generator writes: a record for each request, and a summary of any number of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict


@dataclass(frozen=True, slots=True)
class Record:
    """One finished request."""

    started: float  # epoch, s: when it was due, not when it was sent
    latency_ms: float
    status: int  # 0: no answer
    host: str  # "-": unknown
    version: str
    error: str  # "-": none

    @property
    def failed(self) -> bool:
        """Whether it failed: everything except a complete 200 has."""
        return self.status != 200 or self.error != "-"

    def line(self) -> str:
        """Return it as a line of the file, tab separated."""
        return (
            f"{self.started:.6f}\t{self.latency_ms:.3f}\t{self.status or '-'}"
            f"\t{self.host}\t{self.version}\t{self.error}\n"
        )


class Summary(TypedDict):
    """Figures of some records."""

    requests: int
    failed: int
    p50_ms: float | None  # over all requests, failed ones included; None without any
    p99_ms: float | None
    versions_seen: list[str]


def parse_line(line: str) -> Record:
    """Return the record of one whole line of the file. Raises ValueError."""
    started, latency, status, host, version, error = line.rstrip("\n").split("\t")
    return Record(float(started), float(latency), 0 if status == "-" else int(status), host, version, error)


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file, without a last line that is still being written."""
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.endswith("\n"):
                yield parse_line(line)


def summarize(records: Iterable[Record]) -> Summary:
    """Summarize some records."""
    taken = list(records)
    latencies = sorted(record.latency_ms for record in taken)
    return {
        "requests": len(taken),
        "failed": sum(record.failed for record in taken),
        "p50_ms": _percentile(latencies, 0.50),
        "p99_ms": _percentile(latencies, 0.99),
        "versions_seen": sorted({record.version for record in taken if record.version != "-"}),
    }


def _percentile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
