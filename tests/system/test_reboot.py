"""`zdd-agent reboot` and its maintenance window: a host that reboots comes back in service by itself, under load."""

from __future__ import annotations

import time

import pytest
import yaml
from hosts import TOP, Host
from lab_site import Site

UNIT = "/etc/systemd/system/zdd-reboot.service"
HOOKS = "/etc/systemd/system/app.service.d"


def boot_id(host: Host) -> str:
    return host.sh("cat /proc/sys/kernel/random/boot_id").stdout.strip()


def comes_back(host: Host) -> None:
    """It goes down to be booted again, boots, and is in service without another word."""
    assert host.off() == 133, "it has to ask for a reboot"
    host.boot()
    host.wait("in_service")


def with_the_unit(host: Host) -> None:
    host.sh("systemctl enable --now zdd-member@app.service")


def with_the_hooks_of_its_own_unit(host: Host) -> None:
    host.write(f"{HOOKS}/zdd-agent.conf", (TOP / "systemd" / "hooks.conf").read_text())
    host.sh("systemctl daemon-reload")


def with_neither(_: Host) -> None:
    pass


@pytest.mark.parametrize("member", [with_the_unit, with_the_hooks_of_its_own_unit, with_neither])
def test_a_host_that_reboots_comes_back_by_itself_and_loses_no_request(served: Site, member: object) -> None:
    host = served.hosts[0]
    assert callable(member)
    member(host)
    try:
        with served.load() as result:
            done = host.sh("zdd-agent reboot --reason kernel", check=False)
            assert "drained" in done.stdout, done.stderr
            comes_back(host)
        served.wait_healthy(2)
        assert result["failed"] == 0, result
        assert host.status()["warnings"] == []
    finally:
        host.sh(f"rm -rf {HOOKS}; systemctl daemon-reload")


def test_the_last_hook_of_patch_manager_reboots_the_host_which_comes_back(served: Site) -> None:
    host = served.hosts[0]
    (step,) = yaml.safe_load((TOP / "packaging" / "ssm" / "zdd-reboot.yml").read_text())["mainSteps"]
    host.sh("touch /run/reboot-required")
    with served.load() as result:
        host.sh("\n".join(step["inputs"]["runCommand"]))
        comes_back(host)
    assert result["failed"] == 0, result


def test_a_refused_drain_stops_the_reboot(served: Site) -> None:
    host, other = served.hosts
    before = boot_id(host)
    other.sh("zdd-agent drain")
    done = host.sh("zdd-agent reboot", check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert "no reboot follows" in done.stderr
    host.sh("touch /run/reboot-required")
    host.write(f"{UNIT}.d/wait.conf", '[Service]\nEnvironment="ZDD_REBOOT=--wait 2"\n')
    host.sh("systemctl daemon-reload")
    assert host.sh("systemctl start zdd-reboot.service", check=False).returncode != 0
    assert "no reboot follows" in host.journal("-u zdd-reboot.service")
    host.sh(f"rm -r /run/reboot-required {UNIT}.d; systemctl daemon-reload")
    assert (boot_id(host), host.status()["posture"]) == (before, "in_service")


def test_a_host_that_others_work_on_is_not_rebooted(host: Host) -> None:
    host.sh("zdd-agent drain")
    assert host.sh("zdd-agent reboot", check=False).returncode == 7
    host.sh("zdd-agent rejoin")


def test_a_reboot_that_systemd_refuses_puts_the_host_back(host: Host) -> None:
    host.sh("systemctl mask --runtime reboot.target")
    done = host.sh("zdd-agent reboot", check=False)
    host.sh("systemctl unmask --runtime reboot.target")
    assert done.returncode == 1
    assert "cannot reboot: systemctl reboot ended with 1" in done.stderr
    host.wait("in_service")


def test_a_user_who_may_operate_the_agent_and_is_not_root_drains_nothing(host: Host) -> None:
    host.sh("id member || useradd -G zdd-agent member")
    done = host.sh("setpriv --reuid=member --regid=member --init-groups zdd-agent reboot", check=False)
    assert done.returncode == 8
    assert "sudo" in done.stderr
    assert host.status()["posture"] == "in_service"


def test_in_the_maintenance_window_a_host_reboots_once_and_only_where_updates_require_it(served: Site) -> None:
    host = served.hosts[0]
    units = "zdd-reboot.timer zdd-reboot.service"
    assert host.sh(f"systemd-analyze verify --man=no {units} 2>&1", check=False).stdout == ""
    assert host.sh(f"systemctl is-enabled {units}", check=False).stdout.split() == ["disabled", "static"]
    before = boot_id(host)
    # The window is now, for the test; the timer starts the service, and nobody else does.
    window = "[Timer]\nOnCalendar=\nOnCalendar=*-*-* *:*:*\nRandomizedDelaySec=0\nAccuracySec=100ms\n"
    host.write("/etc/systemd/system/zdd-reboot.timer.d/now.conf", window)
    host.sh("systemctl daemon-reload; systemctl start zdd-reboot.timer")
    until = time.monotonic() + 30
    while "no reboot is required" not in host.journal("-u zdd-reboot.service"):
        assert time.monotonic() < until, host.journal()
        time.sleep(0.2)
    assert (boot_id(host), host.status()["posture"]) == (before, "in_service")
    with served.load() as result:
        host.sh("touch /run/reboot-required")
        comes_back(host)
    assert result["failed"] == 0, result
    assert host.sh("ls /run/reboot-required", check=False).returncode != 0
    assert host.sh("systemctl start zdd-reboot.service").returncode == 0
    assert host.status()["posture"] == "in_service"
    host.sh("rm -r /etc/systemd/system/zdd-reboot.timer.d; systemctl daemon-reload")
