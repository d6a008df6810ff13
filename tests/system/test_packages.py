"""The packages over their whole life on a host: installed, upgraded, removed, installed again, purged."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Host
from lab_site import Site, booted
from packages import built, install, of_debian

UNITS = "zdd-agent.socket zdd-agent.service"
RPM = "rpm --nodeps --force-debian"  # its dependencies have other names in Debian


def enabled(host: Host) -> list[str]:
    return host.sh(f"systemctl is-enabled {UNITS}", check=False).stdout.split()


def active(host: Host) -> list[str]:
    return host.sh(f"systemctl is-active {UNITS}", check=False).stdout.split()


def apt(host: Host, *words: str) -> str:
    """What apt-get says."""
    return host.sh(f"DEBIAN_FRONTEND=noninteractive apt-get -y {' '.join(words)} 2>&1").stdout


@pytest.fixture
def file(served: Site, deb: Path) -> Iterator[str]:
    """The deb on the second host, where it is installed before and after."""
    host = served.hosts[1]
    shutil.copyfile(deb, host.root / "opt" / deb.name)
    yield f"/opt/{deb.name}"
    apt(host, f"install --reinstall /opt/{deb.name}")
    host.sh(f"systemctl enable --now {UNITS}")
    host.wait("in_service")


def test_a_removal_deregisters_nothing_and_says_so_and_an_installation_afterwards_enables_and_starts_it(
    served: Site, file: str
) -> None:
    host = served.hosts[1]
    said = apt(host, "remove zdd-agent")
    assert "deregisters nothing: this host stays in its load balancer" in said
    served.wait_healthy(2)
    assert active(host) == ["inactive", "inactive"]
    assert host.sh("ls /run/zdd-agent/agent.sock /usr/lib/zdd-agent", check=False).stdout == ""
    apt(host, f"install {file}")
    assert (enabled(host), active(host)) == (["enabled"] * 2, ["active"] * 2)
    host.wait("in_service")


def test_a_host_that_is_out_stays_out_with_its_membership_over_a_removal_which_says_so(served: Site, file: str) -> None:
    host = served.hosts[1]
    host.sh("zdd-agent drain")
    assert "a host that is out of its load balancer stays out" in apt(host, "remove zdd-agent")
    apt(host, f"install {file}")
    host.wait("drained")
    host.sh("zdd-agent rejoin")


def test_what_an_administrator_has_disabled_stays_disabled_over_an_upgrade_and_a_removal(
    served: Site, file: str
) -> None:
    host = served.hosts[1]
    host.sh(f"systemctl disable --now {UNITS}")
    apt(host, f"install --reinstall {file}")
    assert (enabled(host), active(host)) == (["disabled"] * 2, ["inactive"] * 2)
    apt(host, "remove zdd-agent")
    apt(host, f"install {file}")
    assert (enabled(host), active(host)) == (["disabled"] * 2, ["inactive"] * 2)


def test_a_purge_leaves_nothing_and_an_installation_afterwards_is_a_first_one(served: Site, file: str) -> None:
    host = served.hosts[1]
    host.sh(f"systemctl disable {UNITS}; systemctl enable --now zdd-reboot.timer")
    apt(host, "purge zdd-agent")
    assert host.sh("systemctl is-active zdd-reboot.timer", check=False).stdout.strip() == "inactive"
    left = (
        "find / -xdev -name '*zdd*agent*' ! -path '/proc/*' ! -path '/opt/lab/*' ! -path '/opt/*.deb' ! -path '/etc/*'"
    )
    assert host.sh(left).stdout.split() == []
    assert host.sh("find /etc/systemd /var/lib/systemd -name '*zdd*'").stdout == ""
    apt(host, f"install {file}")
    assert (enabled(host), active(host)) == (["enabled"] * 2, ["active"] * 2)


def test_an_upgrade_keeps_a_drained_host_drained_with_its_membership(host: Host, deb: Path) -> None:
    host.sh("zdd-agent drain")
    before = host.status()
    host.install(deb)
    host.wait("drained")
    assert host.status()["targets"][0]["target_group"] == before["targets"][0]["target_group"]
    host.sh("zdd-agent rejoin")


@pytest.fixture(scope="module")
def rpm_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with the command rpm, and our rpm as /opt/zdd.rpm. It is Debian, with the Python that the rpm is for."""
    if platform.machine() != "x86_64":
        pytest.skip("NOT PROVED with the rpm: its compiled modules need an x86_64 machine to be built on")
    debs = of_debian(("rpm",), tmp_path_factory.mktemp("debs"))
    rpm = built("rpm")
    with booted(hosts=1) as site:
        (host,) = site.hosts
        install(host, debs)
        shutil.copyfile(rpm, host.root / "opt" / "zdd.rpm")
        host.sh("systemctl enable --now app.service")
        site.wait_healthy(1)
        yield host


def test_the_rpm_is_installed_upgraded_erased_and_installed_again(rpm_host: Host) -> None:
    host = rpm_host
    compiled = "find /usr/lib/zdd-agent -name '*.pyc' | wc -l"
    modules = int(host.sh("rpm -qpl /opt/zdd.rpm | grep -c '\\.py$'").stdout)
    for _ in range(2):
        assert "not found" not in host.sh(f"{RPM} -i /opt/zdd.rpm 2>&1").stdout
        assert (enabled(host), active(host)) == (["enabled"] * 2, ["active"] * 2)
        host.wait("in_service")
        assert int(host.sh(compiled).stdout) == modules, "else every start compiles everything again"
        before = host.sh("systemctl show -P MainPID zdd-agent.service").stdout
        host.sh(f"{RPM} -U --replacepkgs /opt/zdd.rpm")
        host.wait("in_service")
        assert host.sh("systemctl show -P MainPID zdd-agent.service").stdout != before
        assert int(host.sh(compiled).stdout) == modules
        host.sh("systemctl enable zdd-reboot.timer")
        said = host.sh(f"{RPM} -e zdd-agent 2>&1").stdout
        assert "deregisters nothing: this host stays in its load balancer" in said
        assert active(host) == ["inactive", "inactive"]
        assert host.sh("ls -d /usr/lib/zdd-agent; find /etc/systemd -name '*zdd*'", check=False).stdout == ""
