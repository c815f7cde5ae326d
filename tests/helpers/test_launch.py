"""The launcher on real namespaces, as an ordinary user: every operation, and every way to refuse one."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rootless.plan import tape

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBEXEC = os.environ.get("ROOTLESS_LIBEXEC") or f"{TOP}/rootless/libexec"
LAUNCH = f"{LIBEXEC}/launch"
WRAPPER = os.environ.get("ROOTLESS_TEST_WRAPPER", "").split()
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
REC_SLAVE = 0x84000
Op = tuple[str, tuple[Any, ...]]

pytestmark = pytest.mark.requires("userns", "overlay", "busybox")


class Played:
    """What became of a tape: messages by type, output, exit code of the launcher and of its child."""

    def __init__(self) -> None:
        self.error: tuple[int, int, int, str] | None = None
        self.pid = 0
        self.network = 0
        self.output = ""
        self.code = -1
        self.master = -1

    @property
    def reason(self) -> str:
        assert self.error is not None, self.output
        return self.error[3]


def play(
    ops: Sequence[Op], *, program: Sequence[str] = (), raw: bytes | None = None, status: bool = True
) -> Played:
    """Play a tape with the real launcher and wait for its end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.memfd_create("tape")
    os.write(fd, tape.encode(ops) if raw is None else raw)
    reading, writing = os.pipe()
    argv = [*WRAPPER, *program, LAUNCH, str(fd), str(theirs.fileno()) if status else "-1"]
    # The launcher's child is a child of this process (CLONE_PARENT), so subprocess must not reap it.
    launcher = os.posix_spawn(
        argv[0],
        argv,
        {"PATH": "/usr/bin:/bin", "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writing, 1),
            (os.POSIX_SPAWN_DUP2, writing, 2),
            (os.POSIX_SPAWN_DUP2, fd, fd),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno()),
        ],
    )
    for one in (fd, writing):
        os.close(one)
    theirs.close()
    played = Played()
    _messages(ours, played)
    with os.fdopen(reading, "rb") as stream:
        played.output = stream.read().decode("utf-8", "replace")
    played.code = os.waitstatus_to_exitcode(os.waitpid(launcher, 0)[1])
    if played.pid:
        played.code = os.waitstatus_to_exitcode(os.waitpid(played.pid, 0)[1])
    return played


def _messages(ours: socket.socket, played: Played) -> None:
    with ours:
        while True:
            data, ancillary, _, _ = ours.recvmsg(65536, socket.CMSG_SPACE(4))
            if not data:
                return
            if data[:1] == b"P":
                played.pid = struct.unpack("<I", data[1:5])[0]
            elif data[:1] == b"E":
                index, code, number = struct.unpack("<III", data[1:13])
                played.error = (index, code, number, data[13:].decode())
            elif data[:1] == b"C":
                played.master = struct.unpack("i", ancillary[0][2])[0]
            elif data[:1] == b"N":
                played.network = struct.unpack("<I", data[1:5])[0]
            elif data[:1] == b"S":
                ours.send(b"G")


def clone(flags: int = 0) -> list[Op]:
    """Into namespaces of our own with one ID."""
    uid, gid = os.getuid(), os.getgid()
    flags |= NEWUSER | NEWNS
    return [
        ("clone", (flags, 3, f"0 {uid} 1\n", f"0 {gid} 1\n", "", "")),
        ("set_ids", (0, 0)),
        ("propagation", ("/", REC_SLAVE)),
    ]


def shell(script: str, *, search: bool = True) -> Op:
    return ("exec", ("", ["sh" if search else "/bin/sh", "-c", script], ["PATH=/bin"], 0))


