"""The life of an Auto Scaling group, under load, on hosts with real systemd and the agent as it is installed."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Self

import pytest
from hosts import PREFIX, Host
from lab_site import Site, booted

from lab.auto_scaling_rig import FLOWS_PORT, GROUP, flows_of
from lab.drain_rig import Asked, ask

DELAY = 8  # s of deregistration in the group of the Network Load Balancer
LONG = 22  # s that each flow works: it outlives the delay
SLOW = 15  # s until the app of the launched host answers
HOOK = 3600  # s until the group would go on without an answer
SPOT = 90  # s from a spot notice to the end
SETTINGS = """min_healthy = 1
[drain.floor_seconds]
network = 6.0
[auto_scaling]
mode = "standby"
[notices]
spot = "drain"
"""
ON_LEAVING = "#!/bin/sh\ndate >>/run/acted\n"
APP = "/etc/systemd/system/app.service"


class Courses:
    """When each host was first seen in each state of its group, in seconds since the epoch. `gone` is the last."""

    def __init__(self, site: Site) -> None:
        self._site, self._end = site, threading.Event()
        self._names: dict[str, str] = {}
        self.at: dict[str, dict[str, float]] = {}
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.05):
            seen, now = self._site.state(), time.time()
            self._names |= {one["instance_id"]: one["name"] for one in seen["hosts"]}
            states = {self._names[one]: state for group in seen["groups"] for one, state in group["instances"].items()}
            for name in self.at.keys() | states.keys():
                self.at.setdefault(name, {}).setdefault(states.get(name, "gone"), now)


@dataclass
class Seen:
    """What the story below left behind. Three hosts at first; the group launches the fourth."""

    status: str = ""
    full: CompletedProcess[str] | None = None  # the drain while min = desired
    after_full: dict[str, Any] = field(default_factory=dict)
    standby: tuple[str, str] = ("", "")  # process of h3's app before and after its deploy
    deploy: tuple[int, str] = (0, "")  # of h2, during which h1 is terminated
    rejoin: CompletedProcess[str] | None = None  # of h1
    run: tuple[int, str] = (0, "")  # `zdd-agent run --` on h1
    deployed: bool = True  # whether that ran its command
    acted: str = ""  # what zdd-on@leaving did on h1
    long: list[Asked] = field(default_factory=list)  # of h1
    booted_at: float = 0.0  # when the app of the launched host was started
    launched: dict[str, Any] = field(default_factory=dict)  # h4's calls
    spot: dict[str, Any] = field(default_factory=dict)  # h2's status when it was empty
    spot_took: float = 0.0
    spot_rejoin: CompletedProcess[str] | None = None
    targets: dict[str, str] = field(default_factory=dict)  # by host, in the group of the Application Load Balancer
    at: dict[str, dict[str, float]] = field(default_factory=dict)
    requests: int = 0
    failed: int = 0


def user_data(host: Host, deb: Path, start_seconds: int = 1) -> None:
    """What a new instance does at its first boot."""
    host.write("/etc/zdd-agent/conf.d/50-site.toml", SETTINGS)
    host.write("/etc/zdd-agent/on-leaving", ON_LEAVING)
    host.install(deb)
    slow = f"s/--start-seconds 1$/--start-seconds {start_seconds}/"
    host.sh(f"chmod 755 /etc/zdd-agent/on-leaving; sed -i '{slow}' {APP}; systemctl daemon-reload")
    host.sh("systemctl enable --now zdd-on@leaving.path")


def targets(site: Site, group: str) -> dict[str, str]:
    names = {one["instance_id"]: one["name"] for one in site.state()["hosts"]}
    return {names.get(t["id"], t["id"]): t["state"] for t in site.state()["targets"] if t["group"] == group}


def scaling(site: Site, method: str, **words: Any) -> None:
    site.aws("autoscaling", method, AutoScalingGroupName=GROUP, **words)


def make_group(site: Site) -> None:
    """An Auto Scaling group of the hosts, behind both load balancers, without room for a Standby."""
    ids = [site.instance_id(host) for host in site.hosts]
    subnets = site.aws("ec2", "describe_subnets", Filters=[{"Name": "cidr-block", "Values": [f"{PREFIX}.*"]}])
    names = [one["SubnetId"] for one in subnets["Subnets"]]
    flows = site.inside(lambda: flows_of(site.client("elbv2"), subnets["Subnets"][0]["VpcId"], names, ids, DELAY))
    across = {"Key": "load_balancing.cross_zone.enabled", "Value": "true"}
    site.aws("elbv2", "modify_target_group_attributes", TargetGroupArn=flows, Attributes=[across])
    given = {"MinSize": 0, "MaxSize": 6, "VPCZoneIdentifier": ",".join(names), "HealthCheckType": "EC2"}
    scaling(site, "create_auto_scaling_group", **given, TargetGroupARNs=[site.state()["group"], flows])
    scaling(site, "attach_instances", InstanceIds=ids)
    scaling(site, "update_auto_scaling_group", MinSize=len(ids))
    for name, transition in (("last-drain", "TERMINATING"), ("ready", "LAUNCHING")):
        hook = {"LifecycleHookName": name, "HeartbeatTimeout": HOOK, "DefaultResult": "CONTINUE"}
        scaling(site, "put_lifecycle_hook", LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}", **hook)


@pytest.fixture(scope="module")
def seen(deb: Path) -> Iterator[Seen]:
    with booted(hosts=3, spares=1) as site:
        for host in site.hosts:
            user_data(host, deb)
            host.sh("systemctl enable --now app.service")
        make_group(site)
        site.wait_healthy(6)
        for host in site.hosts:
            host.wait("in_service")
        seen = Seen()
        with Courses(site) as courses, ThreadPoolExecutor() as beside:
            with site.load(40) as load:
                standby(site, seen)
                scale_in(site, seen, beside)
                launch(site, deb, seen)
                spot(site, seen)
            seen.requests, seen.failed = load["requests"], load["failed"]
        seen.at = courses.at
        yield seen


def standby(site: Site, seen: Seen) -> None:
    first, _, third = site.hosts
    seen.status = first.sh("zdd-agent status").stdout
    seen.full = first.sh("zdd-agent drain", check=False)
    seen.after_full = {"targets": targets(site, site.state()["group"]), "calls": site.state()["calls"][first.name]}
    scaling(site, "update_auto_scaling_group", MinSize=1)
    before = third.sh("systemctl show -P MainPID app.service").stdout
    third.sh("systemctl start zdd-deploy@app.service")
    seen.standby = before, third.sh("systemctl show -P MainPID app.service").stdout


def scale_in(site: Site, seen: Seen, beside: ThreadPoolExecutor) -> None:
    first, second, _ = site.hosts
    group = site.state()["group"]
    deploying = second.start("systemctl start zdd-deploy@app.service")
    site.until(lambda: targets(site, group)[second.name] == "draining", "the deploy drains")

    async def flows() -> list[Asked]:
        return await asyncio.gather(*(ask(f"{PREFIX}.4", f"/sleep?seconds={LONG}", FLOWS_PORT) for _ in range(12)))

    long = beside.submit(site.inside, lambda: asyncio.run(flows()))
    time.sleep(1)
    words = {"InstanceId": site.instance_id(first), "ShouldDecrementDesiredCapacity": True}
    site.aws("autoscaling", "terminate_instance_in_auto_scaling_group", **words)
    first.wait("leaving")
    seen.rejoin = first.sh("zdd-agent rejoin", check=False)
    running = first.start("zdd-agent run -- touch /run/deployed")
    seen.long = [one for one in long.result() if one.host in (first.name, "")]
    site.until(lambda: first.name not in [one["name"] for one in site.state()["hosts"]], "the first host has ended")
    said, _ = running.communicate(timeout=60)
    seen.run = running.returncode, said
    seen.deployed = first.sh("test -e /run/deployed", check=False).returncode == 0
    seen.acted = first.sh("cat /run/acted", check=False).stdout
    said, _ = deploying.communicate(timeout=120)
    seen.deploy = deploying.returncode, f"{said}\n{second.journal('-u zdd-agent')}"


def launch(site: Site, deb: Path, seen: Seen) -> None:
    scaling(site, "set_desired_capacity", DesiredCapacity=3)
    launched = site.launched()
    user_data(launched, deb, SLOW)
    seen.booted_at = time.time()
    launched.sh("systemctl enable --now app.service zdd-member@app.service")
    launched.wait("in_service")
    seen.launched = site.state()["calls"][launched.name]
    seen.targets[launched.name] = targets(site, site.state()["group"])[launched.name]


def spot(site: Site, seen: Seen) -> None:
    second = site.hosts[1]
    began = time.monotonic()
    site.control(f"/hosts/{second.name}/notices", {"kind": "spot", "seconds": SPOT})
    second.wait("leaving")

    def empty() -> dict[str, Any] | None:
        said = second.status()
        return said if (said["operation"] or {}).get("outcome") == "succeeded" else None

    seen.spot = site.until(empty, "the last drain has ended")
    second.sh("systemctl stop app.service")  # what is left there is cut
    seen.spot_took = time.monotonic() - began
    seen.spot_rejoin = second.sh("zdd-agent rejoin", check=False)


def test_status_names_the_group_its_minimum_and_what_a_drain_does_there(seen: Seen) -> None:
    assert f"auto scaling: {GROUP}: InService, health check EC2, minimum 3; a drain enters Standby" in seen.status


def test_standby_at_the_minimum_is_refused_with_the_numbers_and_changes_nothing(seen: Seen) -> None:
    assert seen.full is not None
    assert seen.full.returncode == 4
    assert "Standby takes one of 3 desired instances of web, whose minimum is 3" in seen.full.stderr
    assert seen.after_full["targets"]["h1"] == "healthy"
    assert not {"DeregisterTargets", "EnterStandby", "UpdateAutoScalingGroup"} & seen.after_full["calls"].keys()


def test_with_room_a_deploy_takes_its_host_to_standby_and_back(seen: Seen) -> None:
    assert list(seen.at["h3"]) == ["InService", "EnteringStandby", "Standby", "Pending"]
    assert seen.standby[0] != seen.standby[1]


def test_a_scale_in_does_not_disturb_the_deploy_of_another_host(seen: Seen) -> None:
    assert seen.deploy[0] == 0, seen.deploy[1]
    assert {"EnteringStandby", "Standby", "Pending"} <= seen.at["h2"].keys()


def test_requests_that_outlive_the_deregistration_delay_of_a_host_that_is_terminated_are_answered_whole(
    seen: Seen,
) -> None:
    assert seen.long
    assert [one.error for one in seen.long if one.error] == []


def test_the_hook_is_completed_with_the_last_answer_and_not_after_its_hour(seen: Seen) -> None:
    last, at = max(one.ended for one in seen.long), seen.at["h1"]
    assert last > at["Terminating:Wait"]
    proceeds = min(at[one] for one in ("Terminating:Proceed", "gone") if one in at)
    assert 0 <= proceeds - last <= 2


def test_a_rejoin_by_the_deploy_tool_of_a_host_that_is_being_terminated_is_refused(seen: Seen) -> None:
    assert seen.rejoin is not None
    assert seen.rejoin.returncode == 4
    assert "cannot rejoin: Auto Scaling is about to terminate this instance" in seen.rejoin.stderr


def test_a_path_unit_acts_once_when_a_host_begins_to_leave(seen: Seen) -> None:
    assert len(seen.acted.splitlines()) == 1


def test_a_launch_is_in_service_only_once_its_app_answers_and_the_group_alone_registers_it(seen: Seen) -> None:
    assert seen.at["h4"]["InService"] - seen.booted_at >= SLOW
    assert "Pending:Wait" in seen.at["h4"]
    assert seen.targets["h4"] == "healthy"
    assert seen.launched["CompleteLifecycleAction"] >= 1
    assert "RegisterTargets" not in seen.launched


def test_after_a_spot_notice_the_host_is_empty_long_before_its_end_and_does_not_come_back(seen: Seen) -> None:
    assert seen.spot["posture"] == "leaving"
    assert seen.spot_took < SPOT
    assert seen.spot_rejoin is not None
    assert seen.spot_rejoin.returncode == 4
    assert "this spot instance will terminate" in seen.spot_rejoin.stderr


def test_no_request_fails_in_all_this(seen: Seen) -> None:
    assert seen.requests > 1000
    assert seen.failed == 0, json.dumps(seen.at)
