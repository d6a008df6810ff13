"""What may end this instance: asks for it every few seconds, and does what is due. For the loop's thread.

`said`, `counts` may be read from any thread.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import inf

from zdd_agent.decide import leaving, notices
from zdd_agent.decide.actions import Follow, Leave, Stay
from zdd_agent.decide.again import left_the_pool
from zdd_agent.decide.rejoin import TERMINATING
from zdd_agent.decide.scaling import owned
from zdd_agent.engine.journal_fields import EventId
from zdd_agent.engine.ledger import Ledger
from zdd_agent.engine.scaling import Scaling
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import IN_SERVICE, TERMINATED, LifecycleHook, Notice, NoticeKind, Transition
from zdd_agent.model.service import Rules
from zdd_agent.ports import Clock, Metadata
from zdd_agent.settings import Heed

log = logging.getLogger(__name__)

# Seconds between two looks at the metadata service: AWS's advice for spot notices,
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
LOOK_SECONDS = 5.0
# The same after it has not answered: each try takes seconds, and the loop has a drain to watch.
UNANSWERED_SECONDS = 30.0
# Seconds after a defect.
_DEFECT_SECONDS = 60.0


class Lifecycle:
    """Watches the metadata service, and answers the group's hook for a termination.

    Args:
        ledger: of this host.
        metadata: what is watched.
        scaling: the group; None where `auto_scaling.mode` is off.
        clock: the time.
        heeded: the kinds of notices that are not ignored.
        rules: of this host.
        uid: of the agent, which asks for drains by itself.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        metadata: Metadata,
        scaling: Scaling | None,
        clock: Clock,
        heeded: Mapping[NoticeKind, Heed],
        rules: Rules,
        uid: int,
    ) -> None:
        self._ledger = ledger
        self._metadata = metadata
        self._scaling = scaling
        self._clock = clock
        self._heeded_kinds = tuple(heeded)
        self._draining_kinds = frozenset(kind for kind, heed in heeded.items() if heed == "drain")
        self._rules = rules
        self._uid = uid
        self._look_at = -inf
        self._standing: tuple[Notice, ...] = ()
        self._counts: Counter[NoticeKind] = Counter(dict.fromkeys(heeded, 0))
        # The hook for the termination, and how it stands; asked for when this host leaves.
        self._hook: LifecycleHook | None = None
        self._stands: leaving.Hook | None = None
        self._ask_hook_at = -inf
        self._ask_group_at = -inf
        self._left_alone = ""
        # What does not work, by what it is about; each is logged when it changes.
        self._troubles: dict[str, str] = {}

    def said(self) -> tuple[str, ...]:
        """For people: what EC2 announces, and what does not work."""
        lines = [notices.sentence(one) for one in self._standing]
        if self._left_alone:
            lines.append(self._left_alone)
        return (*lines, *self._troubles.copy().values())  # the loop changes it meanwhile

    def counts(self) -> Mapping[NoticeKind, int]:
        """How many notices of each kind came since the daemon started; without the kinds that are ignored."""
        return dict(self._counts)

    def attend(self) -> float:
        """Look, where that is due, and do what is; answers how long nothing more is due (seconds)."""
        now = self._clock.now()
        try:
            if now >= self._look_at:
                self._look(now)
            return min(self._act(now), max(self._look_at - now, 0.0))
        except AgentError as error:  # the record could not be written, say
            self._trouble("leaving", error)
        except Exception:
            log.exception("a defect of zdd-agent in what watches over the end of this instance")
            self._look_at = now + _DEFECT_SECONDS
        return LOOK_SECONDS

    def _look(self, now: float) -> None:
        self._look_at = now + LOOK_SECONDS
        try:
            record = self._ledger.record()
            state = self._metadata.lifecycle_state() if self._scaling is not None else None
            if state in TERMINATED:
                self._leave(Leave(TERMINATING))
            elif state == IN_SERVICE and left_the_pool(record) and record.last is not None:
                self._ledger.begin(record.last.request)
            if self._heeded_kinds:
                self._note(self._metadata.notices(self._heeded_kinds))
                if state not in TERMINATED and notices.outlived(self._ledger.record(), self._standing, now):
                    self._ledger.heed(Stay())
                    log.warning("this host has outlived its end, and may stay: `zdd-agent rejoin` puts it back")
        except AgentError as error:
            if error.kind is not Kind.METADATA_UNAVAILABLE:
                raise
            self._look_at = now + UNANSWERED_SECONDS
            self._trouble("metadata", error)
        else:
            self._troubles.pop("metadata", None)

    def _leave(self, action: Leave) -> None:
        if not self._ledger.identified:
            self._ledger.identify(self._metadata.identity())
        self._ledger.leave(action)

    def _note(self, found: tuple[Notice, ...]) -> None:
        for one in found:
            if one not in self._standing:
                self._counts[one.kind] += 1
                extra = {
                    "MESSAGE_ID": EventId.NOTICE.value,
                    "ZDD_NOTICE": one.kind.value,
                    "ZDD_NOTICE_ACTION": one.what,
                }
                log.warning("%s", notices.sentence(one), extra=extra)
        self._standing = found
        if (action := notices.leave(found, self._draining_kinds)) is not None:
            self._leave(action)

    def _act(self, now: float) -> float:
        record = self._ledger.record()
        if record.leaving is None:
            self._take_advice(now)
            return LOOK_SECONDS
        if self._is_left_alone(now):
            return LOOK_SECONDS
        # The drain first: finding the hook may take seconds.
        step = leaving.next_step(record, self._stands, now, self._uid)
        if isinstance(step, leaving.DrainAway):
            self._ledger.begin(step.request)
            return 0.0
        if self._scaling is None or (self._stands is None and not self._find_hook(self._scaling, now)):
            return LOOK_SECONDS
        return self._answer(self._scaling, leaving.next_step(self._ledger.record(), self._stands, now, self._uid), now)

    def _take_advice(self, now: float) -> None:
        record = self._ledger.record()
        advice = notices.advised(record, self._standing, self._draining_kinds, now, self._rules, self._uid)
        if advice is None or self._is_left_alone(now):
            return
        notice, request = advice
        running = self._ledger.running()
        if record.left is None and (running is None or running.verb is not request.verb):
            self._ledger.begin(request)
        # After its drain has begun: a daemon that dies between the two finds that under way.
        stand = {notices.sentence(one) for one in self._standing}
        heeded = (*(one for one in record.heeded if one in stand), notices.sentence(notice))
        self._ledger.heed(Follow(heeded))

    def _is_left_alone(self, now: float) -> bool:
        """Whether another service owns this host: then its drain, and its hook, are none of this agent's."""
        if self._scaling is None or now < self._ask_group_at:
            return False
        try:
            place = self._scaling.place(inf) or self._scaling.place(0.0)
        except AgentError as error:
            self._ask_group_at = now + leaving.DENIED_SECONDS
            self._trouble("group", error)
            return False
        self._troubles.pop("group", None)
        if place is None:
            self._ask_group_at = now + leaving.DENIED_SECONDS
        failure = owned(place.group) if place is not None else None
        if failure is None:
            return False
        if not self._left_alone:
            log.warning("this agent does not drain by itself: %s", failure.message)
        self._left_alone = f"this agent does not drain by itself: {failure.message}; {failure.hint}"
        return True

    def _find_hook(self, scaling: Scaling, now: float) -> bool:
        """Whether there is a hook that this agent has to answer."""
        if now < self._ask_hook_at:
            return False
        try:
            self._hook = scaling.hook(Transition.TERMINATION)
        except AgentError as error:
            self._ask_hook_at = now + leaving.DENIED_SECONDS
            self._trouble("hook", error)
            return False
        self._troubles.pop("hook", None)
        if self._hook is None:
            # AWS may not list the instance, nor the metadata service its state, for a moment.
            self._ask_hook_at = inf if scaling.place(inf) is not None else now + leaving.DENIED_SECONDS
            return False
        self._stands = leaving.Hook(self._hook.heartbeat)
        return True

    def _answer(self, scaling: Scaling, step: leaving.Step, now: float) -> float:
        assert self._hook is not None  # noqa: S101  what mypy needs
        assert self._stands is not None  # noqa: S101  what mypy needs
        hook, stands = self._hook, self._stands
        try:
            match step:
                case leaving.Rest(until):
                    return LOOK_SECONDS if until is None else max(until - now, 0.0)
                case leaving.Heartbeat():
                    scaling.heartbeat(hook)
                    self._stands = stands.beaten(now, answered=True)
                case leaving.Complete():
                    scaling.complete(hook)
                    self._stands = replace(stands, completed=True)
                    extra = {"MESSAGE_ID": EventId.COMPLETED.value, "ZDD_HOOK": hook.name}
                    log.info("completed the lifecycle hook %s: no work is left", hook.name, extra=extra)
            self._troubles.pop("hook", None)
        except AgentError as error:
            self._refused(step, stands, error, now)
        return 0.0

    def _refused(self, step: leaving.Step, stands: leaving.Hook, error: AgentError, now: float) -> None:
        if error.kind is Kind.AWS_DENIED:
            self._stands = stands.denied(now, beat=isinstance(step, leaving.Heartbeat))
            self._trouble("hook", error)
        elif isinstance(step, leaving.Heartbeat):
            self._stands = stands.beaten(now, answered=error.kind is Kind.REFUSED)
        else:
            self._stands = stands.refused(now, leaving.hook_starts_at(self._ledger.record()))
        if error.kind is Kind.REFUSED:
            log.debug("not yet: %s", error.message)
        elif error.kind is not Kind.AWS_DENIED:
            self._trouble("hook", error)

    def _trouble(self, about: str, error: AgentError) -> None:
        said = error.message + (f" ({error.hint})" if error.hint else "")
        if self._troubles.get(about) != said:
            log.warning("%s", said)
        self._troubles = {**self._troubles, about: said}
