"""A test switch: end the daemon with SIGKILL before or after one call of one port.

`ZDD_AGENT_FAILPOINT=aws.deregister:after:1` kills after the first deregistration, `store.write:before:3` before the
third write. Every point that is passed goes to the log, so that a run shows which there are. Without the variable none
of this is built in.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from zdd_agent.errors import AgentError, Kind

log = logging.getLogger(__name__)

VARIABLE = "ZDD_AGENT_FAILPOINT"
_T = TypeVar("_T")


class Failpoint:
    """One point. Raises AgentError CONFIGURATION when the text is not PORT.CALL:before|after:NUMBER."""

    def __init__(self, text: str) -> None:
        try:
            self._call, self._when, number = text.split(":")
            self._left = int(number)
        except ValueError:
            self._when = ""
        if self._when not in ("before", "after"):
            raise AgentError(
                Kind.CONFIGURATION,
                f"cannot use {VARIABLE}={text!r}",
                hint="PORT.CALL:before|after:NUMBER",
                value=VARIABLE,
            )

    def reached(self, call: str, when: str) -> None:
        """The daemon has reached this point; kill it if this is the chosen one."""
        log.info("failpoint %s:%s", call, when)
        if (call, when) == (self._call, self._when):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class _Watched:
    def __init__(self, name: str, thing: object, point: Failpoint) -> None:
        self._name = name
        self._thing = thing
        self._point = point

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real = getattr(self._thing, method)

        def call(*words: Any) -> Any:
            self._point.reached(f"{self._name}.{method}", "before")
            answer = real(*words)
            self._point.reached(f"{self._name}.{method}", "after")
            return answer

        return call


def watched(name: str, thing: _T, environ: Mapping[str, str]) -> _T:
    """The port itself; with a failpoint set, a wrapper that passes its points before and after each call."""
    text = environ.get(VARIABLE)
    return thing if text is None else cast("_T", _Watched(name, thing, Failpoint(text)))
