"""Over real ssh, on hosts with a real systemd, under load: Ansible, the shell script, Fabric and Capistrano.

Ansible's role installs the agent that all of them use.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import TOP, Host, Site, run

from ansible_rig import Ansible, ansible, ansible_bin, cut
from zdd_lab.processes.children import bare_environment

__all__ = ["ansible", "ansible_bin"]
HERE = Path(__file__).resolve().parent
ROLE = str(HERE / "release")
ROLLING = "zdd.agent.rolling"
# What a cloud image has and the image of these tests has not.
EXTRA = ("openssh-server", "python3-apt", "sudo")
DEPLOY = """#!/bin/sh
[ "$1" != bad ] || exit 23
sed -i -E "s/--version [^ ]+/--version $1/" /etc/systemd/system/app.service
systemctl daemon-reload && systemctl restart app.service
"""
DOCUMENTED = (TOP / "docs" / "deploy-tools.md").read_text()


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
        """Its exit and what it said."""
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
    host.write("/usr/local/bin/deploy", DEPLOY)
    host.sh("chmod 700 /root/.ssh /usr/local/bin/deploy && chmod 600 /root/.ssh/authorized_keys")
    host.sh("systemctl enable --now ssh.service")


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
            # The lab's nodes are ten times as fast as AWS's.
            drain = {"floor_seconds": {"application": 3.0}, "quiet_seconds": 1.0}
            settings = {"poll": {"interval_seconds": 1.0, "jitter_seconds": 0.5}, "drain": drain, "min_healthy": 1}
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


def with_rolling_sh(fleet: Fleet, folder: Path, release: str) -> subprocess.CompletedProcess[str]:
    ssh = f"ssh -i {fleet.key} -l root -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes"
    names = [host.address for host in fleet.hosts]
    return fleet.call(
        TOP / "packaging" / "ssh" / "rolling.sh", f"/usr/local/bin/deploy {release}", *names, cwd=folder, ZDD_SSH=ssh
    )


def with_fabric(fleet: Fleet, folder: Path, release: str) -> subprocess.CompletedProcess[str]:
    """The line of docs/deploy-tools.md, with these hosts and this release."""
    found = re.search(r"^    (for host in .*Connection.*)$", DOCUMENTED, re.M)
    assert found is not None
    line = found[1].replace('("web1", "web2")', repr([host.address for host in fleet.hosts]))
    script = folder / "deploy.py"
    script.write_text(
        "import functools, fabric\n"
        f"keys = {{'key_filename': {str(fleet.key)!r}}}\n"
        "Connection = functools.partial(fabric.Connection, user='root', connect_kwargs=keys)\n"
        f"{line.replace('deploy v2', f'deploy {release}')}\n"
    )
    return fleet.call(sys.executable, script, cwd=folder)


def with_capistrano(fleet: Fleet, folder: Path, release: str) -> subprocess.CompletedProcess[str]:
    """A project with our zdd.rake, and the loop of docs/deploy-tools.md."""
    if shutil.which("cap") is None:
        pytest.skip("NOT PROVED with Capistrano: no `cap`. To run: apt-get install capistrano")
    found = re.search(r"^    (for host in .*cap .*)$", DOCUMENTED, re.M)
    assert found is not None
    loop = found[1].replace("web1 web2", " ".join(host.address for host in fleet.hosts))
    tasks, stages = folder / "lib" / "capistrano" / "tasks", folder / "config" / "deploy"
    tasks.mkdir(parents=True)
    stages.mkdir(parents=True)
    shutil.copy(TOP / "packaging" / "capistrano" / "zdd.rake", tasks)
    # A release that is no checkout: this image has no git.
    (folder / "Capfile").write_text(
        'require "capistrano/setup"\nrequire "capistrano/deploy"\nrequire "capistrano/scm/plugin"\n'
        "class Plain < Capistrano::SCM::Plugin\n"
        "  def define_tasks\n"
        '    eval_rakefile File.expand_path("plain.rake")\n'
        "  end\n"
        "  def register_hooks\n"
        '    after "deploy:new_release_path", "plain:create_release"\n'
        "  end\n"
        "end\n"
        "install_plugin Plain\n"
        'Dir.glob("lib/capistrano/tasks/*.rake").each { |file| import file }\n'
    )
    (folder / "plain.rake").write_text(
        'task("plain:create_release") { on(roles(:app)) { execute :mkdir, "-p", release_path } }\n'
    )
    (folder / "config" / "deploy.rb").write_text(
        'set :application, "app"\nset :deploy_to, "/srv/app"\n'
        f'task("app:restart") {{ on(roles(:app)) {{ execute "/usr/local/bin/deploy", "{release}" }} }}\n'
        'after "deploy:publishing", "app:restart"\n'
    )
    options = f'user: "root", keys: ["{fleet.key}"], verify_host_key: :never'
    servers = [f'server "{host.address}", roles: [:app], ssh_options: {{ {options} }}' for host in fleet.hosts]
    (stages / "production.rb").write_text("\n".join(servers) + "\n")
    script = folder / "deploy.sh"
    script.write_text(f"{loop}\n")
    return fleet.call("sh", script, cwd=folder)


CALLERS = {"rolling.sh": with_rolling_sh, "fabric": with_fabric, "capistrano": with_capistrano}


@pytest.mark.parametrize("name", CALLERS)
def test_other_callers_roll_a_release_and_no_request_fails(served: Fleet, tmp_path: Path, name: str) -> None:
    with served.site.load() as result:
        done = CALLERS[name](served, tmp_path, "v2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert served.versions() == ["v2"] * 3, done.stdout + done.stderr
    assert served.postures() == ["in_service"] * 3
    assert result["failed"] == 0, result


@pytest.mark.parametrize("name", CALLERS)
def test_other_callers_stop_at_the_first_release_that_fails_and_say_so(
    served: Fleet, tmp_path: Path, name: str
) -> None:
    done = CALLERS[name](served, tmp_path, "bad")
    assert done.returncode != 0, done.stdout + done.stderr
    assert served.postures() == ["drained", "in_service", "in_service"]
    assert served.versions() == ["v1"] * 3
