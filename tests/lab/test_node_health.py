"""What a node thinks of its targets."""

import asyncio
from dataclasses import replace

import pytest

from lab.data_plane_rig import CHECK, rig, run, until
from zdd_lab.balancer.health_checks import matches
from zdd_lab.model.target import NodeHealth


def test_a_new_target_gets_nothing_before_its_first_passing_check() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.target(health=None)
            lab.node.register(lab.backend(target, replace(CHECK, timeout=1.0)))
            await until(lambda: target.checks > 0)
            assert (await lab.get()).status == 503
            assert target.seen == []
            assert lab.reports == [
                ("h1", NodeHealth("initial", "Elb.InitialHealthChecking", "Initial health checks in progress"))
            ]

    run(promise())


def test_one_passing_check_is_enough_for_a_new_target() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.target()
            lab.node.register(lab.backend(target, replace(CHECK, healthy_threshold=10)))
            await until(lambda: lab.state() == "healthy")
            assert target.checks == 1
            assert lab.reports[-1] == ("h1", NodeHealth("healthy"))

    run(promise())


def test_a_new_target_can_be_asked_for_the_whole_healthy_threshold() -> None:
    async def promise() -> None:
        async with rig(one_check_is_enough=False) as lab:
            target = await lab.healthy()
            assert target.checks == CHECK.healthy_threshold

    run(promise())


def test_a_target_turns_unhealthy_and_healthy_again_only_after_its_thresholds() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            target.health, before = 503, target.checks
            await until(lambda: lab.state() == "unhealthy")
            assert target.checks - before >= CHECK.unhealthy_threshold
            assert lab.reports[-1][1] == NodeHealth(
                "unhealthy", "Target.ResponseCodeMismatch", "Health checks failed with these codes: [503]"
            )
            target.health, before = 200, target.checks
            await until(lambda: lab.state() == "healthy")
            assert target.checks - before >= CHECK.healthy_threshold

    run(promise())


def test_a_check_without_an_answer_says_timeout() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.target(health=None)
            lab.node.register(lab.backend(target, replace(CHECK, timeout=0.05)))
            await until(lambda: lab.state() == "unhealthy")
            assert lab.reports[-1][1] == NodeHealth("unhealthy", "Target.Timeout", "Request timed out")

    run(promise())


def test_a_check_that_is_refused_says_failed() -> None:
    async def promise() -> None:
        async with rig() as lab:
            lab.node.register(lab.backend(await lab.target(start=False)))
            await until(lambda: lab.state() == "unhealthy")
            assert lab.reports[-1][1] == NodeHealth("unhealthy", "Target.FailedHealthChecks", "Health checks failed")

    run(promise())


def test_a_tcp_check_passes_whatever_the_app_would_answer() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.target(health=503)
            lab.node.register(lab.backend(target, replace(CHECK, protocol="TCP")))
            await until(lambda: lab.state() == "healthy")

    run(promise())


def test_a_check_goes_to_the_checks_own_port() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.target()
            lab.node.register(lab.backend(target, replace(CHECK, port=8081)))
            await until(lambda: lab.state() == "unhealthy")
            assert target.checks == 0

    run(promise())


def test_each_check_is_a_new_connection_that_ends_by_itself() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            await until(lambda: target.checks >= 3)
            await until(lambda: target.connections == 0)

    run(promise())


def test_a_target_that_is_deregistered_is_checked_no_more() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            lab.node.deregister(lab.key("h1"))
            await until(lambda: target.connections == 0)
            before = target.checks
            await asyncio.sleep(4 * CHECK.interval)
            assert target.checks == before

    run(promise())


def test_a_target_that_is_deregistered_is_checked_on_where_set_so() -> None:
    async def promise() -> None:
        async with rig(checks_while_draining=True) as lab:
            target = await lab.healthy()
            lab.node.deregister(lab.key("h1"))
            before = target.checks
            await until(lambda: target.checks > before + 2)

    run(promise())


def test_a_target_registered_again_is_initial_until_it_passes_anew() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            lab.node.deregister(lab.key("h1"))
            lab.node.register(lab.backend(target))
            assert lab.state() == "initial"
            assert (await lab.get()).status == 503
            await until(lambda: lab.state() == "healthy")
            assert (await lab.get()).status == 200

    run(promise())


def test_adding_a_known_target_again_changes_nothing_but_its_settings() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.healthy()
            lab.node.register(lab.backend(target))
            lab.node.register(lab.backend(target, replace(CHECK, interval=0.04)))
            assert lab.state() == "healthy"
            assert [health.state for _, health in lab.reports] == ["initial", "healthy"]

    run(promise())


def test_without_health_checks_a_target_counts_as_healthy() -> None:
    async def promise() -> None:
        async with rig() as lab:
            target = await lab.target(health=503)
            lab.node.register(lab.backend(target, replace(CHECK, enabled=False)))
            await until(lambda: lab.state() == "healthy")
            assert target.checks == 0

    run(promise())


@pytest.mark.parametrize(
    ("matcher", "status", "passes"),
    [
        ("200", 200, True),
        ("200", 204, False),
        ("200-299", 299, True),
        ("200-299", 300, False),
        ("200,302", 302, True),
        ("200, 301-302", 301, True),
    ],
)
def test_a_matcher_takes_codes_lists_and_ranges(matcher: str, status: int, passes: bool) -> None:
    assert matches(matcher, status) is passes
