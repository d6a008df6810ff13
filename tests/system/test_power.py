"""Power-off and reboot of an app's host under load, with zdd-member@ enabled."""

from __future__ import annotations

from hosts import Host
from lab_site import Site


def _order(host: Host, *words: str) -> list[float]:
    """When each of these was said last in the journal, in seconds since the boot."""
    lines = host.sh("journalctl --no-pager -o short-monotonic").stdout.splitlines()
    return [float(next(li for li in reversed(lines) if w in li).split("]")[0].strip("[ ")) for w in words]


def test_a_power_off_drains_before_the_app_stops_and_a_boot_rejoins_by_itself_and_neither_loses_a_request(
    served: Site,
) -> None:
    host = served.hosts[0]
    host.sh("systemctl enable --now zdd-member@app.service")
    with served.load() as result:
        host.sh("systemctl poweroff", check=False)
        assert host.off() == 0
        assert all(t["state"] != "healthy" or t["id"] != _id(served, host) for t in served.state()["targets"])
        host.boot()
        host.wait("in_service")
    served.wait_healthy(2)
    assert result["failed"] == 0, result


def test_a_reboot_rejoins_once_the_app_passes_the_probe(served: Site) -> None:
    host = served.hosts[0]
    host.sh("systemctl enable --now zdd-member@app.service")
    with served.load() as result:
        host.sh("systemctl reboot", check=False)
        assert host.off() == 133
        host.boot()
        host.wait("in_service")
    started, registering = _order(host, "Started app.service", ": registering")
    assert registering - started > 1.0, "the app answers 1 s after its start: it was registered before that"
    assert result["failed"] == 0, result


def test_at_power_off_the_agent_outlives_the_membership_and_the_membership_the_app(served: Site) -> None:
    host = served.hosts[0]
    host.sh("systemctl enable --now zdd-member@app.service")
    after = {
        unit: host.sh(f"systemctl show -P After {unit}").stdout.split()
        for unit in ("zdd-member@app.service", "zdd-agent-callers.target")
    }
    assert {"app.service", "zdd-agent-callers.target"} <= set(after["zdd-member@app.service"])
    assert "zdd-agent.service" in after["zdd-agent-callers.target"]
    assert host.sh("systemctl is-active zdd-agent-callers.target").stdout.strip() == "active", "else it orders nothing"
    host.sh("systemctl restart app.service")
    drained, stopped = _order(host, "succeeded: drained", "Stopped app.service")
    assert drained <= stopped


def _id(site: Site, host: Host) -> str:
    return next(h["instance_id"] for h in site.state()["hosts"] if h["name"] == host.name)
