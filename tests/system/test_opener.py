"""The opener as it is installed: not enabled, and with the privileges of its unit enough for its one purpose."""

from __future__ import annotations

from hosts import Host

ASK = (
    'python3 -c "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); '
    "s.connect('/run/zdd-agent/netns.sock'); s.send(b'host'); print(socket.recv_fds(s, 4096, 8)[0])\""
)


def test_it_is_not_enabled_and_does_not_run_until_somebody_wants_it(host: Host) -> None:
    assert host.sh("systemctl is-enabled zdd-netns.socket", check=False).stdout.strip() == "disabled"
    assert host.sh("systemctl is-active zdd-netns.socket zdd-netns.service", check=False).stdout.split() == [
        "inactive",
        "inactive",
    ]


def test_the_agent_finds_a_unit_in_a_namespace_of_its_own_and_nobody_else_may_ask(host: Host) -> None:
    host.sh("systemd-run --unit=web -p PrivateNetwork=yes sleep 600")
    host.write("/etc/zdd-agent/conf.d/50-container.toml", '[container]\nunit = "web.service"\nport = 8080\n')
    try:
        host.sh("systemctl enable --now zdd-netns.socket && systemctl restart zdd-agent.service")
        said = host.sh("zdd-agent doctor", check=False).stdout
        assert "container: the opener finds the container" in said, said + host.journal("-u zdd-netns.service")
        assert host.sh(f"setpriv --reuid zdd-agent --clear-groups {ASK}").stdout.strip() == "b'found'"
        refused = host.sh(f"setpriv --reuid nobody --clear-groups {ASK}", check=False)
        assert "PermissionError" in refused.stderr
        # Not even root: the opener hangs up.
        assert "b'found'" not in host.sh(ASK, check=False).stdout
        host.sh("systemctl stop web.service")
        assert host.sh(f"setpriv --reuid zdd-agent --clear-groups {ASK}").stdout.strip() == "b'none'"
    finally:
        host.sh("rm -f /etc/zdd-agent/conf.d/50-container.toml; systemctl disable --now zdd-netns.socket")
        host.sh("systemctl stop web.service zdd-netns.service; systemctl restart zdd-agent.service", check=False)
