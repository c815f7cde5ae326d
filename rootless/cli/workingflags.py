# ruff: noqa: E501  (a table reads best one row to a line)
"""Flags of `working` and its verbs, as rows of the option table (options.py tells what a row is)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Row

_COPY: tuple[Row, ...] = (
    ("chmod", "", "str", "string", "Permissions of what is copied, as 0644 or u=rwX,go=rX"),
    ("chown", "", "str", "string", "Owner of what is copied: user[:group], names of the container's or numbers"),
    ("exclude", "", "list", "list", "Leave out what matches this pattern"),
    ("from", "", "str", "string", "Copy from this image instead of the host"),
)  # fmt: skip

SETS: dict[str, tuple[Row, ...]] = {
    "working-from": (
        ("name", "", "str", "string", "Name of the working container (default: the image's with -working)"),
        ("pull", "", "str", "string", "When to pull the image: always, missing or never", "", "missing", (), ("always", "missing", "never")),
        ("quiet", "q", "bool", "", "Show no progress of a pull"),
    ),
    "working-run": (
        ("add-host", "", "list", "list", "Add a line to /etc/hosts: name:address or name=address"),
        ("cap-add", "", "list", "list", "Add a capability"),
        ("cap-drop", "", "list", "list", "Drop a capability"),
        ("env", "e", "list", "list", "Set an environment variable for this command alone"),
        ("network", "", "list", "network", "Network of the command, as of run"),
        ("user", "u", "str", "string", "User to run as, instead of the image's"),
        ("volume", "v", "list", "list", "Mount a directory or a file: source:target[:options]"),
        ("workdir", "w", "str", "string", "Directory to run in", "", None, ("workingdir",)),
    ),
    "working-copy": _COPY,
    "working-config": (
        ("author", "a", "str", "string", "Who makes the image"),
        ("change", "c", "list", "list", "Apply a Dockerfile instruction, as commit --change does"),
        ("cmd", "", "str", "string", "Command: a JSON array, or words as a shell reads them"),
        ("entrypoint", "", "str", "string", "Entrypoint: a JSON array, or a command of the shell"),
        ("env", "e", "list", "list", "Set an environment variable: KEY=VALUE; KEY- takes it away"),
        ("label", "l", "list", "list", "Set a label: key=value; key- takes it away"),
        ("port", "p", "list", "list", "Note a port as used: PORT[/PROTOCOL]"),
        ("stop-signal", "", "str", "string", "Signal that stops containers of the image"),
        ("user", "u", "str", "string", "User of the image's command"),
        ("volume", "v", "list", "list", "Note a directory as a volume"),
        ("workingdir", "w", "str", "string", "Directory of the image's command", "", None, ("workdir",)),
    ),
    "working-commit": (
        ("message", "m", "str", "string", "Comment of the history entry"),
        ("rm", "", "bool", "", "Remove the working container afterwards"),
    ),
    "working-rm": (
        ("all", "a", "bool", "", "Remove all working containers"),
    ),
    "working-umount": (
        ("all", "a", "bool", "", "Unmount all working containers"),
    ),
    "working-ls": (
        ("no-trunc", "", "bool", "", "Do not shorten IDs"),
        ("noheading", "n", "bool", "", "Print no headings"),
        ("quiet", "q", "bool", "", "Print IDs only"),
    ),
}  # fmt: skip
