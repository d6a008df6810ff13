"""What a host is called in a target group, and what the group asks for."""

from dataclasses import replace

import pytest

from fakes import ME, group
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.aws import GroupMinimum, plain_address

BOTH = replace(ME, addresses=("10.0.0.1", "10.0.0.2", "fd00::1"))


def test_a_group_of_ipv6_addresses_names_and_reaches_this_host_by_its_ipv6_address() -> None:
    group6 = group(target_type="ip", ip_address_type="ipv6")
    assert BOTH.address_in(group6) == BOTH.id_in(group6) == "fd00::1"
    assert BOTH.id_in(group(target_type="ip")) == "10.0.0.1"
    assert BOTH.id_in(group(ip_address_type="ipv6")) == "i-me"


def test_a_host_without_an_address_of_the_groups_family_is_told_so() -> None:
    with pytest.raises(AgentError, match="this host has no IPv6 address") as caught:
        replace(ME, addresses=("10.0.0.1",)).address_in(group(ip_address_type="ipv6"))
    assert caught.value.kind is Kind.CONFIGURATION


def test_an_address_is_the_same_however_it_is_spelt() -> None:
    assert plain_address("FD00:0:0:0:0:0:0:1") == plain_address("fd00::1")
    assert plain_address("i-me") == "i-me"


@pytest.mark.parametrize(
    ("minimum", "registered", "wanted"),
    [(GroupMinimum(), 10, 1), (GroupMinimum(3), 10, 3), (GroupMinimum(3, 50.0), 10, 5), (GroupMinimum(1, 50.0), 3, 2)],
)
def test_the_groups_own_minimum_is_the_larger_of_a_number_and_a_percentage(
    minimum: GroupMinimum, registered: int, wanted: int
) -> None:
    assert minimum.of(registered) == wanted


def test_newer_settings_of_a_group_keep_what_only_its_attributes_tell() -> None:
    old = group(
        deregistration_delay=7.0,
        cross_zone=False,
        minimum=GroupMinimum(3, 50.0),
        connection_termination=True,
        preserve_client_ip=True,
        slow_start=30.0,
    )
    newer = group(port=9090, health_check=replace(old.health_check, port="9091"))
    assert newer.with_attributes_of(old) == replace(old, port=9090, health_check=newer.health_check)
