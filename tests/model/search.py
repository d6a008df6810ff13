"""Plays run after run until a promise is broken, then finds the fewest steps that break one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from model.eyes import BrokenPromiseError
from model.play import Play
from model.steps import Step, steps, world

STEPS_A_RUN = 40
# Runs of a shorter sequence that are tried to find out which steps matter.
_CUTS = 400


@dataclass
class Result:
    """What came of a search: how many steps were made, how operations ended, and what was broken, if anything."""

    made: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    broken: str = ""
    seed: int = 0
    sequence: list[Step] = field(default_factory=list)


def search(seed: int, wanted: int) -> Result:
    """Play so many steps, with this seed and those after it, or up to the first broken promise."""
    result = Result(seed=seed)
    while result.made < wanted and not result.broken:
        result.seed, seed = seed, seed + 1
        result.sequence = steps(result.seed, STEPS_A_RUN)
        result.broken, made, ends = broken(result.seed, result.sequence)
        result.made += made
        result.ends += ends
    return result


def broken(seed: int, sequence: Sequence[Step]) -> tuple[str, int, Counter[str]]:
    """What is broken by these steps, or after them when everything is well; the steps made; how operations ended."""
    play, made = Play(world(seed)), 0
    try:
        for step in sequence:
            play.step(step)
            made += 1
        play.calm()
    except BrokenPromiseError as error:
        return str(error), made, play.ends
    return "", made, play.ends


def told(result: Result) -> str:
    """What was broken, and how to see it again, in as few steps as can be."""
    fewest = _fewest(result.seed, result.sequence)
    what = broken(result.seed, fewest)[0]
    return (
        f"after {result.made} steps, with seed {result.seed}: {what}\nas set up: {world(result.seed)}\n"
        f"to repeat: model.search.broken({result.seed}, {fewest!r})"
    )


def _fewest(seed: int, sequence: list[Step]) -> list[Step]:
    """Leave out ever smaller pieces for as long as a promise is broken without them."""
    cuts, size = 0, max(len(sequence) // 2, 1)
    while size and cuts < _CUTS:
        for start in range(len(sequence) - size, -1, -size):
            shorter = sequence[:start] + sequence[start + size :]
            cuts += 1
            if broken(seed, shorter)[0]:
                sequence = shorter
        size //= 2
    return sequence
