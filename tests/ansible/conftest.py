"""The fixtures of ansible_rig, for all tests here."""

from ansible_rig import ansible, ansible_bin, fleet, inventory, pytest_report_header, running

__all__ = ["ansible", "ansible_bin", "fleet", "inventory", "pytest_report_header", "running"]
