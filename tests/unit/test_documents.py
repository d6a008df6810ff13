"""The documents: what they point to exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("agent", "docs", "packaging", "requirements", "scripts", "systemd", "terraform", "tests", ".ci")
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")))
    if ".terraform" not in page.parts
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FENCED = re.compile(r"^```.*?^```", re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_files(page: Path) -> Iterator[str]:
    """The files of this repository that a page names as code: `tests/unit/test_config.py`."""
    for code in re.findall(r"`([^`\n]+)`", FENCED.sub("", page.read_text())):
        found = re.match(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]+\.[a-z]+", code)
        if found is not None:
            yield found[0]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(FENCED.sub("", page.read_text())):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path} is not there"
        assert not anchor or anchor in anchors(target), f"{path}#{anchor} is not there"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    assert [path for path in named_files(page) if not (ROOT / path).exists()] == []


def test_every_bug_names_a_test_that_is_there() -> None:
    bugs = (ROOT / "docs" / "reliability.md").read_text().partition("<!-- end of runs -->")[2]
    rows = re.findall(r"\| `(tests/\S+\.py)(?:::(\w+))?(?: -k ([^`]+))?` \|$", bugs, re.M)

    assert len(rows) == bugs.count("\n| ") - 1, "a row without a test"  # one of them is the table's head
    for path, name, selection in rows:
        source = (ROOT / path).read_text()
        words = set(re.findall(r"\w+", f"{name} {selection}")) - {"and", "or", "not"}
        assert [word for word in words if word not in source] == [], f"{path}: nothing to select"
