"""The hosts of these tests: two of them, with the installed deb. Without them the tests are skipped, with a reason."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from hosts import Host  # noqa: E402  beside this file
from lab_site import Site, booted  # noqa: E402  likewise
from packages import built  # noqa: E402  likewise


def _missing() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    absent = [name for name in ("systemd-nspawn", "debootstrap", "nsenter", "ip") if shutil.which(name) is None]
    return f"needs {', '.join(absent)}: `make test-system` installs them" if absent else ""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path.name.startswith("test_") and _missing() else None


def pytest_report_header() -> str | None:
    return f"left out: tests/system ({why})" if (why := _missing()) else None


@pytest.fixture(scope="session")
def deb() -> Path:
    """The package under test: $ZDD_DEB, or built from this tree."""
    return Path(given) if (given := os.environ.get("ZDD_DEB")) else built("deb")


@pytest.fixture(scope="module")
def site(deb: Path) -> Iterator[Site]:
    """Two hosts that serve behind the lab's load balancer, each with the deb installed and the app enabled."""
    with booted(hosts=2) as made:
        for host in made.hosts:
            host.install(deb)
            host.sh("systemctl enable --now app.service")
        made.wait_healthy(2)
        yield made


@pytest.fixture
def served(site: Site) -> Iterator[Site]:
    """The same, both hosts in service before and after."""
    for host in site.hosts:
        assert host.status()["posture"] == "in_service", host.status()
    yield site
    for host in site.hosts:
        host.sh("systemctl disable --now zdd-member@app.service", check=False)
        host.sh("systemctl reset-failed; systemctl start zdd-agent.socket zdd-agent.service app.service", check=False)
        host.sh("zdd-agent rejoin --timeout 60", check=False)
    site.wait_healthy(2)


@pytest.fixture
def host(served: Site) -> Host:
    """The first of them."""
    return served.hosts[0]
