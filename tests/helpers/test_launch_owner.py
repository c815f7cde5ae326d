"""Emulated ownership on real namespaces: the calls as a program makes them, and what is recorded of them.

Run on a kernel without listeners, too (test_launch_lanes.py): then the calls succeed and nothing is recorded.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from test_launch import NEWNS, NEWPID, NEWUSER, WRAPPER, Op, Played, clone, play

from rootless.plan import bpf, ownership
from rootless.store.ownership import Records

SILENT = bool(WRAPPER)
CAPS = ("CAP_CHOWN", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP")
ALL = (1 << 40) - 1
EMULATION = ownership.compile_all(os.uname().machine, CAPS)
PRELUDE = """
import ctypes, errno, json, os, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
told = {}
def tell(name, call, *args, **options):
    try:
        told[name] = call(*args, **options)
    except OSError as error:
        told[name] = errno.errorcode[error.errno]
"""
asked = pytest.mark.skipif(SILENT, reason="without a listener nothing is asked")
pytestmark = pytest.mark.requires("userns", "overlay", "busybox")


def tape(
    top: Path,
    script: str,
    *,
    supervise: bool = True,
    caps: int = ALL,
    pid_namespace: bool = True,
) -> list[Op]:
    """A container of one ID, as far as ownership goes: it sees the host's files."""
    ops = clone()
    flags = NEWUSER | NEWNS | (NEWPID if pid_namespace else 0)
    if supervise:
        ops.append(("supervise", (EMULATION.table, f"{top}/owners", "/")))
    program = PRELUDE + textwrap.dedent(script) + "\nprint(json.dumps(told))\n"
    return [
        *ops,
        ("clone", (flags, 1, "0 0 1\n", "0 0 1\n", "", "")),
        ("set_ids", (0, 0)),
        ("caps", (caps, caps, caps, 0, 0)),
        ("no_new_privs", ()),
        ("emulate", (EMULATION.notify, EMULATION.fallback)),
        ("chdir", (str(top), 0)),
        ("exec", ("", [sys.executable, "-I", "-S", "-c", program], ["PATH=/bin"], 0)),
    ]


def run(top: Path, script: str, **options: Any) -> dict[str, Any]:
    """What SCRIPT told, run in the directory TOP."""
    played: Played = play(tape(top, script, **options))
    assert played.error is None, played.error
    assert played.code == 0, played.output
    told: dict[str, Any] = json.loads(played.output)
    return told


def recorded(path: Path, key: str = "owner") -> str:
    try:
        return os.getxattr(path, f"user.rootless.{key}").decode()
    except OSError:
        return ""


def expected(text: str) -> str:
    return "" if SILENT else text


