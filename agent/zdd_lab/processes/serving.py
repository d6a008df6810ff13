"""Starts and stops the lab's small HTTP servers."""

import asyncio
import contextlib

from aiohttp import web

_GRACE = 0.2  # s that open requests get when the lab stops; a fault may hold one for minutes


async def serve(app: web.Application, address: str, port: int) -> web.AppRunner:
    """Serve on one address. Call `cleanup()` of what it returns to stop.

    Raises:
        OSError: the address is taken.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


async def listens(address: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(address, port)
        writer.close()
        return True
    return False
