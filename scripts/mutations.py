"""Puts defects back, one at a time, into a copy of the agent, and says which of them the model of tests/model finds.

mutations.py [WORD…]: those whose name holds one of these words; all without one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = 10_000
# Plays the model on the agent in the first folder, whatever else is on the path.
_RUN = """
import logging, sys
sys.path[:0] = sys.argv[1:3]
logging.disable(logging.CRITICAL)
from model.search import search
import zdd_agent
assert zdd_agent.__file__.startswith(sys.argv[1]), zdd_agent.__file__
result = search(0, int(sys.argv[3]))
if result.broken:
    print(f"after {result.made:,} steps: {result.broken.splitlines()[0]}")
"""


@dataclass(frozen=True)
class Mutation:
    """One defect: in each file the old text, which stands there exactly once, becomes the new one."""

    name: str
    edits: tuple[tuple[str, str, str], ...]


def _one(name: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(name, ((file, old, new),))


MUTATIONS = (
    _one(
        "a drain ends on `unused` while requests are under way",
        "decide/drain.py",
        "held = drain_end.blocking(state, membership, evidence.senses, now)",
        'held = ""',
    ),
    _one(
        "a second drain after a time-out answers `already drained` at once",
        "decide/earlier_drain.py",
        "    if isinstance(before, Drained) and not (",
        "    if isinstance(before, Out):\n        return End(Outcome.SUCCEEDED, 'already drained')\n"
        "    if isinstance(before, Drained) and not (",
    ),
    _one(
        "`--until unused` of a second drain is ignored",
        "decide/earlier_drain.py",
        "and not (wanted is Until.UNUSED and pending(membership, seen)):",
        "and not (False and wanted is Until.UNUSED and pending(membership, seen)):",
    ),
    _one(
        "`nothing to drain` after one look",
        "decide/guarding.py",
        "    agreed = since + API_LAG_SECONDS\n",
        "    agreed = since\n",
    ),
    _one(
        "a drain ends on what AWS said long ago",
        "decide/drain.py",
        "_FRESH_SECONDS = 2.0",
        "_FRESH_SECONDS = 1e9",
    ),
    Mutation(
        "a caller who joins loses its `--until`",
        (
            ("decide/asked.py", "until=stricter(mine.until, other.until)", "until=mine.until"),
            ("decide/asked.py", "state=_stricter_state(state, other)", "state=state"),
        ),
    ),
    _one(
        "the record of another instance is believed",
        "decide/asked.py",
        "return record.owner.instance_id == action.instance_id",
        "return True",
    ),
    _one(
        "the record of another instance is believed after a second start",
        "decide/asked.py",
        '    if not record.owner.instance_id:\n        record = replace(record, owner=Owner("", boot_id or known))\n',
        "    record = replace(record, owner=replace(record.owner, boot_id=boot_id or known))\n",
    ),
    _one(
        "a target that is to be forgotten stays",
        "decide/asked.py",
        "membership=record.membership.without_target(target)",
        "membership=record.membership",
    ),
    _one(
        "the settings of the groups are not read again",
        "engine/observer.py",
        "return membership.without_groups(gone).with_groups(newer), gone",
        "return membership.without_groups(gone), gone",
    ),
    _one(
        "a named group that was deleted stops both verbs",
        "engine/observer.py",
        "known = {*before.named, *(word for g in before.groups for word in (g.arn, g.name))}",
        "known = set[str]()",
    ),
    _one(
        "a group that is deleted in mid-drain fails the drain",
        "engine/observer.py",
        "is not Kind.TARGET_GROUP_NOT_FOUND:\n                    raise\n                missing",
        "is not None:\n                    raise\n                missing",
    ),
    Mutation(
        "the guard demands others in a spare group",
        (
            ("decide/guard.py", "if not own or not group.balancers:", "if not own:"),
            ("decide/guard.py", "_LEFT = frozenset({State.DRAINING, State.UNUSED})", "_LEFT = {State.DRAINING}"),
        ),
    ),
    _one(
        "a rejoin waits for a spare group to be healthy",
        "decide/population.py",
        "return _is_not_in_use(health) and (unbalanced or target.key in spare)",
        "return False",
    ),
    _one(
        "a percentage erodes as one host after another leaves",
        "engine/observer.py",
        "absent = self._absent(membership, population, listed) if self._counts_absent else ()",
        "absent = ()",
    ),
    _one(
        "a host does not look again after it has left",
        "decide/drain.py",
        "    if found.short and not one.request.stopping",
        "    if False and not one.request.stopping",
    ),
    _one(
        "going back registers the whole membership",
        "decide/drain.py",
        "return _going_back(record, state, one, evidence, now, rules)",
        "return Register(record.membership.targets) if evidence.returned_at is None and evidence.refused is None else "
        "_going_back(record, state, one, evidence, now, rules)",
    ),
    _one(
        "going back is given up at the first refusal",
        "decide/drain.py",
        "        error, at = evidence.refused\n        if now >= one.deadline:",
        "        error, at = evidence.refused\n        if True:",
    ),
    _one(
        "`--wait` ends at a lost race",
        "decide/drain.py",
        "if ((refused and now < give_up) or one.request.stopping or state.again) and one.cancelled_by is None:",
        "if False and one.cancelled_by is None:",
    ),
    _one(
        "a drain of an earlier boot goes on after the reboot",
        "decide/asked.py",
        "rebooted = bool(known and boot_id and known != boot_id)",
        "rebooted = False",
    ),
    _one(
        "a drain is refused while a rejoin is under way",
        "engine/ledger.py",
        "if current is not None and request.verb is Verb.REJOIN:",
        "if current is not None:",
    ),
    _one(
        "one stale `healthy` in a drain deregisters again",
        "decide/drain.py",
        "if evidence.agreed(lambda look: registered(membership, look)):",
        "if back:",
    ),
    _one(
        "a rejoin registers again on one stale look",
        "decide/rejoin.py",
        "if evidence.agreed(lambda look: absent(membership, look)):",
        "if absent(membership, seen):",
    ),
    _one(
        "an old proof holds for a host that has gone back",
        "decide/endings.py",
        "return InService() if whole and not left.standby else back_again(before, now)",
        "return InService() if whole and not left.standby else before",
    ),
    _one(
        "a drain that ends before the answer to EnterStandby forgets it",
        "model/states.py",
        "return replace(self.left, standby=self.left.standby or self.ending.standby)",
        "return self.left",
    ),
    _one(
        "a rejoin does not leave Standby",
        "decide/rejoin.py",
        "    if parked := standby.group_of(state.before):\n",
        "    if False and (parked := standby.group_of(state.before)):\n",
    ),
    Mutation(
        "a host that is being terminated is registered",
        (
            (
                "decide/rejoin.py",
                "    if record.leaving is not None:\n",
                "    if False and record.leaving is not None:\n",
            ),
            ("decide/rejoin.py", "    if evidence.terminating:\n", "    if False and evidence.terminating:\n"),
        ),
    ),
    _one(
        "a hook is completed although the last drain has failed",
        "decide/leaving.py",
        "return last.verb is Verb.DRAIN and last.outcome is Outcome.SUCCEEDED",
        "return last.verb is Verb.DRAIN",
    ),
    _one(
        "a port that others register in mid-drain stays",
        "decide/drain.py",
        "    membership = with_other_ports(membership, seen)\n",
        "",
    ),
    _one(
        "`already drained` after one look",
        "decide/earlier_drain.py",
        "    if seen.seen_at >= sure or (fresh and isinstance(before, Drained)):\n",
        "    if True:\n",
    ),
    _one(
        "a group that was joined right before a drain is not looked for again",
        "decide/drain.py",
        "    if evidence.found_at >= sure:\n",
        "    if seen.seen_at >= sure:\n",
    ),
    _one(
        "what others did to a drained host unseen, with a short delay, does not count",
        "decide/earlier_drain.py",
        "    forgotten = not fresh and is_soon_forgotten(membership, rules.floor_seconds)\n",
        "    forgotten = False\n",
    ),
    _one(
        "a group that others took the host out of holds no floor",
        "decide/guarding.py",
        "    sure = max(agreed, since + longest_floor(membership, rules.floor_seconds))\n",
        "    sure = agreed\n",
    ),
    Mutation(
        "a rejoin that is refused believes one look",
        (
            ("decide/rejoin.py", "if seen.seen_at < (sure := at + API_LAG_SECONDS) and", "if (sure := 0.0) and"),
            ("decide/rejoin.py", "if at - evidence.refused_since < API_LAG_SECONDS and", "if False and"),
        ),
    ),
)


def put_back(mutation: Mutation, agent: Path) -> None:
    """Edit the sources in this folder, which holds `zdd_agent`.

    Raises:
        ValueError: an old text does not stand there exactly once.
    """
    for file, old, new in mutation.edits:
        path = agent / "zdd_agent" / file
        text = path.read_text("utf-8")
        if (times := text.count(old)) != 1:
            raise ValueError(f"cannot put back “{mutation.name}”: its old text stands {times} times in {file}: {old!r}")
        path.write_text(text.replace(old, new), "utf-8")


def found(mutation: Mutation, steps: int) -> str:
    """What the model says of this defect; empty when it does not find it."""
    with tempfile.TemporaryDirectory() as folder:
        agent = Path(folder) / "agent"
        shutil.copytree(ROOT / "agent", agent, ignore=shutil.ignore_patterns("__pycache__"))
        put_back(mutation, agent)
        words = [sys.executable, "-c", _RUN, str(agent), str(ROOT / "tests"), str(steps)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"“{mutation.name}” does not run: {done.stderr}")
    return done.stdout.strip()


def main(names: Sequence[str]) -> int:
    """Try the defects of these names. The exit code is 1 when one is not found."""
    chosen = [one for one in MUTATIONS if not names or any(name in one.name for name in names)]
    missed = 0
    for mutation in chosen:
        said = found(mutation, STEPS)
        missed += not said
        print(f"{'found' if said else 'NOT FOUND'} | {mutation.name} | {said}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} found, with at most {STEPS:,} steps each")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
