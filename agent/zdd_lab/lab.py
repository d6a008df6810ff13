"""The whole lab: an AWS for one machine, from its first process to its last."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import boto3
from aiohttp import web

from zdd_lab.aws.endpoint import Client, Endpoint
from zdd_lab.aws.instance_identity import Identity
from zdd_lab.aws.moto_process import MotoProcess
from zdd_lab.aws.resources import ZONES, Front, Network, create_front, create_instance, create_network, find_instances
from zdd_lab.aws.scaling_api import ScalingApi
from zdd_lab.aws.scaling_settings import Ec2Facts
from zdd_lab.aws.topology_reader import ACCOUNT, CLIENT_CONFIG, MADE_UP_SECRET, REGION, TopologyReader
from zdd_lab.balancer.data_plane import DataPlane, MakeNode
from zdd_lab.balancer.node import Node
from zdd_lab.control import Control, application
from zdd_lab.hosts.fleet import Fleet
from zdd_lab.hosts.host import Host
from zdd_lab.model.auto_scaling.account import AutoScaling
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.elb import Elb
from zdd_lab.model.faults import FaultTable
from zdd_lab.model.iam import Policy
from zdd_lab.model.profile import FAST, Profile
from zdd_lab.model.registration import TargetSpec
from zdd_lab.model.topology import NodePlace
from zdd_lab.processes import children
from zdd_lab.processes.serving import serve

ENDPOINT_PORT = 4566
CONTROL_PORT = 4567
MOTO_PORT = 4568
APP_PORT = 8080  # the apps of the hosts listen on it, and so does the load balancer
PERSON_KEY = "AKIAZDDLABPERSON0000"  # made up
_MAX_HOSTS = 100

# Name of each node: last byte of its address, zone, kind. It serves every load balancer of its kind.
_NODES = {"a": (2, "a", "application"), "b": (3, "b", "application")} | {
    "nlb-a": (4, "a", "network"),
    "nlb-b": (5, "b", "network"),
}


class Lab:
    """An AWS on loopback: `async with Lab(hosts=2) as lab:`.

    Args:
        prefix: the first three bytes of every address. Labs that run at the same time each need their own.
        state_folder: holds the lab's files and is kept. Without it they are in a temporary folder, which is deleted.
        agents: spawn `zdd-agent serve` on each host.
        seed: for the random lags, so that a run can be repeated.
        wait_healthy: on entry, wait until every host is healthy in the target group `web`.
        app_arguments: further arguments of every app (`python -m zdd_lab.hosts.app --help`).
        make_host: builds the hosts. Hosts of another kind, such as in network namespaces, need not be on loopback.
        make_node: builds the load balancers' nodes, such as `HaproxyNode`.
    """

    def __init__(
        self,
        *,
        prefix: str = "127.77.0",
        profile: Profile = FAST,
        hosts: int = 2,
        state_folder: Path | None = None,
        agents: bool = True,
        seed: int | None = None,
        wait_healthy: bool = True,
        app_arguments: Sequence[str] = (),
        make_host: Callable[[Identity, Path, str, FaultTable, int], Host] = Host,
        make_node: MakeNode = Node,
    ) -> None:
        away = not prefix.startswith("127.") and make_host is Host
        if away or not 0 <= hosts <= _MAX_HOSTS:
            raise ValueError(
                f"cannot build a lab on {prefix} with {hosts} hosts: it needs 127.x.y and 0 to {_MAX_HOSTS}"
            )
        self.prefix, self.profile = prefix, profile
        self.endpoint_url = f"http://{prefix}.1:{ENDPOINT_PORT}"
        self.control_url = f"http://{prefix}.1:{CONTROL_PORT}"
        self.urls = [f"http://{prefix}.{last}:{APP_PORT}" for last, _, kind in _NODES.values() if kind == "application"]
        self.hosts: list[Host] = []
        self.faults = FaultTable()
        self.front: Front
        self.network: Network
        self.endpoint: Endpoint
        self.plane: DataPlane
        self.control: Control
        self.fleet: Fleet
        self.app_arguments = tuple(app_arguments)
        self._make_host, self._make_node = make_host, make_node
        self.launched_policy: Policy | None = None  # of hosts that Auto Scaling launches; None: everything is allowed
        self._host_count, self._agents, self._wait_healthy = hosts, agents, wait_healthy
        self._kept_folder = state_folder
        self.folder = state_folder or Path()
        self._seed = seed
        self._last_number = hosts
        self._ends = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._build()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every process and server of the lab."""
        await self._ends.aclose()

    def settings(self, host: Host | None = None) -> dict[str, str]:
        """Environment variables for real clients: those of a host, or without one those of a person, with keys."""
        region = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        if host is not None:
            return host.settings() | region
        return region | {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": PERSON_KEY,
            "AWS_SECRET_ACCESS_KEY": MADE_UP_SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def env(self, host: Host | None = None) -> dict[str, str]:
        """The whole environment for a real client's process: `settings`, and nothing else about AWS or the agent."""
        return children.bare_environment() | self.settings(host)

    def client(self, service: str) -> Any:
        """A boto3 client with the person's keys. Its calls block: never make them in the lab's thread."""
        session = boto3.session.Session(PERSON_KEY, MADE_UP_SECRET, region_name=REGION)
        return session.client(service, endpoint_url=self.endpoint_url, config=CLIENT_CONFIG)  # type: ignore[call-overload]

    def state(self) -> dict[str, Any]:
        """What the control API's GET /state answers."""
        return self.control.state()

    async def wait_until_healthy(self, timeout: float = 120.0) -> None:  # noqa: ASYNC109  # a plain span, as in tests
        """Wait until every registered target of the group `web` is healthy.

        Raises:
            TimeoutError: it takes longer.
        """
        async with asyncio.timeout(timeout):
            while any(  # noqa: ASYNC110  # health has no event to wait for
                one["state"] != "healthy" for one in self.control.targets(self.front.group)
            ):
                await asyncio.sleep(0.05)

    async def adopt(self, group: str, policy: Policy | None = None) -> list[Host]:
        """Run an app, metadata and an agent for each instance in a target group of somebody else's that has none yet.

        Args:
            group: ARN. Each instance in it must have an address on loopback.
            policy: of the hosts' role. Without it the role may do everything.
        """
        known = {host.identity.instance_id for host in self.hosts}
        ports = {one["id"]: one["port"] for one in self.control.targets(group) if one["id"] not in known}
        if not ports:
            return []
        identities = await asyncio.to_thread(find_instances, self._reader, list(ports), self._last_number + 1)
        self._last_number += len(identities)
        adopted = []
        for identity in identities:
            folder = self.folder / identity.host
            host = Host(identity, folder, self.endpoint_url, self.faults, ports[identity.instance_id])
            self.endpoint.clients[identity.access_key] = Client(host.name, identity.role_arn, policy, measures=True)
            adopted.append(host)
        self.hosts += adopted
        async with asyncio.TaskGroup() as opening:
            for host in adopted:
                opening.create_task(self._start(host))
        for host in adopted if self._agents else ():
            await host.start_agent()
        return adopted

    async def create_group(self, name: str = "web", *, attach: bool = True, **settings: Any) -> ScalingGroup:
        """Create an Auto Scaling group in the lab's network, attached to the target group `web`.

        Args:
            attach: its instances are the lab's hosts, in service at once. Without it, it launches its own.
            settings: as CreateAutoScalingGroup spells them: MinSize, MaxSize, HealthCheckType…
        """
        given = {"VPCZoneIdentifier": ",".join(self.network.subnets.values()), "TargetGroupARNs": [self.front.group]}
        return self.fleet.create_group(name, given | settings, tuple(ZONES.values()), attach=attach)

    async def _build(self) -> None:
        self._make_folder()
        moto = MotoProcess(f"{self.prefix}.1", MOTO_PORT, self.folder / "moto.log")
        self._ends.push_async_callback(moto.stop)
        _, reader = await asyncio.gather(moto.start(), asyncio.to_thread(TopologyReader, moto.url))
        self._reader = reader
        places = {name: NodePlace(ZONES[zone], kind) for name, (_, zone, kind) in _NODES.items()}
        addresses = {name: f"{self.prefix}.{last}" for name, (last, _, _) in _NODES.items()}
        elb = Elb(self.profile, Random(self._seed), places, reserved=frozenset(addresses.values()))
        self.plane = DataPlane(elb, reader, addresses, self._make_node)
        self._ends.push_async_callback(self.plane.close)
        await asyncio.to_thread(self._create_resources, reader)
        clients = {
            host.identity.access_key: Client(host.name, host.identity.role_arn, measures=True) for host in self.hosts
        }
        clients[PERSON_KEY] = Client("person", f"arn:aws:iam::{ACCOUNT}:user/person")
        account = AutoScaling(elb, Random(self._seed))
        ways = (self._next_number, self._open_launched, self._boot, self.plane.refresh, self.plane.wake)
        self.fleet = Fleet(account, reader, self.hosts, *ways, self.prefix)
        scaling = ScalingApi(account, Ec2Facts(reader.ec2), self.fleet.act)
        self.endpoint = Endpoint(elb, scaling, self.faults, moto.url, clients, self.plane.refresh, self.plane.wake)
        await self._serve(self.endpoint.application(), ENDPOINT_PORT)
        self.control = Control(
            self.endpoint,
            self.plane,
            self.fleet,
            self.hosts,
            self.faults,
            self.endpoint_url,
            self.urls,
            self.front.group,
            self.app_arguments,
        )
        await self._serve(application(self.control), CONTROL_PORT)
        await self.plane.refresh()
        self.plane.start()
        self._ends.push_async_callback(self._close_hosts)
        self._ends.push_async_callback(self.fleet.close)
        self.fleet.start()
        async with asyncio.TaskGroup() as opening:
            for host in self.hosts:
                opening.create_task(self._open(host))
        if self._wait_healthy:
            await self.wait_until_healthy()

    def _make_folder(self) -> None:
        self.folder = self._kept_folder or Path(tempfile.mkdtemp(prefix="zdd-lab-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._kept_folder is None:
            self._ends.callback(shutil.rmtree, self.folder, ignore_errors=True)

    async def _serve(self, app: web.Application, port: int) -> None:
        server = await serve(app, f"{self.prefix}.1", port)
        self._ends.push_async_callback(server.cleanup)

    def _create_resources(self, reader: TopologyReader) -> None:
        self.network = create_network(reader, self.prefix)
        self.front = create_front(reader, self.network, self.profile, APP_PORT)
        for number in range(1, self._host_count + 1):
            identity = create_instance(reader, self.network, self.prefix, number)
            folder = self.folder / identity.host
            self.hosts.append(self._make_host(identity, folder, self.endpoint_url, self.faults, APP_PORT))

    async def _open(self, host: Host) -> None:
        await self._start(host)
        spec = TargetSpec(host.identity.instance_id, APP_PORT)
        self.plane.elb.register(self.front.group, [spec], time.monotonic())
        self.plane.wake()
        if self._agents:
            await host.start_agent()

    async def _start(self, host: Host) -> None:
        await host.open(self.profile.check_scale)
        await host.start_app("v1", self.app_arguments)

    async def _open_launched(self, identity: Identity, port: int | None) -> Host:
        """Metadata of an instance that Auto Scaling launched; `_boot` follows."""
        host = self._make_host(identity, self.folder / identity.host, self.endpoint_url, self.faults, port or APP_PORT)
        self.endpoint.clients[identity.access_key] = Client(host.name, identity.role_arn, self.launched_policy)
        self.hosts.append(host)
        await host.open(self.profile.check_scale)
        return host

    async def _boot(self, host: Host) -> None:
        await host.start_app("v1", self.app_arguments)
        if self._agents:
            await host.start_agent()

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    async def _close_hosts(self) -> None:
        await asyncio.gather(*(host.close() for host in self.hosts))
