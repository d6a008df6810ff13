"""checkov finds nothing in terraform/ that is not explained where it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from terraform.workspace import MODULE

CHECKOV = shutil.which("checkov", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@pytest.mark.skipif(
    CHECKOV is None,
    reason="NOT PROVED: no checkov. To run: uv tool install checkov (290 MB), make test ARGS=tests/terraform",
)
def test_checkov_has_no_failed_check(tmp_path: Path) -> None:
    argv = [str(CHECKOV), "--directory", str(MODULE), "--framework", "terraform", "--skip-download", "--output", "json"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LOG_LEVEL": "ERROR"}  # reads no settings of a person
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    found = json.loads(done.stdout)

    assert [(one["check_id"], one["resource"]) for one in found["results"]["failed_checks"]] == []
    assert found["summary"]["passed"] > 50
    assert found["summary"]["parsing_errors"] == 0


def test_every_check_that_is_skipped_has_its_reason() -> None:
    for file in MODULE.rglob("*.tf"):
        for line in file.read_text().splitlines():
            if "checkov:" in line:
                assert re.fullmatch(r"  # checkov:skip=CKV2?_AWS_\d+:\S.{15,}", line), f"{file}: {line}"
