"""A whole lab for the tests that need one."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from zdd_lab.model.profile import FAST
from zdd_lab.threaded import ThreadedLab

# An NLB's lags are 12 s and more even on the fast profile; the true ones are tested against the model.
_SHORT_LAG = (0.5, 1.0)
SHORT = replace(
    FAST,
    deregistration_delay=3.0,
    nlb_learn_lag=_SHORT_LAG,
    nlb_deregistration_lag=_SHORT_LAG,
    nlb_registration_lag=_SHORT_LAG,
)


def free_prefix() -> str:
    """A network that no other lab is likely to use: tests run in parallel."""
    draw = random.SystemRandom()
    return f"127.{draw.randint(100, 199)}.{draw.randint(0, 255)}"


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    """Two healthy hosts without agents, a deregistration delay of 3 s; one lab for a test module."""
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, agents=False, seed=5) as lab:
        yield lab
