"""Which targets are this host."""

from dataclasses import replace

from fakes import ME, arn, group
from zdd_agent.engine.discovery import named_targets, own_targets
from zdd_agent.model.aws import State, Target, TargetHealth

BOTH = replace(ME, addresses=("10.0.0.1", "10.0.1.1", "fd00::1"))


def health(*ids: str) -> list[TargetHealth]:
    return [TargetHealth(Target(arn("web"), name, 80), State.HEALTHY) for name in ids]


def test_an_address_of_any_interface_however_it_is_spelt_is_this_host() -> None:
    found = own_targets(BOTH, group(target_type="ip"), health("10.0.1.1", "FD00:0::1", "10.0.0.9", "i-me"))
    assert [t.id for t in found] == ["10.0.1.1", "FD00:0::1"]


def test_in_a_group_of_instances_only_the_instance_id_counts() -> None:
    assert [t.id for t in own_targets(BOTH, group(), health("i-me", "10.0.0.1"))] == ["i-me"]


def test_a_group_of_ipv6_addresses_gets_this_hosts_ipv6_address() -> None:
    (target,) = named_targets(BOTH, [group(target_type="ip", ip_address_type="ipv6")])
    assert (target.id, target.zone) == ("fd00::1", None)


def test_an_address_in_a_group_of_another_vpc_is_registered_for_all_zones() -> None:
    (target,) = named_targets(BOTH, [group(target_type="ip", vpc_id="vpc-2")])
    assert (target.id, target.zone) == ("10.0.0.1", "all")
