"""What the repository itself promises: its pins, its layers, its size, its commands."""

import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("agent", "lab", "dev", "build")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+?)(?: ; .+?)? \\$", re.MULTILINE)

MODULE_LINES = 300  # what is longer is not read in one sitting: docs/architecture.md


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def pins(name: str) -> dict[str, str]:
    return {canonicalize_name(pin["name"]): pin["version"] for pin in PIN.finditer(lock_text(name))}


def direct_requirements(name: str) -> list[Requirement]:
    """What pyproject.toml asks for by name, for one lock file."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    declared = {
        "agent": project["dependencies"],
        "lab": project["dependencies"] + extras["lab"],
        "dev": project["dependencies"] + extras["lab"] + extras["dev"],
        "build": PYPROJECT["dependency-groups"]["build"] + PYPROJECT["build-system"]["requires"],
    }
    return [Requirement(line) for line in declared[name]]


def make(*arguments: str) -> str:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_names_no_registry_and_no_path_of_a_machine(name: str) -> None:
    text = lock_text(name)

    assert "://" not in text
    assert not re.search(r"(^|\s)(-i|-f|--[a-z-]*index[a-z-]*|--find-links|--trusted-host)\b", text)
    assert not re.search(r"(^|[\s=])/\w", text), "an absolute path"


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_of_a_lock_file_is_pinned_with_a_hash(name: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", lock_text(name)).strip())

    assert entries
    for entry in entries:
        assert PIN.match(entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("name", LOCKS)
def test_every_direct_dependency_is_pinned_to_a_version_that_pyproject_accepts(name: str) -> None:
    locked = pins(name)

    for requirement in direct_requirements(name):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements/{name}.txt: run 'make lock'"
        assert requirement.specifier.contains(version, prereleases=True), f"{version} is not {requirement}"


@pytest.mark.parametrize(("smaller", "larger"), [("agent", "lab"), ("lab", "dev")])
def test_a_larger_lock_file_holds_the_smaller_one_at_the_same_versions(smaller: str, larger: str) -> None:
    assert pins(smaller).items() <= pins(larger).items()


def test_the_build_tools_agree_with_the_versions_that_dev_installs() -> None:
    build, dev = pins("build"), pins("dev")

    for name in build.keys() & dev.keys():
        assert build[name] == dev[name], name


def test_lint_checks_the_layers_and_that_every_module_has_its_place_in_them() -> None:
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    layers = {contract["containers"][0]: contract for contract in contracts if contract["type"] == "layers"}

    assert "lint-imports" in make("--dry-run", "lint")
    assert layers.keys() == {"zdd_agent", "zdd_lab"}
    assert all(contract["exhaustive"] for contract in layers.values())


def test_no_module_is_too_long_to_be_read_in_one_sitting() -> None:
    lines = {str(path): len(path.read_text().splitlines()) for path in (ROOT / "agent").rglob("*.py")}

    assert {path: length for path, length in lines.items() if length > MODULE_LINES} == {}


@pytest.mark.parametrize("package", ["zdd_agent", "zdd_lab"])
def test_each_name_of_a_class_stands_for_one_thing(package: str) -> None:
    found = [
        name
        for path in (ROOT / "agent" / package).rglob("*.py")
        for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)
    ]
    assert sorted(name for name, times in Counter(found).items() if times > 1) == []


def test_make_alone_lists_every_target() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    internal = {"lab-setup"}  # what `make demo` needs of `make setup`

    assert set(re.findall(r"^make (\S+)", make(), re.MULTILINE)) == set(phony.split()) - internal
    assert make("help") == make()


def test_ci_runs_lint_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"

    assert script.stat().st_mode & 0o100
    assert re.findall(r"^make .+$", script.read_text(), re.MULTILINE) == ["make lint", "make test"]


def test_the_declared_licence_is_the_one_in_the_tree() -> None:
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]


def test_no_two_classes_of_the_lab_have_the_same_name() -> None:
    files = (ROOT / "agent" / "zdd_lab").rglob("*.py")
    names = [name for path in files for name in re.findall(r"^ *class (\w+)", path.read_text(), re.MULTILINE)]

    assert names
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
