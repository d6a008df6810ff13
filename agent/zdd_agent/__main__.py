"""`zdd-agent`, and `python -m zdd_agent`: the command, or the daemon."""

from __future__ import annotations

import sys
from argparse import Namespace

from zdd_agent.cli import commands
from zdd_agent.cli.output import say


def main() -> None:
    """The entry point of the console script."""
    sys.exit(commands.main(sys.argv[1:], _local))


def _local(arguments: Namespace) -> int:
    # Loaded here and not above: the daemon's libraries take a hundred times as long as a command.
    from zdd_agent import daemon  # noqa: PLC0415  see above

    if arguments.command == "serve":
        return daemon.serve()
    settings = daemon.check_config()
    say(settings.model_dump_json(indent=None if arguments.json else 2))
    return 0


if __name__ == "__main__":
    main()
