"""Terraform on a copy of terraform/, with the provider of a local mirror and the lab for an AWS."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from zdd_lab.processes import children

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP / "scripts"))

from story import find_mirror  # noqa: E402  a script, no package: found by the line above

MODULE = TOP / "terraform"
_NOBODY = "http://127.0.0.1:9"  # no call is meant to get anywhere
_SECONDS = 300.0  # a load balancer alone takes 60 s: the provider looks only every 30


TERRAFORM, MIRROR = shutil.which("terraform"), find_mirror()
needs_terraform = pytest.mark.skipif(
    TERRAFORM is None or MIRROR is None,
    reason="NOT PROVED: no terraform, or no provider hashicorp/aws. To run: put terraform on PATH, then "
    "TF_PLUGIN_DIR=<folder with registry.terraform.io/hashicorp/aws below it> make test ARGS=tests/terraform",
)


class Workspace:
    """One root module in a copy of its own: nothing is written into the repository.

    Args:
        folder: where the copy goes.
        root: the root module within terraform/.
        settings: the lab's variables for a person; without them every call to AWS fails.
        main: a root module of the test's own, which is made there.
    """

    def __init__(
        self, folder: Path, root: str = ".", settings: Mapping[str, str] | None = None, main: str | None = None
    ) -> None:
        shutil.copytree(MODULE, folder, ignore=shutil.ignore_patterns(".terraform*", "terraform.tfstate*"))
        self._root = folder / root
        if main is not None:
            self._root.mkdir(parents=True)
            (self._root / "main.tf").write_text(main)
        bare = {name: text for name, text in children.bare_environment().items() if not name.startswith("TF_")}
        aws = settings or {"AWS_ENDPOINT_URL": _NOBODY, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        ours = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "TF_CLI_CONFIG_FILE": os.devnull}
        self._env = {**bare, **ours, **aws}
        self.run("init", "-backend=false", f"-plugin-dir={MIRROR}")

    def run(self, *argv: str, accept: tuple[int, ...] = (0,), stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run terraform. Raises AssertionError with what it said, when it ends otherwise than accepted."""
        command, *rest = argv
        colourless = [] if command == "console" else ["-no-color"]
        done = subprocess.run(
            [str(TERRAFORM), command, *colourless, *rest],
            cwd=self._root, env=self._env, input=stdin, capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode in accept, f"terraform {command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def outputs(self) -> dict[str, Any]:
        return {name: one["value"] for name, one in json.loads(self.run("output", "-json").stdout).items()}

    def value(self, expression: str, variables: Mapping[str, Any]) -> Any:
        """An expression of the root module, with these variables."""
        file = self._root / "these.tfvars.json"
        file.write_text(json.dumps(variables))
        said = self.run("console", f"-var-file={file}", stdin=f"base64encode(jsonencode({expression}))\n").stdout
        return json.loads(base64.b64decode(said.strip().strip('"')))
