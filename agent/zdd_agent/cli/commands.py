"""The command: parse, one call of the client, print. Standard library only."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence

from zdd_agent.cli.arguments import parser
from zdd_agent.cli.calling_unit import Unit
from zdd_agent.cli.client import Client, Json
from zdd_agent.cli.output import plain, say, span
from zdd_agent.errors import EXIT_INTERRUPTED, EXIT_OK, AgentError, Kind, exit_code


def run(arguments: Namespace) -> int:
    """Carry out a command that talks to the agent; returns the exit code."""
    commands: dict[str, Callable[[Namespace, Client], int]] = {
        "drain": _operate,
        "rejoin": _operate,
        "status": _status,
        "watch": _watch,
        "cancel": _cancel,
        "forget": _forget,
        "doctor": _doctor,
        "run": _run,
        "slots": _slots,
        "reboot": _reboot,
    }
    return commands[arguments.command](arguments, Client(arguments.socket))


def fail(kind: Kind, message: str, hint: str = "") -> int:
    """Say on standard error what cannot be done; returns the exit code."""
    print(f"zdd-agent: {plain(message)}", file=sys.stderr)
    if hint:
        print(f"  {plain(hint)}", file=sys.stderr)
    return kind.exit_code


def _interrupted(what_next: str) -> int:
    """After a Ctrl-C, say how to go on; returns the exit code."""
    print(plain(f"interrupted: {what_next}"), file=sys.stderr)
    return EXIT_INTERRUPTED


def _operate(arguments: Namespace, client: Client) -> int:
    body: Json = {"reason": arguments.reason}
    if arguments.timeout is not None:
        body["timeout"] = arguments.timeout
    if force := getattr(arguments, "force", []):
        body["force"] = force
    if arguments.command == "drain" and arguments.wait:
        body["retry_seconds"] = arguments.wait
    if arguments.command == "drain" and arguments.until:
        body["until"] = arguments.until
    for flag in ("stopping", "reboot"):
        if getattr(arguments, flag, False):
            body[flag] = True
    if arguments.command == "rejoin" and getattr(arguments, "detach", False):
        body["keep_trying"] = True  # nobody waits here to try again
    if getattr(arguments, "dry_run", False):
        return _plan(arguments, client.call("POST", f"/v1/{arguments.command}", {**body, "dry_run": True}))
    operation = client.call("POST", f"/v1/{arguments.command}", body)
    if getattr(arguments, "detach", False):
        _print(arguments, operation, f"{arguments.command} started: follow it with `zdd-agent watch`")
        return EXIT_OK
    return _follow(arguments, client, operation)


def _follow(arguments: Namespace, client: Client, operation: Json) -> int:
    from zdd_agent.cli.progress_line import Progress  # noqa: PLC0415  `status` does without

    try:
        with Progress(operation["verb"], sys.stderr) as progress:
            unit = Unit(os.environ)

            def show(event: Json, is_end: bool) -> None:
                unit.wait(plain(event["text"]))
                if not is_end:  # the result says it, perhaps to the same log
                    progress.show(event)

            operation = client.follow(operation, show, unit.wait)
    except KeyboardInterrupt:
        verb = operation["verb"]
        return _interrupted(f"the {verb} goes on; follow it with `zdd-agent watch`, stop it with `zdd-agent cancel`")
    error = operation["error"]
    if error is None:
        _print(arguments, operation, operation["message"])
        return EXIT_OK
    if arguments.json:
        say(json.dumps(operation))
    fail(Kind.FAILED, error["message"], error["hint"])
    return exit_code(error["kind"])


def _plan(arguments: Namespace, plan: Json) -> int:
    does = "deregister" if plan["verb"] == "drain" else "register"
    names = [f"{t['target_group']} {t['id']}:{t['port']}" for t in plan["targets"]]
    _print(arguments, plan, f"would {does} {', '.join(names)}" if names else f"would {does} nothing")
    if (refusal := plan["refusal"]) is not None:
        fail(Kind.REFUSED, f"would be refused: {refusal['message']}", refusal["hint"])
        return exit_code(refusal["kind"])
    return EXIT_OK


def _status(arguments: Namespace, client: Client) -> int:
    status = client.call("GET", "/v1/status")
    if arguments.json:
        say(json.dumps(status))
        return EXIT_OK
    where = f"{status['instance_id']} in {status['zone']}" if status["instance_id"] else "host not known yet"
    say(plain(f"{status['posture']}  {where}"))
    for target in status["targets"]:
        reason = f"  {target['reason']}" if target["reason"] else ""
        name = f"{target['target_group']} {target['id']}:{target['port']}"
        say(plain(f"  {name}  {target['state'] or 'not asked yet'}{reason}"))
    if status["drained_since"] is not None:
        say(f"  out for {span(time.time() - status['drained_since'])}")
    if operation := status["operation"]:
        say(plain(f"  {_operation_line(operation)}"))
    if status.get("auto_scaling"):
        say(plain(f"  auto scaling: {status['auto_scaling']}"))
    if status.get("slot"):
        say(plain(f"  slot: {status['slot']}"))
    for warning in status["warnings"]:
        print(plain(f"warning: {warning}"), file=sys.stderr)
    return EXIT_OK


def _operation_line(operation: Json) -> str:
    verb, age = operation["verb"], span(operation["age_seconds"])
    if operation["outcome"] is None:
        return f"{verb} under way for {age}: {operation['phase']}"
    return f"last: {verb} {operation['outcome']}, started {age} ago: {operation['message']}"


def _watch(arguments: Namespace, client: Client) -> int:
    operation = client.call("GET", "/v1/status")["operation"]
    if operation is None or operation["outcome"] is not None:
        _print(arguments, operation or {}, "no operation is under way")
        return EXIT_OK
    return _follow(arguments, client, operation)


def _cancel(arguments: Namespace, client: Client) -> int:
    operation = client.call("POST", "/v1/cancel")
    operation = client.follow(operation, lambda *_: None, Unit(os.environ).wait)
    _print(arguments, operation, operation["message"])
    return EXIT_OK


def _forget(arguments: Namespace, client: Client) -> int:
    # `status` shows a target as two words. Take them as two, or quoted as one, or with a slash between them.
    target = " ".join(arguments.target)
    forgotten = client.call("POST", "/v1/forget", {"target": target if " " in target else target.replace("/", " ", 1)})
    _print(arguments, forgotten, f"forgot {forgotten['target']}")
    return EXIT_OK


def _doctor(arguments: Namespace, client: Client) -> int:
    found = client.call("POST", "/v1/doctor")
    if arguments.json:
        say(json.dumps(found))
    for finding in () if arguments.json else found["findings"]:
        say(plain(f"{'ok     ' if finding['ok'] else 'PROBLEM'}  {finding['name']}: {finding['said']}"))
        if finding["hint"]:
            say(plain(f"         {finding['hint']}"))
    return EXIT_OK if found["ok"] else Kind.FAILED.exit_code


def _slots(arguments: Namespace, client: Client) -> int:
    from zdd_agent.cli.slots import run_slots  # noqa: PLC0415  the other commands do without

    return run_slots(arguments, client)


def _run(arguments: Namespace, client: Client) -> int:
    argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not argv:
        return fail(Kind.USAGE, "cannot run: no command given", "zdd-agent run -- CMD [ARGUMENT…]")
    if (code := _operate(_with(arguments, "drain"), client)) != EXIT_OK:
        return code
    if client.call("GET", "/v1/status")["posture"] == "leaving":  # the rejoin would be refused, after the deploy
        hint = "deploy to the instance that replaces it; `zdd-agent status` says why"
        return fail(Kind.REFUSED, "cannot run the command: this host is leaving, and no rejoin puts it back", hint)
    if (code := _command(argv)) != EXIT_OK:
        print(
            f"zdd-agent: the command ended with {code}: this host stays out\n  fix it, then run `zdd-agent rejoin`",
            file=sys.stderr,
        )
        return code
    return _operate(_with(arguments, "rejoin"), client)


def _reboot(arguments: Namespace, client: Client) -> int:
    from zdd_agent.cli.reboot import Machine, reboot  # noqa: PLC0415  the other commands do without

    def drain(seconds: float) -> int:
        return _operate(_with(arguments, "drain", wait=seconds, reboot=True), client)

    def put_back() -> int:
        return _operate(_with(arguments, "rejoin", force=[], timeout=None, detach=True), client)

    return reboot(arguments, Machine(), drain, put_back)


def _command(argv: Sequence[str]) -> int:
    """Run the command to its end; returns its status as a shell would."""
    import signal  # noqa: PLC0415  with the next, 4 ms that the other commands save
    import subprocess  # noqa: PLC0415  see the line before

    interrupts: list[int] = []
    # The terminal sends a Ctrl-C to the command too, and the command may end in its own way. The handler is set before
    # the start: an exception could come between the start and the wait. exec gives the command the default handler.
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # nohup, or a script's `… &`: the command ignores it too
        signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        status = subprocess.Popen(argv).wait()
    except OSError as error:
        print(plain(f"zdd-agent: cannot run {argv[0]}: {error.strerror}"), file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts and status == 0:
        return EXIT_INTERRUPTED
    return status if status >= 0 else 128 - status


def _with(arguments: Namespace, command: str, **more: object) -> Namespace:
    return Namespace(**{**vars(arguments), "command": command, **more})


def _print(arguments: Namespace, document: Json, text: str) -> None:
    say(json.dumps(document) if arguments.json else plain(text))


def main(argv: Sequence[str], local: Callable[[Namespace], int]) -> int:
    """The command line as a whole.

    Args:
        argv: the words after `zdd-agent`.
        local: carries out `serve` and `check-config`, which need no running agent.
    """
    arguments = None
    try:
        arguments = parser().parse_args(argv)
        return local(arguments) if arguments.command in ("serve", "check-config") else run(arguments)
    except AgentError as error:
        if getattr(arguments, "json", False):
            said = {"kind": error.kind.wire, "message": error.message, "hint": error.hint}
            say(json.dumps({"error": said}))
        return fail(error.kind, error.message, error.hint)
    except KeyboardInterrupt:
        return _interrupted("see `zdd-agent status`")
