"""The load balancers' model under a clock that only a test moves. Shared by the tests of the facts."""

import random

from zdd_lab.model.elb import Elb
from zdd_lab.model.profile import ALB, Profile
from zdd_lab.model.registration import TargetSpec
from zdd_lab.model.schedule import Command
from zdd_lab.model.target import HealthCheck, NodeHealth
from zdd_lab.model.target_health import TargetHealth
from zdd_lab.model.topology import Group, Instance, Listener, LoadBalancer, NodePlace, Topology

WEB = "arn:group/web"  # instance targets, port 80, behind an ALB
IPS = "arn:group/ips"  # ip targets, port 80, behind an ALB
TCP = "arn:group/tcp"  # instance targets, port 80, behind an NLB
LONE = "arn:group/lone"  # behind nothing
ZONE_A, ZONE_B, ZONE_C = "us-east-1a", "us-east-1b", "us-east-1c"
HOST = "i-1"  # runs, in zone a
ADDRESS = "127.1.2.11"
PASSES = NodeHealth("healthy")
FAILS = NodeHealth("unhealthy", "Target.ResponseCodeMismatch", "Health checks failed with these codes: [500]")


class Scene:
    """One account: four groups, an ALB and an NLB over zones a and b, three hosts; each node passes by default."""

    def __init__(
        self,
        profile: Profile = ALB,
        *,
        delay: float = 300,
        attributes: dict[str, str] | None = None,
        check: HealthCheck | None = None,
        state: str = "running",
        nlb_crosses_zones: bool = True,
        seed: int = 7,
    ) -> None:
        self.now = self.started = 1000.0
        self.commands: list[tuple[float, Command]] = []
        self.verdict: NodeHealth | None = PASSES  # of a node's first check, right after it learned; None: no check
        places = {f"alb-{z[-1]}": NodePlace(z, "application") for z in (ZONE_A, ZONE_B)}
        places |= {f"nlb-{z[-1]}": NodePlace(z, "network") for z in (ZONE_A, ZONE_B)}
        self.elb = Elb(profile, random.Random(seed), places)  # lags, no secrets
        self.attributes = {"deregistration_delay.timeout_seconds": f"{delay:g}"} | (attributes or {})
        self.check = check or HealthCheck()
        self.crosses = nlb_crosses_zones
        self.configure(state)

    def configure(self, state: str = "running", *, listeners: bool = True) -> None:
        def group(arn: str, kind: str, protocol: str) -> Group:
            return Group(arn, arn.rpartition("/")[2], kind, protocol, 80, self.check, self.attributes)

        zones = frozenset({ZONE_A, ZONE_B})
        groups = [group(WEB, "instance", "HTTP"), group(IPS, "ip", "HTTP")]
        groups += [group(TCP, "instance", "TCP"), group(LONE, "instance", "HTTP")]
        forwards = (
            Listener("l-1", "alb", 80, WEB, frozenset({WEB, IPS})),
            Listener("l-2", "nlb", 80, TCP, frozenset({TCP})),
        )
        self.elb.configure(
            Topology(
                groups={one.arn: one for one in groups},
                load_balancers={
                    "alb": LoadBalancer("alb", "application", zones),
                    "nlb": LoadBalancer("nlb", "network", zones, self.crosses),
                },
                listeners=forwards if listeners else (),
                instances={
                    HOST: Instance(HOST, state, ADDRESS, ZONE_A),
                    "i-2": Instance("i-2", "running", "127.1.2.12", ZONE_B),
                    "i-far": Instance("i-far", "running", "127.1.2.13", ZONE_C),
                },
            ),
            self.now,
        )

    def register(self, group: str = WEB, target: str = HOST, port: int | None = 80, zone: str | None = None) -> None:
        self.elb.register(group, [TargetSpec(target, port, zone)], self.now)

    def deregister(self, group: str = WEB, target: str = HOST, port: int | None = 80) -> None:
        self.elb.deregister(group, [TargetSpec(target, port)], self.now)

    def listed(self, group: str = WEB) -> list[TargetHealth]:
        """DescribeTargetHealth without Targets."""
        return self.elb.describe(group, None, self.now)

    def asked(self, group: str = WEB, target: str = HOST, port: int | None = 80) -> TargetHealth:
        """DescribeTargetHealth with this one target."""
        (found,) = self.elb.describe(group, [TargetSpec(target, port)], self.now)
        return found

    def told(self, group: str = WEB, target: str = HOST, port: int | None = 80) -> tuple[str, str | None]:
        found = self.asked(group, target, port)
        return found.state, found.reason

    def pass_time(self, seconds: float) -> None:
        """Move the clock; what nodes learn meanwhile is kept in `commands` with its moment."""
        end = self.now + seconds
        while (due := self.elb.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            for command in self.elb.due(self.now):
                self.commands.append((self.now, command))
                if command.action == "register" and self.verdict is not None:
                    self.elb.health_reported(command.node, command.key, self.verdict, self.now)
        self.now = end

    def report(self, verdict: NodeHealth, node: str, group: str = WEB, target: str = HOST) -> None:
        key = self.asked(group, target).key
        self.elb.health_reported(node, key, verdict, self.now)

    def moments(self, action: str) -> list[float]:
        """When nodes learned of it, s after `started`."""
        return [at - self.started for at, command in self.commands if command.action == action]

    def in_service(self, group: str = WEB, target: str = HOST) -> "Scene":
        """Register the target, and let every node find it healthy; count time from then on."""
        self.register(group, target)
        self.pass_time(400)
        assert self.told(group, target) == ("healthy", None)
        self.commands.clear()
        self.started = self.now
        return self
