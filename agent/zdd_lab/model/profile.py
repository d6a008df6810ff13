"""Every time constant of the lab, with unit and source. `ALB` is as long as on AWS, `FAST` a tenth of it.

Sources: [doc] is AWS's documentation, [seen] is measured or reported by others on AWS, [open] is not known.
"""

from dataclasses import dataclass, fields, replace

from zdd_lab.model.target import NodeSettings

Range = tuple[float, float]

# They count checks and calls, so they do not scale with time.
_COUNTS = frozenset({"healthy_threshold", "unhealthy_threshold", "describe_burst", "change_burst"})
_RATES = frozenset({"describe_rate", "change_rate"})


@dataclass(frozen=True, slots=True)
class Profile:
    """How long things take, and what the lab does where AWS does not say.

    Ranges are (shortest, longest): each node and each registration draws a random value from them.
    """

    name: str = "alb"

    # Lags of the data plane, s. On an ALB new requests arrive for 17-25 s after DeregisterTargets [seen]. Part of that
    # is the API's; a node's own lag is taken as 10-20 s.
    alb_lag: Range = (10.0, 20.0)  # until a node learns of a registration or a deregistration
    alb_registration_lag: Range = (
        0.0,
        10.0,
    )  # from a registration until nodes can learn of it; with alb_lag <= 30 s
    nlb_deregistration_lag: Range = (110.0, 130.0)  # "about 120 s even at delay 0" [seen]
    nlb_learn_lag: Range = (120.0, 240.0)
    nlb_registration_lag: Range = (0.0, 60.0)  # with nlb_learn_lag: 120-300 s to the first check [seen]

    # The lab's own target group. The deregistration delay is never scaled, because clients plan with it: a fast lab
    # creates its group with a short one.
    deregistration_delay: float = 300.0  # s, AWS default [doc]
    check_interval: float = 10.0  # s
    check_timeout: float = 5.0  # s, AWS default for HTTP [doc]
    healthy_threshold: int = 2  # checks, unhealthy -> healthy
    unhealthy_threshold: int = 2  # checks, AWS default [doc]
    check_scale: float = (
        1.0  # real s for each s that the API is told of interval, timeout, slow start (the API takes >= 5)
    )

    # Connections, s.
    idle_timeout: float = 60.0  # ALB default [doc]
    response_timeout: float = 60.0  # an ALB answers 504 after its idle timeout without a byte [doc]

    # Auto Scaling, s. AWS gives no figure for any of them [open].
    scaling_check_interval: float = 30.0  # between two looks of a group's health check
    standby_exit_lasts: float = 5.0  # from ExitStandby to InService
    rebalance_after: float = 300.0  # uneven zones until AZRebalance acts

    # The API's budget for an account and Region, shared by all clients: burst in calls, rate in calls/s.
    describe_burst: float = 40.0  # all Describe* of elasticloadbalancing
    describe_rate: float = 10.0
    change_burst: float = 20.0  # RegisterTargets and DeregisterTargets together
    change_rate: float = 4.0

    # [open]: the agent must work either way.
    closes_idle_on_deregistration: bool = True  # idle connections to a target that is deregistered
    checks_while_draining: bool = False  # health checks go on while a target drains
    reregister_draining_ip: bool = True  # an ip target that drains may be registered again
    one_check_is_enough_on_nlb: bool = False  # NLB: one passed check makes a new target healthy
    invalid_target_when_gone: bool = False  # DescribeTargetHealth of one that is gone: InvalidTarget
    replaces_deregistered: bool = False  # a group of type ELB replaces an instance that is deregistered (`unused`)

    def scaled(self, factor: float, name: str) -> "Profile":
        """This profile with every time multiplied by `factor` and every rate divided by it."""
        changed: dict[str, object] = {"name": name}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or field.name in _COUNTS:
                continue
            if isinstance(value, tuple):
                changed[field.name] = tuple(end * factor for end in value)
            elif isinstance(value, float):
                changed[field.name] = value / factor if field.name in _RATES else value * factor
        return replace(self, **changed)  # type: ignore[arg-type]  # same fields, same types

    def node_settings(self, kind: str) -> NodeSettings:
        """The settings of a node of an `application` or a `network` load balancer."""
        return NodeSettings(
            idle_timeout=self.idle_timeout,
            response_timeout=self.response_timeout,
            closes_idle_on_deregistration=self.closes_idle_on_deregistration,
            checks_while_draining=self.checks_while_draining,
            one_check_is_enough=kind != "network" or self.one_check_is_enough_on_nlb,
        )

    def learn_lag(self, kind: str) -> Range:
        return self.nlb_learn_lag if kind == "network" else self.alb_lag

    def deregistration_lag(self, kind: str) -> Range:
        return self.nlb_deregistration_lag if kind == "network" else self.alb_lag

    def registration_lag(self, kind: str) -> Range:
        return self.nlb_registration_lag if kind == "network" else self.alb_registration_lag


ALB = Profile()
FAST = ALB.scaled(0.1, "fast")
PROFILES = {profile.name: profile for profile in (ALB, FAST)}
