"""Deploy tools and hosts that EC2 takes meanwhile: they are passed over with a clear line, and the rollout goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_rig import ROLLING, Ansible, ansible, ansible_bin, hosts_of, inventory
from deploy.test_callers import HOOKS, PACKAGING, call, script, substituted, tools
from lab.conftest import free_prefix
from rollout import APP, PROFILE, agent, load, posture, versions
from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.threaded import ThreadedLab

__all__ = ["ansible", "ansible_bin", "inventory", "tools"]
SPOT = {"ZDD_AGENT_NOTICES__SPOT": "drain"}
AHEAD = "900"  # s from a notice to the end: no test lasts as long


@pytest.fixture
def running() -> Iterator[ThreadedLab]:
    """Four hosts with agents that heed spot notices. The first is leaving already, the last serves all the time."""
    with ThreadedLab(
        prefix=free_prefix(), profile=PROFILE, hosts=4, seed=9, agents=False, app_arguments=APP
    ) as running:
        for host in running.lab.hosts:
            running.run(host.start_agent(SPOT))
            agent(host, "status")
        notice(running.lab, running.lab.hosts[0])
        yield running


def announced(lab: Lab, host: Host) -> str:
    """A script's words that let EC2 announce the end of a host, and wait until its agent has heard."""
    told = f"zdd-lab announce spot --prefix {lab.prefix} --host {host.name} --seconds {AHEAD}"
    heard = f"zdd-agent status --socket {host.socket}"
    return f"{told} >/dev/null && until {heard} 2>/dev/null | grep -q ^leaving; do sleep 0.2; done"


def notice(lab: Lab, host: Host) -> None:
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", announced(lab, host)], env=env, check=True, timeout=60)


def until_out(host: Host) -> None:
    while posture(host) != "leaving" or "drain succeeded" not in agent(host, "status").stdout:
        time.sleep(0.2)


def deploy_that_meets_a_notice(running: ThreadedLab, tools: Path, on: Host, to: Host) -> None:
    """`deploy` as in `tools`; on one host, EC2 announces the end of another one in the middle of it."""
    lab = running.lab
    script(
        tools / "deploy",
        f'if [ "$LAB_HOST" = {on.name} ]; then {announced(lab, to)}; fi\n'
        f'exec zdd-lab restart-app --prefix {lab.prefix} --host "$LAB_HOST" --version "$1" >/dev/null',
    )


def test_the_shell_script_passes_over_hosts_that_leave_before_it_and_meanwhile_and_names_them(
    running: ThreadedLab, tools: Path, tmp_path: Path
) -> None:
    lab = running.lab
    _, second, third, _ = lab.hosts
    deploy_that_meets_a_notice(running, tools, on=second, to=third)
    with load(lab, tmp_path / "load.tsv") as seen:
        done = call(tools, PACKAGING / "ssh" / "rolling.sh", "deploy v2", "h1", "h2", "h3", "h4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^== (.*)$", done.stdout, re.M) == ["h2", "h3", "h4"]
    assert done.stdout.endswith(
        "deployed: h2 h4\npassed over, not deployed, since EC2 or Auto Scaling ends them: h1 h3\n"
    )
    assert versions(lab) == {"h1": "v1", "h2": "v2", "h3": "v1", "h4": "v2"}
    assert seen.failed == []
    everyone = call(tools, PACKAGING / "ssh" / "rolling.sh", "deploy v3", "h1", "h3")
    assert everyone.returncode == 4, "nothing was deployed"
    assert "deployed: none" in everyone.stdout


def test_ansible_passes_over_hosts_that_leave_before_it_and_meanwhile_and_names_them(
    running: ThreadedLab, ansible: Ansible, inventory: Path, tmp_path: Path
) -> None:
    lab = running.lab
    _, second, third, _ = lab.hosts
    role = tmp_path / "role" / "tasks" / "main.yml"
    role.parent.mkdir(parents=True)
    restart = f"zdd-lab restart-app --prefix {lab.prefix} --host {{{{ inventory_hostname }}}} --version v2"
    meets = {"ansible.builtin.shell": announced(lab, third), "when": f"inventory_hostname == '{second.name}'"}
    role.write_text(yaml.safe_dump([meets, {"ansible.builtin.command": restart}]))
    with load(lab, tmp_path / "load.tsv") as seen:
        done = ansible.playbook(inventory, ROLLING, variables={"zdd_deploy_role": str(role.parent.parent)})
    assert done.returncode == 0, done.stdout
    assert hosts_of(done, "Drain") == ["h2", "h3", "h4"]
    assert done.stdout.count("passed over, not deployed: this host is leaving") == 2
    recap = dict(re.findall(r"^(h\d) .*failed=0 .*rescued=(\d)", done.stdout, re.M))
    assert recap == {"h1": "0", "h2": "0", "h3": "1", "h4": "0"}
    assert versions(lab) == {"h1": "v1", "h2": "v2", "h3": "v1", "h4": "v2"}
    assert seen.failed == []
    everyone = ansible.playbook(inventory, ROLLING, "--limit", "h1,h3", variables={"zdd_deploy_role": "none"})
    assert everyone.returncode != 0
    assert "every host is leaving: there is none to deploy to" in everyone.stdout


def test_the_ssm_document_passes_over_a_host_that_leaves_before_it_and_in_the_middle_of_its_deploy(
    running: ThreadedLab, tools: Path
) -> None:
    document = yaml.safe_load((PACKAGING / "ssm" / "zdd-deploy.yml").read_text())
    first, second, third, _ = running.lab.hosts
    text = substituted(document, {"Version": "v2"}).replace("/usr/local/bin/deploy", str(tools / "deploy"))
    script(tools / "document", text)
    deploy_that_meets_a_notice(running, tools, on=second, to=second)
    for host in (first, second, third):
        done = call(tools, tools / "document", host=host)
        assert done.returncode == 0, done.stderr
        assert ("passed over, not deployed: this host is leaving" in done.stdout) is (host is not third)
    assert versions(running.lab) == {"h1": "v1", "h2": "v2", "h3": "v2", "h4": "v1"}
    assert [posture(host) for host in (first, second, third)] == ["leaving", "leaving", "in_service"]
    script(tools / "deploy", "exit 23")
    assert call(tools, tools / "document", host=third).returncode == 23, "a failure elsewhere stays one"


def test_the_codedeploy_hooks_pass_over_a_host_that_leaves(running: ThreadedLab, tools: Path) -> None:
    first = running.lab.hosts[0]
    until_out(first)
    assert call(tools, HOOKS / "drain.sh", host=first).returncode == 0
    validated = call(tools, HOOKS / "rejoin.sh", host=first)
    assert validated.returncode == 0, validated.stderr
    assert "passed over: this host is leaving" in validated.stdout
    assert posture(first) == "leaving"
