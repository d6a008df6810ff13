"""The examples of docs/operations.md, "Reboots and patching": their files are read as their readers read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from rollout import TOP

DOCUMENT = TOP / "packaging" / "ssm" / "zdd-reboot.yml"
APT = TOP / "packaging" / "unattended-upgrades" / "52zdd-agent"
OPERATIONS = (TOP / "docs" / "operations.md").read_text()


def test_patch_managers_last_hook_hands_the_reboot_over_to_systemd(tmp_path: Path) -> None:
    document = yaml.safe_load(DOCUMENT.read_text())
    assert document["schemaVersion"] == "2.2"
    assert "parameters" not in document, "Patch Manager passes none to a hook"
    (step,) = document["mainSteps"]
    assert step["action"] == "aws:runShellScript"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/called\nexit 5\n')
    systemctl.chmod(0o755)
    script = "\n".join(step["inputs"]["runCommand"])
    done = subprocess.run(["/bin/sh", "-c", script], env={"PATH": str(tmp_path)}, check=False)
    assert (tmp_path / "called").read_text() == "start --no-block zdd-reboot.service\n"
    assert done.returncode == 5, "a host without the unit is reported"


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="needs apt-config: run it on Debian or Ubuntu")
def test_unattended_upgrades_never_reboots_whatever_its_own_file_says(tmp_path: Path) -> None:
    parts = tmp_path / "apt.conf.d"
    parts.mkdir()
    (parts / "50unattended-upgrades").write_text('Unattended-Upgrade::Automatic-Reboot "true";\n')
    shutil.copy(APT, parts)
    main = tmp_path / "apt.conf"
    main.write_text(f'Dir::Etc::Parts "{parts}";\nDir::Etc::Main "/dev/null";\n')
    argv = ["apt-config", "dump", "Unattended-Upgrade::Automatic-Reboot"]
    done = subprocess.run(argv, env={"APT_CONFIG": str(main)}, capture_output=True, text=True, check=True)
    assert done.stdout == 'Unattended-Upgrade::Automatic-Reboot "false";\n'
    assert done.stderr == ""


def test_the_documented_calls_name_the_files_and_the_hook_that_are_there() -> None:
    sent = re.search(r"--document-name AWS-RunPatchBaselineWithHooks.*\n.*--parameters (\S+)", OPERATIONS)
    assert sent is not None
    given = dict(word.split("=") for word in sent[1].split(","))
    # The parameters of https://docs.aws.amazon.com/systems-manager/latest/userguide/patch-manager-aws-runpatchbaselinewithhooks.html
    assert given == {"Operation": "Install", "RebootOption": "NoReboot", "OnExitHookDocName": DOCUMENT.stem}
    assert f"{APT.parent.name}/{APT.name}" in OPERATIONS
