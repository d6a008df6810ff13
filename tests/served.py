"""The API of one host, for tests: the real dispatch and handlers over the host of `host`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fakes import group
from host import Host
from zdd_agent.adapters.clock import SystemClock
from zdd_agent.api.access import Level, Peer, Policy
from zdd_agent.api.answers import error_response
from zdd_agent.api.dispatch import Api
from zdd_agent.api.http1 import HttpRequest, HttpResponse
from zdd_agent.errors import AgentError

POLICY = Policy(frozenset({0}), frozenset(), frozenset({1001}), frozenset())
UIDS = {Level.NOTHING: 5000, Level.READ: 1001, Level.OPERATE: 0}


class Served:
    """The API of a host that is one of the two healthy targets of a group. `settings` as `Host` takes them."""

    def __init__(self, **settings: Any) -> None:
        self.host = Host(group(), **settings)
        self.host.aws.put("web")
        self.host.aws.put("web", "i-sibling")
        self.clock = SystemClock()
        self.gone = False
        doctor = self.host.doctor(("state file", lambda: "writable"))
        slots = self.host.engine.slots
        self.api = Api(self.host.ledger, self.host.reporter(), doctor, self.clock, POLICY, slots=slots)

    def ask(self, method: str, target: str, body: bytes = b"", level: Level = Level.OPERATE) -> HttpResponse:
        peer = Peer(1, UIDS[level], frozenset())
        try:
            return self.api.handle(HttpRequest(method, target, body, peer, lambda: self.gone))
        except AgentError as error:
            return error_response(error)

    @contextmanager
    def turning(self) -> Iterator[None]:
        """The host's loop turns meanwhile."""
        loop = threading.Thread(target=self.host.runner.run)
        loop.start()
        try:
            yield
        finally:
            self.host.runner.stop()
            loop.join()


def error(response: HttpResponse) -> tuple[int, str]:
    return response.status, json.loads(response.body)["error"]["kind"]


def said(response: HttpResponse) -> Any:
    return json.loads(response.body)
