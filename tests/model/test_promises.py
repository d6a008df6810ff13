"""Random steps over the real core in fake time, with late answers of AWS, other people, images, boots and races."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator

import pytest

from faults.rig import SOAK, Row, write_rows
from model.search import search, told

STEPS = 1_000_000 if SOAK else 10_000


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # a full disk says so at every write
    yield
    logging.disable(logging.NOTSET)


def test_no_sequence_of_events_breaks_a_promise() -> None:
    first = secrets.randbits(32) if SOAK else 0
    result = search(first, STEPS)
    if result.broken:
        pytest.fail(told(result), pytrace=False)
    outcome = "; ".join(f"{said}: {times}" for said, times in sorted(result.ends.items()))
    what = f"model: late answers, others, images, boots, changes; seeds from {first}"
    repeat = f"tests/model/test_promises.py{' with ZDD_SOAK=1' if SOAK else ''}"
    write_rows("model_promises", [Row(what, "all", result.made, outcome, repeat)])
