"""The opener: it gives descriptors of the configured container's namespace to the agent, and nothing to others."""

from __future__ import annotations

import errno
import os
import re
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import NOBODY, Container, Engine, ask, eventually, missing, opener, started
from zdd_agent.adapters.namespace_opener import NamespaceOpener
from zdd_agent.opener import Places, RefusedError, _find, _hold, configured

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"run as root: {missing()}")

NAMED = '[container]\nname = "web"\nport = 8080\n'
_GROUPS = Path("/sys/fs/cgroup")


class Rig:
    """One container, and an opener that was told of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "netns.sock"
        self.settings = folder / "etc" / "config.toml"
        self.settings.parent.mkdir(mode=0o755)
        self.settings.write_text(NAMED)
        self.engine = Engine(folder)
        self.container = Container()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.container.kill()


@pytest.fixture
def opened(rig: Rig) -> Iterator[Rig]:
    rig.engine.podman("web", rig.container.pid)
    with opener(rig.path, rig.engine, rig.settings):
        yield rig


def namespace_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def as_nobody(call: Callable[[], None]) -> int:
    """Run a call as a user without any privilege; 0 if it raised nothing."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            call()
        except BaseException as error:  # noqa: BLE001  the parent sees the exit code
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return ended(child)


def same_namespace(rig: Rig) -> bool:
    """Whether the descriptors of an answer are of the container's namespace and of its process."""
    said, (asked, told, process) = ask(rig.path)
    assert said == b"found"
    cookies = set()
    for number in (asked, told):
        with socket.socket(fileno=number) as given:
            assert (given.family, given.proto) == (socket.AF_NETLINK, 4)
            cookies.add(given.getsockopt(socket.SOL_SOCKET, 71, 8))
    shown = Path(f"/proc/self/fdinfo/{process}").read_text()
    os.close(process)
    assert len(cookies) == 1
    with socket.socket() as ours:
        assert cookies != {ours.getsockopt(socket.SOL_SOCKET, 71, 8)}
    return re.search(r"^Pid:\t(\d+)$", shown, re.M)[1] == str(rig.container.pid)  # type: ignore[index]  # it has one


@pytest.mark.parametrize("file", ["containers.json", "volatile-containers.json"])
def test_it_finds_a_container_of_podman(rig: Rig, file: str) -> None:
    rig.engine.podman("other", os.getpid())
    rig.engine.podman("web", rig.container.pid, file=file)
    with opener(rig.path, rig.engine, rig.settings):
        assert same_namespace(rig)


def test_it_finds_a_container_of_docker(rig: Rig) -> None:
    rig.engine.docker("webs", os.getpid())
    rig.engine.docker("web", rig.container.pid)
    with opener(rig.path, rig.engine, rig.settings):
        assert same_namespace(rig)


@pytest.fixture
def unit(rig: Rig) -> Iterator[tuple[str, Path]]:
    """A cgroup as of a unit, below a slice that is ours alone."""
    top = _GROUPS / "systemd" if (_GROUPS / "systemd").is_dir() else _GROUPS
    outer, name = top / f"zddtest{secrets.token_hex(3)}.slice", "web@1.service"
    group = outer / name
    inner = group / "payload"
    inner.mkdir(parents=True)
    rig.settings.write_text(f'[container]\nunit = "{name}"\nport = 80\n')
    yield name, inner
    for pid in map(int, (inner / "cgroup.procs").read_text().split()):
        os.kill(pid, signal.SIGKILL)
        while str(pid) in (inner / "cgroup.procs").read_text().split():
            select.select([], [], [], 0.01)
    for one in (inner, group, outer):
        one.rmdir()


def test_it_finds_the_process_of_a_unit_that_is_in_another_namespace(rig: Rig, unit: tuple[str, Path]) -> None:
    helper = Container(("sleep", "600"))
    (unit[1] / "cgroup.procs").write_text(str(rig.container.pid))
    try:
        with opener(rig.path, rig.engine, rig.settings):
            assert same_namespace(rig)
            (unit[1] / "cgroup.procs").write_text(str(helper.pid))
            assert b"are in several network namespaces" in ask(rig.path)[0]
    finally:
        helper.kill()


def test_a_unit_whose_processes_are_all_on_the_host_is_refused(rig: Rig, unit: tuple[str, Path]) -> None:
    """As that of a compose project: its main process only talks to the engine."""
    with subprocess.Popen(["sleep", "600"]) as client:
        (unit[1] / "cgroup.procs").write_text(str(client.pid))
        try:
            with opener(rig.path, rig.engine, rig.settings):
                assert b"has no process in a network namespace of its own" in ask(rig.path)[0]
        finally:
            client.kill()


def test_a_container_that_does_not_run_is_none(opened: Rig) -> None:
    opened.engine.forget()
    assert ask(opened.path) == (b"none", [])


def test_a_namespace_that_goes_away_is_none_and_its_process_is_told(opened: Rig) -> None:
    given = NamespaceOpener(opened.path).open()
    assert given is not None
    assert not given.over()
    opened.container.kill()
    assert given.over()
    given.close()
    assert ask(opened.path) == (b"none", [])


def test_a_number_that_another_process_has_by_now_is_not_the_container(rig: Rig) -> None:
    """The engine's file is old: it names a process that has ended, and whose number is used again."""
    rig.engine.podman("web", rig.container.pid, started_at=started(rig.container.pid) - 1)
    with opener(rig.path, rig.engine, rig.settings):
        assert ask(rig.path) == (b"none", [])


def test_a_process_that_ends_while_it_is_looked_at_is_not_the_container(rig: Rig) -> None:
    """What /proc says then may already be of another process of this number."""

    def looked_at() -> bool:
        rig.container.kill()
        return True

    assert _hold(rig.container.pid, looked_at) is None


