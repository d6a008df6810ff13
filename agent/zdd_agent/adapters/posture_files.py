"""The posture of each service as a file, for systemd's path units: `FOLDER/SERVICE/POSTURE`, one at a time.

A drain must not wait for who watches: nothing here raises, and each step is a rename on a file system in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from zdd_agent.model.operation import Posture

log = logging.getLogger(__name__)


def given_folder(environ: Mapping[str, str]) -> Path | None:
    """The folder of `RuntimeDirectory=` in the unit (systemd.exec(5)); None where there is none."""
    first = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


class PostureFiles:
    """Shows postures. For one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shown: dict[str, Posture] = {}
        self._said = ""

    def show(self, service: str, posture: Posture) -> None:
        """From now on the service has this posture."""
        if self._shown.get(service) is posture:
            return
        self._shown[service] = posture
        try:
            self._put(self._folder / service, posture)
        except OSError as error:
            if str(error) != self._said:
                log.warning("cannot show the posture of %s as a file: %s", service, error)
            self._said = str(error)

    def _put(self, folder: Path, posture: Posture) -> None:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # the unit's UMask= hides both from others
        new = folder / posture.value
        old = [path for path in folder.iterdir() if path != new]
        if old and posture is Posture.UNKNOWN:
            return  # this agent has not looked yet: no reason to take back what an earlier one knew
        if new.exists():  # as an earlier daemon left it
            for path in old:
                path.unlink()
            return
        if not old:
            new.touch()
            new.chmod(0o644)
            return
        # A rename: there is no moment without a posture, and none with two.
        old[0].rename(new)
        for path in old[1:]:
            path.unlink()
