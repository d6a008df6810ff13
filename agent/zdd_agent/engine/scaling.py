"""This instance's Auto Scaling group, asked for when something hangs on it. Safe to use from any thread."""

from __future__ import annotations

from math import inf

from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import LifecycleHook, ScalingPlace, Transition
from zdd_agent.ports import AutoScaling, Clock, Metadata

# Seconds for which what AWS said of the group is believed. Somebody may change its health check type.
PLACE_SECONDS = 300.0
# What no group has.
_NO_HOOK = "zdd-agent-asks-whether-it-may"
_NO_INSTANCE = "i-00000000000000000"


class Scaling:
    """Asks Auto Scaling through the ports.

    Args:
        aws: Amazon EC2 Auto Scaling.
        metadata: who this host is, and whether it is in a group: that takes no permission.
        clock: the time.
        hooks: the names that the settings give.
        standby: a drain enters Standby.
    """

    def __init__(
        self,
        aws: AutoScaling,
        metadata: Metadata,
        clock: Clock,
        hooks: dict[Transition, str | None],
        *,
        standby: bool = False,
    ) -> None:
        self.standby = standby
        self._aws = aws
        self._metadata = metadata
        self._clock = clock
        self._names = hooks
        # Replaced whole: the last answer, and when it came.
        self._known: tuple[ScalingPlace | None, float] | None = None

    def place(self, max_age: float = PLACE_SECONDS) -> ScalingPlace | None:
        """Where this instance stands, as known for at most `max_age` seconds; None where it is in no group.

        Raises:
            AgentError: of a call.
        """
        known = self._known
        if known is not None and self._clock.now() - known[1] <= max_age:
            return known[0]
        if self._metadata.lifecycle_state() is None:
            return self._keep(None)
        found = self._aws.instance(self._metadata.identity(inf).instance_id)
        if found is None:
            return self._keep(None)
        name, state = found
        return self._keep(ScalingPlace(self._aws.group(name), state))

    def attached(self) -> tuple[str, ...]:
        """The ARNs of the target groups that the group registers its instances with; empty where it cannot be asked."""
        try:
            place = self.place()
        except AgentError:
            return ()
        return place.group.target_groups if place is not None else ()

    def hook(self, transition: Transition) -> LifecycleHook | None:
        """The hook that this agent answers; None where the group has none.

        Raises:
            AgentError: of a call; CONFIGURATION where the group has several and the settings name none.
        """
        if name := self._names[transition]:
            return LifecycleHook(name)
        place = self.place(inf) or self.place(0.0)
        hooks = self._aws.hooks(place.group.name, transition) if place is not None else ()
        if len(hooks) > 1:
            setting = f"auto_scaling.{transition.name.lower()}_hook"
            names = ", ".join(hook.name for hook in hooks)
            raise AgentError(
                Kind.CONFIGURATION,
                f"cannot tell which lifecycle hook to answer: the group has {names}",
                hint=f"set `{setting}` in the settings",
                value=setting,
            )
        return hooks[0] if hooks else None

    def may_answer(self) -> str:
        """Which hooks this agent answers, and that it may; changes nothing.

        AWS looks at permissions first, and a hook that does not exist holds nothing up.

        Raises:
            AgentError: AWS_DENIED with the missing action; what `hook` raises; or that AWS cannot be asked.
        """
        if self.place() is None:
            return "this host is in no Auto Scaling group"
        named = {transition: self.hook(transition) for transition in Transition}
        for call in (self.heartbeat, self.complete):
            try:
                call(LifecycleHook(_NO_HOOK))
            except AgentError as error:
                if error.kind is not Kind.REFUSED:
                    raise
        said = (f"{hook.name} for a {transition.name.lower()}" for transition, hook in named.items() if hook)
        return ", ".join(said) or "the group has none"

    def may_stand_by(self) -> str:
        """That this agent may put its host into Standby; changes nothing: it asks for an instance that is in no group.

        Raises:
            AgentError: AWS_DENIED with the missing action; or that AWS cannot be asked.
        """
        for call in (self._aws.enter_standby, self._aws.exit_standby):
            try:
                call(self._group(), _NO_INSTANCE)
            except AgentError as error:
                if error.kind is not Kind.REFUSED:
                    raise
        return "EnterStandby and ExitStandby are allowed"

    def heartbeat(self, hook: LifecycleHook) -> None:
        """Keep the group waiting. Raises AgentError REFUSED, transient, unless it waits."""
        self._aws.heartbeat(hook.name, self._group(), self._metadata.identity(inf).instance_id)

    def complete(self, hook: LifecycleHook) -> None:
        """Let the group go on. Raises AgentError REFUSED, transient, unless it waits."""
        self._aws.complete(hook.name, self._group(), self._metadata.identity(inf).instance_id)

    def enter_standby(self, group: str) -> None:
        """Put this instance into Standby. Raises AgentError REFUSED where AWS refuses it."""
        self._aws.enter_standby(group, self._metadata.identity(inf).instance_id)
        self._known = None

    def exit_standby(self, group: str) -> None:
        """Take this instance out of Standby. Raises AgentError REFUSED, transient, as long as it is not in it yet."""
        self._aws.exit_standby(group, self._metadata.identity(inf).instance_id)
        self._known = None

    def _group(self) -> str:
        place = self.place(inf) or self.place(0.0)
        if place is None:
            raise AgentError(Kind.REFUSED, "cannot answer a lifecycle hook: this host is in no group", transient=True)
        return place.group.name

    def _keep(self, place: ScalingPlace | None) -> ScalingPlace | None:
        self._known = place, self._clock.now()
        return place
