"""Draws a deploy as SVG: requests a second by host and version, failures in red, the time that each host is out shaded.

One section for each run, in it a lane for each host and one for failures. No I/O.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from zdd_lab.traffic.records import Record

_WIDTH, _LEFT, _RIGHT = 960, 92, 24  # px
_LANE, _FAIL_LANE, _GAP, _HEAD, _FOOT = 64, 48, 10, 58, 38  # px
_INK, _FAINT, _GRID, _RED, _SHADE = "#1f2933", "#616e7c", "#d9e2ec", "#c81e1e", "#fff3c4"
_VERSION_COLORS = ("#829ab1", "#0f8b8d", "#7c3aed", "#b7791f")


@dataclass(frozen=True, slots=True)
class Span:
    """A time during which a host is out. Moments are seconds since the epoch."""

    host: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Run:
    """One deploy: the requests of its load, and when each host was out."""

    title: str
    verdict: str
    records: Sequence[Record]
    spans: Sequence[Span]


def draw(runs: Sequence[Run], subtitle: str) -> str:
    """Return the whole picture as SVG."""
    body: list[str] = []
    top = 84.0
    for run in runs:
        section, height = _section(run, top)
        body += section
        top += height
    title = "Rolling deploy under load: requests a second at each host"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top:.0f}" width="{_WIDTH}" '
        f'height="{top:.0f}" font-family="Helvetica, Arial, sans-serif" role="img" aria-label="{escape(title)}">',
        f'<rect width="{_WIDTH}" height="{top:.0f}" fill="#ffffff"/>',
        _text(_LEFT, 34, title, size=19, weight="bold"),
        _text(_LEFT, 56, subtitle, color=_FAINT),
        *_legend(runs),
    ]
    return "\n".join([*head, *body, "</svg>", ""])


def _section(run: Run, top: float) -> tuple[list[str], float]:
    hosts = sorted({r.host for r in run.records if r.host != "-"})
    begin = min((r.started for r in run.records), default=0.0)
    seconds = max(ceil(max((r.started for r in run.records), default=0.0) - begin), 1)
    scale = (_WIDTH - _LEFT - _RIGHT) / seconds
    height = _HEAD + len(hosts) * (_LANE + _GAP) + _FAIL_LANE + _FOOT
    failed = sum(r.failed for r in run.records)
    out = [
        _text(_LEFT, top + 24, run.title, size=15, weight="bold"),
        _text(_WIDTH - _RIGHT, top + 24, run.verdict, anchor="end", weight="bold", color=_RED if failed else "#0f8b8d"),
    ]
    y = top + _HEAD - 18
    rates = _rates(run.records, begin)
    highest = max((sum(lane.values()) for lane in rates.values()), default=1)
    for host in hosts:
        out.append(_lane(host, y, seconds, scale))
        out += [_shade(span, begin, y, scale) for span in run.spans if span.host == host]
        out += _bars(rates, host, highest, y, scale)
        y += _LANE + _GAP
    out += _failures(run.records, begin, y, seconds, scale)
    out += _axis(y + _FAIL_LANE, seconds, scale)
    return out, float(height)


def _rates(records: Sequence[Record], begin: float) -> dict[tuple[str, int], Counter[str]]:
    """For each (host, second): how many requests each version answered."""
    rates: dict[tuple[str, int], Counter[str]] = {}
    for record in records:
        if not record.failed:
            rates.setdefault((record.host, int(record.started - begin)), Counter())[record.version] += 1
    return rates


def _bars(rates: dict[tuple[str, int], Counter[str]], host: str, highest: int, y: float, scale: float) -> list[str]:
    bars = []
    for (name, second), versions in sorted(rates.items(), key=lambda item: item[0][1]):
        if name != host:
            continue
        bottom = y + _LANE
        for version in sorted(versions):
            tall = versions[version] / highest * (_LANE - 6)
            bottom -= tall
            bars.append(
                f'<rect shape-rendering="crispEdges" '  # otherwise light seams show between neighbours
                f'x="{_LEFT + second * scale:.2f}" y="{bottom:.2f}" width="{scale + 0.3:.2f}" '
                f'height="{tall:.2f}" fill="{_color(version)}"/>'
            )
    return bars


def _lane(host: str, y: float, seconds: int, scale: float) -> str:
    return f'<rect x="{_LEFT}" y="{y:.0f}" width="{seconds * scale:.0f}" height="{_LANE}" fill="#f5f7fa"/>' + _text(
        _LEFT - 12, y + _LANE / 2 + 5, host, anchor="end", weight="bold"
    )


def _shade(span: Span, begin: float, y: float, scale: float) -> str:
    left, wide = _LEFT + (span.start - begin) * scale, (span.end - span.start) * scale
    return f'<rect x="{left:.1f}" y="{y:.0f}" width="{wide:.1f}" height="{_LANE}" fill="{_SHADE}"/>' + _text(
        left + wide / 2, y + 15, f"out {span.end - span.start:.0f} s", anchor="middle", size=11, color=_FAINT
    )


def _failures(records: Sequence[Record], begin: float, y: float, seconds: int, scale: float) -> list[str]:
    failures = Counter(int(r.started - begin) for r in records if r.failed)
    highest = max(failures.values(), default=1)
    total = sum(failures.values())
    out = [
        f'<line x1="{_LEFT}" y1="{y + _FAIL_LANE:.0f}" x2="{_LEFT + seconds * scale:.0f}" '
        f'y2="{y + _FAIL_LANE:.0f}" stroke="{_GRID}"/>',
        _text(_LEFT - 12, y + _FAIL_LANE / 2 + 9, "failed", anchor="end", weight="bold", color=_RED),
    ]
    if not total:
        out.append(_text(_LEFT + 8, y + _FAIL_LANE / 2 + 9, "none", color=_FAINT))
    for second, count in sorted(failures.items()):
        tall = max(count / highest * (_FAIL_LANE - 16), 2)
        out.append(
            f'<rect x="{_LEFT + second * scale:.2f}" y="{y + _FAIL_LANE - tall:.2f}" '
            f'width="{max(scale, 2):.2f}" height="{tall:.2f}" fill="{_RED}"/>'
        )
    if total:
        peak = min(second for second, count in failures.items() if count == highest)
        where = _LEFT + (peak + 1) * scale + 6
        out.append(_text(where, y + 14, f"up to {highest} a second", size=11, color=_RED))
    return out


def _axis(y: float, seconds: int, scale: float) -> list[str]:
    step = next(s for s in (5, 10, 20, 30, 60, 120, 300, 600, 3600) if seconds / s <= 12 or s == 3600)
    return [
        _text(_LEFT + at * scale, y + 16, f"{at} s", anchor="middle", size=11, color=_FAINT)
        for at in range(0, seconds + 1, step)
    ]


def _legend(runs: Sequence[Run]) -> list[str]:
    versions = sorted({r.version for run in runs for r in run.records if r.version != "-"})
    out, x = [], float(_LEFT)
    entries = [(_color(v), v) for v in versions] + [(_SHADE, "host taken out"), (_RED, "failed requests")]
    for color, label in entries:
        out.append(f'<rect x="{x:.0f}" y="68" width="12" height="12" fill="{color}" stroke="{_GRID}"/>')
        out.append(_text(x + 18, 78, label, size=12, color=_FAINT))
        x += 38 + 7 * len(label)
    return out


def _color(version: str) -> str:
    number = int(version.removeprefix("v")) if version.removeprefix("v").isdigit() else 1
    return _VERSION_COLORS[(number - 1) % len(_VERSION_COLORS)]


def _text(
    x: float, y: float, text: str, *, size: int = 13, anchor: str = "start", weight: str = "normal", color: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{color}">{escape(text)}</text>'
    )
