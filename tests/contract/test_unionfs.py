"""Our own union filesystem beyond what all drivers share: both versions of libfuse, numbers, faults, limits."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from deviations import FUSEPY
from posix_cases import registry, runner
from posix_cases.harness import CASES
from stacks import FORMATS, LOOK, Stack, archive, new_stack

if TYPE_CHECKING:
    from rootless.engine.context import Context

pytestmark = pytest.mark.requires("subid", "fuse")

PREFIX = "import os, stat, errno, mmap, fcntl, ctypes\n"


@pytest.fixture(params=FORMATS)
def stack(request: pytest.FixtureRequest, memory_ctx: Context) -> Stack:
    return new_stack(memory_ctx, "fusepy", request.param)


def ask(stack: Stack, script: str) -> Any:
    """What SCRIPT, run in the merged tree, leaves as ``found``."""
    program = (
        f"import json, sys\n{PREFIX}os.chdir(sys.argv[1])\n{script}\n"
        "os.write(3, json.dumps(found).encode() + b'\\n')\n"
    )
    session = stack.run("-c", program, f"{stack.directory}/merged")
    try:
        found = session.answer()
    finally:
        session.close()
    assert stack.log() == ""
    return found


def in_realm(stack: Stack, script: str, *words: str) -> Any:
    """What SCRIPT prints, as root of the realm and outside of the tree."""
    receive, send = os.pipe()
    argv = [sys.executable, "-I", "-S", "-c", script, *words]
    pid = stack.ctx.run_in_realm(argv, {1: send, 2: 2}, "")
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        text = stream.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(text or b"null")


# What libfuse 2 does not speak, as it speaks an earlier protocol.
OLD = {
    "exchange": "flags of renameat2 are not passed on",
    "noreplace": "flags of renameat2 are not passed on",
}


def test_posix_on_libfuse_2(memory_ctx: Context) -> None:
    """All cases again on the older library, which has no renameat2."""
    stack = new_stack(memory_ctx, "fusepy", "overlay")
    stack.facts = memory_ctx.facts.replace(libfuse="2")
    for members in registry.layers():
        stack.lowers.insert(0, stack.layers.path(stack.unpack(archive(*members))))
    session = stack.run(runner.__file__, f"{stack.directory}/merged", "fusepy-overlay")
    found = session.answer()
    session.close()
    assert set(found) == set(CASES)
    unexpected = {
        name: failed
        for name, outcome in found.items()
        if (failed := {origin: text for origin, text in outcome.items() if text})
        and name not in FUSEPY
        and not any(word in name for word in OLD)
    }
    assert unexpected == {}


def test_six_hundred_layers(stack: Stack) -> None:
    stack.add(("d", None), ("d/low", "1"), ("gone", "2"), ("d/sub", None), ("d/sub/x", "3"))
    low = stack.lowers[0]
    stack.add(("d", None), ("d/high", "4"), (".wh.gone", ""))
    stack.lowers = [stack.lowers[0]] * 300 + [low] * 300
    tree = stack.look("open('d/sub/new', 'w').write('5'); os.unlink('d/low')")
    assert {path for path in tree if tree[path][0][0] == "-"} == {"d/high", "d/sub/x", "d/sub/new"}


def test_layers_on_libfuse_2(stack: Stack) -> None:
    stack.facts = stack.ctx.facts.replace(libfuse="2")
    stack.add(("d", None), ("d/f", "1"), ("g", "2"))
    script = "open('d/f', 'a').write('+'); os.unlink('g'); os.rename('d/f', 'f')"
    assert stack.look(script)["f"][4] == "1+"
    assert set(stack.look()) == {"d", "f"}


def test_layers_on_fusepy_itself(stack: Stack) -> None:
    """Where nothing but the first of the two bindings is installed."""
    spec = importlib.util.find_spec("fuse")
    assert spec and spec.origin
    site = f"{stack.directory}/site"
    os.mkdir(site)
    shutil.copy(spec.origin, f"{site}/fuse.py")
    stack.facts = stack.ctx.facts.replace(fusepy=site)
    stack.add(("d", None), ("d/f", "1"), ("g", "2"))
    script = "open('d/f', 'a').write('+'); os.unlink('g'); os.mkdir('g'); os.link('d/f', 'g/h')"
    assert stack.look(script)["g/h"][4] == "1+"
    assert set(stack.look()) == {"d", "d/f", "g", "g/h"}


NUMBERS = """
def number(path):
    head, _, base = path.rpartition('/')
    return [os.lstat(path).st_ino, *(e.inode() for e in os.scandir(head or '.') if e.name == base)]
