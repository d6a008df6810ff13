"""The wire: what the socket takes and answers. docs/openapi.json is generated from here."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from zdd_agent.limits import LONGEST_SECONDS
from zdd_agent.model.aws import State, Target, TargetHealth, group_name
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Check, Event, Failure, Operation, Outcome, Phase, Posture, Verb

# A target group's name, an instance ID or an address, a port.
_TARGET = re.compile(r"^[A-Za-z0-9-]{1,32} [0-9A-Za-z.:-]{1,64}:[0-9]{1,5}$", re.ASCII)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _printable(value: str) -> str:
    # A line break could forge a journal field, an escape could act on the terminal of whoever reads the log.
    if not value.isprintable():
        raise ValueError("must be printable text on one line")
    return value


# For the log.
Reason = Annotated[str, AfterValidator(_printable), Field(max_length=200, description="printable text for the log")]


class OperationBody(_Body):
    """What a POST of a drain or a rejoin may say; every field may be left out."""

    model_config = ConfigDict(strict=True)  # no text for a number, no number for a boolean: as the OpenAPI file says

    timeout: Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)] | None = Field(
        None, description="give up after this many seconds; derived from the target groups when left out"
    )
    force: tuple[Check, ...] = Field((), description="checks to skip, each by its name")
    until: Until | None = Field(None, description="what ends a drain; the setting `drain.until` when left out")
    retry_seconds: Annotated[float, Field(ge=0, le=LONGEST_SECONDS, allow_inf_nan=False)] = Field(
        0.0, description="keep retrying a refused drain for this many seconds"
    )
    reason: Reason = ""
    stopping: bool = Field(
        False,
        description="of a drain: this stop cannot be prevented, so a drain that is still refused after retry_seconds "
        "goes on anyway",
    )
    keep_trying: bool = Field(
        False,
        description="of a rejoin: nobody waits for its result, so the agent tries again after a failure until it works "
        "or somebody drains or cancels",
    )
    reboot: bool = Field(
        False,
        description="of a drain: the caller reboots this host after it, and the agent puts it back after the boot; "
        "refused as busy where an operation is under way or the host is out already, unless `drained` is forced",
    )
    dry_run: bool = Field(False, description="say what would be done, and do nothing")


class ForgetBody(_Body):
    """Which target to forget."""

    model_config = ConfigDict(strict=True)

    target: str = Field(
        description="a target as the command `status` shows it: GROUP ID:PORT",
        json_schema_extra={"pattern": _TARGET.pattern},
    )

    @field_validator("target")
    @classmethod
    def _shaped(cls, value: str) -> str:
        if not _TARGET.fullmatch(value):
            raise ValueError("must be a target as `zdd-agent status` shows it: GROUP ID:PORT")
        return value

    @property
    def parts(self) -> tuple[str, str, int]:
        """The name of the group, the target's Id, its port."""
        group, _, target = self.target.partition(" ")
        target_id, _, port = target.rpartition(":")
        return group, target_id, int(port)


class ForgottenView(_Body):
    """The target that is forgotten."""

    target: str


class ErrorView(_Body):
    """What cannot be done, why, and what to do next."""

    kind: str
    message: str
    hint: str = ""
    value: str | None = None

    @classmethod
    def of(cls, failure: Failure) -> ErrorView:
        """The view of a failure."""
        return cls(kind=failure.kind, message=failure.message, hint=failure.hint, value=failure.value)


class ErrorBody(_Body):
    """Every answer of 400 and above that is not an operation."""

    error: ErrorView


class TargetView(_Body):
    """One target. `state` and `reason` are as ELBv2 spells them; `state` is null when AWS was not asked yet."""

    target_group: str
    target_group_arn: str
    id: str
    port: int
    zone: str | None = None
    state: State | None = None
    reason: str = ""
    description: str = ""

    @classmethod
    def of(cls, target: Target, health: TargetHealth | None, *, asked: bool) -> TargetView:
        """The view of a target; one that the group does not list is `unused`, as AWS itself says."""
        absent = State.UNUSED if asked else None
        return cls(
            target_group=group_name(target.group),
            target_group_arn=target.group,
            id=target.id,
            port=target.port,
            zone=target.zone,
            state=health.state if health else absent,
            reason=health.reason if health else ("Target.NotRegistered" if asked else ""),
            description=health.description if health else "",
        )


class EventView(_Body):
    """One line of progress. Moments are seconds since the epoch; nothing can change before `until`."""

    seq: int
    at: float
    phase: Phase
    text: str
    until: float | None = None

    @classmethod
    def of(cls, event: Event) -> EventView:
        """The view of an event."""
        return cls(seq=event.seq, at=event.at, phase=event.phase, text=event.text, until=event.until)


class OperationView(_Body):
    """A drain or a rejoin. `outcome` is null while it is under way; `error` says why it did not succeed.

    `changed` is false where there was nothing to do.
    """

    id: str
    verb: Verb
    phase: Phase
    outcome: Outcome | None = None
    message: str = ""
    changed: bool
    error: ErrorView | None = None
    reason: str = ""
    uid: int
    started_at: float
    deadline: float
    ended_at: float | None = None
    age_seconds: float
    events: tuple[EventView, ...] = ()

    @classmethod
    def of(cls, operation: Operation, now: float, events: tuple[Event, ...] = ()) -> OperationView:
        """The view of an operation at this moment."""
        return cls(
            id=operation.id,
            verb=operation.verb,
            phase=operation.phase,
            outcome=operation.outcome,
            message=operation.message,
            changed=operation.changed,
            error=ErrorView.of(operation.failure) if operation.failure else None,
            reason=operation.request.reason,
            uid=operation.request.uid,
            started_at=operation.started_at,
            deadline=operation.deadline,
            ended_at=operation.ended_at,
            age_seconds=round(max(now - operation.started_at, 0.0), 3),
            events=tuple(EventView.of(event) for event in events),
        )


class PlanView(_Body):
    """The answer to a dry run."""

    verb: Verb
    dry_run: bool = True
    targets: tuple[TargetView, ...]
    refusal: ErrorView | None = None


class FindingView(_Body):
    """One line of the doctor: what was looked at, whether it is as it should be, what was found, and what to do."""

    name: str
    ok: bool
    said: str
    hint: str = ""


class DoctorView(_Body):
    """Whether a drain would work here, and why not."""

    ok: bool
    findings: tuple[FindingView, ...]


class StatusView(_Body):
    """Where the host stands. `seen_seconds_ago`: the age of the targets' states; null when AWS was not asked.

    `auto_scaling`: where it stands in its group, for people; null where `auto_scaling.mode` is off.
    `slot`: how it stands to its slot, for people; null where it has none.
    """

    posture: Posture
    instance_id: str | None = None
    region: str | None = None
    zone: str | None = None
    targets: tuple[TargetView, ...] = ()
    seen_seconds_ago: float | None = None
    drained_since: float | None = None
    operation: OperationView | None = None
    auto_scaling: str | None = None
    slot: str | None = None
    warnings: tuple[str, ...] = ()
    version: str
