"""Makes Auto Scaling real: launches and ends hosts as the model asks, and tells each host's metadata its state."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from botocore.exceptions import ClientError

from zdd_lab.aws import instance_launcher
from zdd_lab.aws.instance_identity import Identity
from zdd_lab.aws.scaling_settings import Given, new_group
from zdd_lab.aws.topology_reader import TopologyReader
from zdd_lab.hosts.host import Host
from zdd_lab.model import notices
from zdd_lab.model.auto_scaling import group_calls, instance_calls
from zdd_lab.model.auto_scaling.account import AutoScaling
from zdd_lab.model.auto_scaling.group import ScalingGroup
from zdd_lab.model.auto_scaling.orders import LaunchOrder, Order, TerminateOrder
from zdd_lab.model.notices import NoticeKind
from zdd_lab.processes.children import ChildStartError

_LOOK = 0.2  # s between two looks at what is due: less than any span of the model
_SOON = 3600.0  # s until maintenance begins, when nobody says


@dataclass(slots=True)
class Fleet:
    """The hosts, and the one task that carries out the model's orders.

    Args:
        hosts: the lab's own list. Launched hosts are added, ended ones removed.
        open_host: makes a host of an instance and serves its metadata; its app is on this port, or None: the usual one.
        boot: starts what runs on a host.
        refreshed: awaited after EC2 changed: the load balancers' model must learn it.
        woken: called after a step: the load balancers may have something to do.
        prefix: of the lab's own network. Instances elsewhere, except on loopback, are launched without a host.
    """

    account: AutoScaling
    reader: TopologyReader
    hosts: list[Host]
    next_number: Callable[[], int]
    open_host: Callable[[Identity, int | None], Awaitable[Host]]
    boot: Callable[[Host], Awaitable[None]]
    refreshed: Callable[[], Awaitable[None]]
    woken: Callable[[], None]
    prefix: str
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _told: dict[str, str] = field(default_factory=dict)  # instance -> its target state as the metadata says it

    def start(self) -> None:
        self._begin(self._run())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def create_group(self, name: str, given: Given, zones: Sequence[str], *, attach: bool) -> ScalingGroup:
        """Create an Auto Scaling group as CreateAutoScalingGroup does, of every host or of those that it launches."""
        hosts, least, now = self.hosts if attach else [], given.get("MinSize", 0), time.monotonic()
        given = {"MaxSize": max(len(hosts), least), **given, "AutoScalingGroupName": name}
        group = new_group(given | {"MinSize": 0 if hosts else least}, zones, None)
        operator, group.operator = group.operator, None  # it would deny what follows
        group_calls.create(self.account, group, now)
        instance_calls.attach(self.account, name, [host.identity.instance_id for host in hosts], now)
        group_calls.update(self.account, name, {"min_size": least})
        group.operator = operator
        self.act()
        return group

    def act(self) -> None:
        """Take the steps that are due now, and begin what they ask for."""
        for order in self.account.advance(time.monotonic()):
            self._begin(self._carry_out(order))
        for host in self.hosts:
            self._tell(host)
        self.woken()
        self._wake.set()

    def announce(self, host: Host, kind: NoticeKind, seconds: float | None = None) -> None:
        """Put a notice into a host's metadata. After a spot notice, EC2 really takes the host back.

        Args:
            seconds: until the end of a spot instance (120), or the beginning of maintenance (3600).
        """
        instance_id, now = host.identity.instance_id, time.monotonic()
        ahead = {NoticeKind.SPOT: notices.SPOT_NOTICE, NoticeKind.MAINTENANCE: _SOON}.get(kind, 0.0)
        if seconds is not None and kind is not NoticeKind.REBALANCE:
            ahead = seconds
        host.imds.announce(kind.path, notices.text(kind, time.time() + ahead, instance_id))
        if kind is NoticeKind.SPOT:
            self.account.interrupt(instance_id, now + ahead, now)
        elif kind is NoticeKind.REBALANCE:
            self.account.recommend_rebalance(instance_id)
        self.act()

    async def end(self, instance_id: str) -> None:
        """End an instance as EC2 does: whatever runs there is stopped."""
        for host in [one for one in self.hosts if one.identity.instance_id == instance_id]:
            self.hosts.remove(host)
            await host.close()
        await asyncio.to_thread(instance_launcher.terminate, self.reader, instance_id)
        await self.refreshed()
        self.account.terminated(instance_id, time.monotonic())
        self.act()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            idle = not self.account.groups and not self.account.interruptions
            try:
                async with asyncio.timeout(None if idle else _LOOK):
                    await self._wake.wait()
            except TimeoutError:
                self.act()

    async def _carry_out(self, order: Order) -> None:
        if isinstance(order, TerminateOrder):
            await self.end(order.instance_id)
        else:
            await self._launch(order)

    async def _launch(self, order: LaunchOrder) -> None:
        group = self.account.groups[order.group]
        try:
            identity, instance_type = await asyncio.to_thread(
                instance_launcher.launch, self.reader, group, order.zone, self.next_number(), self.prefix
            )
        except (ClientError, StopIteration, ValueError, IndexError) as error:
            self.account.launch_failed(order, str(error) or "no subnet in this zone", time.monotonic())
            return
        await self.refreshed()
        topology = self.account.elb.topology
        ports = [topology.groups[arn].port for arn in group.target_groups if arn in topology.groups]
        host = (
            await self.open_host(identity, ports[0] if ports else None)
            if instance_launcher.runs_here(identity.address, self.prefix)
            else None
        )
        if not self.account.launched(order, identity.instance_id, time.monotonic(), instance_type):
            await self.end(identity.instance_id)
            return
        self.act()
        if host:
            with suppress(ChildStartError):  # it was ended meanwhile, or its app is broken: not EC2's business
                await self.boot(host)

    def _begin(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self, host: Host) -> None:
        """Only what changed: a person may have announced something else meanwhile."""
        instance_id = host.identity.instance_id
        state = self.account.target_state(instance_id)
        if state is not None and self._told.get(instance_id) != state:
            self._told[instance_id] = state
            host.imds.announce(notices.TARGET_STATE_PATH, state)
