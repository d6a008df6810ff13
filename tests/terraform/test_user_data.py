"""The user data of the Terraform module, run on a host that only seems to be one: it says what it would do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from terraform.workspace import Workspace, needs_terraform
from zdd_lab.processes import children

pytestmark = needs_terraform
GROUP = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef"
PACKAGE = b"a package"
SHA256 = hashlib.sha256(PACKAGE).hexdigest()
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n'
AMAZON = 'NAME="Amazon Linux"\nID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\n'
ALPINE = "ID=alpine\n"
SYSTEMS = ("Debian", "Ubuntu", "Amazon Linux")
UNITS = ["systemctl enable --now zdd-agent.socket zdd-agent.service", "systemctl enable zdd-member@app.service"]
START = "systemctl start --no-block zdd-member@app.service"
# Each command tells its words, but for questions; curl brings the package as well.
FAKE = """#!/bin/sh
case $1 in
is-active) [ "$STATE" = active ]; exit ;;
show) echo "$JOB"; exit ;;
esac
echo "$(basename "$0") $*" >> "$SAID"
while [ $# -gt 1 ]; do
    if [ "$1" = --output ]; then printf 'a package' > "$2"; fi
    shift
done
"""


@dataclass
class Host:
    """A folder for a root, and commands that only tell."""

    root: Path
    said: list[str] = field(default_factory=list)

    def boot(
        self, script: str, release: str, *, state: str = "inactive", job: str = ""
    ) -> subprocess.CompletedProcess[str]:
        bin_, said = self.root / "bin", self.root / "said"
        bin_.mkdir()
        (self.root / "etc").mkdir()
        (self.root / "etc/os-release").write_text(release)
        for name in ("apt-get", "dnf", "systemctl", "curl"):
            (bin_ / name).write_text(FAKE)
            (bin_ / name).chmod(0o755)
        env = {"PATH": f"{bin_}:/usr/bin:/bin", "SAID": str(said), "TMPDIR": str(self.root), "STATE": state, "JOB": job}
        here = script.replace("/etc/", f"{self.root}/etc/")
        done = subprocess.run(["bash", "-c", here], env=env, capture_output=True, text=True, timeout=30, check=False)
        self.said = said.read_text().splitlines() if said.exists() else []
        return done

    @property
    def installed(self) -> str:
        """The last word of the installation."""
        (line,) = [one for one in self.said if " install " in one]
        return line.split()[-1]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("module") / "terraform")


@pytest.fixture(scope="module")
def rendered(module: Workspace) -> dict[str, str]:
    """The scripts of this file's tests, by the package."""

    def script(**variables: Any) -> str:
        text: str = module.value("local.user_data", {"target_group_arns": [GROUP], "app_units": ["app"], **variables})
        return text

    return {
        "name": script(settings='[drain]\nuntil = "idle"\n', min_healthy="50%"),
        "url": script(package="https://example.com/p?a=1&b=2", package_sha256=SHA256),
        "file": script(package="/opt/zdd-agent.rpm"),
    }


@pytest.mark.parametrize(
    ("release", "manager"), [(DEBIAN, "apt-get"), (UBUNTU, "apt-get"), (AMAZON, "dnf")], ids=SYSTEMS
)
def test_a_package_of_a_repository_is_installed_and_the_units_are_enabled(
    rendered: dict[str, str], tmp_path: Path, release: str, manager: str
) -> None:
    host = Host(tmp_path)

    done = host.boot(rendered["name"], release)

    assert (done.returncode, done.stderr) == (0, "")
    assert {one.split()[0] for one in host.said} == {manager, "systemctl"}
    assert host.installed == "zdd-agent"
    assert host.said[-2:] == UNITS


@pytest.mark.parametrize(
    ("state", "job", "started"),
    [("active", "", True), ("inactive", "7", True), ("activating", "7", True), ("inactive", "", False)],
    ids=["runs", "is about to start", "starts", "does not run yet"],
)
def test_the_membership_starts_at_once_when_a_start_of_the_app_will_not_bring_it_along(
    rendered: dict[str, str], tmp_path: Path, state: str, job: str, *, started: bool
) -> None:
    host = Host(tmp_path)

    done = host.boot(rendered["name"], AMAZON, state=state, job=job)

    assert (done.returncode, done.stderr) == (0, "")
    assert host.said[1:] == ([*UNITS, START] if started else UNITS)


@pytest.mark.parametrize(("release", "suffix"), [(DEBIAN, ".deb"), (UBUNTU, ".deb"), (AMAZON, ".rpm")], ids=SYSTEMS)
def test_a_package_from_a_url_is_installed_when_its_checksum_is_right(
    rendered: dict[str, str], tmp_path: Path, release: str, suffix: str
) -> None:
    host = Host(tmp_path)

    done = host.boot(rendered["url"], release)

    assert (done.returncode, done.stderr) == (0, "")
    assert host.said[0].endswith(" https://example.com/p?a=1&b=2")
    assert host.installed.endswith(f"/zdd-agent{suffix}")
    assert not Path(host.installed).exists(), "what was fetched is left behind"


def test_a_package_with_another_checksum_is_not_installed(rendered: dict[str, str], tmp_path: Path) -> None:
    host = Host(tmp_path)

    done = host.boot(rendered["url"].replace(SHA256, "0" * 64), DEBIAN)

    assert done.returncode != 0
    assert [one.split()[0] for one in host.said] == ["curl"]


def test_a_package_in_the_image_is_installed_from_there(rendered: dict[str, str], tmp_path: Path) -> None:
    host = Host(tmp_path)

    host.boot(rendered["file"], AMAZON)

    assert host.installed == "/opt/zdd-agent.rpm"


def test_another_distribution_is_refused_before_anything_is_installed(rendered: dict[str, str], tmp_path: Path) -> None:
    host = Host(tmp_path)

    done = host.boot(rendered["name"], ALPINE)

    assert done.returncode == 1
    assert "cannot install on alpine" in done.stderr
    assert host.said == []


def test_the_agent_takes_the_settings_that_were_written(rendered: dict[str, str], tmp_path: Path) -> None:
    Host(tmp_path).boot(rendered["name"], DEBIAN)
    file = tmp_path / "etc/zdd-agent/config.toml"

    env = children.bare_environment() | {"ZDD_AGENT_CONFIG": str(file), "ZDD_AGENT_STATE_DIRECTORY": str(tmp_path)}
    argv = [sys.executable, "-m", "zdd_agent", "check-config"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 0, done.stderr
    assert GROUP in done.stdout
    assert "50%" in done.stdout
    assert "idle" in done.stdout
    assert oct(file.stat().st_mode & 0o777) == "0o644", "the agent's user cannot read it"


def test_the_document_of_run_command_runs_the_command_between_drain_and_rejoin(
    module: Workspace, tmp_path: Path
) -> None:
    command = "printf '%s' \"it's $VERSION\" > out"
    document = module.value(
        "jsondecode(local.document_json)", {"target_group_arns": [GROUP], "deploy_command": command}
    )
    script = "\n".join(document["mainSteps"][0]["inputs"]["runCommand"])
    agent = tmp_path / "zdd-agent"
    agent.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do printf "%s|" "$1" >> agent; shift; done\nshift\nexec "$@"\n')
    agent.chmod(0o755)

    given = script.replace("{{ Version }}", "2.0").replace("{{ Wait }}", "60")
    env = {"PATH": f"{tmp_path}:{os.defpath}"}
    subprocess.run(["sh", "-c", given], cwd=tmp_path, env=env, timeout=30, check=True)

    assert (tmp_path / "agent").read_text() == "run|--reason|deploy of 2.0|--wait|60|"
    assert (tmp_path / "out").read_text() == "it's 2.0"
