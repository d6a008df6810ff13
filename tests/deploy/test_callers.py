"""The examples of docs/deploy-tools.md: their files run as they are, on the lab's hosts."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.conftest import free_prefix
from rollout import APP, PROFILE, TOP, environment, load, posture, reset, set_health, versions
from zdd_lab.hosts.host import Host
from zdd_lab.threaded import ThreadedLab

PACKAGING = TOP / "packaging"
HOOKS = PACKAGING / "codedeploy" / "hooks"


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedLab]:
    """Two hosts with agents."""
    with ThreadedLab(prefix=free_prefix(), profile=PROFILE, hosts=2, seed=8, app_arguments=APP) as lab:
        yield lab


@pytest.fixture
def fleet(running: ThreadedLab) -> ThreadedLab:
    """The same, every host in service with v1."""
    reset(running)
    return running


@pytest.fixture
def tools(running: ThreadedLab, tmp_path: Path) -> Path:
    """Commands of a host: `deploy VERSION` and systemctl restart the lab's app; `ssh HOST WORDS` runs WORDS there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    lab = running.lab
    restart = f'exec zdd-lab restart-app --prefix {lab.prefix} --host "$LAB_HOST" --version'
    sockets = "\n".join(f"  {host.name}) export ZDD_AGENT_SOCKET={host.socket} ;;" for host in lab.hosts)
    script(folder / "deploy", f'{restart} "$1" >/dev/null')
    script(folder / "systemctl", f"{restart} v2 >/dev/null")
    script(
        folder / "ssh",
        "while case $1 in -*) ;; *) false ;; esac; do case $1 in -o) shift ;; esac; shift; done\n"
        f"export LAB_HOST=$1; shift; case $LAB_HOST in\n{sockets}\n  *) exit 255 ;; esac\n"
        'exec sh -c "$*"',
    )
    return folder


def script(file: Path, body: str) -> None:
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def call(tools: Path, *words: str | Path, host: Host | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    env = environment(host)
    env |= {"PATH": f"{tools}{os.pathsep}{env['PATH']}", "LAB_HOST": host.name if host else "", **more}
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=200, check=False)


