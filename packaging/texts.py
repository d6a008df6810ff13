"""Makes the texts of the packages: settings file, man pages, completions. `texts.py FOLDER VERSION DATE`.

They are made from the parser of the command line and from the models of the settings, so none can be forgotten.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from zdd_agent.cli.arguments import parser
from zdd_agent.settings import Settings

HERE = Path(__file__).parent
Command = tuple[str, str, argparse.ArgumentParser]


def commands() -> list[Command]:
    """Each command: its name, its help and its parser."""
    sub = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001  argparse has no other way
    return [(c.dest, c.help or "", sub.choices[c.dest]) for c in sub._choices_actions]  # noqa: SLF001  as above


def flags(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [a for a in command._actions if a.option_strings]  # noqa: SLF001  as above


def _places(command: argparse.ArgumentParser) -> str:
    names = [str(a.metavar or a.dest) for a in command._actions if not a.option_strings]  # noqa: SLF001  as above
    return "".join(f" \\fI{_roff(name)}\\fR" for name in names)


def _help(action: argparse.Action) -> str:
    default = "/run/zdd-agent/agent.sock" if action.dest == "socket" else action.default
    return (action.help or "") % {"default": default, "prog": "zdd-agent"}


# The settings


def settings(
    table: type[BaseModel] = Settings, at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo | type[BaseModel]]]:
    """Every setting, and each table before its settings. Plain settings come first, as TOML requires."""
    tables = []
    for name, field in table.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))  # a table may be optional
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is not None:
            tables.append((name, inner))
        else:
            yield (*at, name), field
    for name, inner in tables:
        yield (*at, name), inner
        yield from settings(inner, (*at, name))


def _toml(value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"'


def config_toml() -> str:
    """The settings file: every setting with its default, as comments."""
    lines = [
        "# Settings of zdd-agent; see zdd-agent.toml(5). None is required: without any the agent finds its own target",
        "# groups. Files in conf.d/*.toml, in this folder, are read after this one. After a change:",
        "#   zdd-agent check-config && systemctl restart zdd-agent",
    ]
    for path, what in settings():
        if isinstance(what, FieldInfo):
            default = "…" if what.default is None or what.is_required() else _toml(what.default)
            lines += ["", f"# {what.description}", f"#{path[-1]} = {default}"]
        else:
            lines += ["", "", f"# {(what.__doc__ or '').splitlines()[0]}", f"#[{'.'.join(path)}]"]
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    return text


# Man pages


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(aq").replace("…", "\\&...")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in text.splitlines())


def _heading(name: str, section: int, version: str, date: str) -> list[str]:
    return [f'.TH {_roff(name).upper()} {section} {date} "zdd\\-agent {version}"', ".nh", ".ad l"]


def _invocation(action: argparse.Action) -> str:
    names = ", ".join(f"\\fB{_roff(name)}\\fR" for name in action.option_strings)
    value = "" if action.nargs == 0 else f" \\fI{_roff(str(action.metavar or action.dest).upper())}\\fR"
    return names + value


def man_command(version: str, date: str) -> str:
    """zdd-agent(1): what the parser knows, between a head and a tail that are written by hand."""
    lines = [
        "'\\\" t",
        *_heading("zdd-agent", 1, version, date),
        (HERE / "zdd-agent.1.head").read_text().rstrip(),
        ".SH COMMANDS",
    ]
    for name, text, command in commands():
        lines += [".TP", f"\\fBzdd\\-agent {_roff(name)}\\fR{_places(command)}", _roff(f"{text[0].upper()}{text[1:]}.")]
        own = [a for a in flags(command) if a.dest not in ("help", "json", "socket")]
        if own:
            lines.append(".RS")
            for action in own:
                lines += [".TP", _invocation(action), _roff(_help(action)) + "."]
            lines.append(".RE")
    lines.append(".SH OPTIONS\nEvery command takes these.")
    for action in flags(commands()[0][2]):
        if action.dest in ("help", "json", "socket"):
            lines += [".TP", _invocation(action), _roff(_help(action)) + "."]
    return "\n".join([*lines, (HERE / "zdd-agent.1.tail").read_text()])


def man_settings(version: str, date: str) -> str:
    """zdd-agent.toml(5)."""
    lines = _heading("zdd-agent.toml", 5, version, date)
    lines.append((HERE / "zdd-agent.toml.5.head").read_text().rstrip())
    lines.append(".SH SETTINGS")
    for path, what in settings():
        name = _roff(".".join(path))
        if not isinstance(what, FieldInfo):
            lines += [f".SS [{name}]", _roff((what.__doc__ or "").strip())]
            continue
        default = "none" if what.default is None else _toml(what.default)
        last = "Required in this table" if what.is_required() else f"Default: {default}"
        lines += [".TP", f"\\fB{name}\\fR", _roff(f"{what.description}. {last}.")]
    return "\n".join([*lines, (HERE / "zdd-agent.toml.5.tail").read_text()])


# Completions


def bash() -> str:
    rows = [f"        {name}) words='{' '.join(_words(command))}' ;;" for name, _, command in commands()]
    values = [
        f"        \"{name} {flag}\") words='{' '.join(a.choices)}' ;;" for name, flag, a in _valued() if a.choices
    ]
    free = "|".join(sorted({f'*" {flag}"' for _, flag, a in _valued() if not a.choices and a.dest != "socket"}))
    return f"""# bash completion for zdd-agent
