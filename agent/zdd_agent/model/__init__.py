"""Frozen values: operations, AWS's things, the kernel's connections. No I/O."""
