"""IPv6 end to end: the load balancer's nodes reach the app at an IPv6 address, in its own network."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from typing import Any

import pytest

from lab.conftest import free_prefix
from lab.drain_rig import SETTINGS, Deregistration, by_proof, keep_asking, operate, until_so
from lab.netns_rig import Namespace, may_make_namespaces, namespace, start_agent
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST
from zdd_lab.processes import children
from zdd_lab.threaded import ThreadedLab

LISTENER = 8090


@pytest.mark.skipif(not may_make_namespaces(), reason="needs root, for a network namespace with IPv6 addresses")
def test_a_request_over_ipv6_is_waited_for_and_the_drain_ends_behind_it() -> None:
    with ThreadedLab(prefix=free_prefix(), profile=FAST, hosts=1, agents=False) as running:
        running.run(_promise(running.lab, running.lab.hosts[0]))


async def _promise(lab: Lab, host: Host) -> None:
    net = f"fd7a:{random.randrange(2**16):x}:{random.randrange(2**16):x}"
    mac = host.identity.mac
    host.imds.announce(f"network/interfaces/macs/{mac}/ipv6s", f"{net}::11")
    async with namespace(lab, host) as made:
        _cable(made, net)
        app = _start_app(made, host, f"{net}::11")
        try:
            await asyncio.to_thread(_group, lab, f"{net}::11")
            await until_so(lambda: _state(lab, f"{net}::11") == "healthy")
            settings = {**SETTINGS, "ZDD_AGENT_TARGET_GROUPS": '["six"]', "ZDD_AGENT_MIN_HEALTHY": "0"}
            await start_agent(made, lab, host, settings)
            gone = Deregistration((f"{net}::11",))
            started = time.time()
            asking = keep_asking(lab, host, "/sleep?seconds=5.5", 0.1, lambda: time.time() > started + 0.5, LISTENER)
            watching = asyncio.create_task(gone.watch(lab, host))
            drained, asked = await asyncio.gather(operate(lab, host, "drain", "--until", "closed"), asking)
            await watching
            assert len(asked) > 1
            assert [one.error for one in asked if one.error] == []
            by_proof(drained, gone, max(one.ended for one in asked), FAST.deregistration_delay)
            assert drained.ended > max(one.ended for one in asked) - 0.25
            await host.stop_agent()
        finally:
            await asyncio.to_thread(children.stop, app)


def _cable(made: Namespace, net: str) -> None:
    """A cable between the load balancer's nodes and the host; it goes with the namespace."""
    here, there = (f"zdd{random.randrange(2**24):x}{end}" for end in "ab")
    words = ["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", str(made.keeper.pid)]
    subprocess.run(words, check=True)
    subprocess.run(["ip", "address", "add", f"{net}::1/64", "dev", here, "nodad"], check=True)
    subprocess.run(["ip", "link", "set", here, "up"], check=True)
    made.ip("address", "add", f"{net}::11/64", "dev", there, "nodad")
    made.ip("link", "set", there, "up")


def _start_app(made: Namespace, host: Host, address: str) -> Any:
    words = [
        "-m",
        "zdd_lab.hosts.app",
        "--host",
        address,
        "--port",
        str(APP_PORT),
        "--name",
        host.name,
        "--version",
        "v1",
    ]
    return children.spawn(made.argv(sys.executable, *words), children.bare_environment(), host.folder / "six.log")


def _state(lab: Lab, address: str) -> str:
    return next(str(t["state"]) for t in lab.state()["targets"] if t["id"] == address)


def _group(lab: Lab, address: str) -> None:
    client: Any = lab.client("elbv2")
    group = client.create_target_group(
        Name="six",
        Protocol="HTTP",
        Port=APP_PORT,
        VpcId=lab.network.vpc,
        TargetType="ip",
        IpAddressType="ipv6",
        HealthCheckPath="/healthz",
        HealthCheckIntervalSeconds=10,
    )["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": f"{FAST.deregistration_delay:g}"}
    client.modify_target_group_attributes(TargetGroupArn=group, Attributes=[delay])
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    client.create_listener(
        LoadBalancerArn=lab.front.load_balancer, Protocol="HTTP", Port=LISTENER, DefaultActions=forward
    )
    client.register_targets(TargetGroupArn=group, Targets=[{"Id": address, "Port": APP_PORT}])
