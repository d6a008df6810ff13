"""The wall clock is set while the agent is down: over the core in fake time, since no test may set a real host's clock.

While the agent runs, setting the clock has no effect on it (`SystemClock` reads CLOCK_BOOTTIME); but the moments on
disk are wall-clock time, and a restart compares them with a new one.
"""

from __future__ import annotations

import pytest

from fakes import arn, group
from faults.rig import Row, write_rows
from host import Host, succeeded
from zdd_agent.model.operation import Outcome, Phase, Posture, Verb

HOUR = 3600.0
DRAIN = (Phase.GUARDING, Phase.DEREGISTERING, Phase.DRAINING)
REJOIN = (Phase.PROBING, Phase.REGISTERING, Phase.WARMING)
# Seconds that the slower of the two takes here when nothing is wrong: the deregistration delay, and a poll or two.
USUAL = 330.0
ROWS: list[Row] = []


@pytest.fixture(scope="module", autouse=True)
def _report():
    yield
    write_rows("clock_jumps", ROWS)


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])
@pytest.mark.parametrize("phase", [*DRAIN, *REJOIN])
def test_a_clock_that_is_set_during_a_restart_loses_nothing(phase: Phase, jump: float) -> None:
    host = Host(group())
    host.aws.put("web")
    host.aws.put_sibling("web")
    verb = Verb.DRAIN if phase in DRAIN else Verb.REJOIN
    if verb is Verb.REJOIN:
        assert succeeded(host.do(Verb.DRAIN))
    host.begin(verb)
    while (operation := host.ledger.running()) is not None and operation.phase is not phase:
        host.turn()
    host.clock.time += jump
    for key, (zone, healthy, broken, gone) in host.aws._targets.items():  # AWS's own clock was not set
        host.aws._targets[key] = (zone, healthy + jump if healthy else 0.0, broken, gone + jump if gone else None)
    host.restart()
    began = host.clock.now()
    ended = host.finish()
    outcomes = [str(ended.outcome)]
    assert ended.outcome in (Outcome.SUCCEEDED, Outcome.TIMED_OUT)
    assert host.clock.now() - began < USUAL
    if ended.outcome is Outcome.TIMED_OUT:
        again = host.do(verb)
        outcomes.append(str(again.outcome))
        assert succeeded(again)
    if verb is Verb.DRAIN:
        assert host.posture() is Posture.DRAINED
        assert succeeded(host.do(Verb.REJOIN))
    assert (arn("web"), "i-me", 8080) in host.aws.registered()
    where = "ahead" if jump > 0 else "back"
    repeat = f"tests/faults/test_clock_jumps.py -k '{phase.value}-{where}'"
    ROWS.append(Row(f"the clock is set {where} by an hour", f"{verb}: {phase}", 1, ", healed: ".join(outcomes), repeat))
