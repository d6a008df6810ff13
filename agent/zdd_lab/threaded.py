"""A lab in its own thread, for callers that are not asynchronous: tests, scripts, the demo."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from zdd_lab.lab import Lab

T = TypeVar("T")


class ThreadedLab:
    """`with ThreadedLab(hosts=2) as running:` gives `running.lab`. It takes the arguments of `Lab`.

    The thread must live as long as the lab: child processes die with the thread that started them.
    """

    def __init__(self, **arguments: Any) -> None:
        self.lab: Lab
        self._arguments = arguments
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="zdd-lab", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.lab = self.run(self._enter())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self.lab.close())
        finally:
            self._end()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 120.0) -> T:
        """Run a coroutine in the lab's loop and wait for what it returns.

        Raises:
            TimeoutError: it takes longer than `timeout` s.
        """
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    async def _enter(self) -> Lab:
        return await Lab(**self._arguments).__aenter__()

    def _end(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _end_tasks(self) -> None:
        """A lab that could not start in time still closes what it has started."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
