"""rootless completion, and the generator of conf/completions.

The scripts are made from the command and option tables:

    python -m rootless.cli.completion --write DIR    writes rootless.bash, _rootless and rootless.fish
    python -m rootless.cli.completion --check DIR    fails where they are not what would be written
"""

from __future__ import annotations

import os
import sys

from rootless.errors import UsageError

from . import commands
from . import options as tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed

# What the arguments of a command are; commands not named take none, or nothing we could know.
CONTAINERS = (
    *("attach", "exec", "kill", "logs", "port", "rename", "restart", "rm", "start", "stop"),
    *("top", "wait", "container inspect", "commit", "diff", "export", "update", "healthcheck run"),
)
IMAGES = ("create", "images", "rmi", "run", "tag", "image inspect")
BOTH = ("inspect",)
NETWORKS = ("network inspect", "network rm")
ON_NETWORKS = ("network connect", "network disconnect")
STOPPED_TOO = (
    *("inspect", "logs", "port", "rename", "rm", "start", "container inspect", "wait"),
    *("commit", "diff", "export"),
)
# Arguments that are files of the host, and those that are CONTAINER:PATH or files of the host.
PATHS, COPIED = ("import",), ("cp",)
FILE_VALUES = (
    *("cidfile", "env-file", "label-file", "input", "output", "root", "rootfs", "runtime-dir"),
)

NOTE = "Made by rootless.cli.completion from the tables of commands and options; do not edit."


def main(args: Parsed, env: Mapping[str, str]) -> int:  # noqa: ARG001
    """Print the completion script for a shell."""
    shell = args.args[0]
    if shell not in SCRIPTS:
        raise UsageError(
            f"cannot complete for shell {shell!r}: it is none of {', '.join(SCRIPTS)}", exit_code=1
        )
    sys.stdout.write(SCRIPTS[shell]())
    return 0


def _names(command: commands.Command) -> list[str]:
    return sorted([command.name, *command.aliases])


def _flags(found: list[tables.Option]) -> list[str]:
    words = [f"--{option.long}" for option in found]
    words += [f"-{option.short}" for option in found if option.short]
    return [*words, "--help"]


def _argument_kind(name: str) -> str:
    if name in BOTH:
        return "both"
    if name in NETWORKS or name in ON_NETWORKS:
        return "networks" if name in NETWORKS else "joined"
    if name in CONTAINERS:
        return "all" if name in STOPPED_TOO else "running"
    if name in PATHS or name in COPIED:
        return "paths" if name in PATHS else "copied"
    return "images" if name in IMAGES else ""


def bash() -> str:
    """The script for bash."""
    first = sorted({name.split()[0] for name in (*commands.TABLE, *commands.GROUPS)})
    lines = [
        f"# bash completion for rootless. {NOTE}",
        "",
        "__rootless_names() { rootless ps \"$@\" --format '{{.Names}}' 2>/dev/null; }",
        "__rootless_images() {",
        "    rootless images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep -v '<none>'",
        "}",
        "__rootless_networks() { rootless network ls --format '{{.Name}}' 2>/dev/null; }",
        "__rootless_copied() {",
        '    compgen -f -- "$1"',
        '    compgen -W "$(__rootless_names -a | sed \'s/$/:/\')" -- "$1"',
        "}",
        "",
        "_rootless() {",
        "    local cur prev words cword command at flags='' kind='' takes='' files='' choices=''",
        "    if declare -F _init_completion >/dev/null; then",
        "        _init_completion -n := || return",
        "    else",
        '        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD',
        "        cur=${words[cword]} prev=${words[cword-1]}",
        "    fi",
        "    at=1",
        '    while [ "$at" -lt "$cword" ]; do',
        "        case ${words[at]} in",
        f"            {'|'.join(_value_flags(tables.options('global')))}) at=$((at + 2)) ;;",
        "            -*) at=$((at + 1)) ;;",
        "            *) break ;;",
        "        esac",
        "    done",
        "    command=",
        '    if [ "$at" -lt "$cword" ]; then',
        "        command=${words[at]}",
        f"        case $command in {'|'.join(sorted(commands.GROUPS))})",
        '            if [ "$((at + 1))" -lt "$cword" ]; then',
        '                command="$command ${words[at+1]}"',
        "            fi ;;",
        "        esac",
        "    fi",
        "    case $command in",
        *_bash_case("''", tables.options("global"), first, ""),
    ]
    for group in sorted(commands.GROUPS):
        lines += _bash_case(group, [], commands.subcommands(group), "")
    for command in commands.every():
        pattern = "|".join(f"'{name}'" if " " in name else name for name in _names(command))
        words = {"completion": sorted(SCRIPTS), "help": first}.get(command.name, [])
        found = tables.options(command.option_set)
        lines += _bash_case(pattern, found, words, _argument_kind(command.name))
    return "\n".join([*lines, *_BASH_END]) + "\n"


