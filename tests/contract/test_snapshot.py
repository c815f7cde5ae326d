"""What every storage driver must do, on real mounts: layers unpacked in the realm, shown as one tree.

Each entry of the registry goes through the whole suite, in each layer format that it reads.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from stacks import FORMATS, Stack, archive, new_stack

from rootless.drivers import snapshot
from rootless.errors import (
    DigestMismatchError,
    HostError,
    IdMapError,
    LayerError,
    NoSpaceError,
    UsageError,
)
from rootless.facts import HostFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rootless.engine.context import Context

KINDS = [
    ("overlay", "overlay"),
    *((name, kind) for name in snapshot.REGISTRY if name != "overlay" for kind in FORMATS),
]
# What an old kernel or an old program cannot do, and so is never chosen where it cannot.
NEEDS = {
    ("overlay", "overlay"): "overlay",
    ("fuse-overlayfs", "overlay"): "fuse-overlayfs-opaque",
}


def kind(pair: tuple[str, str]) -> Any:
    """A parameter, with what the pair of driver and layer format requires of the machine."""
    marks = [pytest.mark.requires(NEEDS[pair])] if pair in NEEDS else []
    return pytest.param(pair, id="-".join(pair), marks=marks)


@pytest.fixture(params=[kind(pair) for pair in KINDS])
def stack(request: pytest.FixtureRequest, ctx: Context) -> Stack:
    return new_stack(ctx, *request.param)


def texts(tree: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    return {path: entry[4] for path, entry in tree.items() if entry[0][0] == "-"}


def fingerprint(path: str) -> str:
    total = hashlib.sha256()
    for where, dirs, files in sorted(os.walk(path)):
        for name in sorted(dirs + files):
            info = os.lstat(os.path.join(where, name))
            total.update(repr((where, name, info.st_mode, info.st_size, info.st_mtime_ns)).encode())
    return total.hexdigest()


def test_topmost_wins(stack: Stack) -> None:
    stack.add(("d", None), ("d/low", "low"), ("d/both", "low"))
    stack.add(("d", None), ("d/high", "high"), ("d/both", "high"))
    assert texts(stack.look()) == {"d/low": "low", "d/high": "high", "d/both": "high"}


def test_whiteout_hides(stack: Stack) -> None:
    stack.add(("d", None), ("d/gone", "x"), ("d/kept", "y"), ("whole", None), ("whole/x", "x"))
    stack.add(("d/.wh.gone", ""), (".wh.whole", ""))
    tree = stack.look()
    assert texts(tree) == {"d/kept": "y"}
    assert set(tree) == {"d", "d/kept"}
    stack.add(("d/gone", "back"), ("whole/y", "y"))
    assert texts(stack.look()) == {"d/kept": "y", "d/gone": "back", "whole/y": "y"}


def test_opaque_hides_what_is_below(stack: Stack) -> None:
    stack.add(("d", None), ("d/a", "1"), ("d/sub", None), ("d/sub/b", "2"), ("other", "3"))
    stack.add(("d", None), ("d/.wh..wh..opq", ""), ("d/c", "4"))
    assert texts(stack.look()) == {"d/c": "4", "other": "3"}


def test_replaced_directory_shows_nothing_old(stack: Stack) -> None:
    stack.add(("d", None), ("d/old", "1"))
    stack.add((".wh.d", ""), ("d", None), ("d/new", "2"))
    assert texts(stack.look()) == {"d/new": "2"}


def test_owners_modes_and_times(stack: Stack) -> None:
    facts = stack.ctx.facts
    if sum(extent[2] for extent in facts.uid_map) == 1:
        uid = gid = 0  # a single ID: everything is the caller's
    else:
        uid, gid = 1000, 50
    stack.add(
        ("d", {"type": tarfile.DIRTYPE, "mode": 0o1777, "uid": uid, "gid": gid}),
        ("d/su", {"mode": 0o4755, "uid": 0, "gid": gid, "data": b"x"}),
        ("d/f", {"mode": 0o640, "uid": uid, "gid": gid}),
        ("d/l", {"type": tarfile.SYMTYPE, "linkname": "f", "uid": uid, "gid": gid}),
    )
    tree = stack.look()
    when = 1_600_000_000
    assert tree["d"][:4] == ["drwxrwxrwt", uid, gid, when]
    assert tree["d/su"][:4] == ["-rwsr-xr-x", 0, gid, when]
    assert tree["d/f"][:4] == ["-rw-r-----", uid, gid, when]
    assert tree["d/l"] == ["lrwxrwxrwx", uid, gid, when, "f"]


def test_the_topmost_layer_has_all_say_about_a_directory(stack: Stack) -> None:
    """Attributes that a lower layer gave it are gone."""
    tagged = {"type": tarfile.DIRTYPE, "pax_headers": {"SCHILY.xattr.user.low": "x"}}
    other = {"type": tarfile.DIRTYPE, "pax_headers": {"SCHILY.xattr.user.high": "y"}}
    stack.add(("d", tagged), ("d/f", "1"), ("e", tagged))
    stack.add(("d", other), ("e", None))
    tree = stack.look("assert [os.listxattr(name) for name in ('d', 'e')] == [['user.high'], []]")
    assert texts(tree) == {"d/f": "1"}


@pytest.mark.requires("subid")
def test_set_group_id_directories_give_a_layer_nothing(stack: Stack) -> None:
    """What an archive says holds, though the kernel would have the group and the bit inherited."""
    directory = {"type": tarfile.DIRTYPE, "mode": 0o2775, "gid": 50}
    stack.add(
        ("d", directory),
        ("d/f", ""),
        ("d/l", {"type": tarfile.SYMTYPE, "linkname": "f"}),
        ("d/p", {"type": tarfile.FIFOTYPE, "mode": 0o644}),
        ("d/sub", None),
        ("twice", directory),
        ("twice", None),
    )
    tree = stack.look()
    assert tree["d"][:3] == ["drwxrwsr-x", 0, 50]
    assert {path: tree[path][0] for path in ("d/f", "d/l", "d/p", "d/sub", "twice")} == {
        "d/f": "-rw-r--r--",
        "d/l": "lrwxrwxrwx",
        "d/p": "prw-r--r--",
        "d/sub": "drwxr-xr-x",
        "twice": "drwxr-xr-x",
    }
    assert {entry[2] for path, entry in tree.items() if path != "d"} == {0}


@pytest.mark.requires("subid")
def test_a_set_group_id_store_gives_a_container_nothing(stack: Stack) -> None:
    """As project directories of shared machines are: the group is not even one of the container's."""
    where = stack.directory
    pid = stack.ctx.run_in_realm(["/bin/sh", "-c", f"chgrp 50 {where}; chmod g+s {where}"], {})
    os.waitpid(pid, 0)
    stack.add(("d", None))
    script = (
        "os.mkdir('new'); open('d/f', 'w')\n"
        "found = {(i.st_gid, i.st_mode & 0o7777) for i in map(os.stat, ('.', 'new', 'd'))}\n"
        "assert found == {(0, 0o755)}, found"
    )
    tree = stack.look(script)
    assert {entry[2] for entry in tree.values()} == {0}


