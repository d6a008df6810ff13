"""The command line: its commands and flags, and the nearest correct word after a typo. Standard library only."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from zdd_agent import __version__
from zdd_agent.cli.client import DEFAULT_SOCKET
from zdd_agent.errors import AgentError, Kind, nearest
from zdd_agent.limits import LONGEST_SECONDS

TYPE_CHECKING = False  # typing costs 2 ms at every command; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, NoReturn

_EPILOG = """\
exit codes:
  0 done, or already so        5 the agent cannot be reached
  1 failed                     6 AWS refused: credentials or permissions
  2 usage or configuration     7 another operation is under way
  3 timed out                  8 this user may not operate the agent
  4 refused: retry later     130 interrupted: the operation goes on
"""
_CHECKS = {"drain": ("min-healthy", "slot"), "rejoin": ("probe",)}
_REBOOT_CHECKS = (*_CHECKS["drain"], "drained")
_UNTIL = ("closed", "idle", "unused")
_VERBS = {"drain": "take this host out of its target groups", "rejoin": "put this host back into its target groups"}
_DETACH = {
    "drain": "start it and return at once",
    "rejoin": "start it and return at once; the agent retries it until it works, or until you drain or cancel",
}


class _Parser(argparse.ArgumentParser):
    """Raises AgentError USAGE, with the nearest word that would have been right."""

    def parse_known_args(  # type: ignore[override]  # the base has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Report unknown words here: the parser above does not know this command's flags."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].split("=")[0]
            below = [flag for action in self._actions for command in _commands(action) for flag in command.flags()]
            guess = f"write {word} after the command" if word in below else nearest(word, [*self.flags(), *below])
            raise self._slip(f"unrecognized arguments: {' '.join(unknown)}", guess)
        return known, unknown

    def flags(self) -> list[str]:
        """The flags of this command itself."""
        return [flag for action in self._actions for flag in action.option_strings]

    def error(self, message: str) -> NoReturn:
        guess = ""
        if "invalid choice: " in message:
            word = message.split("invalid choice: ", 1)[1].split("'")[1]
            guess = nearest(word, [name for action in self._actions for name in action.choices or ()])
        raise self._slip(message, guess)

    def _slip(self, message: str, guess: str) -> AgentError:
        return AgentError(Kind.USAGE, f"cannot read the command: {message}", hint=guess or f"see `{self.prog} --help`")


def _commands(action: argparse.Action) -> list[_Parser]:
    return list(action.choices.values()) if isinstance(action.choices, dict) else []


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
        help="give up after this long (default: derived from the target groups)",
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
        _add_force(command, _CHECKS[verb])
        if verb == "drain":
            _add_drain_flags(command)
            command.add_argument(
                "--stopping",
                action="store_true",
                help="this stop cannot be prevented: if the drain is still refused after --wait, drain anyway",
            )
        command.add_argument("--detach", action="store_true", help=_DETACH[verb])
        command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add("status", "show where this host stands", common)
    add("watch", "follow the operation under way to its end", common)
    add("cancel", "stop the operation under way and leave the host as it is", common)
    forget = add("forget", "forget a target that this host no longer has, so that no rejoin registers it", common)
    forget.usage = "%(prog)s [-h] [--json] [--socket SOCKET] TARGET"  # one target, though it may be two words
    forget.add_argument(
        "target", nargs="+", metavar="TARGET", help="as `status` shows it, GROUP ID:PORT, or GROUP/ID:PORT"
    )
    _add_slots_words(add("slots", "show who holds a slot and who waits; or release the slot of a dead host", common))
    run = add("run", "drain, run a command, rejoin; a command that fails leaves the host out", common, asking)
    _add_drain_flags(run)
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command and its arguments")
    reboot = add("reboot", "drain, reboot this host; the agent puts it back after the boot (root)", common, asking)
    reboot.add_argument("--if-required", action="store_true", help="do nothing where no update requires a reboot")
    _add_force(reboot, _REBOOT_CHECKS)
    _add_drain_flags(reboot)
    add("doctor", "check whether a drain would work here, and change nothing", common)
    add("check-config", "check the settings and print them", common)
    add("serve", "run the agent (systemd starts this)", common)
    return top


def _add_force(command: argparse.ArgumentParser, checks: tuple[str, ...]) -> None:
    text = f"skip this one check: {', '.join(checks)}"
    command.add_argument("--force", choices=checks, action="append", default=[], metavar="CHECK", help=text)


def _add_drain_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--until", choices=_UNTIL, help="what ends the drain (default: the setting `drain.until`)")
    text = "keep retrying a refused drain for this long"
    command.add_argument("--wait", type=_seconds, default=0.0, metavar="SECONDS", help=text)


def _add_slots_words(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s [-h] [--json] [--socket SOCKET] [release INSTANCE --reason TEXT [--force alive]]"
    command.add_argument(
        "what", nargs="?", choices=("release",), metavar="release", help="release a slot; without it they are shown"
    )
    command.add_argument("instance", nargs="?", metavar="INSTANCE", help="whose slot, as `zdd-agent slots` shows it")
    command.add_argument("--reason", help="of the release: text for the log, required")
    command.add_argument(
        "--force",
        choices=("alive",),
        action="append",
        default=[],
        metavar="CHECK",
        help="of the release: skip this one check: alive (that host's agent gives signs of life)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds: more than 0, at most {LONGEST_SECONDS}")
    return value
