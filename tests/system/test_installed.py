"""Modes, owners, exposure, and what the service costs: of what is installed, not of what lies in the tree."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hosts import Host

MEMORY_LIMIT_MIB = 40
CPU_LIMIT_PERCENT = 0.1


def test_the_exposure_score_is_at_most_1_2(host: Host) -> None:
    done = host.sh("systemd-analyze security --no-pager --threshold=12 zdd-agent.service", check=False)
    assert done.returncode == 0, done.stdout[-200:]


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/run/zdd-agent/agent.sock", "660 root zdd-agent"),
        ("/var/lib/zdd-agent", "700 zdd-agent zdd-agent"),
        ("/etc/zdd-agent/config.toml", "644 root root"),
        ("/usr/bin/zdd-agent", "755 root root"),
        ("/usr/lib/zdd-agent", "755 root root"),
    ],
)
def test_modes_and_owners(host: Host, path: str, mode: str) -> None:
    assert host.sh(f"stat -c '%a %U %G' {path}").stdout.strip() == mode


def test_nothing_that_is_installed_can_be_written_by_others(host: Host) -> None:
    found = host.sh("dpkg -L zdd-agent | xargs -d '\\n' -I{} find {} -maxdepth 0 -perm /022 ! -type l").stdout
    assert found == ""


def test_the_kernel_refuses_a_stranger_and_a_member_of_the_group_is_served(host: Host) -> None:
    host.sh("id stranger || useradd stranger; id member || useradd -G zdd-agent member")
    refused = host.sh("setpriv --reuid=stranger --regid=stranger --init-groups zdd-agent status", check=False)
    assert refused.returncode == 8
    assert "may not use" in refused.stderr
    assert host.sh("setpriv --reuid=member --regid=member --init-groups zdd-agent drain --dry-run").returncode == 0


def test_the_service_sees_no_file_of_anybody_elses_and_no_other_socket(host: Host) -> None:
    pid = host.sh("systemctl show -P MainPID zdd-agent.service").stdout.strip()
    seen = host.sh(f"cd /proc/{pid}/root && ls . run var/lib").stdout.split()
    assert not {"home", "srv", "boot", "opt", "dbus", "dpkg"} & set(seen), seen


def test_the_agent_knows_which_boot_this_is_though_its_proc_hides_it(host: Host) -> None:
    pid = host.sh("systemctl show -P MainPID zdd-agent.service").stdout.strip()
    assert host.sh(f"cd /proc/{pid}/root && ! ls proc/sys").returncode == 0
    boot = host.sh("cat /proc/sys/kernel/random/boot_id").stdout.strip().replace("-", "")
    assert f"ZDD_AGENT_BOOT_ID={boot}" in host.sh(f"tr '\\0' '\\n' < /proc/{pid}/environ").stdout.splitlines()


def test_the_private_tree_is_what_is_imported_and_never_the_distributions(host: Host) -> None:
    host.sh(
        "mkdir -p /usr/lib/python3/dist-packages/boto3 && echo 1/0 > /usr/lib/python3/dist-packages/boto3/__init__.py"
    )
    try:
        host.sh("systemctl restart zdd-agent && zdd-agent drain --dry-run")
    finally:
        host.sh("rm -r /usr/lib/python3/dist-packages/boto3")


def test_at_rest_it_takes_little_memory_and_less_than_a_thousandth_of_a_core(
    host: Host, record_property: pytest.RecordProperty
) -> None:
    host.sh("systemctl restart zdd-agent")
    time.sleep(5)
    pid = Path("/proc") / host.sh("systemctl show -P MainPID zdd-agent.service").stdout.strip()
    script = f"grep ^Pss: {pid}/smaps_rollup; cut -d' ' -f14,15 {pid}/stat"
    _, pss, _, *before = host.sh(script).stdout.split()
    time.sleep(60)
    after = host.sh(script).stdout.split()[3:]
    ticks = sum(map(int, after)) - sum(map(int, before))
    percent = ticks / 100 / 60 * 100
    record_property("pss_mib", int(pss) / 1024)
    record_property("cpu_percent", percent)
    print(f"at rest: {int(pss) / 1024:.1f} MiB, {percent:.3f} % of a core")
    assert int(pss) / 1024 < MEMORY_LIMIT_MIB
    assert percent < CPU_LIMIT_PERCENT