def test_writes_never_reach_a_layer(stack: Stack) -> None:
    layer = stack.add(("d", None), ("d/f", "low"), ("d/g", "low"), ("e", None), ("e/x", "x"))
    before = fingerprint(layer)
    script = (
        "open('d/f', 'a').write('+')\n"
        "open('new', 'w').write('new')\n"
        "os.unlink('d/g'); os.unlink('e/x'); os.rmdir('e')\n"
        "os.chmod('d', 0o700); os.chown('d/f', 0, 0)"
    )
    first = stack.look(script)
    assert texts(first) == {"d/f": "low+", "new": "new"}
    assert first["d"][0] == "drwx------"
    assert stack.look() == first, "and they are still there the next time"
    assert fingerprint(layer) == before


def test_removed_and_made_again(stack: Stack) -> None:
    stack.add(("d", None), ("d/old", "1"))
    stack.look("import shutil; shutil.rmtree('d'); os.mkdir('d'); open('d/new', 'w').write('2')")
    assert texts(stack.look()) == {"d/new": "2"}


def test_renames(stack: Stack) -> None:
    stack.add(("d", None), ("d/f", "1"), ("g", "2"))
    tree = stack.look("os.rename('g', 'd/g'); os.rename('d/f', 'f')")
    assert texts(tree) == {"d/g": "2", "f": "1"}


def test_capabilities_of_files(stack: Stack) -> None:
    if sum(extent[2] for extent in stack.ctx.facts.uid_map) == 1:
        return
    value = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # revision 2, net_raw, effective
    layer = stack.add(
        ("ping", {"mode": 0o755, "data": b"x",
                  "pax_headers": {"SCHILY.xattr.security.capability": value.decode("latin-1")}}),
    )  # fmt: skip
    assert "security.capability" in os.listxattr(f"{layer}/ping")
    stack.look("assert os.listxattr('ping') == ['security.capability']")


