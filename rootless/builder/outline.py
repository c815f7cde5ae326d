"""What a Dockerfile offers: its targets (--call=targets), and what a target takes (--call=outline).  Pure."""

from __future__ import annotations

from . import instructions as ins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .evaluate import Scope
    from .graph import Graph
    from .parser import Dockerfile, Stage


class Argument:
    """A build argument: its default after expansion, and the comment above it."""

    __slots__ = ("description", "name", "value")

    def __init__(self, name: str, value: str, description: str) -> None:
        self.name = name
        self.value = value
        self.description = description


class Outline:
    """What a target takes."""

    __slots__ = ("agents", "args", "description", "name", "secrets")

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.args: dict[str, Argument] = {}
        self.secrets: dict[str, bool] = {}
        self.agents: dict[str, bool] = {}


def described(one: ins.Instruction, name: str) -> str:
    """The comment above an instruction, where it begins with NAME."""
    text = one.line.comments[-1] if one.line.comments else ""
    word, _, rest = text.partition(" ")
    return rest.strip() if name and word == name else ""


def targets(file: Dockerfile) -> list[tuple[str, bool, str]]:
    """(name, whether it is the default, description) of each stage that can be a target."""
    last = len(file.stages) - 1
    return [
        (stage.name, stage.index == last, described(stage.start, stage.start.name))
        for stage in file.stages
        if stage.name or stage.index == last
    ]


def outline(file: Dockerfile, scope: Scope, graph: Graph, target: Stage) -> Outline:
    """Arguments, secrets and agents of TARGET and of all stages it needs."""
    found = Outline(target.name, described(target.start, target.start.name))
    for one in file.args:
        _arguments(found, one, scope)
    for node in graph.needed(target):
        for instruction in node.stage.instructions:
            if isinstance(instruction, ins.Arg):
                _arguments(found, instruction, scope)
            elif isinstance(instruction, ins.Run):
                _mounts(found, instruction)
    return found


def _arguments(found: Outline, one: ins.Arg, scope: Scope) -> None:
    from .evaluate import expanded

    for name, default, offset in one.args:
        value = scope.globals.get(name)
        if value is None:
            value = scope.build_args.get(name)
        if value is None and default is not None:
            value = expanded(one, default, scope.globals, offset, scope.file.escape)
        if name not in found.args or value:
            found.args[name] = Argument(name, value or "", described(one, name))


def _mounts(found: Outline, one: ins.Run) -> None:
    for mount in one.mounts:
        required = mount.flag("required")
        if mount.kind == "secret":
            name = mount.get("id") or mount.get("target").rpartition("/")[2]
            found.secrets[name] = found.secrets.get(name, False) or required
        elif mount.kind == "ssh":
            name = mount.get("id") or "default"
            found.agents[name] = found.agents.get(name, False) or required
