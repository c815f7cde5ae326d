"""Stages and what they need of each other: which have to be built for a target, and in which order they can be.

Pure.  A stage needs the one it is FROM, those it copies --from and those it mounts; each of them has to
stand before it in the file.  The exception is ONBUILD, which is looked at when the base image is known.
"""

from __future__ import annotations

from rootless.errors import UsageError

from . import instructions as ins
from .source import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from .evaluate import Scope
    from .parser import Dockerfile, Stage

SCRATCH = "scratch"


class Node:
    """A stage in the graph.

    base   the stage it is FROM, or None where that is the image IMAGE ("scratch": nothing)
    needs  indexes of all stages it needs
    """

    __slots__ = ("base", "image", "needs", "platform", "stage")

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.base: Stage | None = None
        self.image = ""
        self.platform = ""
        self.needs: set[int] = set()


class Graph:
    """All stages of a file, and names that --build-context gives another meaning.

    contexts  mean something else than a stage or image; aliases mean the stage of another name
    """

    __slots__ = ("aliases", "contexts", "nodes", "scope")

    def __init__(
        self,
        file: Dockerfile,
        scope: Scope,
        contexts: Container[str] = frozenset(),
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.scope = scope
        self.contexts = contexts
        self.aliases = dict(aliases or {})
        self.nodes = [Node(stage) for stage in file.stages]
        for node in self.nodes:
            self._base(node)
            for one in node.stage.instructions:
                for origin, offset in origins(one):
                    self._edge(node, one, scope.word(one, origin), offset)

    def find(self, name: str, before: int | None = None) -> Stage | None:
        """The last stage called NAME among those before an index."""
        wanted = self.aliases.get(name.lower(), name).lower()
        for node in reversed(self.nodes[:before]):
            if node.stage.name and node.stage.name == wanted:
                return node.stage
        return None

    def _base(self, node: Node) -> None:
        start = node.stage.start
        image = self.scope.word(start, start.image, start.image_offset)
        if not image:
            raise start.line.error(
                f"base name ({start.image}) should not be blank", start.image_offset
            )
        node.platform = self.scope.word(start, start.platform) if start.platform else ""
        if image not in self.contexts:
            node.base = self.find(image, node.stage.index)
        if node.base is not None:
            node.needs.add(node.base.index)
        else:
            node.image = image
            self._refuse_later(node, start, image, start.image_offset)

    def _refuse_later(
        self, node: Node, one: ins.Instruction, name: str, offset: int | None
    ) -> None:
        """Refuse the name of the stage itself, or of one that comes later and needs this one."""
        if name.lower() == node.stage.name and name:
            raise one.line.error(f"circular dependency detected: stage {name} needs itself", offset)
        later = self.find(name)
        if later is not None and later.index > node.stage.index and name not in self.contexts:
            raise one.line.error(
                f"circular dependency detected: stage {name} comes later in the file", offset
            )

    def _edge(self, node: Node, one: ins.Instruction, name: str, offset: int) -> None:
        found = self.origin(name, node.stage.index)
        if found is not None:
            node.needs.add(found.index)
            return
        if name.isascii() and name.isdigit():
            if int(name) == node.stage.index:
                raise one.line.error(
                    f"circular dependency detected: stage {name} needs itself", offset
                )
            raise one.line.error(f"invalid stage index {name}", offset)
        self._refuse_later(node, one, name, offset)

    def origin(self, name: str, before: int | None = None) -> Stage | None:
        """The stage that a --from means: a name, or a number; None for an image or a named context."""
        if name in self.contexts:
            return None
        if name.isascii() and name.isdigit():
            index = int(name)
            within = index < (len(self.nodes) if before is None else before)
            return self.nodes[index].stage if within else None
        return self.find(name, before)

    def target(self, name: str = "") -> Stage:
        """The stage to build: the one called NAME (or of that number), else the last; raises UsageError."""
        if not name:
            return self.nodes[-1].stage
        found = self.find(name)
        if found is None and name.isascii() and name.isdigit() and int(name) < len(self.nodes):
            found = self.nodes[int(name)].stage
        if found is None:
            names = [node.stage.name for node in self.nodes if node.stage.name]
            close = nearest(name.lower(), names)
            raise UsageError(
                f"target stage {name!r} could not be found",
                hint=f"did you mean {close}?" if close else "",
                exit_code=1,
            )
        return found

    def needed(self, target: Stage) -> list[Node]:
        """The stages that TARGET needs and itself, in the order of the file."""
        wanted: set[int] = set()
        pending = [target.index]
        while pending:
            index = pending.pop()
            if index not in wanted:
                wanted.add(index)
                pending += self.nodes[index].needs
        return [node for node in self.nodes if node.stage.index in wanted]


def origins(one: ins.Instruction) -> list[tuple[str, int]]:
    """(name, offset) of what an instruction takes files from beside the context."""
    if isinstance(one, ins.Copy) and one.origin:
        return [(one.origin, max(0, one.line.text.find("--from")))]
    if isinstance(one, ins.Run):
        return [(mount.get("from"), mount.offset) for mount in one.mounts if mount.get("from")]
    return []
