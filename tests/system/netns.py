"""Network namespaces: a call made in another one."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>


def enter(namespace: str | Path) -> None:
    """Move this thread into a network namespace; what it starts from now on is in there."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    finally:
        os.close(descriptor)


def inside(namespace: str | Path, call: Callable[[], T]) -> T:
    """What `call` returns there; a socket that it opens stays there. Only its own thread moves."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter(namespace)
            results.append(call())
        except BaseException as error:  # noqa: BLE001  handed on to who waits
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