def test_the_shell_script_rolls_a_release_over_ssh_and_no_request_fails(
    fleet: ThreadedLab, tools: Path, tmp_path: Path
) -> None:
    with load(fleet.lab, tmp_path / "load.tsv") as seen:
        done = call(tools, PACKAGING / "ssh" / "rolling.sh", "deploy v2", "h1", "h2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert versions(fleet.lab) == {"h1": "v2", "h2": "v2"}
    assert seen.failed == []


def test_the_shell_script_stops_at_the_first_failure_and_begins_there_the_next_time(
    fleet: ThreadedLab, tools: Path
) -> None:
    rolling = PACKAGING / "ssh" / "rolling.sh"
    script(tools / "bad-release", "exit 23")
    assert call(tools, rolling, "bad-release", "h2", "h1").returncode == 23
    assert [posture(host) for host in fleet.lab.hosts] == ["in_service", "drained"]
    done = call(tools, rolling, "deploy v2", "h1", "h2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^== (.*)$", done.stdout, re.M) == ["h2", "h1"]
    assert versions(fleet.lab) == {"h1": "v2", "h2": "v2"}


def test_the_shell_script_lets_nobody_leave_when_a_host_does_not_answer(fleet: ThreadedLab, tools: Path) -> None:
    done = call(tools, PACKAGING / "ssh" / "rolling.sh", "deploy v2", "h1", "nowhere")
    assert done.returncode == 255
    assert "==" not in done.stdout
    assert posture(fleet.lab.hosts[0]) == "in_service"


def test_the_codedeploy_hooks_drain_and_rejoin_and_leave_no_output_open(
    fleet: ThreadedLab, tools: Path, tmp_path: Path
) -> None:
    appspec = yaml.safe_load((PACKAGING / "codedeploy" / "appspec.yml").read_text())
    assert (appspec["version"], appspec["os"]) == (0.0, "linux")
    order = ["ApplicationStop", "BeforeInstall", "ApplicationStart", "ValidateService"]
    assert list(appspec["hooks"]) == order
    host = fleet.lab.hosts[0]
    after = {"ApplicationStop": "drained", "BeforeInstall": "drained", "ValidateService": "in_service"}
    with load(fleet.lab, tmp_path / "load.tsv") as seen:
        for event in order:
            (hook,) = appspec["hooks"][event]
            assert hook["timeout"] <= 3600
            # `communicate` below ends when the last holder of the output does, as CodeDeploy's own agent waits.
            done = call(tools, PACKAGING / "codedeploy" / hook["location"], host=host, LIFECYCLE_EVENT=event)
            assert done.returncode == 0, done.stderr
            assert posture(host) == after.get(event, "drained")
    assert versions(fleet.lab) == {"h1": "v2", "h2": "v1"}
    assert seen.failed == []


def test_a_codedeploy_revision_that_fails_its_health_check_fails_its_validation_and_stays_out(
    fleet: ThreadedLab, tools: Path
) -> None:
    host = fleet.lab.hosts[0]
    assert call(tools, HOOKS / "drain.sh", host=host).returncode == 0
    set_health(host, 500)
    validated = call(tools, HOOKS / "rejoin.sh", host=host, ZDD_REJOIN_TIMEOUT="5")
    assert validated.returncode == 3, validated.stderr
    assert "does not pass its health check" in validated.stderr
    assert posture(host) == "drained"


def test_the_codedeploy_rejoin_ends_before_its_hook_is_killed_or_it_would_go_on_behind_a_failed_deployment() -> None:
    appspec = yaml.safe_load((PACKAGING / "codedeploy" / "appspec.yml").read_text())
    (hook,) = appspec["hooks"]["ValidateService"]
    given = re.search(r"--timeout \"\$\{ZDD_REJOIN_TIMEOUT:-(\d+)\}\"", (HOOKS / "rejoin.sh").read_text())
    assert given is not None
    assert int(given[1]) < hook["timeout"]


def substituted(document: dict[str, Any], given: dict[str, str]) -> str:
    """The script that Run Command would run. Raises ValueError for a value that the document does not allow."""
    values = {name: given.get(name, spec.get("default")) for name, spec in document["parameters"].items()}
    for name, value in values.items():
        if value is None or not re.fullmatch(document["parameters"][name]["allowedPattern"].strip("^$"), value):
            raise ValueError(name)
    (step,) = document["mainSteps"]
    assert step["action"] == "aws:runShellScript"
    text = "\n".join(step["inputs"]["runCommand"])
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda found: str(values[found[1]]), text)


def test_the_ssm_document_drains_deploys_and_rejoins(fleet: ThreadedLab, tools: Path) -> None:
    document = yaml.safe_load((PACKAGING / "ssm" / "zdd-deploy.yml").read_text())
    assert document["schemaVersion"] == "2.2"
    host = fleet.lab.hosts[0]
    text = substituted(document, {"Version": "v2"}).replace("/usr/local/bin/deploy", str(tools / "deploy"))
    script(tools / "document", text)
    done = call(tools, tools / "document", host=host)
    assert done.returncode == 0, done.stderr
    assert posture(host) == "in_service"
    assert versions(fleet.lab) == {"h1": "v2", "h2": "v1"}
    assert "deploy of v2" in (host.folder / "state" / "host.json").read_text()


@pytest.mark.parametrize("version", ["v2; reboot", "$(id)", "'", "v2\nid", "", "{{ Wait }}"])
def test_the_ssm_document_takes_no_version_that_a_shell_would_read(version: str) -> None:
    document = yaml.safe_load((PACKAGING / "ssm" / "zdd-deploy.yml").read_text())
    with pytest.raises(ValueError, match="Version"):
        substituted(document, {"Version": version})


