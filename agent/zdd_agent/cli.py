"""The command: parse, one call of the client, print. Standard library only."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from zdd_agent import __version__
from zdd_agent.client import DEFAULT_SOCKET, Client, Json
from zdd_agent.errors import EXIT_INTERRUPTED, EXIT_OK, AgentError, Kind, exit_code, nearest
from zdd_agent.progress import Progress, plain

_EPILOG = """\
exit codes:
  0 done, or already so        5 the agent cannot be reached
  1 failed                     6 AWS refused: credentials or permissions
  2 usage or configuration     7 another operation is under way
  3 timed out                  8 this user may not operate the agent
  4 refused: retry later     130 interrupted: the operation goes on
"""
_VERBS = {"drain": "drain this host", "rejoin": "put this host back"}


class _Parser(argparse.ArgumentParser):
    """Ends with exit 2 and names the nearest word that would have been right."""

    def error(self, message: str) -> NoReturn:
        hint = ""
        if "unrecognized arguments: " in message:
            word = message.split(": ", 1)[1].split(maxsplit=1)[0]
            hint = nearest(word.split("=")[0], [o for a in self._actions for o in a.option_strings])
        elif "invalid choice: " in message:
            word = message.split("invalid choice: ", 1)[1].split("'")[1]
            hint = nearest(word, [name for a in self._actions for name in a.choices or ()])
        fail(Kind.USAGE, f"cannot read the command: {message}", hint or f"see `{self.prog} --help`")
        raise SystemExit(Kind.USAGE.exit_code)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    common = _Parser(add_help=False, allow_abbrev=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument(
        "--socket",
        default=os.environ.get("ZDD_AGENT_SOCKET", DEFAULT_SOCKET),
        help="the agent's socket (default: $ZDD_AGENT_SOCKET or %(default)s)",
    )
    asking = _Parser(add_help=False, allow_abbrev=False)
    asking.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="end as timed out after so long (default: derived from the target groups)",
    )
    asking.add_argument("--reason", default="", help="text for the log")
    top = _Parser(
        prog="zdd-agent",
        description="Take this EC2 host out of its load balancer and put it back, without losing a request.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"zdd-agent {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)

    def add(name: str, text: str, *parents: _Parser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=parents, allow_abbrev=False)

    for verb, text in _VERBS.items():
        command = add(verb, text, common, asking)
        command.add_argument("--detach", action="store_true", help="start it and do not wait")
        command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add("status", "show where this host stands", common)
    add("watch", "follow the operation under way to its end", common)
    add("cancel", "stop the operation under way where it is", common)
    run = add("run", "drain, run a command, rejoin; a command that fails leaves the host out", common, asking)
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command and its arguments")
    add("check-config", "check the settings and print them", common)
    add("serve", "be the agent (systemd starts this)", common)
    return top


def run(arguments: argparse.Namespace) -> int:
    """Carry out a command that talks to the agent; answers the exit code."""
    commands: dict[str, Callable[[argparse.Namespace, Client], int]] = {
        "drain": _operate,
        "rejoin": _operate,
        "status": _status,
        "watch": _watch,
        "cancel": _cancel,
        "run": _run,
    }
    return commands[arguments.command](arguments, Client(arguments.socket))


def fail(kind: Kind, message: str, hint: str = "") -> int:
    """Say on standard error what cannot be done; answers the exit code."""
    print(f"zdd-agent: {plain(message)}", file=sys.stderr)
    if hint:
        print(f"  {plain(hint)}", file=sys.stderr)
    return kind.exit_code


def _operate(arguments: argparse.Namespace, client: Client) -> int:
    body: Json = {"reason": arguments.reason}
    if arguments.timeout is not None:
        body["timeout"] = arguments.timeout
    if getattr(arguments, "dry_run", False):
        return _plan(arguments, client.call("POST", f"/v1/{arguments.command}", {**body, "dry_run": True}))
    operation = client.call("POST", f"/v1/{arguments.command}", body)
    if getattr(arguments, "detach", False):
        _print(arguments, operation, f"{arguments.command} started: follow it with `zdd-agent watch`")
        return EXIT_OK
    return _follow(arguments, client, operation)


def _follow(arguments: argparse.Namespace, client: Client, operation: Json) -> int:
    try:
        with Progress(operation["verb"], sys.stderr) as progress:
            operation = client.follow(operation, progress.show)
    except KeyboardInterrupt:
        print(
            f"interrupted: the {operation['verb']} goes on; "
            "follow it with `zdd-agent watch`, stop it with `zdd-agent cancel`",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    error = operation["error"]
    if error is None:
        _print(arguments, operation, operation["message"])
        return EXIT_OK
    if arguments.json:
        print(json.dumps(operation))
    fail(Kind.FAILED, error["message"], error["hint"])
    return exit_code(error["kind"])


def _plan(arguments: argparse.Namespace, plan: Json) -> int:
    does = "deregister" if plan["verb"] == "drain" else "register"
    names = [f"{t['target_group']} {t['id']}:{t['port']}" for t in plan["targets"]]
    _print(arguments, plan, f"would {does} {', '.join(names)}" if names else f"would {does} nothing")
    return EXIT_OK


def _status(arguments: argparse.Namespace, client: Client) -> int:
    status = client.call("GET", "/v1/status")
    if arguments.json:
        print(json.dumps(status))
        return EXIT_OK
    where = f"{status['instance_id']} in {status['zone']}" if status["instance_id"] else "host not known yet"
    print(f"{status['posture']}  {where}")
    for target in status["targets"]:
        reason = f"  {target['reason']}" if target["reason"] else ""
        name = f"{target['target_group']} {target['id']}:{target['port']}"
        print(plain(f"  {name}  {target['state'] or 'not asked yet'}{reason}"))
    if status["drained_since"] is not None:
        print(f"  out for {span(time.time() - status['drained_since'])}")
    if operation := status["operation"]:
        print(plain(f"  {_operation_line(operation)}"))
    for warning in status["warnings"]:
        print(plain(f"warning: {warning}"), file=sys.stderr)
    return EXIT_OK


def _operation_line(operation: Json) -> str:
    verb, age = operation["verb"], span(operation["age_seconds"])
    if operation["outcome"] is None:
        return f"{verb} under way for {age}: {operation['phase']}"
    return f"last: {verb} {operation['outcome']}, started {age} ago: {operation['message']}"


def _watch(arguments: argparse.Namespace, client: Client) -> int:
    operation = client.call("GET", "/v1/status")["operation"]
    if operation is None or operation["outcome"] is not None:
        _print(arguments, operation or {}, "no operation is under way")
        return EXIT_OK
    return _follow(arguments, client, operation)


def _cancel(arguments: argparse.Namespace, client: Client) -> int:
    operation = client.call("POST", "/v1/cancel")
    operation = client.follow(operation, lambda _: None)
    _print(arguments, operation, operation["message"])
    return EXIT_OK


def _run(arguments: argparse.Namespace, client: Client) -> int:
    import subprocess  # noqa: PLC0415  4 ms that the other commands do without

    argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not argv:
        return fail(Kind.USAGE, "cannot run: no command given", "zdd-agent run -- CMD [ARGUMENT…]")
    if (code := _operate(_with(arguments, "drain"), client)) != EXIT_OK:
        return code
    try:
        done = subprocess.run(argv, check=False).returncode
    except OSError as error:
        done = 127 if isinstance(error, FileNotFoundError) else 126
        print(f"zdd-agent: cannot run {argv[0]}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        done = EXIT_INTERRUPTED
    if done != 0:
        code = done if done > 0 else 128 - done
        print(
            f"zdd-agent: the command ended with {code}: this host stays out\n  mend it, then run `zdd-agent rejoin`",
            file=sys.stderr,
        )
        return code
    return _operate(_with(arguments, "rejoin"), client)


def _with(arguments: argparse.Namespace, command: str) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(arguments), "command": command})


def _print(arguments: argparse.Namespace, document: Json, text: str) -> None:
    print(json.dumps(document) if arguments.json else plain(text))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 172_800:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from above 0 to 172800")
    return value


def span(seconds: float) -> str:
    """A span for people: `42 s`, `5 min 3 s`, `2 h 4 min`."""
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def main(argv: Sequence[str], local: Callable[[argparse.Namespace], int]) -> int:
    """The command line as a whole.

    Args:
        argv: the words behind `zdd-agent`.
        local: carries out `serve` and `check-config`, which need no running agent.
    """
    arguments = parser().parse_args(argv)
    try:
        return local(arguments) if arguments.command in ("serve", "check-config") else run(arguments)
    except AgentError as error:
        if getattr(arguments, "json", False):
            said = {"kind": error.kind.wire, "message": error.message, "hint": error.hint}
            print(json.dumps({"error": said}))
        return fail(error.kind, error.message, error.hint)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `zdd-agent status | head`: whoever read has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
