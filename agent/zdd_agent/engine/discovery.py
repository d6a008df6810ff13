"""Which targets are this host: found through the ports, decided by pure functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import Identity, Membership, Target, TargetGroup, TargetHealth, plain_address
from zdd_agent.ports import LoadBalancing

# Finding the membership costs one DescribeTargetHealth for each group, from a budget of about 10 a second that the
# whole account shares (https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html).
SCAN_LIMIT = 25


def find(
    aws: LoadBalancing,
    identity: Identity,
    names: Sequence[str],
    known: Collection[str] = (),
    attached: Callable[[], tuple[str, ...]] = tuple,
    left: Collection[TargetGroup] = (),
) -> tuple[Membership, tuple[TargetGroup, ...], tuple[TargetHealth, ...]]:
    """This host's membership, the groups that were asked, and the health of the targets of those that hold it.

    It finds the host's instance ID, and every address that any of its network interfaces has now. Without `names`
    only the groups of the host's own VPC are asked: the same address can belong to somebody else's host in another
    VPC, so a group there (of a peered VPC, say) has to be named. Not found: addresses from a prefix that is
    delegated to an interface, and Elastic IP addresses, which no target group takes.

    Args:
        aws: Elastic Load Balancing.
        identity: who this host is.
        names: `target_groups` of the settings; empty to search the VPC.
        known: names and ARNs of groups that existed: it is not an error when one of them is gone.
        attached: the ARNs of the groups that its Auto Scaling group registers it with: these are asked where the VPC
            has too many.
        left: the groups that an operation has taken this host out of. The health of their targets is told as well, and
            what only costs a call to know of them is known.

    Raises:
        AgentError: TARGET_GROUP_NOT_FOUND when a named group does not exist and was never known. CONFIGURATION when
            the VPC has more than SCAN_LIMIT groups and none is named or attached.
    """
    groups = _named(aws, names, known) if names else _in_vpc(aws, identity, attached)
    old = {group.arn: group for group in left}
    mine: list[Target] = []
    population: list[TargetHealth] = []
    holding: list[TargetGroup] = []
    there: list[TargetGroup] = []
    for group in groups:
        try:
            health = aws.health(group.arn)
            targets = own_targets(identity, group, health)
            if targets:
                before = old.get(group.arn)
                holding.append(group.with_attributes_of(before) if before else aws.with_attributes(group))
                mine.extend(targets)
            if targets or group.arn in old:
                population.extend(health)
        except AgentError as error:
            if error.kind is not Kind.TARGET_GROUP_NOT_FOUND:
                raise
            continue  # deleted since it was listed: it holds nobody
        there.append(group)
    return Membership(tuple(holding), tuple(mine), named=tuple(names)), tuple(there), tuple(population)


def own_targets(identity: Identity, group: TargetGroup, health: Sequence[TargetHealth]) -> tuple[Target, ...]:
    """The targets of the group that are this host, on every port. Spelling does not matter in addresses."""
    own = identity.names(group)
    return tuple(h.target for h in health if plain_address(h.target.id) in own)


def named_targets(identity: Identity, groups: Sequence[TargetGroup]) -> tuple[Target, ...]:
    """One target for each group, on the group's own port: for a host that was never in them.

    Raises:
        AgentError: CONFIGURATION, when this host has no address of a group's family.
    """
    return tuple(Target(g.arn, identity.id_in(g), g.port, _zone(identity, g)) for g in groups)


def _zone(identity: Identity, group: TargetGroup) -> str | None:
    """AWS finds the zone by itself, except for an address outside the group's VPC: that needs `all`.

    Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html
    """
    return "all" if group.target_type == "ip" and group.vpc_id != identity.vpc_id else None


def _named(aws: LoadBalancing, names: Sequence[str], known: Collection[str]) -> tuple[TargetGroup, ...]:
    groups, missing = aws.named_groups(names)
    if strange := [name for name in missing if name not in known]:
        raise AgentError(
            Kind.TARGET_GROUP_NOT_FOUND,
            f"cannot find target group {', '.join(strange)}",
            hint="take it out of `target_groups` in the settings, or correct its name, then restart zdd-agent",
            value=", ".join(strange),
        )
    return groups


def _in_vpc(aws: LoadBalancing, identity: Identity, attached: Callable[[], tuple[str, ...]]) -> tuple[TargetGroup, ...]:
    groups = tuple(g for g in aws.groups_in_vpc(identity.vpc_id) if g.target_type in ("instance", "ip"))
    if len(groups) > SCAN_LIMIT:
        if arns := frozenset(attached()):
            return tuple(g for g in groups if g.arn in arns)
        raise AgentError(
            Kind.CONFIGURATION,
            f"cannot find this host's target groups: {identity.vpc_id} has {len(groups)} of them, "
            f"and asking more than {SCAN_LIMIT} would use up the account's API budget",
            hint="set `target_groups` in the settings to this host's groups",
            value="target_groups",
        )
    return groups
