"""Every route as a stranger, as a reader and as an operator, on the real socket and with real user numbers."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.conftest import free_prefix
from zdd_agent.api.access import Level
from zdd_agent.api.routes import ROUTES
from zdd_agent.api.routing import Route
from zdd_lab.hosts.host import Host
from zdd_lab.processes.children import bare_environment
from zdd_lab.threaded import ThreadedLab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")

# Numbers that no account of a machine has. SOCKET may connect; what else it may, the settings say.
SOCKET, OPERATORS, READERS = 54_000, 54_001, 54_002
OPERATOR_UID, READER_UID, ANY_UID = 54_011, 54_012, 54_013
_SETTINGS = f"""
[access]
operator_users = ["{OPERATOR_UID}"]
operator_groups = ["{OPERATORS}"]
reader_users = ["{READER_UID}"]
reader_groups = ["{READERS}"]
"""
# Becomes somebody else once everything is imported: another user may not read this one's Python.
_AS_SOMEBODY = """
import os, sys, json, socket, locale, encodings.idna
from zdd_agent.cli import commands
from zdd_agent.cli import client
from zdd_agent.cli import progress_line
from zdd_agent.cli import arguments
arguments.parser().parse_args(["status"])
uid, groups, words = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
os.setgroups(groups); os.setgid(uid); os.setuid(uid)
if words[0] == "ask":
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["ZDD_AGENT_SOCKET"])
        body = words[3]
        text = f"{words[1]} {words[2]} HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}"
        connection.sendall(text.encode())
        print(connection.makefile("rb").readline().split()[1].decode())
else:
    sys.exit(commands.main(words, lambda _: 1))
"""  # noqa: E501  a program of its own

WHO = {
    "stranger": (ANY_UID, [SOCKET], Level.NOTHING),
    "reader by its user": (READER_UID, [SOCKET], Level.READ),
    "reader by a group": (ANY_UID, [SOCKET, READERS], Level.READ),
    "operator by its user": (OPERATOR_UID, [SOCKET], Level.OPERATE),
    "operator by a group": (ANY_UID, [SOCKET, OPERATORS], Level.OPERATE),
    "both": (READER_UID, [SOCKET, OPERATORS], Level.OPERATE),
}


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with ThreadedLab(prefix=free_prefix(), hosts=1, agents=False) as running:
        host = running.lab.hosts[0]
        running.lab.folder.chmod(0o711)
        config = host.folder / "config.toml"
        config.write_text(config.read_text("utf-8") + _SETTINGS, "utf-8")
        running.run(host.start_agent())
        os.chown(host.socket, 0, SOCKET)  # as systemd's SocketGroup= does
        yield host


def somebody(host: Host, uid: int, groups: list[int], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", _AS_SOMEBODY, str(uid), json.dumps(groups), *words]
    env = bare_environment() | {"ZDD_AGENT_SOCKET": str(host.socket)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


def status_of(host: Host, who: str, method: str, path: str, body: str = "") -> int:
    uid, groups, _ = WHO[who]
    done = somebody(host, uid, groups, "ask", method, path, body)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_the_socket_is_for_its_owner_and_its_group_alone(host: Host) -> None:
    assert stat.S_IMODE(host.socket.stat().st_mode) == 0o660


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method}-{route.path}")
def test_a_route_is_open_to_those_that_it_is_for_and_to_nobody_else(host: Host, route: Route, who: str) -> None:
    body = '{"dry_run": true}' if route.path in ("/v1/drain", "/v1/rejoin") else ""
    answered = status_of(host, who, route.method, route.path, body)
    assert (answered == 403) is (WHO[who][2] < route.access)


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/v1/nothing"), ("DELETE", "/v1/status")])
def test_a_stranger_learns_not_even_which_paths_there_are(host: Host, method: str, path: str) -> None:
    assert status_of(host, "stranger", method, path) == 403
    assert status_of(host, "reader by its user", method, path) in (404, 405)


@pytest.mark.parametrize("command", ["status", "drain", "rejoin", "cancel", "doctor"])
def test_the_command_of_a_user_who_may_not_connect_ends_with_8(host: Host, command: str) -> None:
    done = somebody(host, ANY_UID, [], command)
    assert done.returncode == 8
    assert "this user may not use" in done.stderr


@pytest.mark.parametrize(("who", "command"), [("stranger", "status"), ("reader by its user", "drain")])
def test_the_command_of_a_user_who_may_connect_and_no_more_ends_with_8(host: Host, who: str, command: str) -> None:
    uid, groups, _ = WHO[who]
    done = somebody(host, uid, groups, command)
    assert done.returncode == 8
    assert "may not" in done.stderr
