"""`zdd-agent slots`, and `zdd-agent slots release`. Standard library only."""

from __future__ import annotations

import json
import time
from argparse import Namespace

from zdd_agent.cli.client import Client, Json
from zdd_agent.cli.output import plain, say, span
from zdd_agent.errors import EXIT_OK, AgentError, Kind


def run_slots(arguments: Namespace, client: Client) -> int:
    """Show the slots or release one; returns the exit code. Raises AgentError."""
    if arguments.what == "release":
        return _release(arguments, client)
    if arguments.reason is not None or arguments.force:
        raise AgentError(Kind.USAGE, "cannot show slots with --reason or --force", hint="they are for a release")
    shown = client.call("GET", "/v1/slots")
    if arguments.json:
        say(json.dumps(shown))
        return EXIT_OK
    held = len(shown["holders"])
    say(plain(f"{shown['service']}  {held} {'slot' if held == 1 else 'slots'} taken, limit {shown['limit']}"))
    now = time.time()
    for one in shown["holders"]:
        say(plain(f"  {one['instance']}  {_held(one, now)}"))
    for place, one in enumerate(shown["waiters"], 1):
        say(plain(f"  waiting, place {place}: {one['instance']}  for {span(now - one['since'])}, {one['who']}"))
    return EXIT_OK


def _held(one: Json, now: float) -> str:
    life = f"sign of life {span(now - one['seen'])} ago"
    if not one["alive"]:
        life += " (its agent is silent)"
    return f"for {span(now - one['since'])}, {life}, {one['who']}: {one['reason'] or 'no reason given'}"


def _release(arguments: Namespace, client: Client) -> int:
    if not arguments.instance or not arguments.reason:
        missing = "--reason TEXT" if arguments.instance else "INSTANCE"
        hint = "zdd-agent slots release INSTANCE --reason TEXT"
        raise AgentError(Kind.USAGE, f"cannot release a slot without {missing}", hint=hint)
    body: Json = {"instance": arguments.instance, "reason": arguments.reason}
    if arguments.force:
        body["force"] = arguments.force
    released = client.call("POST", "/v1/slots/release", body)
    text = f"released the slot of {released['service']} that {released['instance']} held"
    say(json.dumps(released) if arguments.json else plain(text))
    return EXIT_OK
