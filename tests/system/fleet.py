"""A fleet that is deployed to over real ssh: three hosts with real systemd, and a control machine on their bridge."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import HERE, Host, run
from lab_site import Site, booted
from packages import install, of_debian

from ansible_rig import Ansible
from zdd_lab.processes.children import bare_environment

ROLE = str(HERE / "release")
ROLLING = "zdd.agent.rolling"
# What a cloud image has and the image of these tests lacks.
EXTRA = ("openssh-server", "python3-apt", "sudo")
DEPLOY = """#!/bin/sh
[ "$1" != bad ] || exit 23
sed -i -E "s/--version [^ ]+/--version $1/" /etc/systemd/system/app.service
systemctl daemon-reload && systemctl restart app.service
"""


class Fleet:
    """The hosts, and Ansible on a control machine beside the load balancer."""

    def __init__(self, site: Site, ansible: Ansible, key: Path) -> None:
        self.site, self.hosts, self.key, self._ansible = site, site.hosts, key, ansible
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=10"
        common = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_args": f"{options} -o ControlMaster=no",
            "ansible_ssh_transfer_method": "piped",
            "ansible_pipelining": True,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        addresses = {host.name: {"ansible_host": host.address} for host in site.hosts}
        self.install, self.installed = key.with_name("install.yml"), ""
        self._inventory = key.with_name("inventory.json")
        self._inventory.write_text(json.dumps({"all": {"hosts": addresses, "vars": common}}))

    def start(self, playbook: str | Path, **variables: Any) -> subprocess.Popen[str]:
        words = [self._ansible.where / "ansible-playbook", "-i", self._inventory, playbook]
        return subprocess.Popen(
            [*self.site.on_bridge(), *words, "-e", json.dumps(variables)],
            env=self._ansible.env, cwd=self._ansible.folder, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def play(self, playbook: str | Path, **variables: Any) -> tuple[int, str]:
        """Its exit code and its output."""
        play = self.start(playbook, **variables)
        said, _ = play.communicate(timeout=400)
        return play.returncode, said

    def call(self, *words: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        """A deploy tool's command on the control machine."""
        argv = [*self.site.on_bridge(), *words]
        full = bare_environment() | {"HOME": str(cwd)} | env
        return subprocess.run(argv, env=full, cwd=cwd, capture_output=True, text=True, timeout=400, check=False)

    def roll(self, version: str, **variables: Any) -> tuple[int, str]:
        return self.play(ROLLING, zdd_deploy_role=ROLE, version=version, **variables)

    def versions(self) -> list[str]:
        """What each app itself says."""
        script = "import json,urllib.request as u; print(json.load(u.urlopen('http://%s:8080/'))['version'])"
        return [host.sh(f'python3 -c "{script % host.address}"').stdout.strip() for host in self.hosts]

    def postures(self) -> list[str]:
        return [host.status()["posture"] for host in self.hosts]


def _open_ssh(host: Host, debs: list[Path], public_key: str) -> None:
    install(host, debs)
    keys = host.sh("echo ~").stdout.strip() + "/.ssh"
    host.write(f"{keys}/authorized_keys", public_key)
    host.write("/usr/local/bin/deploy", DEPLOY)
    host.sh(f"chmod 700 {keys} /usr/local/bin/deploy && chmod 600 {keys}/authorized_keys")
    host.sh("systemctl enable --now ssh.service")


@pytest.fixture(scope="module")
def fleet(deb: Path, ansible: Ansible, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts with sshd and the app; the agent comes by the role."""
    folder = tmp_path_factory.mktemp("fleet")
    debs = of_debian(EXTRA, folder / "debs")
    key = folder / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    with booted(hosts=3) as site:
        for host in site.hosts:
            _open_ssh(host, debs, key.with_suffix(".pub").read_text())
            host.sh("systemctl enable --now app.service")
        site.wait_healthy(3)
        made = Fleet(site, ansible, key)
        # The lab's nodes are ten times as fast as AWS's.
        drain = {"floor_seconds": {"application": 3.0}, "quiet_seconds": 1.0}
        settings = {"poll": {"interval_seconds": 1.0, "jitter_seconds": 0.5}, "drain": drain, "min_healthy": 1}
        given = {"zdd_agent_package_file": str(deb), "zdd_agent_settings": settings}
        made.install.write_text(json.dumps([{"hosts": "all", "roles": ["zdd.agent.zdd_agent"], "vars": given}]))
        code, made.installed = made.play(made.install)
        assert code == 0, made.installed + site.hosts[0].journal("-u zdd-agent")
        yield made


@pytest.fixture
def served(fleet: Fleet) -> Fleet:
    """The same, every host in service with v1."""
    for host in fleet.hosts:
        host.sh("sed -i -E 's/--version [^ ]+/--version v1/' /etc/systemd/system/app.service; systemctl daemon-reload")
        done = host.sh(
            "zdd-agent watch; systemctl restart app.service; sleep 2; zdd-agent rejoin --timeout 60", check=False
        )
        assert done.returncode == 0, f"{done.stderr}\n{json.dumps(fleet.site.state())}\n{host.journal('-u zdd-agent')}"
    fleet.site.wait_healthy(3)
    assert fleet.postures() == ["in_service"] * 3
    return fleet
