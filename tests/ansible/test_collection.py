"""The collection as Ansible's own tools see it, and its modules on a host of the lab."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_rig import COLLECTION, Ansible, until_phase
from rollout import agent, posture
from zdd_agent.cli.arguments import _CHECKS, _UNTIL
from zdd_agent.cli.client import DEFAULT_SOCKET
from zdd_agent.errors import BY_WIRE
from zdd_lab.threaded import ThreadedLab

MODULES = ("zdd_drain", "zdd_rejoin", "zdd_status")
# Those of ansible-test's sanity tests that install nothing.
OFFLINE = (
    "action-plugin-docs", "compile", "empty-init", "ignores", "line-endings", "no-assert", "no-get-exception",
    "no-illegal-filenames", "no-smart-quotes", "replace-urlopen", "shebang", "symlinks", "use-argspec-type-path",
    "use-compat-six",
)  # fmt: skip


def module(
    ansible: Ansible, inventory: Path, host: str, name: str, arguments: dict[str, Any] | None = None, *flags: str
) -> dict[str, Any]:
    """What a module answers on a host, as a task would register it."""
    given = {"socket": "{{ zdd_socket }}", **(arguments or {})}
    words = ("ansible", "-i", inventory, host, "-m", f"zdd.agent.{name}", "-a", json.dumps(given), *flags)
    done = ansible.run(*words)
    said = done.stdout
    if "=>" not in said:
        raise AssertionError(said + done.stderr)
    result: dict[str, Any] = json.JSONDecoder().raw_decode(said[said.index("{", said.index("=>")) :])[0]
    return result | {"failed": "FAILED!" in said.split("=>")[0]}


def test_ansible_lint_finds_nothing_at_its_production_profile(ansible: Ansible) -> None:
    if not (ansible.where / "ansible-lint").exists():
        pytest.skip("no ansible-lint beside ansible-playbook")
    config = COLLECTION / ".ansible-lint"
    done = ansible.run("ansible-lint", "--offline", "--nocolor", "-c", config, cwd=ansible.installed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Profile 'production' was required, and it passed" in done.stdout + done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_ansible_doc_reads_every_module(ansible: Ansible, name: str) -> None:
    done = ansible.run("ansible-doc", "--json", f"zdd.agent.{name}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)[f"zdd.agent.{name}"]
    assert told["doc"]["options"]["socket"]["default"] == DEFAULT_SOCKET
    assert told["examples"]
    assert {"msg", "kind", "rc"} <= told["return"].keys()


def test_ansible_doc_reads_the_role(ansible: Ansible) -> None:
    done = ansible.run("ansible-doc", "-t", "role", "--json", "zdd.agent.zdd_agent")
    told = json.loads(done.stdout)["zdd.agent.zdd_agent"]["entry_points"]["main"]["options"]
    defaults = yaml.safe_load((COLLECTION / "roles/zdd_agent/defaults/main.yml").read_text())
    assert {name: option["default"] for name, option in told.items()} == defaults


def test_ansibles_own_sanity_tests_that_need_nothing_else_pass(ansible: Ansible, tmp_path: Path) -> None:
    copy = _outside_of_git(ansible, tmp_path)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    tests = [word for name in OFFLINE for word in ("--test", name)]
    done = ansible.run("ansible-test", "sanity", *tests, "--python", python, "--color", "no", cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr


def test_validate_modules_finds_the_options_as_documented_and_nothing_but_our_license(
    ansible: Ansible, tmp_path: Path
) -> None:
    # Called by itself: ansible-test would make it a venv from the network.
    scripts = next(ansible.where.parent.glob("lib/python*/site-packages/ansible_test/_util/controller/sanity"))
    argv = [ansible.where / "python", scripts / "validate-modules" / "validate.py", "--format", "plain", "--arg-spec"]
    argv += ["--collection", "ansible_collections/zdd/agent", "--collection-version", "0.1.0"]
    done = subprocess.run(
        [*argv, *(f"plugins/modules/{name}.py" for name in MODULES)],
        cwd=_outside_of_git(ansible, tmp_path),
        env=ansible.env | {"PYTHONPATH": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("validate-modules needs voluptuous and antsibull-docs-parser beside ansible-core")
    found = [line for line in (done.stdout + done.stderr).splitlines() if "missing-gplv3-license" not in line]
    assert found == []
    assert done.stdout.count("missing-gplv3-license") == len(MODULES), "it did look"


def _outside_of_git(ansible: Ansible, folder: Path) -> Path:
    """The installed collection where no repository hides its files from ansible-test."""
    copy = folder / "ansible_collections" / "zdd" / "agent"
    shutil.copytree(ansible.installed, copy)
    return copy


def test_the_modules_know_every_kind_exit_check_and_flag_of_the_agent() -> None:
    tree = ast.parse((COLLECTION / "plugins" / "module_utils" / "agent.py").read_text())
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    kinds = {wire: kind.exit_code for wire, kind in BY_WIRE.items()}
    assert constants["EXIT_CODES"] == {"done": 0} | kinds
    assert constants["DEFAULT_SOCKET"] == DEFAULT_SOCKET
    documented = {
        name: yaml.safe_load(_constant(COLLECTION / "plugins/modules" / f"{name}.py", "DOCUMENTATION"))["options"]
        for name in MODULES
    }
    assert tuple(documented["zdd_drain"]["force"]["choices"]) == _CHECKS["drain"]
    assert tuple(documented["zdd_rejoin"]["force"]["choices"]) == _CHECKS["rejoin"]
    assert tuple(documented["zdd_drain"]["until"]["choices"]) == _UNTIL


def test_what_runs_on_the_host_imports_the_standard_library_and_ansible_only() -> None:
    for file in (COLLECTION / "plugins").rglob("*.py"):
        words = [line.split()[1] for line in file.read_text().splitlines() if line.startswith(("import ", "from "))]
        own = {"__future__", "ansible", "ansible_collections"}
        assert {word.split(".")[0] for word in words} <= own | set(sys.stdlib_module_names), file


def test_drain_and_rejoin_change_once_and_then_nothing_and_a_check_tells_before(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    host = fleet.lab.hosts[0]
    target = f"web {host.identity.instance_id}:8080"

    def ask(verb: str, *flags: str) -> dict[str, Any]:
        return module(ansible, inventory, "h1", f"zdd_{verb}", {"reason": "test"}, *flags)

    checked = ask("drain", "--check", "--diff")
    assert checked["changed"]
    assert checked["msg"] == f"would deregister {target}"
    assert posture(host) == "in_service", "a check changes nothing"
    drained = ask("drain", "--diff")
    assert (drained["changed"], drained["kind"], drained["rc"]) == (True, "done", 0)
    assert drained["msg"].startswith("drained")
    assert drained["operation"]["reason"] == "test"
    assert any("deregistered" in event for event in drained["events"])
    assert module(ansible, inventory, "h1", "zdd_status")["posture"] == "drained"
    for flags in ((), ("--check",)):
        again = ask("drain", *flags)
        assert not again["changed"], again
    assert ask("rejoin", "--check")["changed"]
    back = ask("rejoin")
    assert back["changed"]
    assert back["msg"].startswith("rejoined")
    again = ask("rejoin")
    assert (again["changed"], again["msg"]) == (False, "already in service")


def test_the_diff_shows_the_posture_and_each_target_before_and_after(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    target = f"web {fleet.lab.hosts[0].identity.instance_id}:8080"
    play = inventory.with_name("diff.yml")
    task = {"zdd.agent.zdd_drain": {"socket": "{{ zdd_socket }}"}, "register": "done"}
    show = {"ansible.builtin.debug": {"msg": "DIFF {{ done.diff | to_json }}"}}
    play.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [task, show]}]))
    for flags in (("--check",), ()):
        said = ansible.playbook(inventory, play, "--diff", *flags).stdout
        line = next(line for line in said.splitlines() if "DIFF {" in line)
        diff = json.loads(json.loads(line.split(":", 1)[1]).removeprefix("DIFF "))
        assert diff["before"] == {"posture": "in_service", "targets": {target: "healthy"}}
        assert diff["after"]["posture"] == "drained"
        assert diff["after"]["targets"][target] in ("unused", "draining")


def test_a_failure_speaks_in_the_agents_own_words_with_its_kind_and_the_commands_exit(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    first, second, third = fleet.lab.hosts
    for host in (second, third):
        assert agent(host, "drain", "--force", "min-healthy").returncode == 0
    command = agent(first, "drain")
    told = module(ansible, inventory, "h1", "zdd_drain")
    assert told["failed"]
    assert (told["kind"], told["rc"]) == ("refused", command.returncode)
    assert told["msg"] in command.stderr
    assert told["hint"] in command.stderr
    checked = module(ansible, inventory, "h1", "zdd_drain", None, "--check")
    assert (checked["failed"], checked["kind"]) == (True, "refused")
    forced = module(ansible, inventory, "h1", "zdd_drain", {"force": ["min-healthy"]}, "--check")
    assert forced["changed"]
    gone = module(ansible, inventory, "h1", "zdd_status", {"socket": "/nowhere/agent.sock"})
    assert (gone["failed"], gone["kind"], gone["rc"]) == (True, "unreachable", 5)
    assert "systemctl start zdd-agent" in gone["hint"]


def test_while_the_other_verb_is_under_way_a_module_waits_for_it_or_fails_as_busy(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    host = fleet.lab.hosts[0]
    assert agent(host, "drain", "--detach").returncode == 0
    until_phase(host, "draining")
    busy = module(ansible, inventory, "h1", "zdd_rejoin", {"when_busy": "fail"})
    assert (busy["failed"], busy["kind"], busy["rc"]) == (True, "busy", 7)
    waited = module(ansible, inventory, "h1", "zdd_rejoin")
    assert waited["changed"]
    assert posture(host) == "in_service"


def test_the_command_is_as_good_with_the_changed_when_that_is_documented(
    ansible: Ansible, inventory: Path, fleet: ThreadedLab
) -> None:
    tasks = [
        task | {"environment": {"ZDD_AGENT_SOCKET": "{{ zdd_socket }}"}, "become": False}
        for name in ("zdd_drain", "zdd_rejoin")
        for task in yaml.safe_load(_constant(COLLECTION / "plugins/modules" / f"{name}.py", "EXAMPLES"))
        if "ansible.builtin.command" in task
    ]
    assert len(tasks) == 2
    twice = [one | {"name": f"{one['name']} {n}"} for one in tasks for n in (1, 2)]
    play = inventory.with_name("command.yml")
    play.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": twice}]))
    done = ansible.playbook(inventory, play)
    assert done.returncode == 0, done.stdout
    said = [line.split(":")[0] for line in done.stdout.splitlines() if line.endswith(": [h1]")]
    assert said == ["changed", "ok", "changed", "ok"], done.stdout


def _constant(file: Path, name: str) -> str:
    return file.read_text().split(f'{name} = r"""', 1)[1].split('"""', 1)[0]


def test_the_roles_settings_are_what_the_agent_reads(ansible: Ansible, inventory: Path, tmp_path: Path) -> None:
    settings = {
        "min_healthy": "50%",
        "target_groups": ["web", 'a"b'],
        "drain": {"until": "idle", "floor_seconds": {"application": 12.5}},
    }
    template = {"src": str(COLLECTION / "roles/zdd_agent/templates/settings.toml.j2"), "dest": str(tmp_path / "s.toml")}
    play = tmp_path / "template.yml"
    play.write_text(
        json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [{"ansible.builtin.template": template}]}])
    )
    done = ansible.playbook(inventory, play, variables={"zdd_agent_settings": settings})
    assert done.returncode == 0, done.stdout
    settings["target_groups"] = ["web"]
    command = [Path(sys.executable).with_name("zdd-agent"), "check-config"]
    paths = {"ZDD_AGENT_CONFIG": str(tmp_path / "s.toml"), "ZDD_AGENT_STATE_DIRECTORY": str(tmp_path)}
    env = {**paths, "PATH": "/usr/bin:/bin"}
    checked = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "12.5" in checked.stdout
