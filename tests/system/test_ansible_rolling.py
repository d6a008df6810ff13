"""Ansible over real ssh on hosts with a real systemd: the role installs, rolling.yml rolls releases under load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, Site, run

from ansible_rig import Ansible, ansible, ansible_bin, cut

__all__ = ["ansible", "ansible_bin"]
HERE = Path(__file__).resolve().parent
ROLE = str(HERE / "release")
ROLLING = "zdd.agent.rolling"
# What a cloud image has and the image of these tests has not.
EXTRA = ("openssh-server", "python3-apt")


class Fleet:
    """The hosts, and Ansible on a control machine beside the load balancer."""

    def __init__(self, site: Site, ansible: Ansible, key: Path) -> None:
        self.site, self.hosts, self._ansible = site, site.hosts, ansible
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=10"
        common = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_args": f"{options} -o ControlMaster=no",
            "ansible_ssh_transfer_method": "piped",
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
        """Its exit and what it said."""
        play = self.start(playbook, **variables)
        said, _ = play.communicate(timeout=400)
        return play.returncode, said

    def roll(self, version: str, **variables: Any) -> tuple[int, str]:
        return self.play(ROLLING, zdd_deploy_role=ROLE, version=version, **variables)

    def versions(self) -> list[str]:
        """What each app itself says."""
        script = "import json,urllib.request as u; print(json.load(u.urlopen('http://%s:8080/'))['version'])"
        return [host.sh(f'python3 -c "{script % host.address}"').stdout.strip() for host in self.hosts]

    def postures(self) -> list[str]:
        return [host.status()["posture"] for host in self.hosts]


def _packages(image: Path, folder: Path) -> list[Path]:
    """The debs of EXTRA with what the image lacks for them."""
    (folder / "partial").mkdir(parents=True)
    status = f"Dir::State::status={image}/var/lib/dpkg/status"
    words = ("-qq", "-o", status, "-o", f"Dir::Cache::archives={folder}", "-o", "APT::Sandbox::User=root")
    done = run("apt-get", *words, "-y", "--no-install-recommends", "-d", "install", *EXTRA, check=False, seconds=300)
    if done.returncode != 0:
        pytest.skip(f"NOT PROVED over ssh: apt-get brings no {' '.join(EXTRA)}: {done.stderr.strip()[-200:]}")
    return sorted(folder.glob("*.deb"))


def _open_ssh(host: Host, packages: list[Path], public_key: str) -> None:
    for package in packages:
        shutil.copyfile(package, host.root / "root" / package.name)
    host.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /root/*.deb && rm /root/*.deb", seconds=300)
    host.write("/root/.ssh/authorized_keys", public_key)
    host.sh("chmod 700 /root/.ssh && chmod 600 /root/.ssh/authorized_keys && systemctl enable --now ssh.service")


@pytest.fixture(scope="module")
def fleet(deb: Path, ansible: Ansible) -> Iterator[Fleet]:
    """Three hosts with sshd and the app; the agent comes by the role."""
    image = Path(run(HERE / "image.sh", seconds=600).stdout.strip())
    folder = Path(tempfile.mkdtemp(prefix="zdd-ssh-", dir="/var/tmp"))
    try:
        packages = _packages(image, folder / "packages")
        key = folder / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        run(HERE / "layers.sh", folder / "layer", seconds=300)
        with Site(f"zda{os.getpid() % 10000}", folder, [folder / "layer", image], hosts=3) as site:
            for host in site.hosts:
                _open_ssh(host, packages, key.with_suffix(".pub").read_text())
                host.sh("systemctl enable --now app.service")
            site.wait_healthy(3)
            made = Fleet(site, ansible, key)
            settings = {"poll": {"interval_seconds": 1.0, "jitter_seconds": 0.5}, "min_healthy": 1}
            given = {"zdd_agent_package_file": str(deb), "zdd_agent_settings": settings}
            made.install.write_text(json.dumps([{"hosts": "all", "roles": ["zdd.agent.zdd_agent"], "vars": given}]))
            code, made.installed = made.play(made.install)
            assert code == 0, made.installed + site.hosts[0].journal("-u zdd-agent")
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def test_the_role_installs_configures_enables_and_its_doctor_is_content(fleet: Fleet) -> None:
    for host in fleet.hosts:
        assert host.sh("systemctl is-enabled zdd-agent.socket zdd-agent.service").returncode == 0
        assert "interval_seconds" in host.sh("cat /etc/zdd-agent/conf.d/ansible.toml").stdout
    assert fleet.installed.count("a drain would work here") == 3


def test_the_role_changes_nothing_the_second_time(fleet: Fleet) -> None:
    code, said = fleet.play(fleet.install)
    assert code == 0, said
    assert said.count("changed=0") == 3, said


def test_a_setting_that_is_wrong_never_gets_in_place(fleet: Fleet) -> None:
    before = fleet.hosts[0].sh("cat /etc/zdd-agent/conf.d/ansible.toml").stdout
    code, said = fleet.play(fleet.install, zdd_agent_settings={"min_healty": 1})
    assert code != 0
    assert "min_healthy" in said, "the nearest name"
    assert fleet.hosts[0].sh("cat /etc/zdd-agent/conf.d/ansible.toml").stdout == before


def test_a_release_goes_from_host_to_host_over_ssh_and_no_request_fails(served: Fleet) -> None:
    with served.site.load() as result:
        code, said = served.roll("v2")
    assert code == 0, said
    assert served.versions() == ["v2"] * 3
    assert result["failed"] == 0, result
    assert result["requests"] > 1000


def test_a_release_that_fails_its_health_check_stops_at_the_first_host_which_stays_out(served: Fleet) -> None:
    with served.site.load() as result:
        code, said = served.roll("v2", broken=True, zdd_rejoin_timeout=5)
    assert code != 0
    assert "does not pass its health check" in said
    assert served.postures() == ["drained", "in_service", "in_service"]
    assert served.versions() == ["v2", "v1", "v1"]
    assert result["failed"] == 0, result


@pytest.mark.parametrize("moment", ["draining", "restart"])
def test_a_connection_that_is_cut_in_the_middle_loses_nothing_and_the_next_run_heals_it(
    served: Fleet, moment: str
) -> None:
    second = served.hosts[1]
    with served.site.load() as result:
        play = served.start(ROLLING, zdd_deploy_role=ROLE, version="v2", slowly=3)
        second.wait("drained" if moment == "restart" else moment, 120)
        cut(play)  # Ansible and its ssh: what was under way on the host loses its connection
        code, said = served.roll("v2")
    assert code == 0, said
    assert served.versions() == ["v2"] * 3
    assert served.postures() == ["in_service"] * 3
    assert result["failed"] == 0, result
