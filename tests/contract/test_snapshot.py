"""What every storage driver must do, on real mounts: layers unpacked in the realm, shown as one tree.

Each entry of the registry goes through the whole suite.  A script of the host's Python looks at the merged
tree and changes it, in the mount namespace that the launcher made; nothing is mounted outside of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from rootless.drivers import snapshot
from rootless.engine.context import Context
from rootless.errors import (
    DigestMismatchError,
    HostError,
    IdMapError,
    LayerError,
    NoSpaceError,
    UsageError,
)
from rootless.facts import HostFacts
from rootless.plan import tape
from rootless.runtime import realm as realms
from rootless.store import unpack as unpacker
from rootless.store.layers import LayerStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NEWNS = 0x20000
NEWUSER = 0x10000000
MS_REC_SLAVE = 0x4000 | 0x80000

LOOK = r"""
import hashlib, json, os, stat, sys
root = sys.argv[1]
os.chdir(root)
exec(sys.argv[2])
found = {}
for where, dirs, files in os.walk("."):
    for name in [*dirs, *files]:
        path = os.path.join(where, name)[2:]
        info = os.lstat(path)
        kind = stat.filemode(info.st_mode)
        data = ""
        if stat.S_ISREG(info.st_mode):
            data = open(path, "rb").read().decode("latin-1")
        elif stat.S_ISLNK(info.st_mode):
            data = os.readlink(path)
        found[path] = [kind, info.st_uid, info.st_gid, int(info.st_mtime), data]
os.write(3, json.dumps(found).encode() + b"\n")
"""


def archive(*members: tuple[str, Any]) -> bytes:
    """A layer: (name, text | None for a directory | dict of TarInfo fields)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, what in members:
            info = tarfile.TarInfo(name)
            data = b""
            info.mode = 0o644
            info.mtime = 1_600_000_000
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, dict):
                for key, value in what.items():
                    if key == "data":
                        data = value
                    else:
                        setattr(info, key, value)
            else:
                data = what.encode()
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    base = tmp_path_factory.mktemp("snapshot")
    os.chmod(base, 0o755)
    run = base / "run"
    run.mkdir(mode=0o700)
    env = {**os.environ, "XDG_DATA_HOME": str(base / "data"), "XDG_RUNTIME_DIR": str(run)}
    env.pop("ROOTLESS_STORAGE_ROOT", None)
    context = Context.load(env)
    holder = context.realm.pid
    yield context
    trees = [f"{context.paths.data_root}/{name}" for name in ("layers", "trash")]
    context.remove_trees([*trees, str(base / "trees")])
    os.kill(holder, 15)


class Stack:
    """Layers of one driver, and a way to look at them merged."""

    def __init__(self, ctx: Context, driver: str, directory: str) -> None:
        self.ctx = ctx
        self.driver = snapshot.REGISTRY[driver]()
        self.layers = LayerStore(ctx.paths, self.driver.layer_format)
        self.lowers: list[str] = []
        self.directory = directory
        for name in ("upper", "work", "merged"):
            os.makedirs(f"{directory}/{name}", exist_ok=True)

    def add(self, *members: tuple[str, Any]) -> str:
        """Unpack a layer on top; its directory."""
        path = self.layers.path(self.unpack(archive(*members)))
        self.lowers.insert(0, path)
        return path

    def unpack(self, data: bytes, **options: Any) -> str:
        diff_id = options.pop("diff_id", "sha256:" + hashlib.sha256(data).hexdigest())
        blob = realms.memfd("blob", data)
        run = options.pop("run", self.ctx.run_in_realm)
        try:
            unpacker.unpack(self.layers, diff_id, blob, run, **options)
        finally:
            os.close(blob)
        return str(diff_id)

    def look(self, script: str = "") -> dict[str, list[Any]]:
        """The merged tree, after SCRIPT ran in it."""
        where = self.directory
        ops: list[tape.Op] = [
            ("join_fd", (realms.USER_FD, NEWUSER)),
            ("set_ids", (0, 0)),
            ("unshare", (NEWNS,)),
            ("propagation", ("/", MS_REC_SLAVE)),
            *self.driver.plan(
                self.lowers, f"{where}/upper", f"{where}/work", f"{where}/merged", self.ctx.facts
            ),
            ("exec", (sys.executable, [sys.executable, "-I", "-S", "-c", LOOK, f"{where}/merged",
                                       script], [], 2)),
        ]  # fmt: skip
        receive, send = os.pipe()
        table = {3: send, realms.USER_FD: self.ctx.realm.user_fd}
        pid = realms.play(self.ctx.paths.libexec, tape.encode(ops), "look", table)
        os.close(send)
        with os.fdopen(receive, "rb") as stream:
            text = stream.read()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        found: dict[str, list[Any]] = json.loads(text)
        return found


@pytest.fixture(params=sorted(snapshot.REGISTRY))
def stack(
    request: pytest.FixtureRequest, ctx: Context, tmp_path_factory: pytest.TempPathFactory
) -> Stack:
    trees = os.path.dirname(ctx.paths.data_root) + "/../trees"
    directory = os.path.join(os.path.realpath(trees), os.urandom(6).hex())
    os.makedirs(directory)
    return Stack(ctx, request.param, directory)


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

    for _ in range(1000):
        if os.path.exists(path):
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def test_choice() -> None:
    good = HostFacts(uid=1000, gid=1000)
    assert snapshot.choose("", good).name == snapshot.choose("auto", good).name == "overlay"
    with pytest.raises(UsageError, match="unknown storage driver 'zfs': known are auto, overlay"):
        snapshot.choose("zfs", good)


@pytest.mark.parametrize("kernel", [(4, 18, 0), (6, 1, 0)])
def test_no_driver_is_a_clear_error(kernel: tuple[int, int, int]) -> None:
    facts = HostFacts(uid=1000, gid=1000, overlay=False, overlay_error="EPERM (no)", kernel=kernel)
    for wanted in ("auto", "overlay"):
        with pytest.raises(
            HostError, match=r"cannot use storage driver overlay: EPERM \(no\)"
        ) as e:
            snapshot.choose(wanted, facts)
        assert e.value.hint