def _value_flags(found: list[tables.Option]) -> list[str]:
    words: list[str] = []
    for option in found:
        if option.kind != "bool":
            words.append(f"--{option.long}")
            if option.short:
                words.append(f"-{option.short}")
    return words


def _bash_case(pattern: str, found: list[tables.Option], words: list[str], kind: str) -> list[str]:
    lines = [f"        {pattern})", f"            flags='{' '.join([*_flags(found), *words])}'"]
    takes = _value_flags(found)
    if takes:
        lines.append(f"            takes=' {' '.join(takes)} '")
    paths = [f"--{option.long}" for option in found if option.long in FILE_VALUES]
    paths += [f"-{o.short}" for o in found if o.long in FILE_VALUES and o.short]
    if paths:
        lines.append(f"            files=' {' '.join(paths)} '")
    chosen = [option for option in found if option.choices]
    if chosen:
        lines.append("            case $prev in")
        lines += [f"                --{o.long}) choices='{' '.join(o.choices)}' ;;" for o in chosen]
        lines.append("            esac")
    if kind:
        lines.append(f"            kind={kind}")
    lines.append("            ;;")
    return lines


_BASH_END = (
    "    esac",
    '    if [[ $files == *" $prev "* ]]; then',
    '        COMPREPLY=($(compgen -f -- "$cur"))',
    "        return",
    "    fi",
    '    if [[ $takes == *" $prev "* ]]; then',
    '        COMPREPLY=($(compgen -W "$choices" -- "$cur"))',
    "        return",
    "    fi",
    "    case $kind:$cur in",
    '        paths:[!-]* | paths:) COMPREPLY=($(compgen -f -- "$cur")); return ;;',
    "        copied:[!-]* | copied:)",
    '            COMPREPLY=($(__rootless_copied "$cur"))',
    "            compopt -o nospace 2>/dev/null",
    "            return ;;",
    "    esac",
    "    case $cur:$kind in",
    "        -*) ;;",
    "        *:all) flags=$(__rootless_names -a) ;;",
    "        *:running) flags=$(__rootless_names) ;;",
    "        *:images) flags=$(__rootless_images) ;;",
    '        *:both) flags="$(__rootless_names -a) $(__rootless_images)" ;;',
    "        *:networks) flags=$(__rootless_networks) ;;",
    '        *:joined) flags="$(__rootless_networks) $(__rootless_names -a)" ;;',
    "    esac",
    '    COMPREPLY=($(compgen -W "$flags" -- "$cur"))',
    "    if declare -F __ltrim_colon_completions >/dev/null; then",
    '        __ltrim_colon_completions "$cur"',
    "    fi",
    "}",
    "complete -F _rootless rootless",
)


def _quoted(text: str) -> str:
    return text.replace("'", "'\\''")


def _zsh_text(text: str) -> str:
    return _quoted(text).replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


