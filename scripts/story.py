"""`make story`: Terraform creates the set-up of the article, Ansible rolls a release over it under requests."""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from zdd_lab.lab import Lab
from zdd_lab.model.iam import Policy
from zdd_lab.model.profile import FAST
from zdd_lab.processes import children
from zdd_lab.report.timeline import Run, Span, draw
from zdd_lab.traffic.records import read_records, summarize

TOP = Path(__file__).resolve().parent.parent
OLD, NEW = "v1", "v2"
_RATE = 100.0  # requests a second, beside the loop that is shown
_LOOP_SECONDS = 1.0  # between two requests of that loop
_CALM_SECONDS = 3.0  # of load before and after the play, so that the picture also shows the quiet time
_LISTENER = 8088  # 80 is for root
_APP = ("--slow-share", "0.03", "--slow-max", "1", "--start-seconds", "1")
_MIRRORS = (
    "/opt/*",
    "/usr/share/terraform/*",
    "/usr/local/share/terraform/*",
    "~/.terraform.d/*",
    "~/.local/share/terraform/*",
)
_RESTART = """---
- name: Restart the app with the release
  ansible.builtin.command: >-
    zdd-lab restart-app --prefix {{ lab_prefix }} --host {{ inventory_hostname }} --version {{ version }}
  changed_when: true
"""


_TERRAFORM_SAYS = ("Terraform has been", "Apply complete", "Destroy complete")


class StoryError(RuntimeError):
    """A step of the story went wrong, or something that it needs is missing."""


