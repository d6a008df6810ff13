"""The other callers of docs/deploy-tools.md over real ssh, under load: the shell script, Fabric and Capistrano."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fleet import Fleet, fleet, served
from hosts import TOP

from ansible_rig import ansible, ansible_bin

__all__ = ["ansible", "ansible_bin", "fleet", "served"]
DOCUMENTED = (TOP / "docs" / "deploy-tools.md").read_text()


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
