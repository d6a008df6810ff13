"""Every setting: its default, what it accepts, and what it means. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from zdd_agent.limits import LONGEST_SECONDS
from zdd_agent.model.auto_scaling import NoticeKind
from zdd_agent.model.aws import BalancerKind, MinHealthy
from zdd_agent.model.kernel import Until
from zdd_agent.model.slots import SlotLimit, SlotRules

DEFAULT_STATE_DIRECTORY = Path("/var/lib/zdd-agent")


def _no_bool(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take `true` for 1.0
        raise ValueError("not a number")  # noqa: TRY004  pydantic reports this one
    return value


def _number_or_percentage(value: object, *, least: int) -> object:
    """A number of at least so many, or a percentage of at most 100; more than none where `least` is."""
    if isinstance(value, str) and value.isascii() and value.isdigit():  # from a variable
        value = int(value)
    if isinstance(value, str) and value.endswith("%"):
        number = value.removesuffix("%")
        fits = number.replace(".", "", 1).isdecimal() and float(number) <= 100 and (not least or float(number) > 0)
    else:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits:
        raise ValueError("neither a number nor a percentage")
    return value


_Number = Annotated[float, BeforeValidator(_no_bool)]
Seconds = Annotated[_Number, Field(gt=0, le=LONGEST_SECONDS)]
Port = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=65535)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PollSettings(_Table):
    """How often AWS is asked while a target changes. The API budget belongs to the whole account."""

    interval_seconds: Seconds = Field(10.0, description="seconds between two looks, more than 0")
    jitter_seconds: Annotated[_Number, Field(ge=0, le=600)] = Field(
        5.0, description="seconds drawn at random and added to each interval, 0 or more"
    )


class ProbeSettings(_Table):
    """How the app is probed before anything is registered."""

    interval_seconds: Seconds = Field(1.0, description="seconds between two probes, more than 0")


class FloorSeconds(_Table):
    """How long new work may still come after a deregistration, by the kind of load balancer."""

    # Requests still came for 17 to 25 s after the call; waiting for 25 s cured it, 5 s did not:
    # https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/1064. AWS gives no figure.
    application: Seconds = Field(30.0, description="seconds, more than 0")
    # New connections for 120 s whatever the deregistration delay, https://github.com/aws/containers-roadmap/issues/470
    # and https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/2366; up to 300 s are quoted.
    network: Seconds = Field(300.0, description="seconds, more than 0")
    # Nobody has published a measurement; the same as for the other balancer that forwards flows.
    gateway: Seconds = Field(300.0, description="seconds, more than 0")

    @property
    def by_kind(self) -> Mapping[BalancerKind, float]:
        """The same as a mapping."""
        return {kind: getattr(self, kind.value) for kind in BalancerKind}


class DrainSettings(_Table):
    """What ends a drain."""

    until: Until = Field(Until.CLOSED, description="`closed`, `idle` or `unused`")
    # No longer a choice. Version 0.1.0 knew `adaptive`, and a host that names it must still start: `Settings.outdated`.
    floor: Literal["fixed", "adaptive"] = Field("fixed", description="`fixed`")
    floor_seconds: FloorSeconds = FloorSeconds()
    quiet_seconds: Seconds = Field(5.0, description="seconds without traffic that count as quiet, more than 0")
    ignore_peers: tuple[str, ...] = Field(
        (), description="a list of addresses and networks (10.0.7.0/24) whose connections no drain waits for"
    )

    @property
    def ignored(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """`ignore_peers` as networks."""
        return tuple(map(ip_network, self.ignore_peers))

    @field_validator("ignore_peers")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            ip_network(one)  # raises ValueError for what is none
        return value


class TimeoutSettings(_Table):
    """When an operation gives up. Derived from the target groups where nothing is set."""

    drain_seconds: Seconds | None = Field(None, description="seconds, more than 0")
    rejoin_seconds: Seconds | None = Field(None, description="seconds, more than 0")


class AccessSettings(_Table):
    """Who may read and who may operate, besides root and the agent's own user. Names or numbers."""

    operator_users: tuple[str, ...] = Field((), description="a list of user names or numbers")
    operator_groups: tuple[str, ...] = Field(("zdd-agent",), description="a list of group names or numbers")
    reader_users: tuple[str, ...] = Field((), description="a list of user names or numbers")
    reader_groups: tuple[str, ...] = Field((), description="a list of group names or numbers")


