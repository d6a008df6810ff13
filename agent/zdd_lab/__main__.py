"""The command `zdd-lab`: runs a lab, or tells a running one what to do."""

import argparse
import asyncio
import importlib
import json
import shlex
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zdd_lab.model.faults import KEYS, FaultKind
from zdd_lab.model.notices import NoticeKind
from zdd_lab.model.profile import PROFILES
from zdd_lab.processes.children import ChildStartError

if TYPE_CHECKING:
    from zdd_lab.lab import Lab

_DEFAULT_PREFIX = "127.77.0"
_GROUP = "web"  # the Auto Scaling group of `up --auto-scaling`
_CONTROL_TIMEOUT = 60.0  # s; restarting an app waits until it listens
Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:  # it parses its own options
        demo: Callable[[Sequence[str]], int] = importlib.import_module("zdd_lab.demo").main
        return demo(arguments[1:])
    parsed = _parser().parse_args(arguments)
    command: Command = parsed.command
    return command(parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zdd-lab", description="An AWS for one machine, on loopback.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=text, description=text)
        one.add_argument(
            "--prefix", default=_DEFAULT_PREFIX, help="first three bytes of the lab's addresses (%(default)s)"
        )
        one.set_defaults(command=command)
        return one

    up = verb("up", _up, "Run a lab until it is interrupted.")
    up.add_argument("--hosts", type=int, default=2, help="how many (%(default)s)")
    up.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        default="fast",
        help="how long things take: alb as on AWS, fast a tenth of it (%(default)s)",
    )
    up.add_argument("--state", type=Path, help="folder for the lab's files, which is kept; default: a temporary one")
    up.add_argument("--seed", type=int, help="for the random lags, to repeat a run")
    up.add_argument("--no-agents", action="store_true", help="start no agents")
    up.add_argument("--auto-scaling", action="store_true", help="put the hosts into an Auto Scaling group `web`")
    restart = verb("restart-app", _restart_app, "Restart a host's app, as a deploy tool does.")
    restart.add_argument("--host", required=True, help="its number or name")
    restart.add_argument("--version", required=True, help="what the app says that it is")
    scale = verb("scale", _scale, "Set the desired capacity of an Auto Scaling group.")
    scale.add_argument("--group", default=_GROUP, help="its name (%(default)s)")
    scale.add_argument("--desired", type=int, required=True, help="how many hosts")
    terminate = verb("terminate", _terminate, "Terminate a host. Its Auto Scaling group replaces it.")
    terminate.add_argument("--host", required=True, help="its number or name")
    announce = verb("announce", _announce, "Announce something to a host in its instance metadata.")
    announce.add_argument("kind", choices=list(NoticeKind), help="after a spot notice, the host is really taken away")
    announce.add_argument("--host", required=True, help="its number or name")
    announce.add_argument("--seconds", type=float, help="ahead of the end (spot: 120) or the beginning (3600)")
    fault = verb("fault", _fault, "Make something go wrong, until it is cleared or counted down.")
    fault.add_argument("kind", metavar="KIND", help=", ".join(one.replace("_", "-") for one in FaultKind))
    fault.add_argument("--action", help="only this API action, such as DeregisterTargets")
    fault.add_argument("--service", help="only this service: elasticloadbalancing, ec2, autoscaling, dynamodb")
    fault.add_argument("--client", help="only calls of this client: h1 for a host, person for you")
    fault.add_argument("--zone", help="for zone-down: a or b")
    fault.add_argument("--code", help="for error: AWS's error code")
    fault.add_argument("--count", type=int, help="how many times it happens; default: until `zdd-lab clear`")
    fault.add_argument("--seconds", type=float, help="how late the answer is, or how long the call hangs")
    verb("clear", _clear, "End every fault.")
    verb("state", _state, "Print the whole state of the lab as JSON.")
    verbs.add_parser("demo", help="A rolling deploy under load, with the agent and without.")
    return parser


def _up(parsed: argparse.Namespace) -> int:
    import uvloop  # noqa: PLC0415  # it is slow to import, and the other commands do not need it

    failed = False
    try:
        uvloop.run(_run(parsed))
    except* (OSError, ChildStartError) as errors:
        print(f"zdd-lab: cannot start on {parsed.prefix}: {errors.exceptions[0]}", file=sys.stderr)
        failed = True
    return 1 if failed else 0


