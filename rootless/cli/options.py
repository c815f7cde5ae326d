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
_SWARM = "it concerns swarms only"
_NO_REGISTRY = "platform variants of one image are not kept side by side yet"

SETS: dict[str, tuple[Row, ...]] = {
    "none": (),
    "global": (
        ("root", "", "str", "DIR", "Directory of images and containers"),
        ("runtime-dir", "", "str", "DIR", "Directory of sockets and other state of this boot"),
        (
            "storage-driver",
            "",
            "str",
            "NAME",
            "How layers are shown as one tree: auto, overlay, fuse-overlayfs, fusepy or copy",
            "",
            None,
            (),
            ("auto", "overlay", "fuse-overlayfs", "fusepy", "copy"),
        ),
        (
            "cgroup-manager",
            "",
            "str",
            "NAME",
            "How containers get control groups: auto, systemd, cgroupfs or none",
            "",
            None,
            (),
            ("auto", "systemd", "cgroupfs", "none"),
        ),
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
    "commit": (
        ("author", "a", "str", "string", "Who made it"),
        ("change", "c", "list", "list", "Dockerfile instruction to apply to the image"),
        ("message", "m", "str", "string", "Comment of the history entry"),
        (
            "pause",
            "p",
            "bool",
            "",
            "Pause the container meanwhile",
            "",
            True,
        ),
    ),
    "cp": (
        ("archive", "a", "bool", "", "Keep user and group of what is copied into the container"),
        ("follow-link", "L", "bool", "", "Follow a symbolic link in SRC_PATH"),
        ("quiet", "q", "bool", "", "Do not tell how much was copied"),
    ),
    "export": (("output", "o", "str", "string", "Write to this file instead of stdout"),),
    "import": (
        ("change", "c", "list", "list", "Dockerfile instruction to apply to the image"),
        ("message", "m", "str", "string", "Comment of the history entry"),
        ("platform", "", "str", "string", "Platform of the image, such as linux/arm64"),
    ),
    "prune": (
        ("filter", "", "filter", "filter", "What to remove, such as until=24h or label=KEY"),
        ("force", "f", "bool", "", "Do not ask"),
    ),
    "healthcheck-run": (
        ("ignore-result", "", "bool", "", "End with 0 also where the check fails"),
    ),
    "image-prune": (
        ("all", "a", "bool", "", "Remove all unused images, not just those without a name"),
        ("filter", "", "filter", "filter", "What to remove, such as until=24h or label=KEY"),
        ("force", "f", "bool", "", "Do not ask"),
    ),
    "system-prune": (
        ("all", "a", "bool", "", "Remove all unused images, not just those without a name"),
        ("filter", "", "filter", "filter", "What to remove, such as until=24h or label=KEY"),
        ("force", "f", "bool", "", "Do not ask"),
        (
            "volumes",
            "",
            "bool",
            "",
            "Remove anonymous volumes, too",
        ),
    ),
    "wait": (
        (
            "condition",
            "",
            "list",
            "string",
            "What to wait for: not-running, next-exit, removed, running, healthy and others",
            "",
            None,
            (),
            ("not-running", "next-exit", "removed", "running", "healthy", "unhealthy"),
        ),
    ),
    "resume": (
        ("install", "", "bool", "", "Have it done at every boot: by systemd, else by cron"),
        ("quiet", "q", "bool", "", "Do not print the names of what is started"),
        ("uninstall", "", "bool", "", "Take away what --install put into place"),
    ),
    "reset": (("force", "f", "bool", "", "Do not ask"),),
    "volume-create": (
        ("driver", "d", "str", "string", "Volume driver", "", "local", (), ("local",)),
        ("label", "", "list", "list", "Set a label: key=value"),
        ("name", "", "str", "string", "Name of the volume, as the argument"),
        ("opt", "o", "list", "map", "Set an option of the driver: key=value"),
    ),
    "volume-ls": (
        ("filter", "f", "filter", "filter", "Show volumes for which name=value holds"),
        ("format", "", "str", "string", _FORMAT_TABLE),
        ("quiet", "q", "bool", "", "Print volume names only"),
    ),
    "volume-rm": (("force", "f", "bool", "", "Missing volumes are no error"),),
    "volume-prune": (
        ("all", "a", "bool", "", "Remove all unused volumes, not just anonymous ones"),
        ("filter", "", "filter", "filter", "What to remove: label=KEY[=VALUE] or label!=KEY"),
        ("force", "f", "bool", "", "Do not ask"),
    ),
    "network-create": (
        (
            "attachable",
            "",
            "bool",
            "",
            "Let containers be connected by hand, as they always can be",
        ),
        ("aux-address", "", "list", "map", "Address that no container gets: name=address"),
        ("config-from", "", "str", "string", "Network to copy the configuration from", _SWARM),
        ("config-only", "", "bool", "", "Make a configuration only", _SWARM),
        ("driver", "d", "str", "string", "Network driver", "", "bridge", (), ("bridge",)),
        ("gateway", "", "list", "strings", "Address of the network's gateway"),
        ("ingress", "", "bool", "", "Make the routing mesh of a swarm", _SWARM),
        ("internal", "", "bool", "", "Let nothing out of the network"),
        (
            "ip-range",
            "",
            "list",
            "strings",
            "Part of the subnet that containers get addresses from",
        ),
        ("ipam-driver", "", "str", "string", "Who gives addresses: default", "", "default"),
        ("ipam-opt", "", "list", "map", "Option of the one who gives addresses: key=value"),
        ("ipv4", "", "bool", "", "Give IPv4 addresses", "", True),
        ("ipv6", "", "bool", "", "Give IPv6 addresses"),
        ("label", "", "list", "list", "Set a label: key=value"),
        ("opt", "o", "list", "map", "Set an option of the driver: key=value"),
        ("scope", "", "str", "string", "Scope of the network: local"),
        ("subnet", "", "list", "strings", "Addresses of the network: address/bits"),
    ),
    "network-ls": (
        ("filter", "f", "filter", "filter", "Show networks for which name=value holds"),
        ("format", "", "str", "string", _FORMAT_TABLE),
        ("no-trunc", "", "bool", "", "Do not shorten IDs"),
        ("quiet", "q", "bool", "", "Print network IDs only"),
    ),
    "network-inspect": (
        _FORMAT_F,
        ("verbose", "v", "bool", "", "Show what there is to know, as it always is"),
    ),
    "network-rm": (("force", "f", "bool", "", "Missing networks are no error"),),
    "network-connect": (
        ("alias", "", "list", "strings", "Further name of the container on the network"),
        ("driver-opt", "", "list", "strings", "Option of the endpoint: key=value"),
        ("gw-priority", "", "int", "int", "Priority of the network's gateway; the highest is used"),
        ("ip", "", "str", "string", "IPv4 address"),
        ("ip6", "", "str", "string", "IPv6 address"),
        ("link", "", "list", "list", "Name of another container, and what to call it: name:alias"),
        ("link-local-ip", "", "list", "strings", "Link-local address"),
    ),
    "network-disconnect": (
        ("force", "f", "bool", "", "Disconnect from a network that is gone, too"),
    ),
    "df": (
        ("format", "", "str", "string", _FORMAT_TABLE),
        ("verbose", "v", "bool", "", "Show every image, container and volume"),
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
    "stats": (
        ("all", "a", "bool", "", "Show all containers, not only running ones"),
        ("format", "", "str", "string", _FORMAT_TABLE),
        ("no-stream", "", "bool", "", "Show it once and end"),
        ("no-trunc", "", "bool", "", "Do not shorten IDs"),
    ),
    "stop": (_SIGNAL, _TIMEOUT),
    "kill": (("signal", "s", "str", "string", "Signal to send instead of KILL"),),
    "rm": (
        ("force", "f", "bool", "", "Kill and remove running containers; missing ones are no error"),
        ("link", "l", "bool", "", "Remove a link: /CONTAINER/ALIAS"),
        (
            "volumes",
            "v",
            "bool",
            "",
            "Remove the container's anonymous volumes too",
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
    "events": (
        ("filter", "f", "filter", "filter", "Show events for which name=value holds"),
        ("format", "", "str", "string", _FORMAT),
        (
            "since",
            "",
            "str",
            "string",
            "Begin with what happened since a time, or within a duration",
        ),
        ("until", "", "str", "string", "End at a time, or a duration ago"),
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
            ("container", "image", "network", "volume"),
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
    if name in ("run", "create", "update"):
        from . import runflags

        return {"run": runflags.RUN, "create": runflags.CREATE, "update": runflags.UPDATE}[name]
    if name in ("build", "builder-du", "builder-prune"):
        from . import buildflags

        return {
            "build": buildflags.BUILD,
            "builder-du": buildflags.DU,
            "builder-prune": buildflags.PRUNE,
        }[name]
    if name.startswith("working-"):
        from . import workingflags

        return workingflags.SETS[name]
    return SETS[name]


def options(name: str) -> list[Option]:
    """The flags of an option set, in the order help pages show them."""
    return [Option(*row) for row in rows(name)]