def test_every_way_to_name_a_file(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e", "f", "g", "t"):
        (tmp_path / name).write_text("")
    os.symlink("t", tmp_path / "to-t")
    told = run(
        tmp_path,
        """
        top = os.getcwd()
        tell("absolute", os.chown, f"{top}/a", 1, 2)
        tell("relative", os.chown, "b", 3, 4)
        here = os.open(".", os.O_RDONLY)
        os.chdir("/")
        tell("at", os.chown, "c", 5, 6, dir_fd=here)
        fd = os.open("d", os.O_RDONLY, dir_fd=here)
        tell("fd", os.fchown, fd, 7, 8)
        e = os.open("e", os.O_PATH, dir_fd=here)
        told["empty"] = libc.fchownat(e, b"", 9, 10, 0x1000)
        f = os.open("f", os.O_RDONLY, dir_fd=here)
        tell("self", os.chown, f"/proc/self/fd/{f}", 11, 12)
        tell("link", os.chown, "to-t", 13, 14, dir_fd=here)
        tell("dots", os.chown, f"{top}/../{os.path.basename(top)}/./g", 15, 16)
        """,
    )
    assert set(told.values()) <= {None, 0}
    found = {name: recorded(tmp_path / name) for name in "abcdefgt"}
    names = {"a": 1, "b": 3, "c": 5, "d": 7, "e": 9, "f": 11, "t": 13, "g": 15}
    assert found == {name: expected(f"{uid}:{uid + 1}") for name, uid in names.items()}


@asked
def test_ids_that_stay(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("")
    os.symlink("a", tmp_path / "l")
    run(
        tmp_path,
        """
        for path in ("a", "l"):
            os.lchown(path, 1000, 12345)
            os.lchown(path, -1, 5)
            os.lchown(path, 6, -1)
        os.chown("b", 7, 7)
        os.chown("b", 0, 0)
        """,
    )
    assert recorded(tmp_path / "a") == "6:5"
    assert recorded(tmp_path / "b") == "0:0"
    here = os.open(tmp_path, os.O_RDONLY)
    records = Records([f"{tmp_path}/owners"])
    assert records.of(here, b"l", os.lstat(tmp_path / "l")).owner == (6, 5)
    os.close(here)


@asked
def test_failures_stay_failures(tmp_path: Path) -> None:
    os.symlink("loop", tmp_path / "loop")
    told = run(
        tmp_path,
        """
        tell("missing", os.chown, "nothing", 1, 1)
        tell("below", os.chown, "/bin/sh/x", 1, 1)
        tell("loop", os.chown, "loop", 1, 1)
        tell("fd", os.fchown, 999, 1, 1)
        tell("negative", os.fchown, -1, 1, 1)
        tell("long", os.chown, "x" * 5000, 1, 1)
        tell("foreign", os.chown, "/etc/passwd", 1, 1)
        told["pointer"] = libc.chown(ctypes.c_void_p(8), 1, 1), errno.errorcode[ctypes.get_errno()]
        told["flags"] = libc.fchownat(-100, b".", 1, 1, 0x4000), errno.errorcode[ctypes.get_errno()]
        tell("exists", os.mknod, "loop", stat.S_IFCHR, os.makedev(1, 3))
        tell("nowhere", os.mknod, "no/where", stat.S_IFCHR, os.makedev(1, 3))
        tell("whiteout", os.mknod, "w", stat.S_IFCHR, 0)
        """,
    )
    assert told == {
        "missing": "ENOENT",
        "below": "ENOTDIR",
        "loop": "ELOOP",
        "fd": "EBADF",
        "negative": "EBADF",
        "long": "ENAMETOOLONG",
        "foreign": "EPERM",
        "pointer": [-1, "EFAULT"],
        "flags": [-1, "EINVAL"],
        "exists": "EEXIST",
        "nowhere": "ENOENT",
        "whiteout": "EPERM",
    }
    assert not os.path.lexists(tmp_path / "w")


def test_set_id_bits_go_as_chown_takes_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    os.chmod(tmp_path / "a", 0o6755)
    run(tmp_path, 'os.chown("a", 5, 5)')
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == (0o6755 if SILENT else 0o755)


def test_devices(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        """
        os.umask(0o027)
        tell("null", os.mknod, "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        tell("disk", os.mknod, "disk", stat.S_IFBLK | 0o600, os.makedev(259, 300))
        tell("pipe", os.mknod, "pipe", stat.S_IFIFO | 0o640)
        tell("file", os.mknod, "file", stat.S_IFREG | 0o640)
        """,
    )
    assert set(told.values()) == {None}
    assert recorded(tmp_path / "null", "node") == expected("c 1 3")
    assert recorded(tmp_path / "disk", "node") == expected("b 259 300")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert stat.S_ISREG(os.stat(tmp_path / "file").st_mode)
    if not SILENT:
        assert stat.S_IMODE(os.stat(tmp_path / "null").st_mode) == 0o640


@asked
def test_attributes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    acl = "0200000001000600ffffffff020006002100000004000400ffffffff10000600ffffffff20000400ffffffff"
    told = run(
        tmp_path,
        f"""
        tell("user", os.setxattr, "a", "user.x", b"plain")
        tell("trusted", os.setxattr, "a", "trusted.x", b"kept")
        tell("selinux", os.setxattr, "a", "security.selinux", b"label")
        tell("caps", os.setxattr, "a", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12))
        tell("bad", os.setxattr, "a", "security.capability", b"x")
        tell("acl", os.setxattr, "a", "system.posix_acl_access", bytes.fromhex({acl!r}))
        tell("missing", os.setxattr, "none", "trusted.x", b"")
        tell("unknown", os.setxattr, "a", "what.x", b"")
        """,
    )
    assert told == {
        "user": None,
        "trusted": None,
        "selinux": None,
        "caps": None,
        "bad": "EINVAL",
        "acl": None,
        "missing": "ENOENT",
        "unknown": "ENOTSUP",
    }
    assert os.getxattr(tmp_path / "a", "user.x") == b"plain"
    assert recorded(tmp_path / "a", "xattr.trusted.x") == "kept"
    assert os.getxattr(tmp_path / "a", "user.rootless.xattr.system.posix_acl_access").hex() == acl


def test_identity_changes_nothing_and_succeeds(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        """
        tell("groups", os.setgroups, [1, 2, 3])
        tell("gid", os.setresgid, 5, 5, 5)
        tell("uid", os.setresuid, 5, 5, 5)
        told["is"] = os.getresuid()
        """,
    )
    assert told == {"groups": None, "gid": None, "uid": None, "is": [0, 0, 0]}


def test_capabilities(tmp_path: Path) -> None:
    """What the kernel would do it does; what it would refuse succeeds without effect."""
    told = run(
        tmp_path,
        """
        def effective():
            with open("/proc/self/status") as file:
                return next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
        def capset(mask):
            head = (ctypes.c_uint32 * 2)(0x20080522, 0)
            data = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
            return libc.capset(head, data)
        told["more"] = capset(0xffffffff), effective()
        told["less"] = capset(1), effective()
        """,
        caps=3,
    )
    assert told["more"] == [0, 3]
    assert told["less"] == [0, 3 if SILENT else 1]


@asked
def test_the_caller_s_root_is_the_root(tmp_path: Path) -> None:
    for name in ("jail/etc", "etc"):
        os.makedirs(tmp_path / name)
        (tmp_path / name / "file").write_text("")
    os.symlink("/etc/file", tmp_path / "jail" / "link")
    os.symlink("../../../../etc/file", tmp_path / "jail" / "up")
    told = run(
        tmp_path,
        """
        os.chroot("jail")
        os.chdir("/")
        tell("link", os.chown, "/link", 1, 2)
        tell("up", os.chown, "/up", -1, 3)
        tell("out", os.chown, "/../etc/file", 4, -1)
        """,
    )
    assert told == {"link": None, "up": None, "out": None}
    assert recorded(tmp_path / "jail/etc/file") == "4:3"
    assert recorded(tmp_path / "etc/file") == ""


@asked
def test_the_supervisor_s_own_descriptors_are_no_way_out(tmp_path: Path) -> None:
    """Here the host's /proc is visible, and in it the supervisor: "self" must be the caller."""
    secret = tmp_path / "outside"
    secret.mkdir()
    told = run(
        tmp_path,
        """
        for fd in range(3, 30):
            for place in (f"self/fd/{fd}", f"thread-self/fd/{fd}", "self/root"):
                path = f"/proc/{place}/made"
                tell(path, os.mknod, path, stat.S_IFCHR, os.makedev(1, 3))
                tell(path + "owner", os.chown, path, 5, 5)
        """,
    )
    assert set(told.values()) <= {"ENOENT", "ELOOP", "ENOTDIR", "EACCES", "EPERM"}
    assert not os.path.exists("/made")


@asked
def test_callers_in_a_namespace_of_their_own_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    told = run(
        tmp_path,
        """
        told["unshare"] = libc.unshare(0x10000000)
        tell("chown", os.chown, "a", 5, 5)
        tell("mknod", os.mknod, "b", stat.S_IFCHR, os.makedev(1, 3))
        """,
    )
    assert told["unshare"] == 0
    assert told["chown"] in ("EINVAL", "EPERM")
    assert told["mknod"] == "EPERM"
    assert recorded(tmp_path / "a") == ""


@asked
def test_many_callers_at_once(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).write_text("")
    run(
        tmp_path,
        """
        import threading
        def some(first):
            for number in range(first, 200, 8):
                os.chown(str(number), number, number + 1)
        threads = [threading.Thread(target=some, args=(first,)) for first in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
    )
    found = [recorded(tmp_path / str(number)) for number in range(200)]
    assert found == ["0:1" if not n else f"{n}:{n + 1}" for n in range(200)]


def test_without_a_supervisor_nothing_is_recorded(tmp_path: Path) -> None:
    """Where it could not be started the filter that does not ask is loaded."""
    (tmp_path / "a").write_text("")
    told = run(
        tmp_path,
        """
        tell("chown", os.chown, "a", 5, 5)
        tell("missing", os.chown, "none", 5, 5)
        tell("mknod", os.mknod, "b", stat.S_IFCHR, os.makedev(1, 3))
        tell("user", os.setxattr, "a", "user.x", b"plain")
        """,
        supervise=False,
    )
    assert set(told.values()) == {None}
    assert recorded(tmp_path / "a") == ""
    assert not os.path.exists(tmp_path / "b")
    assert os.getxattr(tmp_path / "a", "user.x") == b"plain"


@asked
def test_a_second_listener(tmp_path: Path) -> None:
    """The kernel allows one listener per process: the second emulation loads the filter without."""
    ops = tape(tmp_path, 'tell("chown", os.chown, "none", 5, 5)', pid_namespace=False)
    supervise, emulate = (
        next(op for op in ops if op[0] == name) for name in ("supervise", "emulate")
    )
    at = ops.index(emulate) + 1
    played = play([*ops[:at], supervise, emulate, *ops[at:]])
    assert played.error is None, played.error
    assert json.loads(played.output) == {"chown": None}


def test_nothing_is_left(tmp_path: Path) -> None:
    run(tmp_path, "")

    def left() -> list[str]:
        done = subprocess.run(
            ["ps", "-o", "pid=,stat=,comm=", "--ppid", str(os.getpid())],
            capture_output=True,
            text=True,
            check=False,
        )
        return [line for line in done.stdout.splitlines() if "owners" in line and "Z" not in line]

    for _ in range(100):
        if not left():
            return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError(left())


def test_a_policy_for_this_machine_loads() -> None:
    assert len(bpf.assemble(ownership.policy(os.uname().machine, CAPS, notify=True))) % 8 == 0
