"""A sensor that cannot see this host's traffic says so before the drain, and leaves its end to the API: never early."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lab.conftest import free_prefix
from lab.drain_rig import FLOOR, SETTINGS, Case, Deregistration, Street, leave, listens_now, until_so
from lab.netns_rig import may_make_namespaces, namespace, start_agent
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import FAST
from zdd_lab.processes import children
from zdd_lab.threaded import ThreadedLab

INTERVAL = 10.0  # s, as the API takes it; the nodes check ten times as often
DELAY = FLOOR + 3.0  # s: with proof a drain would end right after the floor
PROFILE = replace(FAST, deregistration_delay=DELAY, check_interval=INTERVAL * FAST.check_scale, check_timeout=0.3)
OTHER_PORT = 8081  # of a second target of the host
OTHER_LISTENER = 8090


async def _never_early(lab: Lab, host: Host, until: str, doubt: str) -> None:
    gone = Deregistration()
    watching = asyncio.create_task(gone.watch(lab, host))
    drained = await leave(lab, host, "--until", until, "--force", "min-healthy")
    await watching
    assert drained.outcome == "succeeded"
    assert f"the drain ends when the API says `unused` (until `unused`: {doubt}" in drained.whole
    assert drained.ended - gone.deregistered > DELAY - 0.05


async def no_listener_on_a_port(lab: Lab, host: Host, until: str) -> None:
    await asyncio.to_thread(_second_target, lab, host, "deaf")
    await _never_early(lab, host, until, f"nothing listens on port {OTHER_PORT}")


async def no_traffic_to_a_port(lab: Lab, host: Host, until: str) -> None:
    """A group of an idle service, whose health checks go to another port."""
    address = host.identity.address
    argv = [sys.executable, "-m", "zdd_lab.hosts.app", "--host", address, "--port", str(OTHER_PORT + 1)]
    log = host.folder / "second.log"
    second = children.spawn([*argv, "--name", host.name, "--version", "v1"], children.bare_environment(), log)
    try:
        await until_so(lambda: listens_now(address, OTHER_PORT + 1))
        await asyncio.to_thread(_second_target, lab, host, "idle", OTHER_PORT + 1)
        await _never_early(lab, host, until, f"no node of the load balancer was seen on port {OTHER_PORT + 1}")
    finally:
        await asyncio.to_thread(children.stop, second)


async def an_app_in_another_namespace(lab: Lab, host: Host, until: str) -> None:
    """As with a container that has its own network: its connections are not among those of the agent's."""
    await host.stop_agent()
    async with namespace(lab, host) as made:
        await start_agent(made, lab, host, SETTINGS)
        await _never_early(lab, host, until, f"nothing listens on port {APP_PORT} in the agent's network namespace")
        await host.stop_agent()


async def a_proxy_that_only_a_monitor_reaches(lab: Lab, host: Host, until: str) -> None:
    """As with Docker: its own proxy listens, and this host's other containers come to it. The load balancer does not.

    Here the proxy and the monitor are in the agent's network namespace, and the load balancer's connections are not.
    """
    await host.stop_agent()
    address, monitor = host.identity.address, (f"{lab.prefix}.66", 0)
    async with namespace(lab, host) as made:
        proxy = await asyncio.to_thread(made.inside, lambda: socket.create_server((address, APP_PORT)))
        server = await asyncio.start_server(_answers, sock=proxy)
        try:
            await start_agent(made, lab, host, SETTINGS)
            probe = await asyncio.to_thread(
                made.inside, lambda: socket.create_connection((address, APP_PORT), source_address=monitor)
            )
            with probe:
                probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: monitored\r\n\r\n")
                assert await asyncio.to_thread(probe.recv, 1000)
                await _never_early(
                    lab, host, until, f"no health check of the load balancer was seen on port {APP_PORT}"
                )
            await host.stop_agent()
        finally:
            server.close()


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    writer.close()


def _second_target(lab: Lab, host: Host, name: str, port: int = OTHER_PORT) -> None:
    """Register the host once more, on another port and in another group, which is checked on the app's own."""
    client: Any = lab.client("elbv2")
    group = client.create_target_group(
        Name=name,
        Protocol="HTTP",
        Port=port,
        VpcId=lab.network.vpc,
        HealthCheckPath="/healthz",
        HealthCheckPort=str(APP_PORT),
        HealthCheckIntervalSeconds=round(INTERVAL),
        HealthCheckTimeoutSeconds=3,
    )["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": f"{DELAY:g}"}
    client.modify_target_group_attributes(TargetGroupArn=group, Attributes=[delay])
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    client.create_listener(
        LoadBalancerArn=lab.front.load_balancer,
        Protocol="HTTP",
        Port=OTHER_LISTENER + port - OTHER_PORT,
        DefaultActions=forward,
    )
    client.register_targets(TargetGroupArn=group, Targets=[{"Id": host.identity.instance_id, "Port": port}])


CASES: list[Case] = [(no_listener_on_a_port, "idle"), (no_traffic_to_a_port, "closed")]
if may_make_namespaces():
    CASES += [(an_app_in_another_namespace, "idle"), (a_proxy_that_only_a_monitor_reaches, "idle")]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with ThreadedLab(prefix=free_prefix(), profile=PROFILE, hosts=len(CASES) + 1, agents=False) as running:
        yield Street(running, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_the_api_alone_ends_the_drain_with(street: Street, case: Case) -> None:
    street.kept(case)


def test_no_request_of_the_load_fails_meanwhile(street: Street) -> None:
    assert street.failed == []
