"""Puts the rows that the last run of tests/faults left in build/faults into docs/reliability.md."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- runs -->\n", "<!-- end of runs -->"
# Files in build/faults, in the order of the page, with their headings.
PARTS = {
    "Killed at every point": ("kill_matrix", "slots_kill_matrix"),
    "Each fault in each phase": ("fault_matrix", "clock_jumps"),
    "Random interleavings": ("model_fleet", "model_meddled", "model_promises"),
    "Hostile callers": ("schemathesis", "hostile_memory"),
}


def table(names: tuple[str, ...]) -> str:
    """The rows of these files as Markdown."""
    lines = ["| fault | phase | runs | outcome | repeat it with `pytest …` |", "|---|---|---|---|---|"]
    for name in names:
        for row in json.loads((ROOT / "build" / "faults" / f"{name}.json").read_text("utf-8")):
            cells = (row["fault"], row["phase"], f"{row['runs']:,}", row["outcome"], f"`{row['repeat']}`")
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Render the page anew."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    runs = "\n\n".join(f"### {heading}\n{table(names)}" for heading, names in PARTS.items())
    PAGE.write_text(f"{before}{BEGIN}{runs}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
