"""Three hosts that want to reboot at the same moment: they take turns, and all come back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from hosts import PREFIX, Host
from lab_site import Site, booted
from netns import inside

SETTINGS = "/etc/zdd-agent/conf.d/10-fleet.toml"
# Seconds for three drains, reboots and rejoins, one after another, on a machine that has other work.
PATIENCE_SECONDS = 500.0


@pytest.fixture(scope="module")
def fleet(deb: Path) -> Iterator[Site]:
    """Three hosts in service, with the deb and the app."""
    with booted(hosts=3) as site:
        for host in site.hosts:
            host.install(deb)
            host.sh("systemctl enable --now app.service")
        site.wait_healthy(3)
        yield site


def configure(site: Site, settings: str) -> None:
    for host in site.hosts:
        host.write(SETTINGS, settings)
        host.sh("zdd-agent check-config && systemctl restart zdd-agent.service")
        host.wait("in_service")


@contextmanager
def fewest_healthy(site: Site) -> Iterator[list[int]]:
    """While the block runs, how many targets were healthy: the list holds the smallest number so far."""
    fewest, over = [len(site.hosts)], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            healthy = sum(target["state"] == "healthy" for target in site.state()["targets"])
            fewest[0] = min(fewest[0], healthy)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield fewest
    finally:
        over.set()
        looking.join()


def reboot_all(hosts: list[Host], apart: float = 0.0, seconds: float = PATIENCE_SECONDS) -> None:
    """`zdd-agent reboot` on each; whichever goes down is booted again, as EC2 does. Until all are back.

    Args:
        apart: seconds between the calls.
        seconds: for all of it.
    """
    until = time.monotonic() + seconds
    calls = {}
    for host in hosts:
        calls[host.name] = host.start(f"zdd-agent reboot --wait {seconds:.0f}")
        time.sleep(apart)
    down = list(hosts)
    while down:
        for host in [h for h in down if h.is_off()]:
            assert host.off() == 133, calls[host.name].communicate(timeout=5)[0]
            host.boot()
            down.remove(host)
        assert time.monotonic() < until, [(h.name, h.status(), h.journal("-u zdd-agent")) for h in down]
        time.sleep(0.2)
    for host in hosts:
        host.wait("in_service")
        calls[host.name].communicate(timeout=5)


def test_by_the_guard_alone_hosts_that_do_not_ask_in_the_same_seconds_wait_for_each_other(fleet: Site) -> None:
    configure(fleet, "min_healthy = 2\n")
    with fleet.load() as result:
        reboot_all(fleet.hosts, apart=12.0)
    assert result["failed"] == 0, result
    assert result["requests"] > 1000


@pytest.fixture
def slots(fleet: Site) -> Site:
    """The same hosts share one slot; every host is in service."""
    create_table(fleet)
    configure(fleet, '[slots]\ntable = "zdd-agent-slots"\nname = "web"\n')
    fleet.wait_healthy(3)
    return fleet


def create_table(site: Site) -> None:
    """As Terraform makes it; it may be there."""

    def create() -> None:
        session = boto3.session.Session("AKIAZDDLABPERSON0000", "made-up", region_name="us-east-1")
        dynamodb = session.client("dynamodb", endpoint_url=f"http://{PREFIX}.1:4566", config=Config(proxies={}))
        if dynamodb.list_tables()["TableNames"]:
            return
        dynamodb.create_table(
            TableName="zdd-agent-slots",
            KeySchema=[{"AttributeName": "service", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "service", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    inside(f"/run/netns/{site.tag}-lab", create)


def holders(host: Host) -> list[str]:
    """The instances that hold a slot, as a host says."""
    return [one["instance"] for one in json.loads(host.sh("zdd-agent slots --json").stdout)["holders"]]


def test_with_a_slot_three_hosts_that_want_to_reboot_at_once_take_turns(slots: Site) -> None:
    with slots.load() as result, fewest_healthy(slots) as fewest:
        reboot_all(slots.hosts)
    slots.wait_healthy(3)
    assert result["failed"] == 0, result
    assert fewest == [2], "one at a time"
    wait_for(lambda: holders(slots.hosts[0]) == [])


def test_a_host_that_does_not_come_back_keeps_the_others_up(slots: Site) -> None:
    lost, *others = slots.hosts
    me = lost.status()["instance_id"]
    with slots.load() as result, fewest_healthy(slots) as fewest:
        lost.sh("zdd-agent reboot", check=False)
        assert lost.off() == 133
        calls = [host.start("zdd-agent reboot --wait 15") for host in others]
        said = [call.communicate(timeout=90)[0] for call in calls]
        assert [call.returncode for call in calls] == [4, 4], said
        assert all(f"{me} holds one" in text and "no reboot follows" in text for text in said), said
        assert holders(others[0]) == [me]
        assert [host.status()["posture"] for host in others] == ["in_service"] * 2
        lost.boot()
        lost.wait("in_service")
    assert result["failed"] == 0, result
    assert fewest == [2]
    wait_for(lambda: holders(others[0]) == [])


def wait_for(happens: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.5)