_zdd_agent() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command="" words="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in -*) ;; *) command=$word && break ;; esac
    done
    case "$command $previous" in
{chr(10).join(values)}
        *" --socket") mapfile -t COMPREPLY < <(compgen -f -- "$current") && return ;;
        {free}) return ;;
    esac
    [ -n "$words" ] || case $command in
        "") words='--help --version {" ".join(name for name, _, _ in commands())}' ;;
{chr(10).join(rows)}
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -F _zdd_agent zdd-agent
"""


def zsh() -> str:
    names = "\n".join(f"        '{name}:{_quoted(text)}'" for name, text, _ in commands())
    cases = []
    for name, _, command in commands():
        specs = [_zsh_flag(flag, a) for a in flags(command) for flag in a.option_strings]
        rest = " '*::command:_normal'" if name == "run" else ""
        cases.append(f"        {name}) _arguments {' '.join(specs)}{rest} ;;")
    return f"""#compdef zdd-agent
_zdd_agent() {{
    local -a commands=(
{names}
    )
    if ((CURRENT == 2)); then
        _describe command commands
        _arguments '--help[show help]' '--version[show the version]'
        return
    fi
    local command=$words[2]
    shift words
    ((CURRENT--))
    case $command in
{chr(10).join(cases)}
    esac
}}
_zdd_agent "$@"
"""


def fish() -> str:
    names = " ".join(name for name, _, _ in commands())
    lines = ["# fish completion for zdd-agent", "complete -c zdd-agent -f", f"set -l zdd_agent_commands {names}"]
    none = "'not __fish_seen_subcommand_from $zdd_agent_commands'".replace("'", '"')
    for name, text, command in commands():
        lines.append(f"complete -c zdd-agent -n {none} -a {name} -d '{_quoted(text)}'")
        for action in flags(command):
            spec = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in action.option_strings)
            takes = "" if action.nargs == 0 else " -r" + (f" -a '{' '.join(action.choices)}'" if action.choices else "")
            takes += " -F" if action.dest == "socket" else ""
            seen = f"'__fish_seen_subcommand_from {name}'"
            lines.append(f"complete -c zdd-agent -n {seen} {spec}{takes} -d '{_quoted(_help(action))}'")
    return "\n".join(lines) + "\n"


def _words(command: argparse.ArgumentParser) -> list[str]:
    return [flag for action in flags(command) for flag in action.option_strings]


def _valued() -> Iterator[tuple[str, str, argparse.Action]]:
    for name, _, command in commands():
        for action in flags(command):
            if action.nargs != 0:
                yield from ((name, flag, action) for flag in action.option_strings)


def _zsh_flag(flag: str, action: argparse.Action) -> str:
    text = _quoted(_help(action)).replace("[", "(").replace("]", ")").replace(":", " -")
    if action.nargs == 0:
        return f"'{flag}[{text}]'"
    values: Any = f"({' '.join(action.choices)})" if action.choices else "_files" if action.dest == "socket" else ""
    return f"'{flag}[{text}]:{action.dest}:{values}'"


def _quoted(text: str) -> str:
    return text.replace("'", "")


def main() -> None:
    folder, version, date = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "config.toml": config_toml(),
        "zdd-agent.1": man_command(version, date),
        "zdd-agent.toml.5": man_settings(version, date),
        "zdd-agent.bash": bash(),
        "zdd-agent.zsh": zsh(),
        "zdd-agent.fish": fish(),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
