"""The lab in its own network namespace, for hosts that live elsewhere: `lab_process.py PREFIX STATE HOSTS NAME...`.

Each host has an IMDS on the link-local address, inside that host's namespace and nowhere else. The first HOSTS
are there at once; an Auto Scaling group launches the others.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import web
from netns import inside

from zdd_lab.hosts.host import Host
from zdd_lab.lab import Lab
from zdd_lab.model.profile import FAST

METADATA = ("169.254.169.254", 80)


class BootedHost(Host):
    """A host whose app and agent are its own systemd's business."""

    async def open(self, poll_scale: float) -> None:
        listener = inside(f"/run/netns/{NAMESPACES[self.name]}", lambda: socket.create_server(METADATA))
        self._imds_server = web.AppRunner(self.imds.application(), access_log=None)
        await self._imds_server.setup()
        await web.SockSite(self._imds_server, listener).start()

    async def close(self) -> None:
        """EC2 takes the instance: whatever is under way there is cut off."""
        await asyncio.to_thread(subprocess.run, ["ip", "link", "set", self.name, "down"], check=False)
        await super().close()

    async def start_app(self, version: str, arguments: Sequence[str] = ()) -> None:
        pass

    async def start_agent(self, extra_env: Mapping[str, str] | None = None) -> None:
        pass


async def main(prefix: str, folder: Path, hosts: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # A Network Load Balancer here is quicker than a tenth of AWS's minutes.
    profile = replace(FAST, deregistration_delay=5.0, nlb_learn_lag=(0.5, 1.0), nlb_registration_lag=(0.0, 0.5),
                      nlb_deregistration_lag=(0.5, 1.0), response_timeout=60.0, idle_timeout=60.0)  # fmt: skip
    lab = Lab(
        prefix=prefix, profile=profile, hosts=hosts, state_folder=folder, wait_healthy=False,
        make_host=BootedHost, seed=7,
    )  # fmt: skip
    async with lab:
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    NAMESPACES = {f"h{n}": name for n, name in enumerate(sys.argv[4:], start=1)}
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
