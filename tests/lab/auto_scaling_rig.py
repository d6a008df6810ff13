"""An Auto Scaling group of hosts with real agents under load: what the tests of a group's life stand on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from lab.conftest import free_prefix
from lab.drain_rig import BIN, run, until_so
from zdd_lab.hosts.host import Host
from zdd_lab.lab import APP_PORT, Lab
from zdd_lab.model.profile import Profile
from zdd_lab.threaded import ThreadedLab

GROUP = "web"
FLOWS_PORT = 8090  # of the Network Load Balancer's listener
RATE = 40.0  # requests a second, over both nodes and all hosts that are in
# s: longer than the second look at the other hosts, which comes 4 s after a deregistration
FLOOR = 5.0
WATCH = {
    "ZDD_AGENT_AUTO_SCALING__MODE": "watch",
    "ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION": f"{FLOOR:g}",
    "ZDD_AGENT_DRAIN__FLOOR_SECONDS__NETWORK": f"{FLOOR:g}",
}
STANDBY = WATCH | {"ZDD_AGENT_AUTO_SCALING__MODE": "standby"}


@contextmanager
def group_of(hosts: int, profile: Profile, seed: int = 5, **group: Any) -> Iterator[ThreadedLab]:
    """A lab whose hosts, without agents, are in service in the Auto Scaling group `web`.

    Args:
        hosts: at the beginning.
        profile: of the lab.
        seed: of its lags.
        group: further settings, as CreateAutoScalingGroup spells them.
    """
    with ThreadedLab(prefix=free_prefix(), profile=profile, hosts=hosts, agents=False, seed=seed) as lab:
        running = lab
        running.run(running.lab.create_group(GROUP, **{"MinSize": 1, "MaxSize": hosts + 2} | group))
        yield running


def network_group(running: ThreadedLab, delay: int) -> str:
    """The ARN of a group of a Network Load Balancer that does not balance across zones; every host is healthy in it.

    Args:
        running: the lab.
        delay: deregistration delay, s. The flows outlive it.
    """
    lab = running.lab
    subnets, instances = list(lab.network.subnets.values()), [one.identity.instance_id for one in lab.hosts]
    group = flows_of(lab.client("elbv2"), lab.network.vpc, subnets, instances, delay)
    running.run(until_so(lambda: all(one["state"] == "healthy" for one in lab.control.targets(group)), 60))
    return group


def flows_of(elb: Any, vpc: str, subnets: list[str], instances: list[str], delay: int) -> str:
    """The same, made with a client, without waiting for health."""
    balancer = elb.create_load_balancer(Name="flows", Type="network", Subnets=subnets)["LoadBalancers"][0]
    check = {"HealthCheckIntervalSeconds": 10, "HealthyThresholdCount": 2, "HealthCheckProtocol": "HTTP"}
    group: str = elb.create_target_group(
        Name="flows", Protocol="TCP", Port=APP_PORT, VpcId=vpc, TargetType="instance",
        HealthCheckPath="/healthz", **check,
    )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
    attribute = {"Key": "deregistration_delay.timeout_seconds", "Value": str(delay)}
    elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=[attribute])
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="TCP", Port=FLOWS_PORT, DefaultActions=forward
    )
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": one} for one in instances])
    return group


async def scaling(lab: Lab, method: str, **words: Any) -> Any:
    """A person's call to Auto Scaling."""
    return await asyncio.to_thread(getattr(lab.client("autoscaling"), method), **words)


async def put_hook(lab: Lab, name: str, transition: str, heartbeat: int) -> None:
    """Give the group a lifecycle hook. `transition` is LAUNCHING or TERMINATING, `heartbeat` its time-out in s."""
    await scaling(
        lab, "put_lifecycle_hook", AutoScalingGroupName=GROUP, LifecycleHookName=name,
        LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}", HeartbeatTimeout=heartbeat,
    )  # fmt: skip


async def terminate(lab: Lab, host: Host) -> None:
    """End a host as a scale-in does: the group wants one instance less."""
    words = {"InstanceId": host.identity.instance_id, "ShouldDecrementDesiredCapacity": True}
    await scaling(lab, "terminate_instance_in_auto_scaling_group", **words)


def state_of(lab: Lab, host: Host) -> str:
    """Where the host stands in its group; `gone` when it is in none."""
    found = lab.fleet.account.membership(host.identity.instance_id)
    return str(found[1].state) if found else "gone"


def target_of(lab: Lab, host: Host) -> str:
    """The state of the host in the target group `web`; `absent` when it is not listed."""
    own = host.identity.instance_id
    return next((one["state"] for one in lab.control.targets(lab.front.group) if one["id"] == own), "absent")


@dataclass
class Course:
    """When a host was first seen in each state of its group; seconds since the epoch. `gone` is the last."""

    at: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)  # to Auto Scaling, by action

    async def watch(self, lab: Lab, host: Host) -> None:
        """Look every few milliseconds until the host is gone, or the caller cancels this."""
        while "gone" not in self.at:
            self.at.setdefault(state_of(lab, host), time.time())
            self.calls = scaling_calls(lab, host)
            await asyncio.sleep(0.01)


def scaling_calls(lab: Lab, host: Host) -> dict[str, int]:
    """The calls of a host so far that Auto Scaling answers, by action."""
    ours = ("DescribeAutoScaling", "DescribeLifecycle", "RecordLifecycle", "CompleteLifecycle", "EnterSt", "ExitSt")
    return {
        action: n for (who, action), n in lab.endpoint.calls.items() if who == host.name and action.startswith(ours)
    }


@asynccontextmanager
async def watched(lab: Lab, host: Host) -> AsyncIterator[Course]:
    """The course of a host while the body runs."""
    course = Course()
    watching = asyncio.create_task(course.watch(lab, host))
    try:
        yield course
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    told: dict[str, Any]
    errors: str

    @property
    def whole(self) -> str:
        return json.dumps(self.told) + self.errors


async def command(lab: Lab, host: Host, *words: str) -> Said:
    """Run `zdd-agent … --json` on a host to its end."""
    code, out, errors, _ = await run([str(BIN / "zdd-agent"), *words, "--json"], lab.env(host))
    return Said(code, json.loads(out) if out.strip() else {}, errors)


async def start_agents(hosts: list[Host], settings: Mapping[str, str] = WATCH) -> None:
    """Start an agent on each, and let it see some health checks: it relies on the kernel only then."""
    await asyncio.gather(*(host.start_agent(settings) for host in hosts))
    await asyncio.sleep(4.0)


async def reached(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for it. Raises AssertionError, which says `what`, when it does not come."""
    try:
        await until_so(condition, seconds)
    except TimeoutError:
        raise AssertionError(f"not in {seconds:g} s: {what}") from None