@pytest.fixture
def root(tmp_path: Any) -> Iterator[dict[str, str]]:
    """Layers and directories for an overlay root with busybox in it."""
    places = {name: str(tmp_path / name) for name in ("lower", "upper", "work", "merged")}
    for place in places.values():
        os.mkdir(place)
    os.makedirs(f"{places['lower']}/bin")
    os.makedirs(f"{places['lower']}/etc")
    shutil.copy("/bin/busybox", f"{places['lower']}/bin/busybox")
    for name in (
        "sh",
        "cat",
        "ls",
        "id",
        "mount",
        "hostname",
        "grep",
        "stat",
        "touch",
        "pwd",
        "env",
    ):
        os.symlink("busybox", f"{places['lower']}/bin/{name}")
    with open(f"{places['lower']}/etc/passwd", "w", encoding="ascii") as file:
        file.write("root:x:0:0:r:/root:/bin/sh\napp:x:1:1::/home/app:\nbig:x:99999999999:1::/:\n")
    with open(f"{places['lower']}/etc/group", "w", encoding="ascii") as file:
        file.write("root:x:0:\nextra:x:7:app,other\n")
    yield places
    subprocess.run(["chmod", "-R", "u+rwX", str(tmp_path)], check=False)


def overlay(root: dict[str, str]) -> Op:
    places = ([root["lower"]], root["upper"], root["work"], root["merged"], "userxattr")
    return ("overlay", places)


def container(
    root: dict[str, str], *inside: Op, flags: int = NEWPID, last: Op | None = None
) -> list[Op]:
    """A whole container: INSIDE comes before the pivot."""
    return [
        *clone(flags),
        overlay(root),
        ("mount", ("proc", "proc", "/proc", 0xE, "", 1)),
        *inside,
        ("pivot", ()),
        last or shell("true"),
    ]


def test_a_container_from_clone_to_exec(root: dict[str, str]) -> None:
    ops = container(root, flags=NEWPID | NEWUTS | NEWIPC | NEWNET, last=None)[:-1]
    ops += [
        ("hostname", ("inside",)),
        shell("hostname; echo $$; cat /proc/self/uid_map; ls /proc/self/fd"),
    ]
    played = play(ops)
    assert played.error is None
    assert played.code == 0
    words = played.output.split()
    assert words[0] == "inside"
    assert words[1] == "1"
    assert words[2:5] == ["0", str(os.getuid()), "1"]
    assert set(words[5:]) <= {"0", "1", "2", "3"}  # 3 is the directory that ls reads


@pytest.mark.parametrize("old", [False, True], ids=["this-kernel", "old-kernel"])
def test_hostile_links_stay_in_the_root(root: dict[str, str], old: bool, tmp_path: Any) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    lower = root["lower"]
    os.symlink("/../../../../../../../../" + str(outside), f"{lower}/absolute")
    os.symlink("../../../../../../../.." + str(outside), f"{lower}/relative")
    os.symlink("loop", f"{lower}/loop")
    os.symlink("/nosuch/target", f"{lower}/etc/resolv.conf")
    program = [_old_kernel(tmp_path)] if old else []
    inside: list[Op] = [
        ("mkdir", ("/absolute/made", 0o755, 0, 0)),
        ("mkfile", ("/relative/file", 0o644)),
        ("symlink", ("x", "/absolute/link")),
        ("bind", ("/dev/null", "/etc/resolv.conf", 0x1000, 0, 0, 0, 1)),
        ("bind", (str(outside), "/absolute/bound", 0x5000, 1, 0, 0x40000, 9)),
        ("mount", ("tmpfs", "t", "/relative/t", 0, "", 1)),
    ]
    where = str(outside)
    last = shell(f"ls {where}; ls -l /nosuch/target; touch {where}/bound/x; ls /loop")
    played = play(container(root, *inside, last=last), program=program)
    assert played.error is None, played.error
    assert os.listdir(outside) == []
    for name in ("made", "file", "link", "bound", "t"):
        assert name in played.output.split()
    assert "Read-only" in played.output
    assert "symbolic links" in played.output  # the loop is refused, not followed


