"""Flags of every command, as data.

The one table that both parsers (parse.py, clickfront.py), the help pages, the man pages and the shell
completions are made from.  It holds constant tuples only, so that loading it costs next to nothing;
Option objects are made for the one command that runs.  `run` and `create` have theirs in runflags.py.

A row is (long, short, kind, metavar, help[, later[, default[, aliases[, choices]]]]).

kind     what it takes: bool, str, int, list (repeatable text), filter (repeatable name=value),
         bytes, decimal, duration (checked here, kept as the text typed)
metavar  what help pages call the value; empty for bool
help     one line, no full stop
later    why the flag has no effect yet, or empty; a flag so marked is parsed, checked and warned about
default  the value where the flag is not given; None says "not given"
aliases  further long spellings, not shown
choices  what completions offer; not enforced here
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = tuple[Any, ...]

REPEATABLE = ("list", "filter")


class Option:
    """One flag of one command."""

    __slots__ = (
        "aliases",
        "choices",
        "default",
        "help",
        "key",
        "kind",
        "later",
        "long",
        "metavar",
        "short",
    )

    def __init__(
        self,
        long: str,
        short: str,
        kind: str,
        metavar: str,
        help: str,  # noqa: A002
        later: str = "",
        default: Any = None,
        aliases: tuple[str, ...] = (),
        choices: tuple[str, ...] = (),
    ) -> None:
        self.long = long
        self.short = short
        self.kind = kind
        self.metavar = metavar
        self.help = help
        self.later = later
        self.default = default
        self.aliases = aliases
        self.choices = choices
        self.key = long.replace("-", "_")

    @property
    def spelling(self) -> str:
        """The flag as messages and help pages name it: ``-t, --tty`` or ``--rm``."""
        return f"-{self.short}, --{self.long}" if self.short else f"--{self.long}"

    @property
    def repeatable(self) -> bool:
        """Whether every occurrence adds a value."""
        return self.kind in REPEATABLE


_FORMAT_TABLE = "Format output: json, table, 'table TEMPLATE' or a Go template"
_FORMAT = "Format output: json or a Go template"
_DETACH_KEYS: Row = (
    "detach-keys",
    "",
    "str",
    "string",
    "Key sequence that detaches from the container",
)
_SIGNAL: Row = ("signal", "s", "str", "string", "Signal to send to the container")
_TIMEOUT: Row = (
    "timeout",
    "t",
    "int",
    "int",
    "Seconds to wait before the container is killed (-1: without end)",
    "",
    None,
    ("time",),
)
_FORMAT_F: Row = ("format", "f", "str", "string", _FORMAT)
_SIZE_INSPECT: Row = ("size", "s", "bool", "", "Show file sizes of containers")
_NO_REGISTRY = "platform variants of one image are not kept side by side yet"

SETS: dict[str, tuple[Row, ...]] = {
    "none": (),
    "global": (
        ("root", "", "str", "DIR", "Directory of images and containers"),
        ("runtime-dir", "", "str", "DIR", "Directory of sockets and other state of this boot"),
        (
            "log-level",
            "l",
            "str",
            "string",
            "Logging level: debug, info, warn, error or fatal",
            "",
            None,
            (),
            ("debug", "info", "warn", "error", "fatal"),
        ),
        ("debug", "D", "bool", "", "Show tracebacks and debugging messages"),
        ("host", "H", "list", "list", "Socket of a remote engine (refused: not supported yet)"),
        (
            "context",
            "c",
            "str",
            "string",
            "Context of a remote engine (refused: not supported yet)",
        ),
        ("version", "v", "bool", "", "Print the version and quit"),
    ),
    "start": (
        ("attach", "a", "bool", "", "Attach to output and forward signals"),
        ("checkpoint", "", "str", "string", "Checkpoint to restore from", "checkpoints need root"),
        (
            "checkpoint-dir",
            "",
            "str",
            "string",
            "Directory of checkpoints",
            "checkpoints need root",
        ),
        _DETACH_KEYS,
        ("interactive", "i", "bool", "", "Attach the container's stdin"),
    ),
    "stop": (_SIGNAL, _TIMEOUT),
    "kill": (("signal", "s", "str", "string", "Signal to send instead of KILL"),),
    "rm": (
        ("force", "f", "bool", "", "Kill and remove running containers; missing ones are no error"),
        ("link", "l", "bool", "", "Remove a link", "links need a network driver"),
        (
            "volumes",
            "v",
            "bool",
            "",
            "Remove anonymous volumes too",
            "there are no anonymous volumes yet",
        ),
    ),
    "ps": (
        ("all", "a", "bool", "", "Show all containers, not only running ones"),
        ("filter", "f", "filter", "filter", "Show containers for which name=value holds"),
        ("format", "", "str", "string", _FORMAT_TABLE),
        ("last", "n", "int", "int", "Show the N containers created last, in any state", "", -1),
        ("latest", "l", "bool", "", "Show the container created last, in any state"),
        ("no-trunc", "", "bool", "", "Do not shorten IDs, commands and names"),
        ("quiet", "q", "bool", "", "Print container IDs only"),
        ("size", "s", "bool", "", "Show the size of the writable layer and of the image"),
    ),
    "logs": (
        ("details", "", "bool", "", "Show the attributes given to the log driver"),
        ("follow", "f", "bool", "", "Keep printing what is logged until the container ends"),
        ("since", "", "str", "string", "Show what was logged since a time, or within a duration"),
        ("tail", "n", "str", "string", "Number of lines to show from the end", "", "all"),
        ("timestamps", "t", "bool", "", "Show when each line was logged"),
        ("until", "", "str", "string", "Show what was logged before a time, or a duration ago"),
    ),
    "exec": (
        ("detach", "d", "bool", "", "Do not wait for the command"),
        _DETACH_KEYS,
        ("env", "e", "list", "list", "Set an environment variable"),
        ("env-file", "", "list", "list", "Read environment variables from a file"),
        ("interactive", "i", "bool", "", "Pass stdin to the command"),
        ("privileged", "", "bool", "", "Give the command all capabilities of the container"),
        ("tty", "t", "bool", "", "Give the command a terminal"),
        ("user", "u", "str", "string", "User to run as: name or UID, and :group or :GID"),
        ("workdir", "w", "str", "string", "Directory inside the container to run in"),
    ),
    "attach": (
        _DETACH_KEYS,
        ("no-stdin", "", "bool", "", "Do not attach stdin"),
        ("sig-proxy", "", "bool", "", "Forward signals to the container", "", True),
    ),
    "inspect": (
        _FORMAT_F,
        _SIZE_INSPECT,
        (
            "type",
            "",
            "str",
            "string",
            "Look for objects of this type only",
            "",
            None,
            (),
            ("container", "image"),
        ),
    ),
    "container-inspect": (_FORMAT_F, _SIZE_INSPECT),
    "image-inspect": (
        _FORMAT_F,
        ("platform", "", "str", "string", "Variant to show", _NO_REGISTRY),
    ),
    "images": (
        ("all", "a", "bool", "", "Show all images"),
        ("digests", "", "bool", "", "Show digests"),
        ("filter", "f", "filter", "filter", "Show images for which name=value holds"),
        ("format", "", "str", "string", _FORMAT_TABLE),
        ("no-trunc", "", "bool", "", "Do not shorten IDs"),
        ("quiet", "q", "bool", "", "Print image IDs only"),
        ("tree", "", "bool", "", "Show variants as a tree", _NO_REGISTRY),
    ),
    "rmi": (
        ("force", "f", "bool", "", "Remove the image even if stopped containers use it"),
        (
            "no-prune",
            "",
            "bool",
            "",
            "Keep untagged parents",
            "images have no parents here, so none are removed",
        ),
        ("platform", "", "list", "strings", "Remove this variant only", _NO_REGISTRY),
    ),
    "pull": (
        ("all-tags", "a", "bool", "", "Pull every tag of the repository", "only one tag is pulled"),
        (
            "disable-content-trust",
            "",
            "bool",
            "",
            "Skip image signature verification",
            "signatures are not verified; digests always are",
        ),
        ("platform", "", "str", "string", "Platform to pull: os[/arch[/variant]]"),
        ("quiet", "q", "bool", "", "Show no progress"),
    ),
    "load": (
        ("input", "i", "str", "string", "Read from this file instead of stdin"),
        ("platform", "", "str", "string", "Load this variant only", _NO_REGISTRY),
        ("quiet", "q", "bool", "", "Show no progress"),
    ),
    "format": (_FORMAT_F,),
    "doctor": (("json", "", "bool", "", "Print the report as JSON"),),
}


def rows(name: str) -> tuple[Row, ...]:
    """The rows of an option set; KeyError where there is none of that name."""
    if name in ("run", "create"):
        from . import runflags

        return runflags.RUN if name == "run" else runflags.CREATE
    return SETS[name]


def options(name: str) -> list[Option]:
    """The flags of an option set, in the order help pages show them."""
    return [Option(*row) for row in rows(name)]
