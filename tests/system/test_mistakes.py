"""An agent that cannot start: who is told what, and how often systemd tries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hosts import Host

SLIP = "/etc/zdd-agent/conf.d/50-slip.toml"
DROP_IN = "/etc/systemd/system/zdd-agent.service.d/mistake.conf"
# Seconds in which an agent that systemd starts over and over again would have been started several times.
LONG = 8.0


@contextmanager
def wrong_settings(host: Host) -> Iterator[None]:
    host.write(SLIP, "min_healty = 1\n")
    try:
        yield
    finally:
        host.sh(f"rm -f {SLIP}; systemctl restart zdd-agent.service")


@contextmanager
def other_command(host: Host, command: str) -> Iterator[None]:
    """The service with another ExecStart."""
    host.write(DROP_IN, f"[Service]\nExecStart=\nExecStart={command}\n")
    host.sh("systemctl daemon-reload")
    try:
        yield
    finally:
        host.sh(f"rm -f {DROP_IN}; systemctl daemon-reload; systemctl restart zdd-agent.service")


def starts(host: Host) -> int:
    """How often systemd has begun to start the agent since the boot."""
    said = host.sh(
        "journalctl --no-pager -u zdd-agent.service -o cat | grep -c '^Starting zdd-agent.service'", check=False
    )
    return int(said.stdout)


def starts_within(host: Host, seconds: float) -> int:
    before = starts(host)
    time.sleep(seconds)
    return starts(host) - before


def test_a_mistake_in_the_settings_is_said_once_and_systemd_does_not_try_again(host: Host) -> None:
    with wrong_settings(host):
        done = host.sh("systemctl restart zdd-agent.service", check=False)
        assert done.returncode != 0
        assert starts_within(host, LONG) == 0
        assert host.sh("systemctl is-failed zdd-agent.service").stdout.strip() == "failed"
        assert "did you mean min_healthy?" in host.journal("-u zdd-agent.service -n 5")


def test_a_caller_is_told_the_mistake_at_once_and_starts_the_agent_once(host: Host) -> None:
    with wrong_settings(host):
        host.sh("systemctl restart zdd-agent.service", check=False)
        before, began = starts(host), time.monotonic()
        called = host.sh("zdd-agent status", check=False)
        assert time.monotonic() - began < 20, "it does not wait for an agent that does not come"
        assert called.returncode == 2
        assert "did you mean min_healthy?" in called.stderr
        time.sleep(LONG)
        assert starts(host) - before == 1
        assert host.sh("systemctl is-active zdd-agent.socket").stdout.strip() == "active"


def test_a_caller_that_has_left_is_no_reason_to_start_it_over_and_over(host: Host) -> None:
    with wrong_settings(host):
        host.sh("systemctl restart zdd-agent.service", check=False)
        host.sh("timeout -s KILL 0.1 python3 -c 'import socket, time; s = socket.socket(socket.AF_UNIX); "
                "s.connect(\"/run/zdd-agent/agent.sock\"); time.sleep(9)'", check=False)  # fmt: skip
        time.sleep(LONG / 2)
        assert starts_within(host, LONG) == 0


def test_once_the_mistake_is_gone_the_next_call_finds_an_agent(host: Host) -> None:
    with wrong_settings(host):
        host.sh("systemctl restart zdd-agent.service", check=False)
        assert host.sh("zdd-agent status", check=False).returncode == 2
        host.sh(f"rm {SLIP}")
        host.wait("in_service")


def test_an_agent_that_crashes_at_its_start_is_tried_again_in_peace_and_for_good(host: Host) -> None:
    with other_command(host, "/bin/sh -c 'exit 1'"):
        host.sh("systemctl restart zdd-agent.service", check=False)
        calling = host.start("zdd-agent status")
        tried = starts_within(host, 3 * LONG)
        assert 2 <= tried <= 12, "every 2 s"
        host.sh(f"rm {DROP_IN}; systemctl daemon-reload")
        said, _ = calling.communicate(timeout=60)
        assert calling.returncode == 0, said  # the socket stayed, and so did the caller
    assert host.sh("systemctl is-active zdd-agent.socket").stdout.strip() == "active"


def test_an_agent_that_ends_before_it_can_answer_anybody_is_given_up_until_it_is_restarted(host: Host) -> None:
    with other_command(host, "/usr/bin/zdd-agent serve --nonsense"):
        host.sh("systemctl restart zdd-agent.service", check=False)
        called = host.sh("zdd-agent status", check=False)
        assert called.returncode == 5
        assert starts_within(host, LONG) == 0
    assert host.sh("systemctl is-active zdd-agent.socket").stdout.strip() == "active"
    assert host.status()["posture"] == "in_service"
