"""Finding out what the filesystem of storage.root and FUSE can do, by doing it there.

Belongs to probe.py.  A probe leaves nothing behind, and a filesystem that refuses is a fact, not an error.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import importlib.util
import mmap
import os
import shutil
import stat
import struct

from . import filesystems

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from rootless.facts import HostFacts

    from .probe import Play

NEWNS, NEWUSER, NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_REC_SLAVE = 0x4000 | 0x80000
FICLONE = 0x40049409
GETDENTS64 = {"x86_64": 217, "armv7l": 217, "ppc64le": 202, "s390x": 220}  # 61 elsewhere
HELPER_DIRS = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"


def single(flags: int, uid: int, gid: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Operations that begin a tape in a user namespace of one ID (and what FLAGS say)."""
    return [
        ("clone", (flags, 3, f"0 {uid} 1\n", f"0 {gid} 1\n", "", "")),
        ("set_ids", (0, 0)),
    ]


def probe(facts: HostFacts, data_root: str, play: Play) -> None:
    """Fill in overlay, masked_proc, data_* and what is known of FUSE."""
    facts.data_fs = filesystems.kind(data_root)
    facts.data_features = ()
    facts.fuse_overlayfs = find_program("fuse-overlayfs")
    facts.fusepy = binding()
    facts.libfuse = libfuse()
    if facts.userns_error:
        facts.overlay, facts.overlay_error = False, "there are no user namespaces"
        facts.fuse_mount, facts.fuse_error = False, "there are no user namespaces"
        return
    top = f"{data_root}/.probe-{os.getpid()}"
    dirs = [f"{top}/{name}" for name in ("lower/d/sub", "upper", "work", "merged", "root", "try")]
    try:
        for path in dirs:
            os.makedirs(path, 0o755, exist_ok=True)
    except OSError as error:
        facts.overlay, facts.overlay_error = False, f"cannot make {top}: {error.strerror}"
        facts.fuse_mount, facts.fuse_error = False, facts.overlay_error
        return
    try:
        facts.data_features = features(dirs[5])
        if _chown_works(facts, dirs[5], play):
            facts.data_features += ("chown",)
        _overlay(facts, top, dirs, play)
        _fuse(facts, dirs[3], play)
        _opaque(facts, top, play)
        number, _ = play(
            [
                *single(NEWUSER | NEWNS | NEWPID, facts.uid, facts.gid),
                ("propagation", ("/", MS_REC_SLAVE)),
                ("root_bind", (dirs[4], dirs[4])),
                ("mount", ("proc", "proc", "/proc", 0xE, "", 1)),
            ]
        )
        facts.masked_proc = number == errno.EPERM
    finally:
        shutil.rmtree(top, ignore_errors=True)
        if os.path.isdir(top):
            play([*_realm(facts), ("rmtree", (top,))])


def _realm(facts: HostFacts) -> list[tuple[str, tuple[Any, ...]]]:
    if facts.id_rung != "subid":
        return single(NEWUSER, facts.uid, facts.gid)
    maps = [
        "".join(f"{inside} {outside} {count}\n" for inside, outside, count in extents)
        for extents in (facts.uid_map, facts.gid_map)
    ]
    return [
        ("clone", (NEWUSER, 2, *maps, facts.newuidmap, facts.newgidmap)),
        ("set_ids", (0, 0)),
    ]


def _overlay(facts: HostFacts, top: str, dirs: list[str], play: Play) -> None:
    number, reason = play(
        [
            *single(NEWUSER | NEWNS, facts.uid, facts.gid),
            ("propagation", ("/", MS_REC_SLAVE)),
            ("overlay", ([f"{top}/lower"], *dirs[1:4], "userxattr")),
            # Without working user.overlay xattrs, removing a lower directory fails (EIO).
            ("rmtree", (f"{top}/merged/d",)),
            ("mkdir_host", (f"{top}/merged/d", 0o755)),
            ("rmtree", (f"{top}/merged/d",)),
        ]
    )
    facts.overlay, facts.overlay_error = number == 0, reason
    if facts.overlay:
        # With userxattr and without metacopy this mount is refused before Linux 6.16.
        number, _ = play(
            [
                *single(NEWUSER | NEWNS, facts.uid, facts.gid),
                ("propagation", ("/", MS_REC_SLAVE)),
                ("overlay", ([dirs[4], "", f"{top}/lower"], "", "", dirs[3], "userxattr")),
            ]
        )
        facts.overlay_data = number == 0


def _fuse(facts: HostFacts, target: str, play: Play) -> None:
    """Mount FUSE with a server that leaves at once: whether the kernel lets a user namespace."""
    if not facts.fuse:
        facts.fuse_mount, facts.fuse_error = False, "/dev/fuse does not open"
        return
    server = shutil.which("true", path=HELPER_DIRS) or "/bin/true"
    number, reason = play(
        [
            *single(NEWUSER | NEWNS, facts.uid, facts.gid),
            ("propagation", ("/", MS_REC_SLAVE)),
            ("fuse", ("allow_other,default_permissions", target, "", [server])),
        ]
    )
    facts.fuse_mount, facts.fuse_error = number == 0, reason


