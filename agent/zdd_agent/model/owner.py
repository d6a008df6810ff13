"""Whose record it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose record it is. An image baked from a host carries that host's record, which is not the clone's.

    Args:
        instance_id: empty until the instance metadata service has said it.
        boot_id: `/proc/sys/kernel/random/boot_id` of that moment; empty where it cannot be read.
    """

    instance_id: str = ""
    boot_id: str = ""