def test_a_hundred_and_twenty_layers(stack: Stack) -> None:
    for number in range(120):
        stack.add((f"f{number:03}", str(number)), ("top", str(number)))
    tree = texts(stack.look())
    assert len(tree) == 121
    assert tree["top"] == "119"


def test_one_layer_twice(stack: Stack) -> None:
    """As images have it whose steps made the same files, or none."""
    twice = (("d", None), ("d/.wh.f", ""), ("d/g", "twice"), ("e", None), ("e/.wh..wh..opq", ""))
    stack.add(*twice)
    stack.add(
        ("d", None), ("d/f", "hidden"), ("d/g", "hidden"), ("d/h", "1"), ("e", None), ("e/x", "")
    )
    stack.add(*twice)
    assert texts(stack.look()) == {"d/g": "twice", "d/h": "1"}


def test_no_layers_at_all(stack: Stack) -> None:
    assert texts(stack.look("open('f', 'w').write('1')")) == {"f": "1"}
    assert texts(stack.look()) == {"f": "1"}


def test_nothing_stays_mounted(stack: Stack) -> None:
    stack.add(("f", "1"))
    stack.look()
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        assert stack.directory not in file.read()


def leftovers(stack: Stack) -> list[str]:
    names = os.listdir(stack.layers.directory) if os.path.isdir(stack.layers.directory) else []
    return [name for name in names if "." in name]


GOOD = archive(("f", "text"))


@pytest.mark.parametrize(
    ("data", "options", "kind", "message"),
    [
        (
            GOOD,
            {"diff_id": "sha256:" + "0" * 64},
            DigestMismatchError,
            "cannot verify layer sha256",
        ),
        (GOOD, {"digest": "sha256:" + "0" * 64}, DigestMismatchError, "cannot verify blob sha256"),
        (GOOD, {"size": 5}, DigestMismatchError, "bytes instead of 5"),
        (GOOD[:700], {}, LayerError, 'ends in the middle of entry "f"'),
        (archive(("../x", "")), {}, LayerError, r'entry "\.\./x": it climbs out'),
        (archive(("f", {"uid": 2_000_000_000})), {}, IdMapError, 'entry "f": its owner 2000000000'),
        (b"\x1f\x8b\x08\0broken", {}, LayerError, "cannot decompress layer"),
    ],
    ids=["diff-id", "digest", "size", "truncated", "climbing", "owner", "compression"],
)
def test_bad_layers_leave_nothing(
    stack: Stack, data: bytes, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    diff_id = options.get("diff_id", "sha256:" + hashlib.sha256(data).hexdigest())
    stack.ctx.remove_trees([stack.layers.layer_dir(diff_id)])
    with pytest.raises(kind, match=message):
        stack.unpack(data, **options)
    assert not stack.layers.present(diff_id)
    assert leftovers(stack) == []


def test_full_disk_leaves_nothing(stack: Stack) -> None:
    """The worker writes to a filesystem of 400 KiB."""

    def run(argv: Sequence[str], fds: Mapping[int, int], map_key: str) -> int:
        out = next(word for word in argv if word.startswith("--out=")).partition("=")[2]
        script = 'mount -t tmpfs -o size=400k none "$0" && exec "$@"'
        inside = ["/usr/bin/unshare", "-m", "/bin/sh", "-c", script, out, *argv]
        return stack.ctx.run_in_realm(inside, fds, map_key)

    data = archive(("big", {"data": os.urandom(1 << 20)}))
    with pytest.raises(NoSpaceError, match=r"cannot unpack layer sha256:\w+: ENOSPC"):
        stack.unpack(data, run=run)
    assert leftovers(stack) == []


def test_killed_worker_leaves_nothing(stack: Stack) -> None:
    def run(_argv: Sequence[str], fds: Mapping[int, int], map_key: str) -> int:
        return stack.ctx.run_in_realm(["/bin/sh", "-c", "kill -9 $$"], fds, map_key)

    with pytest.raises(Exception, match="ended with status -9"):
        stack.unpack(archive(("f", os.urandom(8).hex())), run=run)
    assert leftovers(stack) == []


def test_one_flight_for_many_callers(stack: Stack) -> None:
    data = archive(("flight", os.urandom(8).hex()))
    started: list[int] = []

    def run(argv: Sequence[str], fds: Mapping[int, int], map_key: str) -> int:
        started.append(1)
        return stack.ctx.run_in_realm(argv, fds, map_key)

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: stack.unpack(data, run=run), range(8)))
    assert started == [1]
    assert leftovers(stack) == []


