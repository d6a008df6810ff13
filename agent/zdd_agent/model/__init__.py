"""Frozen values: operations, AWS's things, the kernel's connections. They touch nothing."""
