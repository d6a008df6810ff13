"""Builds systemd-python for Amazon Linux's python3.11, which does not have it: from the pinned source, for both
architectures.

For arm64 it is cross-compiled. The linker gets a stub instead of that architecture's libsystemd: the names and versions
of its symbols are the same on both, and at run time the host's own library is loaded.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

PYTHON = "3.11"
# setup.py of systemd-python 235: module and its sources.
MODULES = {
    "_daemon": ["_daemon.c", "pyutil.c", "util.c"],
    "_journal": ["_journal.c", "pyutil.c"],
    "_reader": ["_reader.c", "pyutil.c", "strv.c"],
    "id128": ["id128.c", "pyutil.c"],
    "login": ["login.c", "pyutil.c", "strv.c"],
}
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/libsystemd.so.0")


def build_systemd_python(tree: Path, triplet: str, requirements: Path, cache: Path) -> None:
    """Compile the package `systemd` into `tree`."""
    cache.mkdir(parents=True, exist_ok=True)
    source = _source(requirements, cache)
    version = re.search(r"^Version: (.+)$", (source / "PKG-INFO").read_text(), re.M)[1]  # type: ignore[index]  # it has one
    package = tree / "systemd"
    package.mkdir()
    for module in ("__init__.py", "daemon.py", "journal.py"):
        shutil.copyfile(source / "systemd" / module, package / module)
    compiler = "gcc" if triplet == "x86_64-linux-gnu" else f"{triplet}-gcc"
    stub = _stub(compiler, cache)
    for name, files in MODULES.items():
        target = package / f"{name}.cpython-311-{triplet}.so"
        subprocess.run(
            [
                compiler, "-shared", "-fPIC", "-O2", "-g0", "-Wl,--build-id=none", f"-ffile-prefix-map={source}=.",
                "-D_GNU_SOURCE=1", f'-DPACKAGE_VERSION="{version}"', "-DLIBSYSTEMD_VERSION=252",
                "-I", _headers(), "-I", str(_systemd_headers(cache)), "-I", str(source / "systemd"),
                *(str(source / "systemd" / file) for file in files), str(stub), "-s", "-o", str(target),
            ],
            check=True,
        )  # fmt: skip
    for built in package.glob("*.so"):
        _check(built)
    info = tree / f"systemd_python-{version}.dist-info"
    info.mkdir()
    shutil.copyfile(source / "PKG-INFO", info / "METADATA")
    shutil.copyfile(source / "LICENSE.txt", info / "LICENSE.txt")


def _check(built: Path) -> None:
    """Check that Python or a named library defines every symbol that this needs: otherwise only the host shows it."""
    said = subprocess.run(["nm", "-D", "--undefined-only", built], check=True, stdout=subprocess.PIPE, text=True).stdout
    names = [line.split()[-1] for line in said.splitlines() if " w " not in line]
    lost = [name for name in names if "@" not in name and not name.startswith(("Py", "_Py"))]
    if lost:
        raise SystemExit(f"cannot build {built.name}: nothing defines {', '.join(lost)}")


def _source(requirements: Path, cache: Path) -> Path:
    block = re.search(r"^systemd-python==.+(?:\n +.+)+", requirements.read_text(), re.M)
    wanted = cache / "systemd-python.txt"
    wanted.write_text(block[0] + "\n")  # type: ignore[index]  # requirements/ holds it
    words = [
        "download",
        "-q",
        "--no-deps",
        "--require-hashes",
        "--no-binary=:all:",
        "--use-pep517",
        "--no-build-isolation",
    ]
    if not list(cache.glob("systemd*.tar.gz")):
        subprocess.run([sys.executable, "-m", "pip", *words, "-d", str(cache), "-r", str(wanted)], check=True)
    archive = next(cache.glob("systemd*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(cache, filter="data")
    return cache / archive.name.removesuffix(".tar.gz")


def _headers() -> str:
    """Find Python.h of 3.11. Both architectures are LP64; these modules use nothing of pyconfig.h that differs."""
    own = sysconfig.get_path("include")
    for folder in (own, f"/usr/include/python{PYTHON}"):
        if sys.version_info[:2] == (3, 11) or folder != own:
            if (Path(folder) / "Python.h").exists():
                return folder
    raise SystemExit(f"cannot build the rpm: no headers of Python {PYTHON}; on Debian 12: apt install python3.11-dev")


def _systemd_headers(cache: Path) -> Path:
    """Copy libsystemd's headers alone: this machine's other headers would mislead the cross compiler."""
    folder = cache / "include"
    shutil.copytree("/usr/include/systemd", folder / "systemd", dirs_exist_ok=True)
    return folder


def _stub(compiler: str, cache: Path) -> Path:
    """Make a libsystemd.so.0 without code: every symbol of the real one, with its version."""
    said = subprocess.run(["objdump", "-T", str(LIBRARY)], check=True, stdout=subprocess.PIPE, text=True).stdout
    versions: dict[str, list[str]] = {}
    for version, name in re.findall(r"\(?(LIBSYSTEMD_\d+)\)?\s+(sd_\w+)$", said, re.M):
        versions.setdefault(version, []).append(name)
    code, script = cache / "stub.c", cache / "stub.map"
    code.write_text("".join(f"void {name}(void) {{}}\n" for names in versions.values() for name in names))
    script.write_text("".join(f"{v} {{ global: {'; '.join(names)}; }};\n" for v, names in versions.items()))
    stub = cache / f"{compiler}-libsystemd.so"
    words = ["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libsystemd.so.0", f"-Wl,--version-script={script}"]
    subprocess.run([compiler, *words, str(code), "-o", str(stub)], check=True)
    return stub
