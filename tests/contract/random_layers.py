"""Layers at random: trees over a few names with whiteouts and opaque directories, and what they show merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Union

from hypothesis import strategies as st
from posix_cases.harness import Entry
from posix_cases.registry import member

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = st.sampled_from("abc")
PATHS = st.one_of(NAMES, *(st.tuples(*[NAMES] * depth).map("/".join) for depth in (1, 2, 2, 3)))
TEXTS = st.text(st.characters(max_codepoint=255), max_size=12)
TARGETS = st.sampled_from(["a", "b", "c", "a/b", "b/a/c", "nowhere"])
IDS = st.sampled_from([0, 1000, 65534])
MODES = st.sampled_from([0o644, 0o600, 0o755, 0o777, 0o000, 0o1777])
SET_IDS = st.sampled_from([0o6755, 0o2775])


class Whiteout(NamedTuple):
    """Hides its name."""


class Dir(NamedTuple):
    """A directory of a layer; OPAQUE hides what lower layers have in it."""

    entry: Entry
    opaque: bool
    children: dict[str, Any]


Node = Union[Entry, Whiteout, Dir]
Layer = dict[str, Node]

_XATTRS = st.lists(st.tuples(st.just("user.a"), st.just(b"of the layer")), max_size=1).map(tuple)
_LINKS = TARGETS.map(lambda target: Entry("symlink", 0o777, data=target.encode()))
_FIFOS = st.just(Entry("fifo", 0o640))
_WHITEOUTS = st.just(Whiteout())


def layers(
    modes: st.SearchStrategy[int], *, idle: bool = True, fifos: bool = True
) -> st.SearchStrategy[list[Layer]]:
    """Two or three layers, the lowest first; IDLE: with whiteouts that hide nothing, too."""
    data = TEXTS.map(lambda text: text.encode("latin-1"))
    files = st.builds(Entry, st.just("file"), modes, IDS, IDS, data=data, xattrs=_XATTRS)
    folder = st.builds(Entry, st.just("dir"), modes, IDS, IDS, data=st.just(b""), xattrs=_XATTRS)

    def directories(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        inside = st.dictionaries(NAMES, children, max_size=3)
        return st.builds(Dir, folder, st.sampled_from([False, False, True]), inside)

    leaves = [files, _LINKS, _WHITEOUTS, *([_FIFOS] if fifos else [])]
    nodes = st.recursive(st.one_of(*leaves), directories, max_leaves=8)
    one = st.dictionaries(NAMES, nodes | directories(nodes), max_size=3)
    found = st.lists(one, min_size=2, max_size=3)
    return found if idle else found.map(without_idle_whiteouts)


def without_idle_whiteouts(stack: list[Layer]) -> list[Layer]:
    """The same layers, but each whiteout has something to hide."""
    return [_busy(layer, merged(stack[:number])) for number, layer in enumerate(stack)]


def _busy(layer: Layer, below: Layer) -> Layer:
    found: Layer = {}
    for name, node in layer.items():
        old = below.get(name)
        if isinstance(node, Dir):
            seen = old.children if isinstance(old, Dir) and not node.opaque else {}
            found[name] = Dir(node.entry, node.opaque, _busy(node.children, seen))
        elif old or not isinstance(node, Whiteout):
            found[name] = node
    return found


def members(layer: Layer, where: str = "") -> Iterator[tuple[str, Any]]:
    """The layer as members of an archive."""
    for name, node in layer.items():
        if isinstance(node, Whiteout):
            yield f"{where}.wh.{name}", ""
        elif isinstance(node, Dir):
            yield member(f"{where}{name}", node.entry)
            if node.opaque:
                yield f"{where}{name}/.wh..wh..opq", ""
            yield from members(node.children, f"{where}{name}/")
        else:
            yield member(f"{where}{name}", node)


def merged(stack: list[Layer]) -> Layer:
    """What the layers show: the specification in a few lines, which no driver shares."""
    below: Layer = {}
    for layer in stack:
        for name, node in layer.items():
            old = below.pop(name, None)
            if isinstance(node, Dir):
                hidden = node.opaque or not isinstance(old, Dir)
                parts = [node.children] if hidden else [old.children, node.children]  # type: ignore[union-attr]
                below[name] = Dir(node.entry, False, merged(parts))
            elif not isinstance(node, Whiteout):
                below[name] = node
    return below


def entries(tree: Layer, where: str = "") -> Iterator[tuple[str, Entry]]:
    """A merged tree as paths, parents first."""
    for name, node in tree.items():
        if isinstance(node, Dir):
            yield f"{where}{name}", node.entry
            yield from entries(node.children, f"{where}{name}/")
        elif isinstance(node, Entry):
            yield f"{where}{name}", node
