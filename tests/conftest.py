"""In which order the tests run."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Modules that take a minute and more, the longest first: begun last, one of them would keep a whole run waiting. Those
# that mostly wait stand beside those that mostly compute.
SLOW = (
    "system/test_over_ssh.py",
    "faults/test_fault_matrix.py",
    "system/test_callers_over_ssh.py",
    "terraform/test_terraform.py",
    "system/test_auto_scaling.py",
    "system/test_survival.py",
    "ansible/test_rolling_again.py",
    "terraform/test_story.py",
    "system/test_membership.py",
    "system/test_mistakes.py",
    "system/test_units.py",
    "ansible/test_rolling.py",
    "faults/test_kill_matrix.py",
    "system/test_installed.py",
    "lab/test_haproxy_drains.py",
    "system/test_packages.py",
    "system/test_power.py",
    "deploy/test_hosts_that_leave.py",
    "deploy/test_callers.py",
    "ansible/test_collection.py",
    "terraform/test_policy.py",
    "lab/test_slots_at_once.py",
    "race/test_race.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by module; the order within one, and that of all the others, stays."""
    rank = {name: number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(HERE).as_posix(), len(SLOW)))