@pytest.mark.parametrize("old", [False, True], ids=["this-kernel", "old-kernel"])
def test_a_bind_below_a_directory_stays_in_it(
    root: dict[str, str], old: bool, tmp_path: Any
) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    (volume / "a" / "b").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (volume / "a" / "b" / "mine").write_text("mine")
    (volume / "good").symlink_to("a/b")
    (volume / "absolute").symlink_to("/a/b")
    (volume / "deep").symlink_to("../../../../../../../a/b")
    (volume / "out").symlink_to(str(outside))
    (volume / "up").symlink_to("../outside")
    program = [_old_kernel(tmp_path)] if old else []

    def below(path: str, target: str, opflags: int = 9) -> Op:
        return ("bind_below", (str(volume), path, target, 0x5000, 1, 0, 0x40000, opflags))

    inside = [below("good", "/g"), below("absolute", "/a"), below("deep", "/d"), below("..", "/up")]
    last = shell("cat /g/mine /a/mine /d/mine; ls /up; touch /g/x")
    played = play(container(root, *inside, last=last), program=program)
    assert played.error is None, played.error
    assert played.output.startswith("minemineminea\n")
    assert "Read-only" in played.output
    for path in ("out", "up", "missing"):
        played = play(container(root, below(path, "/x"), last=shell("ls /x")), program=program)
        assert played.error is not None and "no such file or directory" in str(played.error)


def test_masked_and_read_only_paths(root: dict[str, str]) -> None:
    inside: list[Op] = [
        ("mask", ("/proc/version",)),
        ("mask", ("/etc",)),
        ("mask", ("/nosuch",)),
        ("readonly", ("/proc/sys",)),
        ("readonly", ("/nosuch",)),
        ("remount", ("/", 1, 0, 0)),
    ]
    script = "cat /proc/version; ls /etc; echo x > /proc/sys/kernel/domainname; touch /new"
    played = play(container(root, *inside, last=shell(script)))
    assert "Linux" not in played.output
    assert "passwd" not in played.output
    assert played.output.count("Read-only file system") == 2


def test_only_what_was_kept_is_allowed(root: dict[str, str]) -> None:
    caps = 1 << 0 | 1 << 13
    last: list[Op] = [
        ("user", ("", [], 1)),
        ("no_new_privs", ()),
        ("caps", (caps, caps, caps, 0, 0)),
        ("rlimit", (7, 50, 60)),
        ("umask", (0o77,)),
        ("pdeathsig", (9,)),
        shell("grep -e Cap -e NoNewPrivs /proc/self/status; umask; ulimit -n; echo $HOME"),
    ]
    played = play([*container(root)[:-1], *last])
    assert played.error is None, played.error
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{kind}:\t{caps:016x}" in played.output
    assert "NoNewPrivs:\t1" in played.output
    assert played.output.split()[-3:] == ["0077", "50", "/root"]


def test_a_process_is_bound_to_cpus(root: dict[str, str]) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    one = allowed[-1]
    bits = (1 << one).to_bytes(8, "little")
    last = shell("grep Cpus_allowed_list /proc/self/status")
    played = play([*container(root)[:-1], ("affinity", (bits,)), last])
    assert played.output.split() == ["Cpus_allowed_list:", str(one)]


def test_cpus_that_are_not_there_are_no_binding(root: dict[str, str]) -> None:
    bits = (1 << 4000).to_bytes(512, "little")
    played = play([*container(root)[:-1], ("affinity", (bits,)), shell("true")])
    assert "cannot bind the container to the CPUs" in str(played.error)


def test_a_filter_is_loaded(root: dict[str, str]) -> None:
    deny_mkdir = struct.pack("<HBBI", 0x20, 0, 0, 0)
    deny_mkdir += struct.pack("<HBBI", 0x15, 0, 1, 83 if os.uname().machine == "x86_64" else 34)
    deny_mkdir += struct.pack("<HBBI", 0x06, 0, 0, 0x00050000 | 28)  # ENOSPC: nobody else says that
    deny_mkdir += struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
    os.symlink("busybox", f"{root['lower']}/bin/mkdir")
    ops = [*container(root)[:-1], ("seccomp", (deny_mkdir, 0)), shell("mkdir /x")]
    assert "No space left" in play(ops).output
    assert "3 bytes" in play([*clone(), ("seccomp", (b"abc", 0))]).reason