def deploy_by_workflow(
    folder: Path, answers: list[str], sent: str = "id-1", listed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the workflow's step with an `aws` whose calls give these answers; `fail` is a call that fails."""
    workflow = yaml.safe_load((PACKAGING / "github-actions" / "deploy.yml").read_text())
    step = workflow["jobs"]["deploy"]["steps"][-1]
    assert "${{" not in step["run"], "an expression in the script is the caller's text in a shell"
    (folder / "answers").write_text("".join(f"{line}\n" for line in answers))
    script(
        folder / "aws",
        'case "$2 $*" in *--max-items*) answer=$LISTED ;; send-command*) echo "$@" >>sent; answer=$SENT ;;\n'
        # The next call may come as soon as this one's answer is out: so the answer is taken away before.
        "list-commands*) answer=$(head -n 1 answers); sed -i 1d answers ;; esac\n"
        '[ "$answer" != fail ] || { echo "An error occurred (ThrottlingException)" >&2; exit 254; }\n'
        'echo "$answer"',
    )
    env = {"PATH": f"{folder}:/usr/bin:/bin", "POLL_SECONDS": "0", "SENT": sent, "LISTED": listed}
    env |= {**step["env"], "VERSION": "v2"}
    # As the runner starts it: https://docs.github.com/actions/reference/workflow-syntax#jobsjob_idstepsshell
    argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (["Pending 0 2", "InProgress 1 2", "Success 2 2"], 0),
        (["InProgress 0 2", "Failed 1 2"], 1),
        (["InProgress 0 2", "Cancelling 1 2", "Cancelled 1 2"], 1),
        (["TimedOut 1 2"], 1),
        (["Success 0 0"], 1),
    ],
)
def test_the_github_workflow_waits_for_the_end_and_has_its_exit(tmp_path: Path, answers: list[str], code: int) -> None:
    done = deploy_by_workflow(tmp_path, answers)
    assert done.returncode == code, done.stdout + done.stderr
    assert (tmp_path / "answers").read_text() == "", "it asks until the rollout has ended"
    sent = (tmp_path / "sent").read_text()
    assert "--max-concurrency 1 --max-errors 0" in sent
    assert '{"Version": ["v2"]}' in sent


@pytest.mark.parametrize(("end", "code"), [("Success 2 2", 0), ("Failed 1 2", 1)])
def test_the_github_workflow_outlasts_calls_that_fail_and_sends_the_command_once(
    tmp_path: Path, end: str, code: int
) -> None:
    # `None`: for a moment after send-command, list-commands may not know the command yet.
    done = deploy_by_workflow(tmp_path, ["fail", "None", "InProgress 1 2", "fail", "fail", "fail", "fail", end])
    assert done.returncode == code, done.stdout + done.stderr
    assert (tmp_path / "answers").read_text() == ""
    assert "ThrottlingException" in done.stderr
    assert len((tmp_path / "sent").read_text().splitlines()) == 1


def test_the_github_workflow_fails_when_the_command_cannot_be_sent(tmp_path: Path) -> None:
    done = deploy_by_workflow(tmp_path, [], sent="fail")
    assert done.returncode != 0
    assert "ThrottlingException" in done.stderr


def test_the_github_workflow_sends_nothing_when_it_may_not_look(tmp_path: Path) -> None:
    done = deploy_by_workflow(tmp_path, [], listed="fail")
    assert done.returncode != 0
    assert not (tmp_path / "sent").exists()


def test_curl_is_a_whole_drain_and_a_whole_rejoin_as_documented(fleet: ThreadedLab, tmp_path: Path) -> None:
    host = fleet.lab.hosts[0]
    text = (TOP / "docs" / "deploy-tools.md").read_text()
    function = re.search(r"^zdd\(\) \{.*?^\}$", text, re.M | re.S)
    assert function is not None
    body = function[0].replace("/run/zdd-agent/agent.sock", str(host.socket))
    script(tmp_path / "zdd", f'{body}\nzdd "$@"')

    def zdd(*words: str) -> int:
        return subprocess.run([tmp_path / "zdd", *words], capture_output=True, timeout=120, check=False).returncode

    with load(fleet.lab, tmp_path / "load.tsv") as seen:
        assert zdd("drain", "1") != 0, "an answer before the end is 202, which is no success"
        assert zdd("drain") == 0
        assert posture(host) == "drained"
        assert zdd("drain") == 0
        assert zdd("rejoin") == 0
    assert posture(host) == "in_service"
    assert seen.failed == []


@pytest.mark.parametrize("file", [PACKAGING / "ssh" / "rolling.sh", *HOOKS.glob("*.sh")], ids=lambda file: file.name)
def test_the_scripts_are_executable_and_their_syntax_is_right(file: Path) -> None:
    assert os.access(file, os.X_OK)
    assert subprocess.run(["sh", "-n", file], check=False).returncode == 0
