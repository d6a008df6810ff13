"""Real Ansible, the collection installed from what it builds, and a lab of three hosts for it to work on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import free_prefix
from rollout import APP, PROFILE, TOP, Variables, agent, environment, reset
from zdd_lab.hosts.host import Host
from zdd_lab.threaded import ThreadedLab

COLLECTION = TOP / "packaging" / "ansible"
ROLLING = "zdd.agent.rolling"
ROLE = str(Path(__file__).resolve().parent / "ansible" / "roles" / "app")
_PLACES = (os.environ.get("ZDD_ANSIBLE_BIN", ""), str(Path(sys.executable).parent), str(TOP / "build/ansible/venv/bin"))


def _bin() -> Path | None:
    return next((Path(place) for place in _PLACES if place and (Path(place) / "ansible-playbook").exists()), None)


def pytest_report_header() -> str | None:
    return None if _bin() else "left out: tests/ansible (no ansible-playbook: `pip install ansible-core ansible-lint`)"


@pytest.fixture(scope="session", autouse=True)
def ansible_bin() -> Path:
    """Where ansible-playbook is."""
    found = _bin()
    if found is None:
        pytest.skip("no ansible-playbook: `pip install ansible-core ansible-lint`, or ZDD_ANSIBLE_BIN=")
    return found


class Ansible:
    """Its commands, with our collection as a user would have it, and no settings of this machine's."""

    def __init__(self, where: Path, folder: Path) -> None:
        self.where, self.folder = where, folder
        (folder / "ansible.cfg").touch()
        self.collections = folder / "collections"
        self.installed = self.collections / "ansible_collections" / "zdd" / "agent"
        self.env = environment() | {
            "PATH": f"{where}{os.pathsep}{environment()['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOWS": "1",
            "HOME": str(folder),
            "NO_COLOR": "1",
        }

    def run(self, *words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        argv = [self.where / words[0], *words[1:]]
        return subprocess.run(
            argv, env=self.env, cwd=cwd or self.folder, capture_output=True, text=True, timeout=400, check=False
        )

    def playbook(
        self, inventory: Path, *words: str | Path, variables: Variables | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.run("ansible-playbook", "-i", inventory, *words, "-e", json.dumps(variables or {}))

    def start(self, inventory: Path, *words: str | Path, variables: Variables | None = None) -> subprocess.Popen[str]:
        """A playbook in a process group of its own, which is what `cut` ends."""
        return subprocess.Popen(
            [self.where / "ansible-playbook", "-i", inventory, *words, "-e", json.dumps(variables or {})],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def cut(play: subprocess.Popen[str]) -> None:
    """End the control machine: the play and whatever it started."""
    os.killpg(play.pid, signal.SIGKILL)
    play.communicate(timeout=20)


@pytest.fixture(scope="session")
def ansible(ansible_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    """Ansible with the collection, built and installed offline."""
    tool = Ansible(ansible_bin, tmp_path_factory.mktemp("ansible"))
    built = tool.run("ansible-galaxy", "collection", "build", COLLECTION, "--output-path", tool.folder)
    assert built.returncode == 0, built.stdout + built.stderr
    archive = next(tool.folder.glob("zdd-agent-*.tar.gz"))
    words = ("collection", "install", archive, "-p", tool.collections, "--offline", "--no-deps")
    installed = tool.run("ansible-galaxy", *words)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return tool


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    """Three hosts with agents; one lab for a test module."""
    with ThreadedLab(prefix=free_prefix(), profile=PROFILE, hosts=3, seed=6, app_arguments=APP) as lab:
        yield lab


@pytest.fixture
def fleet(running: ThreadedLab) -> ThreadedLab:
    """The same, every host in service with v1."""
    reset(running)
    return running


@pytest.fixture
def inventory(running: ThreadedLab, tmp_path: Path) -> Path:
    """The lab's hosts: each is this machine, with the socket of its own agent."""
    hosts = {host.name: {"zdd_socket": str(host.socket)} for host in running.lab.hosts}
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "lab_prefix": running.lab.prefix,
        "zdd_become": False,
    }
    file = tmp_path / "inventory.json"
    file.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
    return file


def until_phase(host: Host, phase: str, seconds: float = 60.0) -> None:
    """Wait until an operation of this host is in that phase."""
    give_up = time.monotonic() + seconds
    while True:
        operation = json.loads(agent(host, "status", "--json").stdout)["operation"]
        if operation is not None and operation["phase"] == phase and operation["outcome"] is None:
            return
        assert time.monotonic() < give_up, f"{host.name} is not {phase} after {seconds:.0f} s: {operation}"
        time.sleep(0.05)


def variables(version: str, **more: object) -> dict[str, Any]:
    """Those of rolling.yml, for a release of the lab's app."""
    return {"zdd_deploy_role": ROLE, "version": version, **more}


def hosts_of(done: subprocess.CompletedProcess[str], task: str) -> list[str]:
    """The hosts that this task ran on, in order."""
    hosts = []
    for part in done.stdout.split("\nTASK [")[1:]:
        if part.startswith(f"{task}]"):
            lines = [line for line in part.splitlines() if line.startswith(("ok: [", "changed: [", "fatal: ["))]
            hosts += sorted(line.split("[")[1].split("]")[0] for line in lines)
    return hosts
