"""Packages for the hosts of these tests: ours, built once for all processes of a run, and Debian's."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import HERE, TOP, Host, run

BUILT = TOP / "build" / "test-packages"
# Everything that a package is made of.
_FOLDERS = ("agent/zdd_agent", "packaging", "systemd")
_FILES = ("requirements/agent.txt", "pyproject.toml", "CHANGELOG.md", "LICENSE")


def image() -> Path:
    """The folder of a minimal Debian."""
    return Path(run(HERE / "image.sh", seconds=600).stdout.strip())


def layer() -> Path:
    """The folder of the lab's app, as a layer over the image."""
    return Path(run(HERE / "layers.sh", seconds=300).stdout.strip())


def built(kind: str) -> Path:
    """Our package for this machine, built from this tree: kind is `deb` or `rpm`."""
    name = f"{kind}-{run('dpkg', '--print-architecture').stdout.strip()}"
    folder = BUILT / f"{name}-{_fingerprint()}"
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of two processes builds it, the other finds it
        if not folder.exists():
            for old in BUILT.glob(f"{name}-*"):
                shutil.rmtree(old)
            new = BUILT / f"new-{name}"
            env = {**os.environ, "PYTHONPATH": str(TOP / "agent"), "ZDD_PACKAGE_OUT": str(new)}
            subprocess.run([sys.executable, str(TOP / "packaging" / "build.py"), name], env=env, check=True)
            new.rename(folder)
    return next(folder.glob(f"*.{kind}"))


def _fingerprint() -> str:
    files = [TOP / name for name in _FILES] + [file for name in _FOLDERS for file in sorted((TOP / name).rglob("*"))]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(TOP)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def of_debian(names: tuple[str, ...], folder: Path) -> list[Path]:
    """The debs of these packages and of what the image lacks for them. Without a mirror the test is skipped."""
    (folder / "partial").mkdir(parents=True)
    status = f"Dir::State::status={image()}/var/lib/dpkg/status"
    # Its lock is the image's, which other test modules use at the same time.
    lock = "DPkg::Lock::Timeout=120"
    words = ("-o", lock, "-o", status, "-o", f"Dir::Cache::archives={folder}", "-o", "APT::Sandbox::User=root")
    done = run(
        "apt-get", "-qq", *words, "-y", "--no-install-recommends", "-d", "install", *names, check=False, seconds=300
    )
    if done.returncode != 0:
        pytest.skip(f"NOT PROVED: apt-get brings no {' '.join(names)}: {done.stderr.strip()[-200:]}")
    return sorted(folder.glob("*.deb"))


def install(host: Host, debs: list[Path]) -> None:
    """Install Debian's packages on a host."""
    for deb in debs:
        shutil.copyfile(deb, host.root / "opt" / deb.name)
    host.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /opt/*.deb && rm /opt/*.deb", seconds=300)
