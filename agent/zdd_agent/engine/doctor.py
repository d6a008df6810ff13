"""Would a drain work here? Each thing that it needs, looked at without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from zdd_agent.decide import guard
from zdd_agent.decide.scaling import described, owned
from zdd_agent.decide.timing import DISCOVERY_SECONDS
from zdd_agent.decide.traffic.trust import Trust, blindness
from zdd_agent.engine.observer import Observer
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, Membership, MinHealthy, Target, TargetGroup
from zdd_agent.model.kernel import Until
from zdd_agent.model.operation import Observation, Verb
from zdd_agent.ports import Clock, LoadBalancing, Metadata, Prober

if TYPE_CHECKING:
    from zdd_agent.engine.scaling import Scaling
    from zdd_agent.engine.slots import SlotHolding

# Seconds by which this host's clock may differ from AWS's. Signatures fail at 300 s:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
SKEW_SECONDS = 60.0

# A check returns what it found to be right, or raises AgentError with what to do.
Check = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is as it should be, what was found, and what to do."""

    name: str
    ok: bool
    said: str
    hint: str = ""


# For a host whose app answers although the sensor sees none of its health checks.
_CONTAINER_HINT = (
    "the app answers all the same: if its port is published from a container, set [container] and run "
    "`systemctl enable --now zdd-netns.socket`"
)

# A drain takes a host out of target groups only.
_NOT_LOOKED_AT = Finding(
    "not looked at",
    True,
    "Classic Load Balancers, VPC Lattice, endpoints of Global Accelerator, DNS records that name this host, and target "
    "groups of other VPCs that `target_groups` does not name: a drain does not take this host out of these",
)


class Doctor:
    """Looks at everything once.

    Args:
        until: what ends a drain, by the settings.
        trust: what the sensor has seen so far.
        local: the checks of this machine, by name: the socket, the state file, the disk.
    """

    def __init__(
        self,
        *,
        observer: Observer,
        aws: LoadBalancing,
        metadata: Metadata,
        prober: Prober,
        clock: Clock,
        min_healthy: MinHealthy,
        until: Until,
        trust: Callable[[], Trust | None],
        local: Sequence[tuple[str, Check]],
        scaling: Scaling | None = None,
        slots: SlotHolding | None = None,
    ) -> None:
        self._observer = observer
        self._aws = aws
        self._metadata = metadata
        self._prober = prober
        self._clock = clock
        self._min_healthy = min_healthy
        self._until = until
        self._trust = trust
        self._local = tuple(local)
        self._scaling = scaling
        self._slots = slots

    def examine(self) -> tuple[Finding, ...]:
        """Every finding, in the order in which a reader fixes them."""
        return (*(_found(name, check) for name, check in self._local), *self._outside(), _NOT_LOOKED_AT)

    def _outside(self) -> Iterator[Finding]:
        yield (imds := _found("instance metadata", lambda: _describe(self._metadata.identity())))
        if not imds.ok:
            return
        yield _found("role", self._metadata.role)
        identity = self._metadata.identity()
        found: list[tuple[Membership, Observation]] = []

        def groups() -> str:
            by = self._clock.now() + DISCOVERY_SECONDS
            found.append(self._observer.discover(Verb.REJOIN, Membership(), (), 0.0, by))
            return self._groups(found[0][0])

        yield _found("target groups", groups)
        yield _found("clock", self._skew)
        if self._scaling is not None:
            yield _found("auto scaling", partial(self._group, self._scaling, found[0][0] if found else Membership()))
            yield _found("lifecycle hooks", self._scaling.may_answer)
            if self._scaling.standby:
                yield _found("standby", self._scaling.may_stand_by)
        if self._slots is not None:
            yield _found("slots", self._slots.may_hold)
        if found:
            yield from self._membership(identity, *found[0])

    def _membership(self, identity: Identity, membership: Membership, seen: Observation) -> Iterator[Finding]:
        for group in membership.groups:
            yield _found(f"permissions for {group.name}", partial(self._permissions, group, membership, identity))
        answers = True
        for target in membership.targets:
            result = self._prober.check(membership.group(target.group), target)
            answers = answers and result.passed
            hint = "" if result.passed else "start the app, or fix the group's health check"
            yield Finding(f"app for {target}", result.passed, result.said, hint)
        hint = _CONTAINER_HINT if answers and self._leads_elsewhere(membership) else ""
        yield Finding("health checks", True, self._seen_checks(membership), hint)
        refused = guard.refusal(membership, seen, self._min_healthy)
        yield Finding(
            "guard",
            refused is None,
            refused.message if refused else "a drain would be allowed now",
            refused.hint if refused else "",
        )

    def _seen_checks(self, membership: Membership) -> str:
        """Whether the kernel's connections can end a drain. Where they cannot, the API does: that is no fault."""
        if self._until is Until.UNUSED:
            return "not looked for: the settings say that drains end when the API says `unused`"
        if why := blindness(membership):
            return f"drains end when the API says `unused`: {why}"
        trust = self._trust()
        if trust is None:
            return "not looked for yet: the first drain waits until the agent has seen them"
        now = self._clock.now()
        if why := trust.doubt(now):
            return f"a drain would end when the API says `unused`: {why}"
        return f"this host sees those of {', '.join(sorted(trust.checking(now)))}: its connections can end a drain"

    def _leads_elsewhere(self, membership: Membership) -> bool:
        """Whether the checks do not come where the sensor looks, after the time in which they should have come.

        DNAT, or a proxy of the container engine, leads to an app in another network namespace.
        """
        trust, now = self._trust(), self._clock.now()
        if self._until is Until.UNUSED or blindness(membership) or any(name == "container" for name, _ in self._local):
            return False
        return trust is not None and bool(trust.doubt(now)) and now >= trust.settled_at

    def _groups(self, membership: Membership) -> str:
        if not membership.targets:
            raise AgentError(
                Kind.NO_MEMBERSHIP,
                "no target group holds this host",
                hint="register it once, or set `target_groups` in the settings",
            )
        return ", ".join(map(str, membership.targets))

    def _permissions(self, group: TargetGroup, membership: Membership, identity: Identity) -> str:
        taken = {t.port for t in membership.targets if t.group == group.arn}
        free = next(port for port in range(1, 65536) if port not in taken)
        self._aws.may_change(group, Target(group.arn, identity.id_in(group), free))
        return "RegisterTargets and DeregisterTargets are allowed"

    def _group(self, scaling: Scaling, membership: Membership) -> str:
        place = scaling.place(0.0)
        if place is None:
            return "this host is in no Auto Scaling group"
        if (failure := owned(place.group)) is not None:
            raise AgentError(Kind.REFUSED, failure.message, hint=failure.hint)
        return described(place, membership, standby=scaling.standby)

    def _skew(self) -> str:
        skew = self._aws.clock_skew()
        if skew is None:
            raise AgentError(Kind.FAILED, "AWS has not answered yet, so the clocks cannot be compared")
        if abs(skew) > SKEW_SECONDS:
            said = f"this host's clock differs from AWS's by {skew:.0f} s"
            raise AgentError(Kind.FAILED, said, hint="start chrony or systemd-timesyncd")
        return f"within {max(abs(skew), 1):.0f} s of AWS's"


def _describe(identity: Identity) -> str:
    return f"{identity.instance_id} in {identity.zone}, {identity.vpc_id}"


def _found(name: str, check: Check) -> Finding:
    try:
        return Finding(name, True, check())
    except AgentError as error:
        return Finding(name, False, error.message, error.hint)
