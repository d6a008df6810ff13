"""What systemctl does to an app under load, on hosts with the installed deb."""

from __future__ import annotations

import time

import pytest
from hosts import Host
from lab_site import Site


def test_a_plain_restart_without_the_unit_loses_requests_so_that_a_zero_below_means_something(served: Site) -> None:
    with served.load() as result:
        served.hosts[0].sh("systemctl restart app.service")
        time.sleep(2)
    served.wait_healthy(2)
    assert result["failed"] > 0


def test_with_zdd_member_enabled_a_restart_of_the_app_drains_and_rejoins_and_loses_nothing(served: Site) -> None:
    for host in served.hosts:
        host.sh("systemctl enable --now zdd-member@app.service")
    with served.load() as result:
        for host in served.hosts:
            before = host.sh("systemctl show -P MainPID app.service").stdout
            host.sh("systemctl restart app.service")
            host.wait("in_service")
            assert host.sh("systemctl show -P MainPID app.service").stdout != before
    assert result["failed"] == 0, result
    assert result["requests"] > 500


def test_zdd_deploy_drains_restarts_rejoins_and_loses_nothing(served: Site) -> None:
    with served.load() as result:
        for host in served.hosts:
            before = host.sh("systemctl show -P MainPID app.service").stdout
            host.sh("systemctl start zdd-deploy@app.service")
            assert host.status()["posture"] == "in_service"
            assert host.sh("systemctl show -P MainPID app.service").stdout != before
    assert result["failed"] == 0, result


def test_a_deploy_whose_drain_is_refused_leaves_the_app_alone(served: Site) -> None:
    first, second = served.hosts
    second.sh("zdd-agent drain")
    before = first.sh("systemctl show -P MainPID app.service").stdout
    done = first.sh("systemctl start zdd-deploy@app.service", check=False)
    assert done.returncode != 0
    assert first.sh("systemctl show -P MainPID app.service").stdout == before
    assert first.status()["posture"] == "in_service"


def test_a_command_called_from_a_unit_extends_that_units_time_out_while_it_waits(host: Host) -> None:
    host.write(
        "/etc/systemd/system/zdd-member@app.service.d/short.conf",
        "[Service]\nTimeoutStopSec=2s\nTimeoutStartSec=2s\n",
    )
    host.sh("systemctl daemon-reload; systemctl enable --now zdd-member@app.service")
    began = time.monotonic()
    host.sh("systemctl stop zdd-member@app.service")
    took = time.monotonic() - began
    result = host.sh("systemctl show -P Result zdd-member@app.service").stdout.strip()
    host.sh("rm -r /etc/systemd/system/zdd-member@app.service.d; systemctl daemon-reload")
    assert took > 3, "the drain has to last longer than the time-out for this to mean anything"
    assert result == "success"


@pytest.mark.parametrize("event", ["drain", "rejoin"])
def test_journal_entries_carry_fields_of_their_own(host: Host, event: str) -> None:
    host.sh("zdd-agent drain && zdd-agent rejoin")
    said = host.sh(f"journalctl -u zdd-agent ZDD_VERB={event} ZDD_OUTCOME=succeeded -o verbose -n 1 --no-pager").stdout
    for field in ("MESSAGE_ID=", "ZDD_OPERATION=", "ZDD_TARGET_GROUP=arn:", "ZDD_CALLER_UID=0", "ZDD_PHASE="):
        assert field in said, said