def test_layers_of_an_earlier_boot(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the mark of a finished sync they are unpacked again; with it they are believed."""
    data = archive(("boot", os.urandom(8).hex()))
    diff_id = stack.unpack(data)
    directory = stack.layers.layer_dir(diff_id)
    wait_for(f"{directory}/synced")
    from rootless.linux import proc

    monkeypatch.setattr(proc, "_boot_id", "another-boot")
    assert stack.layers.present(diff_id)
    os.unlink(f"{directory}/synced")
    assert not stack.layers.present(diff_id)
    os.unlink(f"{directory}/fs/boot")
    stack.unpack(data)
    assert stack.layers.present(diff_id)
    assert os.path.exists(f"{directory}/fs/boot")


def wait_for(path: str) -> None:
    import time

    for _ in range(
        6000
    ):  # the whole filesystem is written out, perhaps that of an emulated machine
        if os.path.exists(path):
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def test_choice() -> None:
    good = HostFacts(uid=1000, gid=1000)
    assert snapshot.choose("", good).name == snapshot.choose("auto", good).name == "overlay"
    with pytest.raises(UsageError, match="unknown storage driver 'zfs': known are auto, overlay"):
        snapshot.choose("zfs", good)


def test_the_ladder_goes_down() -> None:
    """Each rung is taken where those above do not work, and the reason is told where it was asked for."""
    fuse = {"fuse_overlayfs": "/usr/bin/fuse-overlayfs", "fusepy": "/site", "libfuse": "3"}
    facts = HostFacts(uid=1000, gid=1000, **fuse)  # type: ignore[arg-type]
    steps: list[tuple[dict[str, Any], str, str]] = [
        ({"overlay": False, "overlay_error": "EPERM (no)"}, "overlay", r"EPERM \(no\)"),
        ({"fuse_overlayfs": ""}, "fuse-overlayfs", "fuse-overlayfs is not installed"),
        ({"fusepy": ""}, "fusepy", "neither mfusepy nor fusepy can be imported"),
        ({"fusepy": "/site", "libfuse": ""}, "fusepy", "libfuse is not installed"),
        ({"libfuse": "2", "fuse_mount": False, "fuse_error": "no FUSE"}, "fusepy", "no FUSE"),
    ]
    for changes, name, reason in steps:
        facts = facts.replace(**changes)
        with pytest.raises(HostError, match=f"cannot use storage driver {name}: .*{reason}") as e:
            snapshot.choose(name, facts)
        assert e.value.hint
    assert snapshot.choose("auto", facts).name == "copy"
    rungs = [
        snapshot.choose("", HostFacts(uid=1, gid=1, overlay=False, **kind)).name  # type: ignore[arg-type]
        for kind in (fuse, {**fuse, "fuse_overlayfs": ""}, {})
    ]
    assert rungs == ["fuse-overlayfs", "fusepy", "copy"]


def test_no_driver_is_a_clear_error() -> None:
    facts = HostFacts(uid=1000, gid=1000, overlay=False, userns_error="no user namespaces")
    with pytest.raises(HostError, match="cannot use storage driver copy: no user namespaces"):
        snapshot.choose("copy", facts)


def test_formats_follow_the_filesystem() -> None:
    """Whiteouts are kept as the kernel does only where the filesystem takes them."""
    able = HostFacts(uid=1000, gid=1000)
    poor = able.replace(data_features=("dtype",))
    for name in ("fuse-overlayfs", "fusepy", "copy"):
        assert snapshot.driver(name).layer_format(able) == "overlay"
        assert snapshot.driver(name).layer_format(poor) == "files"


@pytest.mark.parametrize(("knows", "wanted"), [(True, "overlay"), (False, "files")])
def test_an_old_fuse_overlayfs_gets_layers_it_understands(knows: bool, wanted: str) -> None:
    facts = HostFacts(uid=1000, gid=1000, fuse_overlayfs_opaque=knows)
    assert snapshot.driver("fuse-overlayfs").layer_format(facts) == wanted
    assert snapshot.driver("overlay").layer_format(facts) == "overlay"