"""


def test_numbers_of_inodes_stay(stack: Stack) -> None:
    """Across copy-up, moving and a new server; a listing has them, too; never one for two files."""
    stack.add(("d", None), ("d/f", "1"), ("d/g", "2"), ("e", None), ("e/x", "3"))
    stack.add(("d", None), ("d/h", "4"))
    paths = "paths = ['d', 'e', 'd/f', 'd/g', 'd/h', 'e/x']\n"
    first = ask(stack, NUMBERS + paths + "found = [number(p) for p in paths]")
    assert all(pair[0] == pair[1] for pair in first)
    assert len({pair[0] for pair in first}) == len(first)
    script = (
        NUMBERS + paths + "open('d/f', 'a').write('+'); os.chmod('e', 0o700); os.chmod('d/h', 0)\n"
    )
    second = ask(stack, script + "found = [number(p) for p in paths]")
    assert second == first, "while a server runs"
    third = ask(stack, NUMBERS + paths + "found = [number(p) for p in paths]")
    assert third == first, "in the next one"
    move = NUMBERS + "os.mkdir('new'); os.rename('d/f', 'new/f'); found = number('new/f')"
    assert ask(stack, move) == first[2]
    assert ask(stack, NUMBERS + "found = number('new/f')") == first[2], "and where it was moved to"


def test_names_are_bytes(stack: Stack) -> None:
    stack.add(("d", None))
    script = r"""
name = b'd/\xff\xfe \xc3\x28'
open(name, 'w').write('x'); os.rename(name, name + b'2'); os.mkdir(name)
os.symlink(b'\xfa', b'd/link'); os.setxattr(name + b'2', b'user.\xff', b'\0\xff')
found = [[list(n) for n in sorted(os.listdir(b'd'))], list(os.readlink(b'd/link')),
         [list(os.fsencode(n)) for n in os.listxattr(name + b'2')]]
"""
    names = [b"link", b"\xff\xfe \xc3\x28", b"\xff\xfe \xc3\x282"]
    wanted = [[list(name) for name in names], [0xFA], [list(b"user.\xff")]]
    assert ask(stack, script) == wanted


def test_links_in_layers_lead_nowhere(stack: Stack, tmp_path: Any) -> None:
    """A directory below a link of a higher layer is hidden; the link is not followed on the host."""
    os.chmod(tmp_path, 0o755)
    (tmp_path / "secret").write_text("x")
    stack.add(("d", None), ("d/f", "1"), ("d/sub", None))
    stack.add(("d", {"type": b"2", "linkname": str(tmp_path)}))
    script = """
found = [os.path.islink('d'), os.listdir('.')]
os.unlink('d'); os.mkdir('d'); found.append(os.listdir('d')); os.rmdir('d')
os.mkdir('d'); open('d/secret', 'w').write('mine')
"""
    assert ask(stack, script) == [True, ["d"], []]
    assert (tmp_path / "secret").read_text() == "x"


def test_hard_links_show_one_file(stack: Stack) -> None:
    """Size and bytes through each name and each open file, however the kernel caches them."""
    stack.add(("low", "0123"))
    script = r"""
open('a', 'w').write('one'); before = open('a', 'rb', 0); before.read()
os.link('a', 'b'); os.mkdir('d'); os.link('b', 'd/c'); os.link('low', 'low2')
found = []
with open('b', 'r+b', 0) as file:
    file.write(b'TWO and more'); before.seek(0)
    found.append([os.stat(n).st_size for n in ('a', 'b', 'd/c')] + [before.read().decode()])
os.truncate('d/c', 2)
found.append([os.stat(n).st_size for n in ('a', 'b', 'd/c')] + [open('a').read()])
with open('a', 'r+b') as file:
    view = mmap.mmap(file.fileno(), 2); view[:] = b'!!'; found.append(open('d/c').read()); view.close()
os.chmod('a', 0o600); found.append([os.stat(n).st_mode & 0o777 for n in ('a', 'b', 'd/c')])
os.unlink('b'); found.append([os.stat(n).st_nlink for n in ('a', 'd/c')])
open('low2', 'a').write('4'); found.append([open('low').read(), os.stat('low').st_nlink])
found.append(os.path.samestat(os.stat('a'), os.stat('d/c')))
"""
    wanted = [
        [12, 12, 12, "TWO and more"],
        [2, 2, 2, "TW"],
        "!!",
        [0o600, 0o600, 0o600],
        [2, 2],
        ["01234", 2],
        True,
    ]
    assert ask(stack, script) == wanted
    again = "found = [os.stat('a').st_nlink, os.stat('a').st_ino == os.stat('d/c').st_ino, open('low').read()]"
    assert ask(stack, again) == [2, True, "01234"]


def test_open_files_follow_a_copy_up(stack: Stack) -> None:
    stack.add(("f", "a" * 10000), ("g", "b" * 10000))
    script = """
