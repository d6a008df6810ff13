"""Pure: when a rejoin that failed is tried again, because nobody waited for its result."""

from __future__ import annotations

from zdd_agent.model.operation import Outcome, Verb
from zdd_agent.model.record import Record, Wanted

# Seconds from the end of a rejoin to the next try. The rejoin itself probes the app for minutes, so this only paces
# what fails at once: a permission that is missing, a metadata service that does not answer.
AGAIN_SECONDS = 30.0

# The value of the failure of a rejoin in a warm pool.
WARM_POOL = "warm pool"


def left_the_pool(record: Record) -> bool:
    """Whether the rejoin at the start of this host ended in a warm pool: it is due once the group takes the host out.

    An instance that is kept running in its pool, or hibernates there, does not boot again on its way into service.
    """
    last = record.last
    if record.underway is not None or record.leaving is not None or record.wanted is Wanted.OUT or last is None:
        return False
    return last.request.keep_trying and last.failure is not None and last.failure.value == WARM_POOL


def again_at(record: Record) -> float | None:
    """The moment of the next try, seconds since the epoch; None where there is none.

    A drain or a cancel ends the tries.
    """
    last = record.last
    if record.underway is not None or last is None or last.ended_at is None or record.wanted is Wanted.OUT:
        return None
    if record.leaving is not None:
        return None
    failed = last.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)
    if last.verb is not Verb.REJOIN or not last.request.keep_trying or not failed:
        return None
    return last.ended_at + AGAIN_SECONDS
