# ruff: noqa: E501  (a table reads best one row to a line)
"""Every command: where its code is, what it takes, one line about it.

A table of constants, read by the dispatcher, the parsers, the help and man pages and the completions.
Nothing here imports a verb.

A row is (module[.function], summary, usage, option set, least arguments, most arguments (-1: any), group, cold).
A cold command is parsed by click, which is worth its start-up time there; `main(args, env) -> int` of
the named module in rootless.cli (or the named function) does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = tuple[str, str, str, str, int, int, str, bool]

COMMON = "Common Commands"
OTHER = "Commands"
MANAGEMENT = "Management Commands"

TABLE: dict[str, Row] = {
    "run": ("run", "Create and run a new container from an image", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "run", 1, -1, COMMON, False),
    "exec": ("exec", "Run a command in a running container", "[OPTIONS] CONTAINER COMMAND [ARG...]", "exec", 2, -1, COMMON, False),
    "ps": ("ps", "List containers", "[OPTIONS]", "ps", 0, 0, COMMON, False),
    "build": ("build", "Build an image from a Dockerfile", "[OPTIONS] PATH|URL|-", "build", 1, 1, COMMON, True),
    "pull": ("pull", "Download an image from a registry", "[OPTIONS] NAME[:TAG|@DIGEST]", "pull", 1, 1, COMMON, True),
    "images": ("images", "List images", "[OPTIONS] [REPOSITORY[:TAG]]", "images", 0, 1, COMMON, False),
    "doctor": ("doctor", "Tell what this machine can do, and what would make it better", "[OPTIONS]", "doctor", 0, 0, COMMON, True),
    "info": ("info", "Show settings, storage and counts", "[OPTIONS]", "format", 0, 0, COMMON, True),
    "version": ("version", "Show versions", "[OPTIONS]", "format", 0, 0, COMMON, False),
    "help": ("helppage", "Show help about a command", "[COMMAND]", "none", 0, -1, COMMON, True),
    "attach": ("attach", "Attach the terminal to a running container", "[OPTIONS] CONTAINER", "attach", 1, 1, OTHER, False),
    "completion": ("completion", "Print the completion script for a shell", "bash|zsh|fish", "none", 1, 1, OTHER, True),
    "commit": ("commit", "Make a new image of a container's changes", "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "commit", 1, 2, OTHER, True),
    "cp": ("cp", "Copy files between a container and the host", "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-", "cp", 2, 2, OTHER, True),
    "create": ("create", "Create a new container", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "create", 1, -1, OTHER, False),
    "diff": ("diff", "Show what a container changed in its filesystem", "CONTAINER", "none", 1, 1, OTHER, True),
    "events": ("events", "Show what happens, as it happens", "[OPTIONS]", "events", 0, 0, OTHER, False),
    "export": ("export", "Write a container's filesystem as a tar archive", "[OPTIONS] CONTAINER", "export", 1, 1, OTHER, True),
    "import": ("import_", "Make an image of a root filesystem's tar archive", "[OPTIONS] FILE|- [REPOSITORY[:TAG]]", "import", 1, 2, OTHER, True),
    "inspect": ("inspect", "Show everything known about containers, images, networks and volumes", "[OPTIONS] NAME|ID [NAME|ID...]", "inspect", 1, -1, OTHER, False),
    "kill": ("kill", "Kill running containers", "[OPTIONS] CONTAINER [CONTAINER...]", "kill", 1, -1, OTHER, False),
    "load": ("load", "Load images from an archive", "[OPTIONS]", "load", 0, 0, OTHER, True),
    "logs": ("logs", "Show what a container has printed", "[OPTIONS] CONTAINER", "logs", 1, 1, OTHER, False),
    "pause": ("pause", "Pause all processes of containers", "CONTAINER [CONTAINER...]", "none", 1, -1, OTHER, False),
    "port": ("port", "List the published ports of a container", "CONTAINER [PRIVATE_PORT[/PROTO]]", "none", 1, 2, OTHER, False),
    "rename": ("rename", "Rename a container", "CONTAINER NEW_NAME", "none", 2, 2, OTHER, False),
    "restart": ("restart", "Stop containers and start them again", "[OPTIONS] CONTAINER [CONTAINER...]", "stop", 1, -1, OTHER, False),
    "rm": ("rm", "Remove containers", "[OPTIONS] CONTAINER [CONTAINER...]", "rm", 1, -1, OTHER, False),
    "rmi": ("rmi", "Remove images", "[OPTIONS] IMAGE [IMAGE...]", "rmi", 1, -1, OTHER, False),
    "start": ("start", "Start stopped containers", "[OPTIONS] CONTAINER [CONTAINER...]", "start", 1, -1, OTHER, False),
    "stats": ("stats", "Show what containers use, live", "[OPTIONS] [CONTAINER...]", "stats", 0, -1, OTHER, False),
    "stop": ("stop", "Stop running containers", "[OPTIONS] CONTAINER [CONTAINER...]", "stop", 1, -1, OTHER, False),
    "tag": ("tag", "Give an image a further name", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "none", 2, 2, OTHER, False),
    "top": ("top", "List the processes of a container", "CONTAINER [ps OPTIONS]", "none", 1, -1, OTHER, False),
    "unpause": ("pause.unpause", "Let paused containers go on", "CONTAINER [CONTAINER...]", "none", 1, -1, OTHER, False),
    "update": ("update", "Change the limits and the restart policy of containers", "[OPTIONS] CONTAINER [CONTAINER...]", "update", 1, -1, OTHER, True),
    "wait": ("wait", "Wait until containers end and print their exit codes", "[OPTIONS] CONTAINER [CONTAINER...]", "wait", 1, -1, OTHER, False),
    "unshare": ("unshare", "Run a program as root of your own user namespace", "[COMMAND] [ARG...]", "none", 0, -1, OTHER, False),
    "builder du": ("builder.du", "List what builds keep, and how much room it takes", "[OPTIONS]", "builder-du", 0, 0, MANAGEMENT, True),
    "builder prune": ("builder.prune", "Remove what builds remember", "[OPTIONS]", "builder-prune", 0, 0, MANAGEMENT, True),
    "container inspect": ("inspect", "Show everything known about containers", "[OPTIONS] CONTAINER [CONTAINER...]", "container-inspect", 1, -1, MANAGEMENT, False),
    "container prune": ("prune.containers", "Remove all stopped containers", "[OPTIONS]", "prune", 0, 0, MANAGEMENT, True),
    "healthcheck run": ("healthcheck.run", "Check the health of a container now", "[OPTIONS] CONTAINER", "healthcheck-run", 1, 1, MANAGEMENT, False),
    "image prune": ("prune.images", "Remove unused images", "[OPTIONS]", "image-prune", 0, 0, MANAGEMENT, True),
    "system prune": ("prune.system", "Remove unused data", "[OPTIONS]", "system-prune", 0, 0, MANAGEMENT, True),
    "system resume": ("resume", "Start the containers that run again after a boot", "[OPTIONS]", "resume", 0, 0, MANAGEMENT, False),
    "system reset": ("prune.reset", "Remove everything that rootless keeps", "[OPTIONS]", "reset", 0, 0, MANAGEMENT, True),
    "system df": ("df", "Show how much room things take", "[OPTIONS]", "df", 0, 0, MANAGEMENT, True),
    "network connect": ("network.connect", "Connect a container to a network", "[OPTIONS] NETWORK CONTAINER", "network-connect", 2, 2, MANAGEMENT, True),
    "network create": ("network.create", "Create a network", "[OPTIONS] NETWORK", "network-create", 1, 1, MANAGEMENT, True),
    "network disconnect": ("network.disconnect", "Disconnect a container from a network", "[OPTIONS] NETWORK CONTAINER", "network-disconnect", 2, 2, MANAGEMENT, True),
    "network inspect": ("network.inspect", "Show everything known about networks", "[OPTIONS] NETWORK [NETWORK...]", "network-inspect", 1, -1, MANAGEMENT, False),
    "network ls": ("network.ls", "List networks", "[OPTIONS]", "network-ls", 0, 0, MANAGEMENT, False),
    "network prune": ("prune.networks", "Remove unused networks", "[OPTIONS]", "prune", 0, 0, MANAGEMENT, True),
    "network rm": ("network.rm", "Remove networks", "[OPTIONS] NETWORK [NETWORK...]", "network-rm", 1, -1, MANAGEMENT, True),
    "volume create": ("volume.create", "Create a volume", "[OPTIONS] [VOLUME]", "volume-create", 0, 1, MANAGEMENT, False),
    "volume export": ("volume.export", "Write a volume's content as a tar archive", "[OPTIONS] VOLUME", "export", 1, 1, MANAGEMENT, True),
    "volume import": ("volume.import_", "Unpack a tar archive into a volume", "VOLUME FILE|-", "none", 2, 2, MANAGEMENT, True),
    "volume inspect": ("volume.inspect", "Show everything known about volumes", "[OPTIONS] VOLUME [VOLUME...]", "format", 1, -1, MANAGEMENT, False),
    "volume ls": ("volume.ls", "List volumes", "[OPTIONS]", "volume-ls", 0, 0, MANAGEMENT, False),
    "volume prune": ("prune.volumes", "Remove unused volumes", "[OPTIONS]", "volume-prune", 0, 0, MANAGEMENT, True),
    "volume rm": ("volume.rm", "Remove volumes", "[OPTIONS] VOLUME [VOLUME...]", "volume-rm", 1, -1, MANAGEMENT, False),
    "image inspect": ("inspect", "Show everything known about images", "[OPTIONS] IMAGE [IMAGE...]", "image-inspect", 1, -1, MANAGEMENT, False),
    "working add": ("working.add", "Copy files into a working container and unpack archives", "[OPTIONS] CONTAINER SOURCE... [DESTINATION]", "working-copy", 2, -1, MANAGEMENT, True),
    "working commit": ("working.commit", "Make an image of a working container", "[OPTIONS] CONTAINER [IMAGE]", "working-commit", 1, 2, MANAGEMENT, True),
    "working config": ("working.config", "Change what the image of a working container will say", "[OPTIONS] CONTAINER", "working-config", 1, 1, MANAGEMENT, True),
    "working copy": ("working.copy", "Copy files into a working container", "[OPTIONS] CONTAINER SOURCE... [DESTINATION]", "working-copy", 2, -1, MANAGEMENT, True),
    "working from": ("working.from_", "Make a working container", "[OPTIONS] IMAGE|scratch", "working-from", 1, 1, MANAGEMENT, True),
    "working ls": ("working.ls", "List working containers", "[OPTIONS]", "working-ls", 0, 0, MANAGEMENT, True),
    "working mount": ("working.mount", "Mount working containers and print where", "[CONTAINER...]", "none", 0, -1, MANAGEMENT, True),
    "working rm": ("working.rm", "Remove working containers", "[OPTIONS] [CONTAINER...]", "working-rm", 0, -1, MANAGEMENT, True),
    "working run": ("working.run", "Run a command over a working container", "[OPTIONS] CONTAINER COMMAND [ARG...]", "working-run", 2, -1, MANAGEMENT, True),
    "working umount": ("working.umount", "Unmount working containers", "[OPTIONS] [CONTAINER...]", "working-umount", 0, -1, MANAGEMENT, True),
}  # fmt: skip

GROUPS: dict[str, str] = {
    "builder": "Manage builds",
    "buildx": "Manage builds (short for builder)",
    "container": "Manage containers",
    "healthcheck": "Check the health of containers",
    "image": "Manage images",
    "network": "Manage networks",
    "system": "Look at the engine",
    "volume": "Manage volumes",
    "working": "Make images step by step from a script",
}

ALIASES: dict[str, str] = {
    **{
        f"container {name}": name
        for name in (
            *("commit", "cp", "diff", "export"),
            *("attach", "create", "exec", "kill", "logs", "port", "ps", "rename", "restart"),
            *("rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait", "pause"),
        )
    },
    "builder build": "build",
    "buildx build": "build",
    "buildx du": "builder du",
    "buildx prune": "builder prune",
    "image build": "build",
    "container ls": "ps",
    "container list": "ps",
    "container remove": "rm",
    "image ls": "images",
    "image list": "images",
    "image rm": "rmi",
    "image remove": "rmi",
    "image tag": "tag",
    "image pull": "pull",
    "image load": "load",
    "image import": "import",
    "system events": "events",
    "system info": "info",
    "network list": "network ls",
    "network remove": "network rm",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    "working containers": "working ls",
    "working ps": "working ls",
}

# Flags after the first argument belong to what runs in the container (or to ps, for top).
STOPS_AT_ARGUMENT = ("run", "create", "exec", "top", "unshare", "working run")


class Command:
    """One command, as the table has it."""

    __slots__ = (
        "cold",
        "group",
        "max_args",
        "min_args",
        "module",
        "name",
        "option_set",
        "summary",
        "usage",
    )

    def __init__(self, name: str, row: Row) -> None:
        self.name = name
        (
            self.module,
            self.summary,
            self.usage,
            self.option_set,
            self.min_args,
            self.max_args,
            self.group,
            self.cold,
        ) = row

    @property
    def interspersed(self) -> bool:
        """Whether flags may follow arguments."""
        return self.name not in STOPS_AT_ARGUMENT

    @property
    def aliases(self) -> list[str]:
        """Other spellings of this command, management forms first."""
        return [alias for alias, name in ALIASES.items() if name == self.name]

    def load(self) -> Any:
        """The verb's ``main(args, env) -> int``, its module imported now."""
        module, _, function = self.module.partition(".")
        found = __import__(f"rootless.cli.{module}", None, None, ("main",))
        return getattr(found, function or "main")


def find(name: str) -> Command | None:
    """The command called NAME (``run``, ``container ls``), or None."""
    row = TABLE.get(name)
    if row is None:
        target = ALIASES.get(name)
        if target is None:
            return None
        name, row = target, TABLE[target]
    return Command(name, row)


def every() -> list[Command]:
    """All commands of the table, without aliases."""
    return [Command(name, row) for name, row in TABLE.items()]


def subcommands(group: str) -> list[str]:
    """The second words that may follow the management command GROUP, sorted."""
    start = f"{group} "
    return sorted(n[len(start) :] for n in (*TABLE, *ALIASES) if n.startswith(start))