early = os.open('f', os.O_RDONLY); view = mmap.mmap(early, 0, mmap.MAP_SHARED, mmap.PROT_READ)
late = os.open('f', os.O_RDWR); os.pwrite(late, b'!', 9000)
found = [os.pread(early, 1, 9000).decode(), chr(view[9000])]
gone = os.open('g', os.O_RDONLY); os.unlink('g')
other = os.open('/proc/self/fd/%d' % gone, os.O_RDWR); os.pwrite(other, b'?', 0)
os.fchmod(gone, 0o640)
info = os.fstat(gone)
found += [os.pread(gone, 1, 0).decode(), info.st_nlink, info.st_mode & 0o777, os.listdir('.')]
"""
    assert ask(stack, script) == ["!", "!", "?", 0, 0o640, ["f"]]


def test_large_directories(stack: Stack) -> None:
    """Listed once each, in a merged directory that changes meanwhile; the server does not grow for ever."""
    stack.add(("d", None), *((f"d/low{number:05}", "") for number in range(3000)))
    script = """
for n in range(0, 3000, 3): os.unlink('d/low%05d' % n)
for n in range(20000): os.close(os.open('d/new%05d' % n, os.O_CREAT | os.O_WRONLY))
names = os.listdir('d'); found = [len(names), len(set(names)), sum(n[:3] == 'low' for n in names)]
import ctypes
libc = ctypes.CDLL(None, use_errno=True); libc.opendir.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.opendir(b'd')); libc.readdir.restype = ctypes.c_void_p
count = 0
while libc.readdir(stream): count += 1
libc.rewinddir(stream); again = 0
while libc.readdir(stream): again += 1
found += [count, again]
with os.scandir('d') as entries:
    for entry in entries:
        if entry.name[:3] == 'new': os.unlink('d/' + entry.name)
found.append(len(os.listdir('d')))
"""
    *listed, left = ask(stack, script)
    assert listed == [22000, 22000, 2000, 22002, 22002]
    assert left == 2000


@pytest.mark.parametrize("forgotten", ["dropped", "reset"])
def test_a_listing_that_the_kernel_kept_goes_on_with_us(stack: Stack, forgotten: str) -> None:
    """The kernel gives what it kept of an earlier listing; when that is gone, nothing may be left out."""
    stack.add(("d", None), *((f"d/low{number:05}", "") for number in range(3000)))
    script = f"""
