# ruff: noqa: E501  (a table reads best one row to a line)
"""Flags of `build`, as rows of the option table (options.py tells what a row is)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Row

CALLS = ("build", "check", "outline", "targets")
PROGRESS = ("auto", "plain", "tty", "quiet", "rawjson")

BUILD: tuple[Row, ...] = (
    ("add-host", "", "list", "list", "Add a line to /etc/hosts of RUN: name:address or name=address"),
    ("allow", "", "list", "strings", "Let RUN have more: network.host, security.insecure, device[=PATH]"),
    ("annotation", "", "list", "list", "Set an annotation of the image: [manifest|index|manifest-descriptor:]KEY=VALUE"),
    ("attest", "", "list", "list", "Say something of the image beside it: type=provenance|sbom[,KEY=VALUE]"),
    ("build-arg", "", "list", "list", "Set a variable that the Dockerfile declares with ARG"),
    ("build-context", "", "list", "list", "Give a name that FROM and --from may use a place: NAME=PATH, an URL, docker-image://, oci-layout:// or target:"),
    ("cache-from", "", "list", "list", "Take steps from a cache: IMAGE or type=registry|local[,KEY=VALUE]"),
    ("cache-to", "", "list", "list", "Put steps into a cache: inline or type=registry|local|inline[,KEY=VALUE]"),
    ("cgroup-parent", "", "str", "string", "Parent control group of RUN"),
    ("call", "", "str", "string", "What to do: build, check, outline or targets", "", "build", (), CALLS),
    ("check", "", "bool", "", "Check the Dockerfile and build nothing (short for --call=check)"),
    ("cpu-period", "", "int", "int", "Length of a CPU quota period of RUN, in microseconds"),
    ("cpu-quota", "", "int", "int", "CPU time of RUN per period, in microseconds"),
    ("cpu-shares", "c", "int", "int", "CPU weight of RUN relative to other containers"),
    ("cpuset-cpus", "", "str", "string", "CPUs of RUN: 0-3 or 0,1"),
    ("cpuset-mems", "", "str", "string", "Memory nodes of RUN: 0-3 or 0,1"),
    ("file", "f", "str", "string", "Dockerfile to build, - for stdin (default: Dockerfile in the context)"),
    ("force-rm", "", "bool", "", "Remove containers of failed steps (none is ever left)"),
    ("iidfile", "", "str", "string", "Write the image's ID to this file"),
    ("label", "", "list", "list", "Set a label of the image"),
    ("load", "", "bool", "", "Put the image into the store, whatever else is made (short for --output=type=docker)"),
    ("memory", "m", "bytes", "bytes", "Limit memory of RUN"),
    ("memory-swap", "", "bytes", "bytes", "Limit memory and swap of RUN together; -1 for no limit"),
    ("metadata-file", "", "str", "string", "Write what was made, as JSON, to this file"),
    ("network", "", "str", "string", "Network of RUN: default, none, host or the name of a network"),
    ("no-cache", "", "bool", "", "Do every step again"),
    ("no-cache-filter", "", "list", "strings", "Do every step of these stages again"),
    ("output", "o", "list", "list", "What to make: a directory, - or type=...[,KEY=VALUE] (default: an image in the store)"),
    ("platform", "", "str", "string", "Platforms to build for, as linux/arm64; of several an index is made"),
    ("progress", "", "str", "string", "How to show progress: auto, plain, tty, quiet or rawjson", "", "auto", (), PROGRESS),
    ("provenance", "", "str", "string", "Say how the image was made: true, false, mode=min or mode=max"),
    ("pull", "", "bool", "", "Pull base images even if they are here"),
    ("push", "", "bool", "", "Push the image to its registry (short for --output=type=registry)"),
    ("quiet", "q", "bool", "", "Print nothing but the image's ID"),
    ("rm", "", "bool", "", "Remove containers of steps (none is ever left)", "", True),
    ("sbom", "", "str", "string", "List the image's packages: true, false or generator=IMAGE"),
    ("secret", "", "list", "list", "Give RUN --mount=type=secret a secret: id=NAME[,src=FILE|,env=VARIABLE]"),
    ("security-opt", "", "list", "list", "Security option of RUN, as of run"),
    ("shm-size", "", "bytes", "bytes", "Size of /dev/shm of RUN"),
    ("squash", "", "bool", "", "Make one layer of all that the build adds to the base image"),
    ("ssh", "", "list", "list", "Give RUN --mount=type=ssh an agent: default or ID[=SOCKET]"),
    ("tag", "t", "list", "list", "Name the image NAME[:TAG]"),
    ("target", "", "str", "string", "Stage to build (default: the last)"),
    ("ulimit", "", "list", "ulimit", "Set a limit of RUN: name=soft[:hard]"),
)  # fmt: skip

_FILTER = "What is meant: until=24h (not used for that long), id, type, description, shared, private or inuse=VALUE"

DU: tuple[Row, ...] = (
    ("filter", "", "filter", "filter", _FILTER),
    ("format", "", "str", "string", "Format output: json, table, 'table TEMPLATE' or a Go template"),
    ("verbose", "", "bool", "", "Show everything known of each"),
)  # fmt: skip

PRUNE: tuple[Row, ...] = (
    ("all", "a", "bool", "", "Remove also steps whose layers an image has, cache mounts and fetched files"),
    ("filter", "", "filter", "filter", _FILTER),
    ("force", "f", "bool", "", "Do not ask"),
    ("keep-storage", "", "bytes", "bytes", "Older name of --reserved-space"),
    ("reserved-space", "", "bytes", "bytes", "Keep that much, of what was used last"),
)  # fmt: skip