async def _run(parsed: argparse.Namespace) -> None:
    from zdd_lab.lab import Lab  # noqa: PLC0415  # as above

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    lab = Lab(
        prefix=parsed.prefix,
        profile=PROFILES[parsed.profile],
        hosts=parsed.hosts,
        state_folder=parsed.state.resolve() if parsed.state else None,
        agents=not parsed.no_agents,
        seed=parsed.seed,
        wait_healthy=False,
    )
    async with lab:
        if parsed.auto_scaling:
            await lab.create_group(_GROUP, MinSize=min(1, parsed.hosts), MaxSize=2 * parsed.hosts)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        print(what_to_export(lab), flush=True)
        await stopped.wait()


def what_to_export(lab: "Lab") -> str:
    """What a person exports in a shell to use the lab, with some commands to try."""
    person = lab.settings()
    lines = ["# For a person, with made-up keys:"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(person.items())]
    for host in lab.hosts:
        lines.append(f"# {host.name}: {host.identity.instance_id} at {host.identity.address}")
        lines.append(f"#   export AWS_EC2_METADATA_SERVICE_ENDPOINT={host.imds_url}")
        lines.append(f"#   export ZDD_AGENT_SOCKET={shlex.quote(str(host.socket))}")
    lines.append("# The load balancer, one address for each zone: " + " ".join(lab.urls))
    lines.append("# Try:")
    lines.append(f"#   aws elbv2 describe-target-health --target-group-arn {lab.front.group}")
    if lab.hosts:
        prefix = "" if lab.prefix == _DEFAULT_PREFIX else f" --prefix {lab.prefix}"
        lines.append(f"#   export ZDD_AGENT_SOCKET={shlex.quote(str(lab.hosts[0].socket))}")
        restart = f"zdd-lab restart-app{prefix} --host 1 --version v2"
        lines.append(f"#   zdd-agent drain && {restart} && zdd-agent rejoin")
        lines.append(f"#   zdd-lab fault{prefix} throttling --count 3; zdd-lab state{prefix}")
    lines.append("# Ctrl-C ends the lab.")
    return "\n".join(lines)


def _restart_app(parsed: argparse.Namespace) -> int:
    return _ask(parsed, "POST", f"/hosts/{parsed.host}/app", {"version": parsed.version})


def _scale(parsed: argparse.Namespace) -> int:
    return _ask(parsed, "POST", f"/groups/{parsed.group}", {"desired": parsed.desired})


def _terminate(parsed: argparse.Namespace) -> int:
    return _ask(parsed, "POST", f"/hosts/{parsed.host}/terminate")


def _announce(parsed: argparse.Namespace) -> int:
    wanted = {"kind": parsed.kind, "seconds": parsed.seconds}
    return _ask(parsed, "POST", f"/hosts/{parsed.host}/notices", wanted)


def _fault(parsed: argparse.Namespace) -> int:
    wanted = {name: getattr(parsed, name) for name in ("kind", *KEYS)}
    return _ask(parsed, "POST", "/faults", {name: one for name, one in wanted.items() if one is not None})


def _clear(parsed: argparse.Namespace) -> int:
    return _ask(parsed, "DELETE", "/faults")


def _state(parsed: argparse.Namespace) -> int:
    return _ask(parsed, "GET", "/state")


def _ask(parsed: argparse.Namespace, method: str, path: str, body: dict[str, Any] | None = None) -> int:
    """Ask the control API and print its answer."""
    url = f"http://{parsed.prefix}.1:4567{path}"
    payload = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, payload, method=method)  # only http, only on loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_CONTROL_TIMEOUT) as reply:
            print(json.dumps(json.load(reply), indent=2))
    except urllib.error.HTTPError as error:
        told = json.loads(error.read() or b"{}")
        print(f"zdd-lab: cannot do that: {told.get('error', error)}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"zdd-lab: cannot reach the lab at {url}: {error}", file=sys.stderr)
        print("Start one with: zdd-lab up", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