for n in range(2000): os.close(os.open('d/new%05d' % n, os.O_CREAT | os.O_WRONLY))
for _ in range(2): os.listdir('d')
seen = set()
with os.scandir('d') as entries:
    for entry in entries:
        seen.add(entry.name)
        os.unlink('d/' + entry.name)
        if len(seen) == 100:
            if {forgotten == "dropped"}:
                at = os.open('d', os.O_RDONLY | os.O_DIRECTORY)
                os.posix_fadvise(at, 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                os.listdir('d')
found = [len(seen), len(os.listdir('d'))]
"""
    assert ask(stack, script) == [5000, 0]


def test_unnamed_files_are_refused_cleanly(stack: Stack) -> None:
    script = """
try:
    os.close(os.open('.', os.O_TMPFILE | os.O_RDWR)); found = ''
except OSError as error:
    found = errno.errorcode[error.errno]
import tempfile
with tempfile.TemporaryFile(dir='.') as file:
    file.write(b'x'); file.flush(); found = [found, os.fstat(file.fileno()).st_size, os.listdir('.')]
"""
    assert ask(stack, script) in (["EOPNOTSUPP", 1, []], ["ENOTSUP", 1, []], ["", 1, []])


def test_marks_are_hidden(stack: Stack) -> None:
    stack.add(("d", None), ("d/f", "1"))
    script = """
import shutil
shutil.rmtree('d'); os.mkdir('d'); os.setxattr('d', 'user.mine', b'1')
def fails(call, *words):
    try: call(*words); return ''
    except OSError as error: return errno.errorcode[error.errno]
found = [os.listxattr('d'), os.listdir('d'), fails(os.getxattr, 'd', 'user.overlay.opaque'),
         fails(os.setxattr, 'd', 'user.overlay.opaque', b'y'),
         fails(os.mknod, 'white', stat.S_IFCHR, 0), fails(os.lstat, '.wh.f')]
"""
    assert ask(stack, script) == [["user.mine"], [], "ENODATA", "EPERM", "EPERM", "ENOENT"]


def test_limit(stack: Stack) -> None:
    """Of bytes written, extended, allocated and copied up; what is removed makes room; said by statfs."""
    stack.limit = 1 << 20
    stack.add(("low", "x" * 600_000), ("low2", "y" * 600_000))
    script = """
def fails(call, *words):
    try: call(*words); return ''
    except OSError as error: return errno.errorcode[error.errno]
fd = os.open('f', os.O_RDWR | os.O_CREAT)
found = [fails(os.write, fd, bytes(2 << 20)), fails(os.write, fd, bytes(100_000)),
         fails(os.truncate, 'f', 2 << 20), fails(os.posix_fallocate, fd, 0, 2 << 20),
         fails(os.chmod, 'low', 0o600), fails(os.chmod, 'low2', 0o600)]
found.append(os.statvfs('.').f_blocks * os.statvfs('.').f_frsize)
free = os.statvfs('.').f_bavail; os.unlink('low'); os.close(fd); os.unlink('f')
for _ in range(100):
    if os.statvfs('.').f_bavail > free: break
    import time; time.sleep(0.01)
found += [fails(os.chmod, 'low2', 0o600)]
"""
    found = ask(stack, script)
    # The kernel may write what fits of a large request before the rest fails.
    assert found[0] in ("ENOSPC", "")
    assert found[1:] in (
        ["", "ENOSPC", "ENOSPC", "", "ENOSPC", 1 << 20, ""],
        ["ENOSPC", "ENOSPC", "ENOSPC", "ENOSPC", "ENOSPC", 1 << 20, ""],
    )
    assert ask(stack, "found = os.statvfs('.').f_bavail * os.statvfs('.').f_frsize") < 500_000


KILL = r"""
import os, sys, time
os.chdir(sys.argv[1])
os.write(3, b'"ready"\n'); os.read(3, 1)
try:
    os.close(os.open('big', os.O_WRONLY | os.O_APPEND)); os.write(3, b'""\n')
except OSError as error:
    os.write(3, b'"%s"\n' % os.strerror(error.errno).encode())
os.read(3, 1)
"""


def server_of(stack: Stack) -> int:
    """The process that serves the stack's tree."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if f"--target={stack.directory}/merged".encode() in words:
            return int(name)
    raise AssertionError("no server")


def test_killed_in_the_middle_of_a_copy_up(stack: Stack) -> None:
    """Whoever waits gets an error, nothing of the copy shows, and the next server sweeps it."""
    stack.add(("big", {"data": os.urandom(1 << 20) * 160}))
    session = stack.run("-c", KILL, f"{stack.directory}/merged")
    assert session.answer() == "ready"
    pid = server_of(stack)
    session.stream.write(b"x")
    session.stream.flush()
    work = f"{stack.directory}/work"
    look = "import os, sys, json; print(json.dumps([os.listdir(p) for p in sys.argv[1:]]))"
    stopped = subprocess.run(
        [sys.executable, "-c", STOP, str(pid)],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert stopped.returncode == 0, stopped.stderr
    left = in_realm(stack, look, work, f"{stack.directory}/upper")
    os.kill(pid, signal.SIGKILL)
    said = session.answer()
    assert said in ("Software caused connection abort", "Transport endpoint is not connected")
    session.close()
    assert left == [["#1"], []], "it was in the middle"
    tree = stack.look("assert os.path.getsize('big') == 160 << 20; os.rename('big', 'other')")
    assert set(tree) == {"other"}
    assert in_realm(stack, look, work) == [[]]


# Stops the process when it writes a file that it has just made in the work directory.
STOP = r"""
import os, signal, sys, time
pid = int(sys.argv[1])
end = time.monotonic() + 30
while time.monotonic() < end:
    for fd in os.listdir(f'/proc/{pid}/fd'):
        try:
            if os.path.basename(os.readlink(f'/proc/{pid}/fd/{fd}')) == '#1':
                os.kill(pid, signal.SIGSTOP)
                sys.exit(0)
        except OSError:
            pass
sys.exit('never seen')
"""


def test_a_start_that_fails_says_why(stack: Stack) -> None:
    stack.add(("f", "1"))
    stack.facts = stack.ctx.facts.replace(fusepy="/nowhere")
    session = stack.run("-c", LOOK, f"{stack.directory}/merged", "")
    with pytest.raises(AssertionError):
        session.answer()
    session._servers = set()
    session.close()
    assert stack.log() == "rootless: cannot load libfuse 3 or 2 through mfusepy or fusepy\n"
