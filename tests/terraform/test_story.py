"""`make story`, as a person runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.conftest import free_prefix
from terraform.workspace import needs_terraform
from zdd_lab.processes.children import bare_environment


def story(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).resolve().parents[2] / "scripts" / "story.py"
    argv = [sys.executable, str(script), "--prefix", free_prefix(), "--out", str(folder)]
    return subprocess.run(
        argv, env=bare_environment() | env, cwd=folder.parent, capture_output=True, text=True, timeout=400, check=False
    )


@needs_terraform
@pytest.mark.skipif(
    shutil.which("ansible-playbook", path=str(Path(sys.executable).parent)) is None,
    reason="NOT PROVED: no Ansible. To run: make setup",
)
def test_terraform_makes_the_hosts_ansible_rolls_the_release_and_no_request_fails(tmp_path: Path) -> None:
    folder = tmp_path / "story"
    done = story(folder, PATH=os.environ["PATH"])
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((folder / "report.json").read_text())
    assert report["failed"] == 0
    assert report["requests"] > 500
    assert report["versions_seen"] == ["v1", "v2"]
    transcript = (folder / "transcript.txt").read_text()
    for seen in ("h1 v1", "h2 v1", "h1 v2", "h2 v2", "Apply complete!", "Destroy complete!"):
        assert seen in transcript
    assert "FAILED" not in transcript
    assert (folder / "timeline.svg").read_text().startswith("<svg")


def test_it_names_what_is_missing(tmp_path: Path) -> None:
    done = story(tmp_path / "story", PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "cannot tell the story: terraform is not on the PATH\n"