@pytest.mark.parametrize(
    ("user", "phrase"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("0:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("99999999999", "uids and gids must be in range 0-2147483647"),
        ("big", "unable to find user big: no matching entries in passwd file"),
    ],
)
def test_users_that_cannot_be(root: dict[str, str], user: str, phrase: str) -> None:
    played = play([*container(root)[:-1], ("user", (user, [], 0)), shell("true")])
    assert played.reason == phrase


def test_a_user_outside_the_map_is_told(root: dict[str, str]) -> None:
    ops = [
        *container(root)[:-1],
        ("user", ("app", [], 0)),
        ("caps", (0, 0, 0, 0, 0)),
        shell("true"),
    ]
    assert "not in the ID map" in play(ops).reason


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 126, 'exec: "/etc": is a directory'),
        (["/bin/text"], 126, 'exec: "/bin/text": exec format error'),
    ],
)
def test_what_cannot_be_executed(
    root: dict[str, str], argv: list[str], code: int, reason: str
) -> None:
    with open(f"{root['lower']}/bin/text", "w", encoding="ascii") as file:
        file.write("no interpreter\n")
    os.chmod(f"{root['lower']}/bin/text", 0o755)
    played = play(container(root, last=("exec", ("", argv, ["PATH=/bin"], 0))))
    assert played.code == code
    assert played.reason == reason


def test_working_directories(root: dict[str, str]) -> None:
    head = container(root)[:-1]
    assert play([*head, ("chdir", ("/made/here", 1)), shell("pwd")]).output == "/made/here\n"
    assert "no such file or directory" in play([*head, ("chdir", ("/not", 0)), shell("pwd")]).reason
    assert "not a directory" in play([*head, ("chdir", ("/etc/passwd", 0)), shell("pwd")]).reason


def test_a_terminal_of_the_container(root: dict[str, str]) -> None:
    dev: list[Op] = [
        ("mount", ("tmpfs", "tmpfs", "/dev", 2, "mode=755", 1)),
        ("mount", ("devpts", "devpts", "/dev/pts", 0xA, "newinstance,ptmxmode=0666,mode=0620", 1)),
        ("mkfile", ("/dev/console", 0o620)),
    ]
    os.symlink("busybox", f"{root['lower']}/bin/tty")
    os.symlink("busybox", f"{root['lower']}/bin/stty")
    ops = [
        *container(root, *dev)[:-1],
        ("console", (31, 97, 1)),
        shell("tty; stty size; stat -c %t /dev/console"),
    ]
    played = play(ops)
    assert played.error is None, played.error
    data = b""
    try:
        while True:
            chunk = os.read(played.master, 4096)
            if not chunk:
                break
            data += chunk
    except OSError:
        pass
    os.close(played.master)
    assert data.split() == [b"/dev/pts/0", b"31", b"97", b"88"]


def test_a_supervisor_is_asked(root: dict[str, str]) -> None:
    assert play([*clone(), ("sync", (7,)), ("unshare", (NEWUTS,)), ("hostname", ("x",))]).code == 0


def test_a_stranger_with_the_same_pid_is_not_joined() -> None:
    played = play([("join_proc", (os.getpid(), 1, NEWUTS))])
    assert played.error is not None
    assert played.error[2] == 3  # ESRCH
    assert "it has ended" in played.reason


def test_trees_of_any_shape_are_removed(tmp_path: Any) -> None:
    top = tmp_path / "tree"
    deep = top
    deep.mkdir()
    (top / "closed").mkdir()
    (top / "closed" / "file").write_text("x")
    os.chmod(top / "closed", 0)
    os.symlink("/", top / "link")
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1500):  # deeper than PATH_MAX
        os.mkdir("d" * 20, dir_fd=fd)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    played = play([*clone(), ("rmtree", (str(top),)), ("rmtree", (str(top),))])
    assert played.code == 0, played.error
    assert not top.exists()
    assert os.path.isdir("/etc")


def test_many_layers_fit_one_mount(root: dict[str, str], tmp_path: Any) -> None:
    lowers = []
    for number in range(200):
        layer = tmp_path / ("layer-with-a-long-name-" * 4 + str(number))
        layer.mkdir()
        (layer / f"file{number}").write_text("")
        lowers.append(str(layer))
    places = ([*lowers, root["lower"]], root["upper"], root["work"], root["merged"], "userxattr")
    ops = container(root, last=shell("ls / | grep -c file"))
    ops[ops.index(overlay(root))] = ("overlay", places)
    assert play(ops).output == "200\n"


