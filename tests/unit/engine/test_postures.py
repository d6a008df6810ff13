"""Each change of the posture is shown as it happens."""

from __future__ import annotations

from fakes import group
from host import Host
from zdd_agent.model.operation import Posture, Verb


def test_a_deploy_is_shown_posture_by_posture() -> None:
    host = Host(group())
    host.aws.put("web")
    host.aws.put_sibling("web")
    host.status()
    host.rest(10)
    host.do(Verb.DRAIN)
    host.rest(10)
    host.do(Verb.REJOIN)
    host.rest(10)
    assert host.postures.shown == [
        Posture.IN_SERVICE,
        Posture.DRAINING,
        Posture.DRAINED,
        Posture.REJOINING,
        Posture.IN_SERVICE,
    ]


def test_a_host_that_nobody_has_asked_about_is_unknown_and_no_call_is_made_to_find_out() -> None:
    host = Host(group())
    host.rest(60)
    assert host.postures.shown == [Posture.UNKNOWN]
    assert host.aws.calls == []


def test_a_host_that_will_be_gone_is_shown_as_leaving_and_nothing_else() -> None:
    host = Host(group(), auto_scaling={"mode": "watch"})
    host.aws.put("web")
    host.status()
    host.rest(10)
    host.metadata.state = "Terminated"
    host.rest(400)
    assert host.postures.shown == [Posture.IN_SERVICE, Posture.LEAVING]
