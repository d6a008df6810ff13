"""Who may read and who may operate."""

import pytest

from zdd_agent.api.access import Level, Peer, Policy, numbers

POLICY = Policy(
    operator_uids=frozenset({0, 990}),
    operator_gids=frozenset({800}),
    reader_uids=frozenset({1001}),
    reader_gids=frozenset({700}),
)


def peer(uid: int = 5000, *groups: int) -> Peer:
    return Peer(1, uid, frozenset(groups))


@pytest.mark.parametrize(
    ("who", "level"),
    [
        (peer(0), Level.OPERATE),
        (peer(990), Level.OPERATE),
        (peer(5000, 5000, 800), Level.OPERATE),
        (peer(1001), Level.READ),
        (peer(5000, 700), Level.READ),
        (peer(1001, 800), Level.OPERATE),
        (peer(990, 700), Level.OPERATE),
        (peer(5000), Level.NOTHING),
        (peer(5000, 0), Level.NOTHING),  # the group of root is not root
        (peer(800), Level.NOTHING),  # a user with the number of a group is not in it
        (peer(5000, 990, 1001), Level.NOTHING),
        (peer(2**32 - 1), Level.NOTHING),
    ],
)
def test_the_kernels_numbers_decide_and_the_higher_level_wins(who: Peer, level: Level) -> None:
    assert POLICY.level(who) is level


def test_a_policy_that_names_nobody_lets_nobody_in_not_even_root() -> None:
    nobody = Policy(frozenset(), frozenset(), frozenset(), frozenset())
    assert nobody.level(peer(0, 0)) is Level.NOTHING


def test_operating_holds_reading() -> None:
    assert Level.NOTHING < Level.READ < Level.OPERATE


def test_names_become_numbers_and_numbers_stay_and_unknown_names_are_told() -> None:
    known = {"deploy": 1001, "web": 1002}
    assert numbers(["deploy", "4711", "nobody-here"], known.__getitem__) == (
        frozenset({1001, 4711}),
        ("nobody-here",),
    )


@pytest.mark.parametrize("name", ["-1", "٣", "1.0", "", " 0"])
def test_what_only_looks_like_a_number_is_a_name(name: str) -> None:
    assert numbers([name], {}.__getitem__) == (frozenset(), (name,))
