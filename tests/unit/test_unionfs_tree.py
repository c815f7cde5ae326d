"""The union filesystem without a mount: names found in layers and changed in the upper one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.drivers.snapshot.unionfs import calls, copyup, listing, marks
from rootless.drivers.snapshot.unionfs.binding import Binding
from rootless.drivers.snapshot.unionfs.edit import Editor
from rootless.drivers.snapshot.unionfs.nodes import Layer, Node
from rootless.drivers.snapshot.unionfs.quota import Quota
from rootless.drivers.snapshot.unionfs.tree import Tree
from rootless.drivers.snapshot.unionfs.work import Work

pytestmark = pytest.mark.requires("fuse")
ME = (os.getuid(), os.getgid())


class Union:
    """Layers below a directory, and the parts of the server that need no kernel."""

    def __init__(self, top: Path, layer_format: str, *lowers: str, limit: int = 0) -> None:
        self.top, self.format, self.lowers = top, layer_format, lowers
        for name in ("upper", "work", *lowers):
            (top / name).mkdir(exist_ok=True)
        layers = [self._layer(name, name == "upper") for name in ("upper", *lowers)]
        self.changed: list[Node] = []
        self.released: list[Node] = []
        self.tree = Tree(Binding(), layers, marks.of(layer_format), self.released.append)
        self.quota = Quota(limit)
        self.work = Work(os.open(top / "work", os.O_RDONLY))
        self.copyup = copyup.CopyUp(self.tree, self.work, self.quota, self.changed.append)
        self.edit = Editor(self.tree, self.copyup)
        self.root = self.tree.nodes.root

    def close(self) -> None:
        nodes = self.tree.nodes
        for node in list(nodes.by_id.values()):
            nodes.close(node)
            if node.held >= 0:
                os.close(node.held)
        os.close(self.work.fd)

    def again(self) -> Union:
        """The same as a new server sees it."""
        self.close()
        self.__init__(self.top, self.format, *self.lowers)  # type: ignore[misc]
        return self

    def _layer(self, name: str, writable: bool) -> Layer:
        return Layer(os.open(self.top / name, os.O_RDONLY), writable=writable)

    def find(self, path: str) -> Node:
        node = self.root
        for part in path.split("/"):
            node = self.tree.need(node, part.encode())
            node.lookups = max(node.lookups, 1)
        return node

    def names(self, path: str = "") -> list[str]:
        node = self.find(path) if path else self.root
        return sorted(name.decode() for name, _, _ in listing.entries(self.tree, node))

    def upper(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.top / "upper")) for path in (self.top / "upper").rglob("*")
        )


@pytest.fixture(params=["overlay", "files"])
def union(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Union]:
    for path in ("low/d/sub", "low/gone", "mid/d"):
        (tmp_path / path).mkdir(parents=True)
    for path in ("low/d/a", "low/d/b", "low/d/sub/x", "low/gone/y", "low/f", "mid/d/c", "mid/d/b"):
        (tmp_path / path).write_text(path)
    found = Union(tmp_path, request.param, "mid", "low")
    found.tree.marks.hide(found.tree.layers[1].fd, b"gone")
    yield found
    found.close()


def test_names_are_found_in_the_topmost_layer(union: Union) -> None:
    assert union.names() == ["d", "f"]
    assert union.names("d") == ["a", "b", "c", "sub"]
    fd = union.tree.open_file(union.find("d/b"), os.O_RDONLY)
    assert os.read(fd, 100) == b"mid/d/b"
    os.close(fd)
    assert union.tree.lookup(union.root, b"gone") is None
    with pytest.raises(NotADirectoryError):
        union.tree.lookup(union.find("f"), b"x")


def test_copy_up_brings_the_directories_and_keeps_their_times(union: Union) -> None:
    before = [union.find(path) for path in ("d", "d/sub", "d/sub/x")]
    numbers = [node.ino for node in before]
    os.utime(union.top / "mid" / "d", ns=(1, 2))
    union.copyup.file(before[2])
    assert union.upper() == ["d", "d/sub", "d/sub/x"]
    assert os.stat(union.top / "upper" / "d").st_mtime_ns == 2
    assert [union.find(path).ino for path in ("d", "d/sub", "d/sub/x")] == numbers
    assert os.listdir(union.top / "work") == []


def test_copy_up_without_room_leaves_nothing(union: Union, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_words: object, **_options: object) -> bool:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(copyup.treecopy, "copy_data", full)
        with pytest.raises(OSError, match="full"):
            union.copyup.file(union.find("f"))
    assert union.upper() == []
    assert os.listdir(union.top / "work") == []
    assert not union.find("f").upper
    union.copyup.file(union.find("f"))
    assert union.upper() == ["f"]


def test_removing_leaves_whiteouts_only_where_something_lies_below(union: Union) -> None:
    union.edit.unlink(union.root, b"f")
    union.edit.unlink(union.find("d"), b"c")
    assert union.names() == ["d"]
    node, fd = union.edit.create(union.root, b"own", os.O_WRONLY, 0o600, ME)
    os.close(fd)
    union.edit.unlink(union.root, b"own")
    assert node.removed
    hidden = union.tree.marks.whited_out
    upper = union.tree.layers[0].fd
    assert hidden(upper, b"f")
    assert not hidden(upper, b"own")
    for name in (b"a", b"b"):
        union.edit.unlink(union.find("d"), name)
    with pytest.raises(OSError) as caught:
        union.edit.rmdir(union.root, b"d")
    assert caught.value.errno == errno.ENOTEMPTY
    union.edit.unlink(union.find("d/sub"), b"x")
    union.edit.rmdir(union.find("d"), b"sub")
    union.edit.rmdir(union.root, b"d")
    assert union.names() == []
    union.edit.mkdir(union.root, b"d", 0o755, ME)
    assert union.names("d") == [], "what was below stays hidden"


def test_a_new_server_sees_the_same(union: Union) -> None:
    union.edit.unlink(union.root, b"f")
    union.edit.unlink(union.find("d"), b"a")
    union.edit.rename(union.find("d"), b"b", union.root, b"moved", 0)
    number = union.find("moved").ino
    union.again()
    assert union.names() == ["d", "moved"]
    assert union.names("d") == ["c", "sub"]
    assert union.find("moved").ino == number


def test_renaming(union: Union) -> None:
    with pytest.raises(OSError) as caught:
        union.edit.rename(union.root, b"d", union.root, b"e", 0)
    assert caught.value.errno == errno.EXDEV
    with pytest.raises(FileExistsError):
        union.edit.rename(union.root, b"f", union.find("d"), b"a", calls.RENAME_NOREPLACE)
    union.edit.mkdir(union.root, b"n", 0o755, ME)
    union.edit.mkdir(union.find("n"), b"m", 0o755, ME)
    union.edit.rename(union.root, b"n", union.find("d"), b"n", 0)
    assert union.names("d/n") == ["m"]
    union.edit.rename(union.root, b"f", union.find("d/n"), b"f", 0)
    union.edit.rename(union.find("d/n"), b"f", union.find("d"), b"a", calls.RENAME_EXCHANGE)
    assert union.names("d/n") == ["f", "m"]
    with pytest.raises(OSError) as caught:
        union.edit.rename(union.root, b"d", union.root, b"x", calls.RENAME_WHITEOUT)
    assert caught.value.errno == errno.EINVAL


def test_a_directory_moved_to_a_hidden_name_shows_nothing_old(union: Union) -> None:
    union.edit.mkdir(union.root, b"n", 0o755, ME)
    union.edit.rename(union.root, b"n", union.root, b"gone", 0)
    assert union.names("gone") == []
    union.edit.unlink(union.find("d/sub"), b"x")
    union.edit.mkdir(union.root, b"o", 0o755, ME)
    union.edit.rename(union.root, b"o", union.find("d"), b"sub", 0)
    assert union.names("d/sub") == []
    union.again()
    assert union.names("d/sub") == union.names("gone") == []


def test_links_are_one_node(union: Union) -> None:
    node = union.find("f")
    union.edit.link(node, union.find("d"), b"f2")
    assert union.find("d/f2") is node
    union.edit.unlink(union.root, b"f")
    assert not node.removed
    assert union.tree.where(node)[1] == b"f2"
    union.again()
    union.edit.link(union.find("d/f2"), union.root, b"f3")
    union.again()
    assert union.find("f3") is union.find("d/f2")


def test_links_of_a_layer_part(union: Union) -> None:
    os.link(union.top / "low" / "f", union.top / "low" / "g")
    one, other = union.find("f"), union.find("g")
    assert one is not other
    assert one.ino == other.ino
    union.copyup.file(one)
    assert union.changed == [one]
    assert one.ino != other.ino


def test_limit(union: Union) -> None:
    union.quota.limit = 3
    with pytest.raises(OSError) as caught:
        union.copyup.file(union.find("f"))
    assert caught.value.errno == errno.ENOSPC
    union.copyup.file(union.find("f"), empty=True)
    assert union.quota.used == 0


def test_forgotten_nodes_go_with_what_they_hold(union: Union) -> None:
    nodes = union.tree.nodes
    node = union.find("d/sub/x")
    union.edit.unlink(union.find("d/sub"), b"x")
    assert os.fstat(node.held).st_size == len("low/d/sub/x")
    nodes.forget(node, 1)
    assert union.released == [node]
    assert node.id not in nodes.by_id
    parent, child = union.find("d"), union.find("d/sub")
    nodes.forget(parent, 1)
    assert parent.id in nodes.by_id, "names are still known in it"
    nodes.forget(child, 1)
    assert set(nodes.by_id) == {1}
    assert nodes.open_fds == 0


def test_descriptors_are_closed_and_opened_again(union: Union) -> None:
    nodes = union.tree.nodes
    union.find("d/sub/x")
    assert nodes.open_fds > 0
    nodes.max_fds = 0
    nodes.shrink()
    assert nodes.open_fds == 0
    assert union.names("d/sub") == ["x"]


def test_nothing_changes_without_an_upper_layer(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "f").write_text("1")
    layer = Layer(os.open(tmp_path / "low", os.O_RDONLY), writable=False)
    tree = Tree(Binding(), [layer], marks.of("overlay"), lambda _node: None)
    editor = Editor(tree, copyup.CopyUp(tree, None, Quota(0), lambda _node: None))
    root = tree.nodes.root
    for call in (
        lambda: editor.unlink(root, b"f"),
        lambda: editor.mkdir(root, b"d", 0o755, ME),
        lambda: editor.rename(root, b"f", root, b"g", 0),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EROFS
    os.close(layer.fd)


def test_a_listing_goes_on_where_it_was(union: Union) -> None:
    opened = listing.Listing(union.tree, union.root)
    names = [name for name, _, _ in opened.at(0)]
    assert names[:2] == [b".", b".."]
    first = opened.at(0)
    taken = [next(first)[0] for _ in range(3)]
    first.close()  # type: ignore[attr-defined]
    assert taken == names[:3]
    assert [name for name, _, _ in opened.at(2)] == names[2:], "the third did not fit"
    assert [name for name, _, _ in opened.at(1)] == names[1:], "back, as seekdir(3) does"
    kinds = {name: kind for name, _, kind in opened.at(0)}
    assert kinds[b"d"] == stat.S_IFDIR
    assert kinds[b"f"] == stat.S_IFREG
