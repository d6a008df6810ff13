"""The moto server that the endpoint passes calls on to, in its own process."""

import asyncio
import sys
from pathlib import Path
from subprocess import Popen

from zdd_lab.processes import children
from zdd_lab.processes.serving import listens

_START_TIMEOUT = 20.0  # s; it takes about 1 s unless the machine is busy


class MotoProcess:
    """Starts and stops one moto server. Its state is gone when it stops."""

    def __init__(self, address: str, port: int, log: Path) -> None:
        self.url = f"http://{address}:{port}"
        self._address, self._port, self._log = address, port, log
        self._child: Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            children.ChildStartError: it ended, or something else listens there, most likely another lab.
            TimeoutError: it does not listen in time.
        """
        if await listens(self._address, self._port):
            raise children.ChildStartError(
                f"cannot start moto on {self.url}: another lab runs there; use another --prefix"
            )
        # AWS's own policies too: roles get them beside ours.
        known = {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
        env = children.bare_environment() | known | {"AWS_EC2_METADATA_DISABLED": "true"}
        argv = [sys.executable, "-m", "zdd_lab.aws.moto_process", self._address, str(self._port)]
        self._child = children.spawn(argv, env, self._log)
        async with asyncio.timeout(_START_TIMEOUT):
            while not await listens(self._address, self._port):
                if self._child.poll() is not None:
                    raise children.ChildStartError(f"cannot start moto on {self.url}: see {self._log}")
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        await asyncio.to_thread(children.stop, self._child)


def _serve(address: str, port: int) -> None:
    # Imported here: it is slow, and the lab's own process needs none of it.
    import logging  # noqa: PLC0415  see above

    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415  see above
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415  see above

    from zdd_lab.aws.moto_fixes import fix_moto  # noqa: PLC0415  see above

    fix_moto(address)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    make_server(address, port, application, threaded=True, request_handler=MotoRequestHandler).serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