_ZSH_START = (
    "__rootless_containers() {",
    "    local -a names",
    '    names=(${(f)"$(rootless ps "$@" --format \'{{.Names}}\' 2>/dev/null)"})',
    "    compadd -a names",
    "}",
    "__rootless_images() {",
    "    local -a names",
    "    names=(${(f)\"$(rootless images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null)\"})",
    "    compadd -a names",
    "}",
    "__rootless_networks() {",
    "    local -a names",
    "    names=(${(f)\"$(rootless network ls --format '{{.Name}}' 2>/dev/null)\"})",
    "    compadd -a names",
    "}",
    "__rootless_copied() {",
    "    local -a names",
    "    names=(${(f)\"$(rootless ps -a --format '{{.Names}}' 2>/dev/null)\"})",
    "    compadd -S : -a names",
    "    _files",
    "}",
    "__rootless_words() {",
    "    local -a words_and_help",
    "    case $1 in",
)


def zsh() -> str:
    """The script for zsh."""
    lines = [
        "#compdef rootless",
        f"# zsh completion for rootless. {NOTE}",
        "",
        *_ZSH_START,
    ]
    top = [(c.name, c.summary) for c in commands.every() if " " not in c.name]
    lines += _zsh_words("''", sorted([*top, *commands.GROUPS.items()]))
    for group in sorted(commands.GROUPS):
        rows = [(name, _summary(f"{group} {name}")) for name in commands.subcommands(group)]
        lines += _zsh_words(group, rows)
    lines += [
        "    esac",
        "    _describe command words_and_help",
        "}",
        "",
        "_rootless() {",
        '    local context state line curcontext="$curcontext"',
        "    local -A opt_args",
        f"    _arguments -C {_zsh_arguments(tables.options('global'))} \\",
        "        '1: :->command' '*:: :->rest' && return",
        "    if [[ $state == command ]]; then",
        "        __rootless_words ''",
        "        return",
        "    fi",
        "    local command=$line[1]",
        f"    case $command in {'|'.join(sorted(commands.GROUPS))})",
        "        if (( CURRENT == 2 )); then __rootless_words $command; return; fi",
        '        command="$command $words[2]"; shift words; (( CURRENT-- )) ;;',
        "    esac",
        "    case $command in",
    ]
    for command in commands.every():
        pattern = "|".join(f"'{name}'" if " " in name else name for name in _names(command))
        found = _zsh_arguments(tables.options(command.option_set))
        what = _ZSH_KINDS.get(_argument_kind(command.name), "_default")
        if command.name == "completion":
            what = f"({' '.join(sorted(SCRIPTS))})"
        lines.append(f"        {pattern}) _arguments {found} '*: :{what}' ;;")
    lines += ["    esac", "}", "", '_rootless "$@"']
    return "\n".join(lines) + "\n"


_ZSH_KINDS = {
    "all": "{__rootless_containers -a}",
    "running": "__rootless_containers",
    "images": "__rootless_images",
    "both": "{__rootless_containers -a; __rootless_images}",
    "networks": "__rootless_networks",
    "joined": "{__rootless_networks; __rootless_containers -a}",
    "paths": "_files",
    "copied": "__rootless_copied",
}


def _summary(name: str) -> str:
    command = commands.find(name)
    return command.summary if command else ""


def _zsh_words(pattern: str, rows: list[tuple[str, str]]) -> list[str]:
    words = " ".join(f"'{name}:{_quoted(text)}'" for name, text in rows)
    return [f"        {pattern}) words_and_help=({words}) ;;"]


def _zsh_arguments(found: list[tables.Option]) -> str:
    parts = []
    for option in found:
        star = "*" if option.repeatable else ""
        value = ""
        if option.kind != "bool":
            action = "_files" if option.long in FILE_VALUES else " "
            if option.choices:
                action = f"({' '.join(option.choices)})"
            value = f":{option.metavar or 'value'}:{action}"
        text = _zsh_text(option.help)
        equals = "" if option.kind == "bool" else "="
        parts.append(f"'{star}--{option.long}{equals}[{text}]{value}'")
        if option.short:
            parts.append(f"'{star}-{option.short}[{text}]{value}'")
    return " ".join([*parts, "'--help[Show help]'"])