def test_the_host_itself_is_refused(rig: Rig) -> None:
    rig.engine.podman("web", os.getpid())
    with opener(rig.path, rig.engine, rig.settings):
        said, given = ask(rig.path)
    assert said.startswith(b"refused: the container is in the host's own network namespace")
    assert given == []


def test_two_containers_of_one_name_are_refused(opened: Rig) -> None:
    opened.engine.docker("web", opened.container.pid)
    assert ask(opened.path) == (b"refused: more than one container has the name web", [])


def test_another_user_gets_nothing(opened: Rig) -> None:
    """Even one whom the mode of the socket would let in."""
    opened.path.chmod(0o666)
    for folder in (opened.path.parent, *opened.path.parents[1:4]):
        folder.chmod(folder.stat().st_mode | 0o011)

    def try_it() -> None:
        with pytest.raises(ConnectionResetError):
            ask(opened.path)

    assert as_nobody(try_it) == 0
    assert same_namespace(opened)


@pytest.mark.parametrize(
    "asked", ["", "web", "host\0", "../host", "1", "/proc/1/ns/net", "host\n", "h" * 255, "H\u00f6st"]
)
def test_a_caller_can_name_nothing_but_a_service(opened: Rig, asked: str) -> None:
    said, given = ask(opened.path, asked)
    assert said in (b"refused: there is no such service", b"")
    assert given == []
    assert same_namespace(opened)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[container]\nport = 80\n",
        '[container]\nname = "web"\nunit = "web.service"\n',
        '[container]\nname = "../../1"\n',
        '[container]\nname = "*"\n',
        '[container]\nunit = "../web.service"\n',
        "[container]\nname = 1\n",
        "container = 3\n",
        "[container\n",
    ],
)
def test_settings_that_name_no_container_are_refused(rig: Rig, text: str) -> None:
    rig.settings.write_text(text)
    with pytest.raises(RefusedError):
        configured(rig.settings, b"host")


def test_later_files_go_first_as_for_the_agent(rig: Rig) -> None:
    (rig.settings.parent / "conf.d").mkdir()
    (rig.settings.parent / "conf.d" / "10.toml").write_text('[container]\nname = "other"\n')
    assert configured(rig.settings, b"host") == ("name", "other")


@pytest.mark.parametrize("what", ["file", "folder", "owner", "link"])
def test_settings_that_others_may_write_are_refused(rig: Rig, what: str) -> None:
    if what == "file":
        rig.settings.chmod(0o664)
    elif what == "folder":
        rig.settings.parent.chmod(0o777)
    elif what == "owner":
        os.chown(rig.settings, NOBODY, 0)
    else:
        rig.settings.rename(rig.settings.with_name("real"))
        rig.settings.symlink_to("real")
    with pytest.raises(RefusedError):
        configured(rig.settings, b"host")


def test_files_of_an_engine_that_make_no_sense_are_refused(rig: Rig) -> None:
    rig.engine.podman("web", rig.container.pid)
    for file in (rig.engine.folder / "run/crun").glob("*/status"):
        file.write_text("{")
    with pytest.raises(RefusedError):
        _find(("name", "web"), Places(rig.engine.folder / "lib", rig.engine.folder / "run"))


def test_a_descriptor_changes_nothing_in_the_container(rig: Rig) -> None:
    """SOCK_DESTROY, which sock_diag offers to those with CAP_NET_ADMIN: the agent has it nowhere."""
    listens = "import socket, time; kept = socket.create_server(('127.0.0.1', 80)); time.sleep(600)"
    app = Container((sys.executable, "-ISc", listens))
    rig.engine.podman("web", app.pid)
    for folder in (rig.path.parent, *rig.path.parents[1:4]):
        folder.chmod(folder.stat().st_mode | 0o011)

    def try_it() -> None:
        said, (asked, told, process) = ask(rig.path)
        assert (said, told > 0, process > 0) == (b"found", True, True)
        local = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
        listener = struct.pack("!HH16s16sIQ", 80, 0, local, local, 0, 2**64 - 1)
        body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + listener
        with socket.socket(fileno=asked) as given:
            given.bind((0, 0))
            answer = -errno.ENOENT
            while answer == -errno.ENOENT:  # it does not listen yet
                given.send(struct.pack("=IHHII", 16 + len(body), 21, 0x5, 1, 0) + body)  # SOCK_DESTROY, NLM_F_ACK
                answer = struct.unpack_from("=i", given.recv(4096), 16)[0]
        assert answer == -errno.EPERM

    with opener(rig.path, rig.engine, rig.settings, NOBODY):
        assert as_nobody(try_it) == 0
    app.kill()


def test_a_flood_leaves_nothing_behind(rig: Rig) -> None:
    rig.engine.podman("web", rig.container.pid)
    with opener(rig.path, rig.engine, rig.settings) as process:
        eventually(rig.path, b"found")
        before = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        home = namespace_of(process.pid)
        for _ in range(1000):
            said, given = ask(rig.path)
            assert (said, len(given)) == (b"found", 3)
            for number in given:
                os.close(number)
        silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
        for one in silent:
            one.connect(str(rig.path))
            one.close()
        assert same_namespace(rig)
        # It may still be answering the last of them; what leaks never goes away.
        ends = time.monotonic() + 20
        while len(list(Path(f"/proc/{process.pid}/fd").iterdir())) > before and time.monotonic() < ends:
            time.sleep(0.05)
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) <= before
        assert namespace_of(process.pid) == home


def test_a_caller_that_says_nothing_holds_up_the_next_one_for_a_moment_only(opened: Rig) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(opened.path))
        assert same_namespace(opened)