class AutoScalingSettings(_Table):
    """What the agent does about the Auto Scaling group of this instance."""

    mode: Literal["off", "watch", "strict", "standby"] = Field(
        "off", description="`off`, `watch`, `strict` or `standby`"
    )
    launch_hook: str | None = Field(
        None, description="the lifecycle hook that a launch waits for; needed where the group has several"
    )
    termination_hook: str | None = Field(
        None, description="the lifecycle hook that a termination waits for; needed where the group has several"
    )


Heed = Literal["drain", "warn", "ignore"]


class NoticeSettings(_Table):
    """What the agent does about each kind of notice that EC2 gives this instance."""

    spot: Heed = Field("ignore", description="`drain`, `warn` or `ignore`")
    rebalance: Heed = Field("ignore", description="`drain`, `warn` or `ignore`")
    maintenance: Heed = Field("ignore", description="`drain`, `warn` or `ignore`")

    @property
    def heeded(self) -> Mapping[NoticeKind, Heed]:
        """The kinds that are not ignored."""
        return {kind: heed for kind in NoticeKind if (heed := getattr(self, kind.value)) != "ignore"}


class SlotSettings(_Table):
    """How many hosts of a service may be out at once, over the whole fleet."""

    table: str = Field(min_length=3, max_length=255, pattern=r"^[A-Za-z0-9_.-]+$", description="a DynamoDB table")
    name: str = Field(min_length=1, max_length=255, description="the service, whose hosts share the slots")
    limit: int | str = Field(1, description="a number of hosts, 1 or more, or a percentage such as '25%'")

    @property
    def rules(self) -> SlotRules:
        """What the decisions go by."""
        if isinstance(self.limit, str):
            return SlotRules(self.name, SlotLimit(percent=float(self.limit.removesuffix("%"))))
        return SlotRules(self.name, SlotLimit(self.limit))

    @field_validator("limit", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return _number_or_percentage(value, least=1)


class ContainerSettings(_Table):
    """The container that the app runs in, where its port is published. The opener finds it: `zdd-netns.socket`."""

    name: str | None = Field(None, description="the name of the container in Docker or podman")
    unit: str | None = Field(None, description="instead of `name`: the systemd unit of the container's processes")
    port: Port | None = Field(None, description="the port of this host that is published, 1 to 65535")
    container_port: Port | None = Field(
        None, description="where that leads to in the container, 1 to 65535; the same as `port` where nothing is set"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = any(one is not None for one in (self.name, self.unit, self.port, self.container_port))
        if given and (self.port is None or (self.name is None) == (self.unit is None)):
            raise ValueError("neither whole nor left out")
        return self


class Settings(_Table):
    """All settings. None is needed: without them the agent finds its own target groups."""

    socket: Path = Field(Path("/run/zdd-agent/agent.sock"), description="an absolute path")
    state_directory: Path = Field(DEFAULT_STATE_DIRECTORY, description="an absolute path")
    target_groups: tuple[str, ...] = Field(
        (), description="a list of target group names or ARNs; empty to search the VPC"
    )
    min_healthy: int | str = Field(1, description="a number of targets, 0 or more, or a percentage such as '50%'")
    drained_warning_seconds: Seconds = Field(
        3600.0, description="seconds after which `status` warns of a host that is still out, more than 0"
    )
    poll: PollSettings = PollSettings()
    probe: ProbeSettings = ProbeSettings()
    drain: DrainSettings = DrainSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    access: AccessSettings = AccessSettings()
    auto_scaling: AutoScalingSettings = AutoScalingSettings()
    notices: NoticeSettings = NoticeSettings()
    slots: SlotSettings | None = None
    container: ContainerSettings = Field(
        ContainerSettings(), description="a table with `port`, and with either `name` or `unit`"
    )

    @property
    def healthy(self) -> MinHealthy:
        """`min_healthy` as a number or a percentage."""
        if isinstance(self.min_healthy, str):
            return MinHealthy(percent=float(self.min_healthy.removesuffix("%")))
        return MinHealthy(self.min_healthy)

    @property
    def outdated(self) -> str:
        """What a setting that is still accepted no longer does; empty when there is nothing to say."""
        if self.drain.floor == "fixed":
            return ""
        return '`drain.floor = "adaptive"` now means "fixed": a drain waits `drain.floor_seconds`; remove the setting'

    @field_validator("min_healthy", mode="before")
    @classmethod
    def _floor(cls, value: object) -> object:
        return _number_or_percentage(value, least=0)

    @field_validator("socket", "state_directory")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("not an absolute path")
        return value
