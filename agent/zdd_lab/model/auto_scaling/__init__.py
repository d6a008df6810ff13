"""The Auto Scaling model: groups, their instances' lifecycle, hooks, standby, health. No I/O, no clock."""