def fish() -> str:
    """The script for fish."""
    lines = [
        f"# fish completion for rootless. {NOTE}",
        "",
        "function __rootless_words",
        "    set -l found",
        "    for word in (commandline -opc)[2..]",
        "        string match -q -- '-*' $word; or set -a found $word",
        "    end",
        "    string join ' ' -- $found",
        "end",
        "function __rootless_at",
        "    set -l words (__rootless_words)",
        "    for name in $argv",
        '        string match -q -- "$name *" "$words "; and return 0',
        "    end",
        "    return 1",
        "end",
        "function __rootless_is",
        '    test (__rootless_words) = "$argv"',
        "end",
        "",
        "complete -c rootless -f",
    ]
    lines += [_fish_flag("__rootless_is ''", option) for option in tables.options("global")]
    for command in commands.every():
        if " " not in command.name:
            lines.append(_fish_word("__rootless_is ''", command.name, command.summary))
    for group, summary in sorted(commands.GROUPS.items()):
        lines.append(_fish_word("__rootless_is ''", group, summary))
        for name in commands.subcommands(group):
            lines.append(_fish_word(f"__rootless_is {group}", name, _summary(f"{group} {name}")))
    for command in commands.every():
        names = " ".join(f"'{name}'" if " " in name else name for name in _names(command))
        at = f"__rootless_at {names}"
        lines += [_fish_flag(at, option) for option in tables.options(command.option_set)]
        source = _FISH_KINDS.get(_argument_kind(command.name), "")
        if command.name == "completion":
            source = " ".join(sorted(SCRIPTS))
        if source or command.name in (*PATHS, *COPIED):
            force = " -F" if command.name in (*PATHS, *COPIED) else ""
            source = source and f' -a "{source}"'
            lines.append(f'complete -c rootless -n "{at}"{force}{source}')
    return "\n".join(lines) + "\n"


_FISH_KINDS = {
    "all": "(rootless ps -a --format '{{.Names}}' 2>/dev/null)",
    "running": "(rootless ps --format '{{.Names}}' 2>/dev/null)",
    "images": "(rootless images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null)",
    "networks": "(rootless network ls --format '{{.Name}}' 2>/dev/null)",
}
_FISH_KINDS["copied"] = "(rootless ps -a --format '{{.Names}}:' 2>/dev/null)"
_FISH_KINDS["joined"] = f"{_FISH_KINDS['networks']} {_FISH_KINDS['all']}"
_FISH_KINDS["both"] = f"{_FISH_KINDS['all']} {_FISH_KINDS['images']}"


def _fish_word(condition: str, word: str, text: str) -> str:
    return f"complete -c rootless -n \"{condition}\" -a {word} -d '{_fish_text(text)}'"


def _fish_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _fish_flag(condition: str, option: tables.Option) -> str:
    parts = [f'complete -c rootless -n "{condition}" -l {option.long}']
    if option.short:
        parts.append(f"-s {option.short}")
    if option.kind != "bool":
        parts.append("-r")
        if option.long in FILE_VALUES:
            parts.append("-F")
    if option.choices:
        parts.append(f"-a '{' '.join(option.choices)}'")
    parts.append(f"-d '{_fish_text(option.help)}'")
    return " ".join(parts)


SCRIPTS = {"bash": bash, "fish": fish, "zsh": zsh}
FILES = {"bash": "rootless.bash", "fish": "rootless.fish", "zsh": "_rootless"}


def stale(directory: str) -> list[str]:
    """The files in DIRECTORY that are not what would be written there now."""
    found = []
    for shell, name in FILES.items():
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8") as file:
                same = file.read() == SCRIPTS[shell]()
        except OSError:
            same = False
        if not same:
            found.append(path)
    return found


def write(directory: str) -> None:
    """Write the three scripts into DIRECTORY."""
    for shell, name in FILES.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(SCRIPTS[shell]())


def _script(argv: list[str]) -> int:
    if len(argv) == 2 and argv[0] == "--write":
        write(argv[1])
        return 0
    if len(argv) == 2 and argv[0] == "--check":
        for path in stale(argv[1]):
            print(f"{path} is stale: run python -m rootless.cli.completion --write {argv[1]}")
        return 1 if stale(argv[1]) else 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(_script(sys.argv[1:]))