def test_errors_without_a_supervisor_go_to_stderr(root: dict[str, str]) -> None:
    played = play([("rmtree", ("/proc/1",))], status=False)
    assert played.output.startswith("launch: rmtree: cannot remove /proc/1: ")
    assert played.code == 125


def test_a_tape_cut_anywhere_has_no_effect(tmp_path: Any) -> None:
    target = str(tmp_path / "made")
    whole = tape.encode([("mkdir_host", (target, 0o755)), ("exec", ("", ["x"], ["A=b"], 0))])
    for size in range(len(whole)):
        played = play([], raw=whole[:size] or b"\0")
        assert played.error is not None
        assert "cannot read the tape" in played.reason
        assert not os.path.exists(target)


@pytest.mark.parametrize("offset", [0, 8, 12, 16, 20, 32, 34, 36, 40])
def test_a_damaged_tape_is_refused_whole(offset: int, tmp_path: Any) -> None:
    target = str(tmp_path / "made")
    data = bytearray(tape.encode([("mkdir_host", (target, 0o755))]))
    data[offset : offset + 2] = b"\xff\xff"
    assert "cannot read the tape" in play([], raw=bytes(data)).reason
    assert not os.path.exists(target)


def children() -> set[int]:
    """Our children, zombies too; worlds of other tests have some."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return {int(word) for word in file.read().split()}


def test_killed_at_any_moment_nothing_stays(root: dict[str, str]) -> None:
    before = children()
    for number in range(15):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = os.memfd_create("tape")
        os.write(fd, tape.encode(container(root, last=shell("exec sleep 99"))))
        for one in (fd, theirs.fileno()):
            fcntl.fcntl(one, fcntl.F_SETFD, 0)
        launcher = os.posix_spawn(LAUNCH, [LAUNCH, str(fd), str(theirs.fileno())], {})
        os.close(fd)
        theirs.close()
        for _ in range(number * 400):
            pass
        os.kill(launcher, signal.SIGKILL)
        os.waitpid(launcher, 0)
        ours.settimeout(20)
        pid = 0
        while True:
            data = ours.recv(4096)
            if data[:1] == b"P":
                pid = struct.unpack("<I", data[1:5])[0]
                os.kill(pid, signal.SIGKILL)
            if not data:
                break
        ours.close()
        for child in children() - before:
            os.waitpid(child, 0)
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            assert root["merged"] not in file.read()


def test_init_reaps_and_forwards(root: dict[str, str]) -> None:
    shutil.copy(f"{LIBEXEC}/init", f"{root['lower']}/bin/init")
    argv = ["/bin/init", "--", "/bin/sh", "-c", "(true & ); kill -TERM 1; while :; do :; done"]
    played = play(container(root, last=("exec", ("", argv, ["PATH=/bin"], 0))))
    assert played.code == 128 + 15
    missing = ["/bin/init", "--", "nosuch"]
    assert play(container(root, last=("exec", ("", missing, ["PATH=/bin"], 0)))).code == 127


def _old_kernel(tmp_path: Any) -> str:
    """A program that takes the newer calls away from the one it runs."""
    binary = str(tmp_path / "old_kernel")
    subprocess.run(["cc", "-O", "-o", binary, f"{TOP}/helpers/tests/old_kernel.c"], check=True)
    return binary


def test_who_has_lost_its_supervisor_does_not_begin(tmp_path: Path) -> None:
    """A parent that dies before the death signal is set sends none; its socket tells."""
    made = tmp_path / "made"
    program = tape.encode(
        [("pdeathsig", (9,)), ("exec", ("/usr/bin/touch", ["touch", str(made)], [], 0))]
    )
    for lost in (False, True):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = os.memfd_create("tape")
        os.write(fd, program)
        if lost:
            ours.close()
        done = subprocess.run(
            [*WRAPPER, LAUNCH, str(fd), str(theirs.fileno())],
            pass_fds=(fd, theirs.fileno()),
            check=False,
        )
        theirs.close()
        ours.close()
        os.close(fd)
        assert (done.returncode == 0, made.exists()) == (not lost, not lost)
        made.unlink(missing_ok=True)