class Transcript:
    """Prints lines and keeps them in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8")

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self._file.write(line + "\n")
        self._file.flush()

    async def run(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], seen: Callable[[str], str], shown: str
    ) -> None:
        """Run a command and print what `seen` returns for each of its lines. Raises StoryError with its last lines."""
        self.say(f"\n$ {shown}")
        child = await asyncio.create_subprocess_exec(
            *children.dies_with_parent(argv), cwd=cwd, env=dict(env), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said: list[str] = []
        assert child.stdout is not None  # noqa: S101  asked for above
        async for raw in child.stdout:
            said.append(raw.decode(errors="replace").rstrip())
            if line := seen(said[-1]):
                self.say(line)
        if await child.wait() != 0:
            raise StoryError(f"{shown}: exit {child.returncode}\n" + "\n".join(said[-30:]))


class Spans:
    """Reads from the lines of Ansible when each host was out."""

    def __init__(self) -> None:
        self.done: list[Span] = []
        self._task, self._began = "", 0.0

    def line(self, line: str) -> str:
        """Read a line. Returns what to show of it."""
        if line.startswith("TASK ["):
            self._task = line.removeprefix("TASK [").partition("]")[0]
            if self._task == "Drain":
                self._began = time.time()
        elif line.startswith("changed: [") and self._task == "Rejoin":
            self.done.append(Span(line.split("[")[1].partition("]")[0], self._began, time.time()))
        return line.rstrip(" *")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 if no request failed."""
    parser = argparse.ArgumentParser(prog="make story", description=__doc__)
    parser.add_argument("--prefix", default="127.78.0", help="first three bytes of the lab's addresses (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/story"), help="folder for the results (%(default)s)")
    options = parser.parse_args(argv)
    try:
        return uvloop.run(_story(options.prefix, options.out.resolve(), _find_tools()))
    except (StoryError, OSError) as error:
        print(f"cannot tell the story: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _find_tools() -> dict[str, str]:
    """terraform, its mirror, and Ansible's folder. Raises StoryError with what to do about a missing one."""
    terraform = shutil.which("terraform")
    if terraform is None:
        raise StoryError("terraform is not on the PATH")
    mirror = find_mirror()
    if mirror is None:
        raise StoryError("no mirror with hashicorp/aws: TF_PLUGIN_DIR=<folder with registry.terraform.io below it>")
    beside = (
        os.environ.get("ZDD_ANSIBLE_BIN", ""),
        str(Path(sys.executable).parent),
        str(TOP / "build/ansible/venv/bin"),
    )
    ansible = next((one for one in beside if one and (Path(one) / "ansible-playbook").exists()), None)
    if ansible is None:
        raise StoryError("no ansible-playbook: `pip install ansible-core`, or ZDD_ANSIBLE_BIN=<its folder>")
    return {"terraform": terraform, "mirror": str(mirror), "ansible": ansible}


def find_mirror() -> Path | None:
    """A folder with HOSTNAME/hashicorp/aws in it: TF_PLUGIN_DIR, or where people and images keep one."""
    if named := os.environ.get("TF_PLUGIN_DIR"):
        return Path(named)
    for place in (Path(one).expanduser() for one in _MIRRORS):
        for found in sorted(place.parent.glob(f"{place.name}/*/hashicorp/aws")):
            return found.parents[2]
    return None


async def _story(prefix: str, folder: Path, tools: Mapping[str, str]) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    transcript = Transcript(folder / "transcript.txt")
    spans = Spans()
    lab = Lab(prefix=prefix, profile=FAST, hosts=0, state_folder=folder / "lab", wait_healthy=False, app_arguments=_APP)
    async with lab:
        terraform = _Terraform(lab, folder / "terraform", tools, transcript)
        outputs = await terraform.apply()
        group = outputs["target_group_arn"]
        hosts = await lab.adopt(group, Policy.parse(outputs["policy_json"]))
        async with asyncio.timeout(60):
            while any(one["state"] != "healthy" for one in lab.control.targets(group)):  # noqa: ASYNC110  has no event
                await asyncio.sleep(0.1)
        transcript.say(f"\n{len(hosts)} hosts in service with {OLD}, each with the role's policy and no other")
        async with _load(lab, folder / "requests.tsv"), _loop(lab, transcript):
            await asyncio.sleep(_CALM_SECONDS)
            await _play(lab, folder, tools, transcript, spans)
            await asyncio.sleep(_CALM_SECONDS)
        await terraform.destroy()
    records = list(read_records(folder / "requests.tsv"))
    figures = summarize(records)
    verdict = f"{figures['failed']:,} of {figures['requests']:,} requests failed"
    picture = draw(
        [Run("terraform apply && ansible-playbook zdd.agent.rolling", verdict, records, spans.done)],
        f"{len(hosts)} hosts that Terraform made, {_RATE:g} requests a second",
    )
    (folder / "timeline.svg").write_text(picture, "utf-8")
    (folder / "report.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    transcript.say(f"\n{verdict}; versions seen: {' '.join(figures['versions_seen'])}")
    transcript.say(f"{folder / 'transcript.txt'}\n{folder / 'timeline.svg'}")
    return 1 if figures["failed"] or figures["versions_seen"] != [OLD, NEW] else 0


class _Terraform:
    """The example of the article, in its own copy."""

    def __init__(self, lab: Lab, folder: Path, tools: Mapping[str, str], transcript: Transcript) -> None:
        ignore = shutil.ignore_patterns(".terraform*", "terraform.tfstate*")
        shutil.copytree(TOP / "terraform", folder, ignore=ignore)
        self._root = folder / "examples" / "article"
        given = {"listener_port": _LISTENER, "package": "zdd-agent", "vpc_cidr": f"{lab.prefix}.0/24"}
        (self._root / "terraform.tfvars.json").write_text(json.dumps(given))
        quiet = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "TF_CLI_CONFIG_FILE": os.devnull}
        bare = {name: text for name, text in lab.env().items() if not name.startswith("TF_")}
        self._env = bare | quiet
        self._tools, self._transcript = tools, transcript

    async def apply(self) -> dict[str, str]:
        """Run init and apply. Returns the outputs."""
        await self._run("init", "-backend=false", f"-plugin-dir={self._tools['mirror']}")
        await self._run("apply", "-auto-approve")
        asked = [self._tools["terraform"], "output", "-json"]
        told = await asyncio.create_subprocess_exec(
            *children.dies_with_parent(asked), cwd=self._root, env=self._env, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await told.communicate()
        return {name: one["value"] for name, one in json.loads(out).items()}

    async def destroy(self) -> None:
        await self._run("destroy", "-auto-approve")

    async def _run(self, command: str, *words: str) -> None:
        def seen(line: str) -> str:
            made, complete, _ = line.partition(": Creation complete")
            return f"  {made}" if complete else line if line.startswith(_TERRAFORM_SAYS) else ""

        argv = [self._tools["terraform"], command, "-no-color", *words]
        await self._transcript.run(argv, self._root, self._env, seen, f"terraform {command}")


async def _play(lab: Lab, folder: Path, tools: Mapping[str, str], transcript: Transcript, spans: Spans) -> None:
    """Install the collection and roll the release, with no AWS key and no AWS address."""
    home = folder / "ansible"
    role = home / "roles" / "release" / "tasks"
    role.mkdir(parents=True)
    (role / "main.yml").write_text(_RESTART)
    (home / "ansible.cfg").touch()
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "zdd_become": False}
    hosts = {host.name: {"zdd_socket": str(host.socket)} for host in lab.hosts}
    inventory = home / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": local | {"lab_prefix": lab.prefix}}}))
    path = os.pathsep.join([tools["ansible"], str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    env = children.bare_environment() | {
        "ANSIBLE_COLLECTIONS_PATH": str(home / "collections"),
        "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_ROLES_PATH": str(home / "roles"),
        "HOME": str(home),
        "NO_COLOR": "1",
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
    }
    galaxy = str(Path(tools["ansible"]) / "ansible-galaxy")
    build = [galaxy, "collection", "build", str(TOP / "packaging" / "ansible"), "--output-path", str(home)]
    await transcript.run(build, home, env, lambda _: "", "ansible-galaxy collection build packaging/ansible")
    archive = str(next(home.glob("*.tar.gz")))
    install = [galaxy, "collection", "install", archive, "-p", str(home / "collections"), "--offline", "--no-deps"]
    await transcript.run(install, home, env, lambda _: "", "ansible-galaxy collection install zdd-agent-*.tar.gz")
    words = ["zdd.agent.rolling", "-i", str(inventory), "-e", "zdd_deploy_role=release", "-e", f"version={NEW}"]
    playbook = [str(Path(tools["ansible"]) / "ansible-playbook"), *words]
    shown = f"ansible-playbook zdd.agent.rolling -i inventory -e zdd_deploy_role=release -e version={NEW}"
    await transcript.run(playbook, home, env, spans.line, shown)


@asynccontextmanager
async def _load(lab: Lab, file: Path) -> AsyncIterator[None]:
    """The requests that are counted, in their own process."""
    words = ["-m", "zdd_lab.traffic.load", "--rate", f"{_RATE:g}", "--out", str(file), "--until-stdin-closes"]
    for url in lab.urls:
        words += ["--url", f"{url.rpartition(':')[0]}:{_LISTENER}"]
    load = await asyncio.create_subprocess_exec(
        *children.dies_with_parent([sys.executable, *words]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        assert load.stdin is not None  # noqa: S101  asked for above
        load.stdin.close()
        code = await load.wait()
    if code != 0:
        raise StoryError(f"the load generator ended with {code}")


@asynccontextmanager
async def _loop(lab: Lab, transcript: Transcript) -> AsyncIterator[None]:
    """The loop of requests of the article: prints which host and which version answered."""
    address = lab.urls[0].removeprefix("http://").rpartition(":")[0]

    async def look_on() -> None:
        while True:
            transcript.say(f"    {time.strftime('%H:%M:%S')}  {await _get(address, _LISTENER)}")
            await asyncio.sleep(_LOOP_SECONDS)

    looking = asyncio.create_task(look_on())
    try:
        yield
    finally:
        looking.cancel()


async def _get(address: str, port: int) -> str:
    """The answer to a request in one line, or what failed."""
    try:
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(b"GET / HTTP/1.1\r\nHost: story\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        return f"{told['host']} {told['version']}"
    except (OSError, ValueError, KeyError) as error:
        return f"FAILED: {error!r}"


if __name__ == "__main__":
    sys.exit(main())
