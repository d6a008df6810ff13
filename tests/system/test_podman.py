"""Real rootful podman, with a bridge and a published port. It never runs in the machine's own network namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packages import image

NEEDED = ("podman", "crun", "conmon", "iptables", "unshare", "setpriv")


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in NEEDED), reason=f"apt-get install podman, and what it needs: {NEEDED}"
)
def test_a_container_of_podman_and_the_one_in_its_place_are_seen_with_the_outside_s_connections() -> None:
    """v1, then v2: the host's own sockets show neither; a removed container ends its connections."""
    words = [
        "unshare",
        "--net",
        "--mount",
        sys.executable,
        str(Path(__file__).with_name("podman_site.py")),
        str(image()),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["v1", [8080], 0, [8080], 0],
        ["v2", [8080], 0, [8080], 0],
    ]
