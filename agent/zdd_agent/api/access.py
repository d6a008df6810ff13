"""Who may read and who may operate: decided from what the kernel says about the peer, in numbers only.

Source: unix(7), SO_PEERCRED and SO_PEERGROUPS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """What a peer may do; each level holds the ones below it."""

    NOTHING = 0
    READ = 1
    OPERATE = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected. `groups` holds its primary group as well."""

    pid: int
    uid: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Policy:
    """The uids and gids that may operate or read. A peer that none of them names may do nothing."""

    operator_uids: frozenset[int]
    operator_gids: frozenset[int]
    reader_uids: frozenset[int]
    reader_gids: frozenset[int]

    def level(self, peer: Peer) -> Level:
        """What this peer may do."""
        if peer.uid in self.operator_uids or peer.groups & self.operator_gids:
            return Level.OPERATE
        if peer.uid in self.reader_uids or peer.groups & self.reader_gids:
            return Level.READ
        return Level.NOTHING


def numbers(names: Iterable[str], look_up: Callable[[str], int]) -> tuple[frozenset[int], tuple[str, ...]]:
    """The numbers of these names, and the names that this host does not know.

    Args:
        names: names, or numbers as text.
        look_up: name to number; raises KeyError for an unknown name.
    """
    known: set[int] = set()
    unknown: list[str] = []
    for name in names:
        if name.isascii() and name.isdigit():
            known.add(int(name))
            continue
        try:
            known.add(look_up(name))
        except KeyError:
            unknown.append(name)
    return frozenset(known), tuple(unknown)
