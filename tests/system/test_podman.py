"""Real rootful podman, with a bridge and a published port. It never runs in the machine's own network namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packages import image

NEEDED = ("podman", "crun", "conmon", "iptables", "unshare", "setpriv")


pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in NEEDED), reason=f"apt-get install podman, and what it needs: {NEEDED}"
)


def ran(script: str, seconds: float) -> list[Any]:
    """What a script printed that has podman's machine to itself: a value of JSON a line."""
    namespaces = ["unshare", "--net", "--mount"]
    words = [*namespaces, sys.executable, str(Path(__file__).with_name(script)), str(image())]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_container_of_podman_and_the_one_in_its_place_are_seen_with_the_outside_s_connections() -> None:
    """v1, then v2: the host's own sockets show neither; a removed container ends its connections."""
    assert ran("podman_site.py", 150) == [["v1", [8080], 0, [8080], 0], ["v2", [8080], 0, [8080], 0]]


def test_releases_of_a_podman_container_roll_under_load_long_before_the_api_says_unused_and_no_request_fails() -> None:
    """Beside a drain without the opener, which takes the whole deregistration delay."""
    (seen,) = ran("podman_deploys.py", 240)
    assert seen["at"] == ["v2", "v3"]
    assert min(seen["ahead"]) > 20, "seconds of 30"
    assert seen["blind"] > 29.95
    assert seen["requests"] > 1000
    assert seen["failed"] == []