def _opaque(facts: HostFacts, top: str, play: Play) -> None:
    """Let fuse-overlayfs show an opaque directory, marked as the kernel does, over one with an entry."""
    facts.fuse_overlayfs_opaque = False
    if not (facts.fuse_mount and facts.fuse_overlayfs and facts.has("xattrs")):
        return
    above, merged = f"{top}/above", f"{top}/merged"
    os.makedirs(f"{above}/d", 0o755)
    os.setxattr(f"{above}/d", "user.overlay.opaque", b"y")
    os.makedirs(f"{top}/below/d/hidden", 0o755)
    server = [facts.fuse_overlayfs, "-f", "-o", f"lowerdir={above}:{top}/below", "/dev/fd/3"]
    look = ["/bin/sh", "-c", 'test -d "$0/d" && ! test -e "$0/d/hidden"', merged]
    number, _ = play(
        [
            *single(NEWUSER | NEWNS, facts.uid, facts.gid),
            ("propagation", ("/", MS_REC_SLAVE)),
            ("fuse", ("allow_other,default_permissions", merged, "", server)),
            ("exec", (look[0], look, [], 2)),
        ]
    )
    facts.fuse_overlayfs_opaque = number == 0


def _chown_works(facts: HostFacts, directory: str, play: Play) -> bool:
    """Whether files can be given to subordinate IDs, as a network filesystem's server may refuse."""
    if facts.id_rung != "subid":
        return False
    path = f"{directory}/owned"
    ops = [("mkdir_host", (path, 0o755)), ("chown_host", (path, 1, 1)), ("rmtree", (path,))]
    return play([*_realm(facts), *ops])[0] == 0


def features(directory: str) -> tuple[str, ...]:
    """What the filesystem of DIRECTORY, which is empty and ours, can do; see HostFacts.data_features."""
    tries: tuple[tuple[str, Callable[[str], None]], ...] = (
        ("whiteouts", lambda path: os.mknod(path, stat.S_IFCHR, 0)),
        ("xattrs", _try_xattr),
        ("dtype", _try_dtype),
        ("reflink", _try_reflink),
        ("mmap", _try_mmap),
        ("locks", _try_locks),
    )
    found = []
    for name, attempt in tries:
        try:
            attempt(f"{directory}/{name}")
        except OSError:
            continue
        found.append(name)
    return tuple(found)


def _file(path: str, data: bytes = b"") -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if data:
        os.write(fd, data)
    return fd


def _try_xattr(path: str) -> None:
    os.mkdir(path)
    os.setxattr(path, "user.overlay.opaque", b"y")
    if os.getxattr(path, "user.overlay.opaque") != b"y":
        raise OSError(errno.EIO, "an attribute was not kept")


def _try_dtype(path: str) -> None:
    """getdents64: overlayfs needs the type of an entry in the directory itself."""
    os.mkdir(path)
    os.close(_file(f"{path}/entry"))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        buffer = ctypes.create_string_buffer(4096)
        libc = ctypes.CDLL(None, use_errno=True)
        number = GETDENTS64.get(os.uname().machine, 61)
        count = libc.syscall(ctypes.c_long(number), fd, buffer, ctypes.c_size_t(len(buffer)))
    finally:
        os.close(fd)
    if count < 0:
        raise OSError(ctypes.get_errno(), "getdents64")
    at = 0
    while at < count:
        length, kind = struct.unpack_from("<HB", buffer, at + 16)
        if buffer.raw[at + 19 : at + 24] == b"entry" and kind != 8:
            raise OSError(errno.ENOTSUP, "no d_type")
        at += length


def _try_reflink(path: str) -> None:
    source, target = _file(f"{path}.a", bytes(4096)), _file(f"{path}.b")
    try:
        fcntl.ioctl(target, FICLONE, source)
    finally:
        os.close(source)
        os.close(target)


def _try_mmap(path: str) -> None:
    fd = _file(path, bytes(4096))
    try:
        with mmap.mmap(fd, 4096, mmap.MAP_SHARED) as view:
            view[:4] = b"mmap"
            view.flush()
        if os.pread(fd, 4, 0) != b"mmap":
            raise OSError(errno.EIO, "a mapped write was not kept")
    except ValueError as error:
        raise OSError(errno.ENOTSUP, str(error)) from None
    finally:
        os.close(fd)


def _try_locks(path: str) -> None:
    fd = _file(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def find_program(name: str) -> str:
    """Absolute path of a program in PATH or where distributions put it, or ""."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":" + HELPER_DIRS) or ""


def binding() -> str:
    """Import path of the Python binding of libfuse that is installed, or ""."""
    # fusepy knows libfuse 2 only.
    for name in ("mfusepy", "fuse") if _loads("libfuse.so.2") else ("mfusepy",):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.origin:
            return os.path.dirname(spec.origin)
    return ""


def libfuse() -> str:
    """ "3" or "2", the newest libfuse the dynamic linker knows; "" where there is none."""
    for version, name in (("3", "libfuse3.so.4"), ("3", "libfuse3.so.3"), ("2", "libfuse.so.2")):
        if _loads(name):
            return version
    return ""


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
