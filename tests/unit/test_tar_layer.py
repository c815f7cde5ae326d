"""Entries made into files: what is kept, what is refused, and that nothing leaves the layer.

Runs as any user: owners 0:0 are the caller's.  Owners and capabilities are tested in the realm.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING

import pytest
from tar_builder import member, pax

from rootless.errors import IdMapError, LayerError
from rootless.store.layerwriter import LayerWriter
from rootless.store.tarreader import TarReader

if TYPE_CHECKING:
    from pathlib import Path

Member = bytes


def directory(name: bytes, mode: bytes = b"0000755", **fields: bytes) -> Member:
    return member(name, b"", b"5", mode=mode, **fields)


def symlink(name: bytes, target: bytes) -> Member:
    return member(name, b"", b"2", link=target)


def hardlink(name: bytes, target: bytes) -> Member:
    return member(name, b"", b"1", link=target)


class Layer:
    """A directory to unpack into, with a neighbour that nobody may touch."""

    def __init__(self, tmp_path: Path) -> None:
        self.outside = tmp_path / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(b"secret")
        self.root = tmp_path / "layer"
        self.root.mkdir()
        self.skipped: dict[str, int] = {}

    def apply(self, *members: bytes) -> None:
        stream = io.BytesIO(b"".join(members))
        before = os.umask(0)
        fd = os.open(self.root, os.O_RDONLY)
        writer = LayerWriter(fd)
        try:
            writer.apply(TarReader(lambda: stream.read(1000)))
        finally:
            self.skipped = writer.skipped
            writer.close()
            os.close(fd)
            os.umask(before)
            assert sorted(os.listdir(self.outside)) == ["secret"]
            assert (self.outside / "secret").read_bytes() == b"secret"

    def stat(self, name: str) -> os.stat_result:
        return os.lstat(self.root / name)

    def kind(self, name: str) -> str:
        info = self.stat(name)
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            return "whiteout"
        return stat.filemode(info.st_mode)[0]

    def tree(self) -> list[str]:
        found = []
        for where, dirs, files in os.walk(self.root):
            found += [
                os.path.relpath(os.path.join(where, name), self.root) for name in dirs + files
            ]
        return sorted(found)

    def opaque(self, name: str) -> bool:
        try:
            return os.getxattr(self.root / name, "user.overlay.opaque") == b"y"
        except OSError:
            return False


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return Layer(tmp_path)


def test_kinds_modes_and_times(layer: Layer) -> None:
    layer.apply(
        directory(b"./", b"0000711", mtime=b"00000000777"),
        directory(b"d/", b"0002775", mtime=b"00000001000"),
        member(b"d/f", b"hello", mode=b"0004755", mtime=b"00000002000"),
        symlink(b"d/s", b"/no/where"),
        hardlink(b"h", b"/d/f"),
        member(b"p", b"", b"6", mode=b"0000600"),
        member(b"c", b"data", b"7"),
    )
    assert layer.tree() == ["c", "d", "d/f", "d/s", "h", "p"]
    assert (layer.root / "d/f").read_bytes() == b"hello"
    assert stat.S_IMODE(layer.stat("d/f").st_mode) == 0o4755
    assert stat.S_IMODE(layer.stat("d").st_mode) == 0o2775
    assert stat.S_IMODE(layer.stat(".").st_mode) == 0o711
    assert stat.S_IMODE(layer.stat("p").st_mode) == 0o600
    assert layer.stat("d/f").st_mtime == 0o2000
    assert layer.stat("d").st_mtime == 0o1000, "set last, after its files"
    assert layer.stat(".").st_mtime == 0o777
    assert os.readlink(layer.root / "d/s") == "/no/where"
    assert layer.stat("h").st_ino == layer.stat("d/f").st_ino
    assert layer.kind("p") == "p"
    assert layer.kind("c") == "-"


def test_unlisted_parents(layer: Layer) -> None:
    layer.apply(member(b"a/b/c", b"x"))
    assert stat.S_IMODE(layer.stat("a").st_mode) == 0o755
    assert stat.S_IMODE(layer.stat("a/b").st_mode) == 0o755


def test_names_are_bytes(layer: Layer) -> None:
    layer.apply(member(b"\xff\xfe", b"x"), member(b"a\nb", b"y"))
    assert sorted(os.listdir(os.fsencode(layer.root))) == [b"a\nb", b"\xff\xfe"]


def test_absolute_names_are_relative_to_the_layer(layer: Layer) -> None:
    outside = os.fsencode(layer.outside)
    layer.apply(member(outside + b"/secret", b"forged"), member(b"//x//./y", b""))
    assert "x/y" in layer.tree()


@pytest.mark.parametrize(
    "name", [b"../outside/secret", b"a/../../outside/secret", b"..", b"a/..", b"/..", b"a/../b"]
)
def test_climbing_out_is_refused(layer: Layer, name: bytes) -> None:
    for one in (member(name, b"forged"), directory(name), symlink(name, b"x")):
        with pytest.raises(LayerError, match="climbs out of the layer"):
            layer.apply(one)


def test_hard_link_out_is_refused(layer: Layer) -> None:
    with pytest.raises(LayerError, match=r'entry "x": its hard link target "\.\./.*" climbs out'):
        layer.apply(hardlink(b"x", b"../outside/secret"))
    with pytest.raises(LayerError, match="is no file of the layer"):
        layer.apply(hardlink(b"x", os.fsencode(layer.outside / "secret")))


@pytest.mark.parametrize("absolute", [True, False])
def test_file_through_a_link_stays_inside(layer: Layer, absolute: bool) -> None:
    target = os.fsencode(layer.outside) if absolute else b"../outside"
    layer.apply(symlink(b"link", target), member(b"link/secret", b"forged"))
    inside = os.path.relpath(layer.outside, "/") if absolute else "outside"
    assert (layer.root / inside / "secret").read_bytes() == b"forged"


def test_hard_link_through_a_link_stays_inside(layer: Layer) -> None:
    with pytest.raises(LayerError, match="is no file of the layer"):
        layer.apply(symlink(b"link", b"../outside"), hardlink(b"x", b"link/secret"))


def test_hard_link_to_a_symlink_links_the_symlink(layer: Layer) -> None:
    layer.apply(symlink(b"s", os.fsencode(layer.outside / "secret")), hardlink(b"h", b"s"))
    assert layer.kind("h") == "l"
    assert layer.stat("h").st_ino == layer.stat("s").st_ino


def test_last_component_is_never_followed(layer: Layer) -> None:
    target = os.fsencode(layer.outside / "secret")
    layer.apply(symlink(b"s", target), member(b"s", b"mine"))
    assert layer.kind("s") == "-"
    layer.apply(symlink(b"t", os.fsencode(layer.outside)), directory(b"t", b"0000700"))
    assert layer.kind("t") == "d"


def test_usr_merge(layer: Layer) -> None:
    layer.apply(
        symlink(b"lib", b"usr/lib"),
        member(b"lib/a", b"1"),
        directory(b"usr/"),
        directory(b"usr/lib/", b"0000700"),
        member(b"/lib/b", b"2"),
        hardlink(b"c", b"lib/a"),
    )
    assert layer.kind("lib") == "l"
    assert sorted(os.listdir(layer.root / "usr/lib")) == ["a", "b"]
    assert stat.S_IMODE(layer.stat("usr/lib").st_mode) == 0o700


def test_link_circles_end(layer: Layer) -> None:
    with pytest.raises(LayerError, match=r'entry "a/x": too many symbolic links'):
        layer.apply(symlink(b"a", b"b"), symlink(b"b", b"a"), member(b"a/x"))


def test_link_replaced_after_use(layer: Layer) -> None:
    """What was walked once is walked again when a link on the way changed."""
    layer.apply(
        directory(b"one"),
        directory(b"two"),
        symlink(b"l", b"one"),
        member(b"l/a", b""),
        symlink(b"l", b"two"),
        member(b"l/b", b""),
        directory(b"l"),
        member(b"l/c", b""),
    )
    assert layer.tree() == ["l", "l/c", "one", "one/a", "two", "two/b"]


def test_directory_replaced_after_use(layer: Layer) -> None:
    layer.apply(
        member(b"d/x/y", b"old"),
        member(b"d/secret", b"old"),
        symlink(b"d", b"../outside"),
        member(b"d/secret", b"forged"),
    )
    assert layer.kind("d") == "l"
    assert (layer.root / "outside/secret").read_bytes() == b"forged"


@pytest.mark.parametrize("first", [b"0", b"5", b"2", b"6"])
@pytest.mark.parametrize("second", [b"0", b"5", b"2", b"6", b"1"])
def test_last_of_duplicate_names_wins(layer: Layer, first: bytes, second: bytes) -> None:
    layer.apply(
        member(b"target", b"t"),
        member(b"x", b"", first, link=b"gone", mode=b"0000755", mtime=b"00000000001"),
        *([member(b"x/in/side", b"")] if first == b"5" else []),
        member(b"x", b"", second, link=b"target", mode=b"0000751", mtime=b"00000000005"),
    )
    assert layer.kind("x") == {b"0": "-", b"5": "d", b"2": "l", b"6": "p", b"1": "-"}[second]
    if first == second == b"5":
        assert "x/in/side" in layer.tree(), "directories are merged"
    if second != b"1":
        assert layer.stat("x").st_mtime == 5
    if second in (b"0", b"5"):
        assert stat.S_IMODE(layer.stat("x").st_mode) == 0o751


def test_file_is_no_parent(layer: Layer) -> None:
    with pytest.raises(LayerError, match=r'entry "f/x/y": "f" is not a directory'):
        layer.apply(member(b"f", b""), member(b"f/x/y", b""))


def test_devices_are_left_out(layer: Layer) -> None:
    layer.apply(
        member(b"zero", b"", b"3", devmajor=b"0000001", devminor=b"0000005"),
        member(b"forged-whiteout", b"", b"3"),
        member(b"disk", b"", b"4", devmajor=b"0000010"),
        member(b"after", b""),
    )
    assert layer.tree() == ["after"]
    assert layer.skipped == {"device nodes": 3}


def test_whiteouts(layer: Layer) -> None:
    layer.apply(member(b"d/.wh.gone", b""), member(b".wh.top", b""), member(b"o/.wh..wh..opq", b""))
    assert layer.kind("d/gone") == "whiteout"
    assert layer.kind("top") == "whiteout"
    assert layer.tree() == ["d", "d/gone", "o", "top"]
    assert layer.opaque("o")
    assert not layer.opaque("d")


def test_whiteout_beside_what_replaces_it(layer: Layer) -> None:
    layer.apply(
        member(b".wh.a", b""),
        member(b"a", b"new"),
        member(b"b", b"new"),
        member(b".wh.b", b""),
        member(b".wh.c", b""),
        directory(b"c"),
        directory(b"d"),
        member(b".wh.d", b""),
        member(b".wh.e", b""),
        member(b"e/inside", b""),
    )
    assert [layer.kind(name) for name in "abcde"] == ["-", "-", "d", "d", "d"]
    assert [layer.opaque(name) for name in "cde"] == [True, True, True]
    assert (layer.root / "b").read_bytes() == b"new"


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh..."])
def test_whiteouts_that_are_none(layer: Layer, name: bytes) -> None:
    with pytest.raises(LayerError, match="it is no whiteout"):
        layer.apply(member(name, b""))


def test_bookkeeping_of_aufs_is_passed_over(layer: Layer) -> None:
    layer.apply(member(b".wh..wh.aufs", b"x"), directory(b".wh..wh.plnk"), member(b"a", b""))
    assert layer.tree() == ["a"]


def test_hard_link_to_a_whiteout_is_refused(layer: Layer) -> None:
    with pytest.raises(LayerError, match="is no file of the layer"):
        layer.apply(member(b".wh.a", b""), hardlink(b"b", b"a"))


def test_file_below_a_whiteout(layer: Layer) -> None:
    layer.apply(member(b".wh.a", b""), member(b"a/b/c", b"x"))
    assert layer.kind("a") == "d"
    assert layer.opaque("a")


def xattr(name: bytes, value: bytes = b"1") -> bytes:
    return pax((b"SCHILY.xattr." + name, value))


def test_xattrs(layer: Layer) -> None:
    layer.apply(
        xattr(b"user.mine", b"\0\xff"),
        member(b"f", b""),
        xattr(b"user.mine", b"d"),
        directory(b"d"),
    )
    assert os.getxattr(layer.root / "f", "user.mine") == b"\0\xff"
    assert os.getxattr(layer.root / "d", "user.mine") == b"d"


@pytest.mark.parametrize(
    "name",
    [
        b"user.overlay.opaque",
        b"user.overlay.redirect",
        b"user.fuseoverlayfs.opaque",
        b"user.containers.override_stat",
        b"trusted.overlay.opaque",
        b"security.selinux",
        b"system.posix_acl_access",
    ],
)
def test_xattrs_that_drivers_obey_are_left_out(layer: Layer, name: bytes) -> None:
    layer.apply(xattr(name, b"y"), directory(b"d"), xattr(name, b"y"), directory(b"./"))
    assert os.listxattr(layer.root / "d") == []
    assert os.listxattr(layer.root) == []
    assert layer.skipped == {"extended attributes": 2}


def test_absurd_times_are_1970(layer: Layer) -> None:
    layer.apply(
        pax((b"mtime", b"-5.5")),
        member(b"before", b""),
        pax((b"mtime", b"9" * 19)),
        directory(b"after"),
    )
    assert (layer.stat("before").st_mtime, layer.stat("after").st_mtime) == (0, 0)


def test_owners_that_are_not_ours(layer: Layer) -> None:
    if os.getuid() == 0:
        os.chown(layer.root, 0, 0)
    for data in (member(b"f", b"", uid=b"\x80" + (2**31).to_bytes(7, "big")),):
        if os.getuid() == 0:
            continue
        with pytest.raises(IdMapError, match=r'entry "f": its owner 2147483648:0 is outside'):
            layer.apply(data)
    with pytest.raises(LayerError, match=r'entry "g": 4294967296:0 is no owner'):
        layer.apply(pax((b"uid", b"4294967296")), member(b"g", b""))


def test_long_and_deep_names(layer: Layer) -> None:
    deep = b"/".join([b"d" * 10] * 300)
    layer.apply(pax((b"path", deep + b"/f")), member(b"x", b"deep"))
    with pytest.raises(LayerError, match="ENAMETOOLONG"):
        layer.apply(pax((b"path", b"n" * 300)), member(b"x", b""))


def test_many_directories(layer: Layer) -> None:
    """More than are kept open."""
    members = [member(b"d%d/e%d/f" % (n % 500, n), b"x") for n in range(1500)]
    layer.apply(*members, *[hardlink(b"l%d" % n, b"d%d/e%d/f" % (n, n)) for n in range(500)])
    assert len(layer.tree()) == 500 + 1500 + 1500 + 500
