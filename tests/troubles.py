"""What befalls an agent in fake time: kills at any point, an AWS that is away, a disk that is full."""

from __future__ import annotations

from dataclasses import dataclass, field

from fakes import FakeStore
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.record import Record

# The calls that can fail, or be the last thing before or after a kill.
ACTIONS = (
    "DescribeTargetGroups",
    "DescribeTargetGroupAttributes",
    "DescribeTargetHealth",
    "RegisterTargets",
    "DeregisterTargets",
)


class Killed(BaseException):
    """kill -9 at this very point: nothing of the daemon catches it."""


def away() -> AgentError:
    return AgentError(Kind.AWS_UNAVAILABLE, "cannot call: AWS answered 503", transient=True)


def full() -> AgentError:
    return AgentError(Kind.STORE, "cannot write: no space left", transient=True)


@dataclass
class MortalStore(FakeStore):
    """A store after whose write the daemon can be killed."""

    after: list[BaseException] = field(default_factory=list)

    def write(self, record: Record) -> None:
        super().write(record)
        del self.written[:-1]
        if self.after:
            raise self.after.pop(0)
