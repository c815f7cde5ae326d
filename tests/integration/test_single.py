"""Single-ID mode: ownership is pretended in the container and true in what comes out of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator

import pytest
from rig import TOP, World, busybox, until

pytestmark = pytest.mark.requires(
    "ordinary-user", "subid", "overlay", "busybox", "fuse", "fuse-overlayfs", "cc"
)

DRIVERS = ("overlay", "fuse-overlayfs", "fusepy", "copy")
FORCED, ALONE = ("--userns", "single"), ()
MAKE = (
    "mkdir -p /d/sub; echo x > /d/file; chown 33:44 /d/file; chmod 4755 /d/file; chgrp 50 /d; chmod 2775 /d; "
    "ln -s file /d/link; chown -h 5:6 /d/link; mv /d/link /d/moved; ln -s file /d/rootlink; "
    "mkfifo /d/pipe; chown 9:10 /d/pipe; mknod /d/null c 1 3; chmod 666 /d/null; chown 0:7 /d/null; "
    "mknod /d/disk b 8 300; echo y > /d/back; chown 1:1 /d/back; chown 0:0 /d/back; "
    "chown 12:13 /etc/passwd; chown -h 3:4 /bin/cat; chown 60000:60001 /d/sub; chown 22 /tmp"
)
OWNED = {
    "d": ("5", 0o2775, 0, 50),
    "d/sub": ("5", 0o755, 60000, 60001),
    "d/file": ("0", 0o4755, 33, 44),
    "d/moved": ("2", 0o777, 5, 6),
    "d/rootlink": ("2", 0o777, 0, 0),
    "d/pipe": ("6", 0o644, 9, 10),
    "d/null": ("3", 0o666, 0, 7),
    "d/disk": ("4", 0o644, 0, 0),
    "d/back": ("0", 0o644, 0, 0),
    "etc/passwd": ("0", 0o644, 12, 13),
    "bin/cat": ("2", 0o777, 3, 4),
    "tmp": ("5", 0o1777, 22, 0),
}


def described(archive: tarfile.TarFile) -> dict[str, tuple[str, int, int, int]]:
    return {
        info.name.rstrip("/"): (info.type.decode(), info.mode & 0o7777, info.uid, info.gid)
        for info in archive
    }


def exported(rl: World, name: str) -> tarfile.TarFile:
    done = subprocess.run([*rl.argv, "export", name], env=rl.env, capture_output=True, check=True)
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def top_layer(rl: World, image: str) -> tarfile.TarFile:
    """The last layer of an image in the store."""
    top = f"{rl.home}/.local/share/rootless/images"
    config = json.loads(rl.out("image", "inspect", image))[0]
    with open(f"{top}/index.json", encoding="utf-8") as file:
        for entry in json.load(file)["manifests"]:
            path = f"{top}/blobs/{entry['digest'].replace(':', '/')}"
            with open(path, encoding="utf-8") as blob:
                manifest = json.load(blob)
            if manifest["config"]["digest"] == config["Id"]:
                digest = manifest["layers"][-1]["digest"]
                with open(f"{top}/blobs/{digest.replace(':', '/')}", "rb") as data:
                    return tarfile.open(fileobj=io.BytesIO(gzip.decompress(data.read())))
    raise AssertionError(image)


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


def wrapped(world: World, *wrapper: str) -> None:
    """Let every launcher of WORLD be started by WRAPPER."""
    real = os.environ.get("ROOTLESS_LIBEXEC") or f"{TOP}/rootless/libexec"
    libexec = f"{world.top}/libexec"
    shutil.copytree(real, libexec)
    with open(f"{libexec}/launch", "w", encoding="ascii") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(wrapper)} {real}/launch "$@"\n')
    world.env["ROOTLESS_LIBEXEC"] = libexec


@pytest.fixture(scope="module")
def poor() -> Iterator[World]:
    """A world with one ID: newuidmap is without effect, as on a mount with nosuid."""
    world = World()
    try:
        wrapped(world, "setpriv", "--no-new-privs")
        busybox(world)
        yield world
    finally:
        world.close()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with one ID on a kernel whose filters have no listeners."""
    world = World()
    program = str(tmp_path_factory.mktemp("old") / "old_kernel")
    subprocess.run(["cc", "-O", "-o", program, f"{TOP}/helpers/tests/old_kernel.c"], check=True)
    try:
        wrapped(world, program)
        busybox(world)
        yield world
    finally:
        world.close()


@pytest.fixture(params=["forced", "alone"])
def single(rl: World, poor: World, request: pytest.FixtureRequest) -> tuple[World, tuple[str, ...]]:
    return (rl, FORCED) if request.param == "forced" else (poor, ALONE)


@pytest.mark.parametrize("driver", DRIVERS)
def test_owners_come_out_as_they_were_given(
    single: tuple[World, tuple[str, ...]], driver: str
) -> None:
    rl, mode = single
    name, image = f"made-{driver}", f"made-{driver}:1"
    rl("--storage-driver", driver, "run", "--name", name, *mode, "busybox", "sh", "-ec", MAKE)
    try:
        found = described(exported(rl, name))
        assert {key: found.get(key) for key in OWNED} == OWNED
        rl("commit", name, image)
        layer = top_layer(rl, image)
        found = described(layer)
        assert {key: found.get(key) for key in OWNED} == OWNED
        null, disk = layer.getmember("d/null"), layer.getmember("d/disk")
        assert (null.devmajor, null.devminor, disk.devmajor, disk.devminor) == (1, 3, 8, 300)
        headers = [key for info in layer for key in info.pax_headers if "rootless" in key]
        assert not headers
        changed = set(rl.out("diff", name).splitlines())
        assert {"C /etc/passwd", "C /bin/cat", "C /tmp", "A /d/null", "A /d/moved"} <= changed
        assert "etc/apt" not in " ".join(found)
    finally:
        rl("rm", "-f", name)


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_image_runs_with_all_ids_and_with_one_again(rl: World, driver: str) -> None:
    image = f"both-{driver}:1"
    rl("--storage-driver", driver, "run", "--name", "both", *FORCED, "busybox", "sh", "-ec", MAKE)
    rl("commit", "both", image)
    rl("rm", "both")
    script = "stat -c '%n %u:%g %a' /d /d/file /d/moved /d/sub /d/back /etc/passwd /bin/cat /tmp"
    full = rl.out("--storage-driver", driver, "run", "--rm", image, "sh", "-c", script)
    wanted = ["/d", "/d/file", "/d/moved", "/d/sub", "/d/back", "/etc/passwd", "/bin/cat", "/tmp"]
    lines = [
        f"{path} {uid}:{gid} {mode:o}" for path in wanted for _, mode, uid, gid in [OWNED[path[1:]]]
    ]
    assert full.splitlines() == lines
    again = rl.out(
        "--storage-driver", driver, "run", "--name", "again", *FORCED, image, "sh", "-c", script
    )
    assert {line.split()[1] for line in again.splitlines()} == {"0:0"}
    found = described(exported(rl, "again"))
    assert {key: found.get(key) for key in OWNED} == OWNED
    rl("rm", "again")
    rl("rmi", "-f", image)


def test_failures_stay_failures(single: tuple[World, tuple[str, ...]], tmp_path: str) -> None:
    rl, mode = single
    os.makedirs(f"{rl.top}/bind", exist_ok=True)
    with open(f"{rl.top}/bind/file", "w", encoding="ascii"):
        pass
    script = (
        "chown 1:1 /missing; chown 1 /etc/passwd/below; chown 1 /ro/file; ln -s loop /tmp/loop; "
        "chown 1 /tmp/loop; mknod /tmp c 1 3; mknod /none/x c 1 3; mknod /tmp/w c 0 0; mknod /ro/x c 1 3; "
        "chown 1 /proc/version; echo end"
    )
    done = rl("run", "--rm", *mode, "-v", f"{rl.top}/bind:/ro:ro", "busybox", "sh", "-c", script)
    assert done.stdout == "end\n"
    said = [line for line in done.stderr.splitlines() if not line.startswith("rootless:")]
    assert [line.rpartition(": ")[2] for line in said] == [
        "No such file or directory",
        "Not a directory",
        "Read-only file system",
        "Too many levels of symbolic links",
        "File exists",
        "No such file or directory",
        "Operation not permitted",
        "Read-only file system",
        "Operation not permitted",
    ], done.stderr


def test_an_image_of_another_user_runs(single: tuple[World, tuple[str, ...]]) -> None:
    rl, mode = single
    script = "id -u; echo $HOME; grep CapEff /proc/self/status | tr -d '\\t'"
    found = rl.out("run", "--rm", *mode, "-u", "nobody", "busybox", "sh", "-c", script)
    lines = found.splitlines()
    assert lines[0] == "0"
    assert lines[2] == "CapEff:0000000000000000"


def test_groups_that_do_not_exist_are_no_error(single: tuple[World, tuple[str, ...]]) -> None:
    """The groups of the image's user, and those asked for."""
    rl, mode = single
    words = ("--group-add", "7", *mode, "busybox", "id", "-u")
    assert rl.out("run", "--rm", *words) == "0"


def test_a_container_that_joins_one_of_one_id(rl: World) -> None:
    rl("run", "-d", "--name", "first", *FORCED, "busybox", "sleep", "1000")
    try:
        words = ("--name", "second", "--pid", "container:first", "busybox")
        rl("run", *words, "sh", "-ec", "touch /f; chown 5:6 /f")
        assert described(exported(rl, "second"))["f"][2:] == (5, 6)
    finally:
        rl("rm", "-f", "first", "second")


def test_exec_is_emulated_too(single: tuple[World, tuple[str, ...]]) -> None:
    rl, mode = single
    rl("run", "-d", "--name", "execs", *mode, "busybox", "sleep", "1000")
    try:
        rl("exec", "execs", "sh", "-ec", "touch /f; chown 5:6 /f; ln -s f /l; chown -h 7:8 /l")
        rl("exec", "execs", "chown", "-h", "7:9", "/l")
        found = described(exported(rl, "execs"))
        assert (found["f"][2:], found["l"][2:]) == ((5, 6), (7, 9))
    finally:
        rl("rm", "-f", "execs")


def test_cp_keeps_owners(rl: World) -> None:
    rl("run", "-d", "--name", "copies", *FORCED, "busybox", "sleep", "1000")
    try:
        done = subprocess.run(
            [*rl.argv, "cp", "-a", "-", "copies:/"],
            env=rl.env,
            input=_archive(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        out = subprocess.run(
            [*rl.argv, "cp", "-a", "copies:/in", "-"], env=rl.env, capture_output=True, check=True
        )
        found = described(tarfile.open(fileobj=io.BytesIO(out.stdout)))
        assert found["in/file"][2:] == (33, 44)
        assert found["in/link"][2:] == (5, 6)
        one = subprocess.run(
            [*rl.argv, "cp", "-a", "copies:/in/file", "-"],
            env=rl.env,
            capture_output=True,
            check=True,
        )
        assert described(tarfile.open(fileobj=io.BytesIO(one.stdout)))["file"][2:] == (33, 44)
    finally:
        rl("rm", "-f", "copies")


def _archive() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind, uid, gid in (
            ("in", b"5", 0, 0),
            ("in/file", b"0", 33, 44),
            ("in/link", b"2", 5, 6),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode = kind, uid, gid, 0o755
            info.linkname = "file" if kind == b"2" else ""
            archive.addfile(info)
    return data.getvalue()


def supervisors(rl: World) -> list[int]:
    """Pids of the supervisors that work for this world's containers."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/comm", encoding="utf-8") as file:
                if file.read() != "owners\n":
                    continue
            with open(f"/proc/{name}/status", encoding="utf-8") as file:
                parent = next(line.split()[1] for line in file if line.startswith("PPid:"))
            with open(f"/proc/{parent}/cmdline", encoding="utf-8") as file:
                if rl.top in file.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


def test_the_supervisor_ends_with_the_container(rl: World) -> None:
    rl("run", "-d", "--name", "ends", *FORCED, "busybox", "sleep", "1000")
    rl("exec", "ends", "true")
    until(lambda: len(supervisors(rl)) == 1)
    with_files = os.listdir(f"/proc/{supervisors(rl)[0]}/task")
    assert len(with_files) == 1
    rl("rm", "-f", "ends")
    until(lambda: not supervisors(rl))


def test_a_supervisor_that_is_killed(rl: World) -> None:
    rl("run", "-d", "--name", "killed", *FORCED, "busybox", "sh", "-c", "sleep 1000; echo over")
    try:
        (pid,) = until(lambda: supervisors(rl))  # type: ignore[misc]
        script = (
            "i=0; while [ $i -lt 2000 ]; do chown 5:5 /tmp 2>/tmp/said || exit 7; i=$((i+1)); done"
        )
        session = rl.spawn("exec", "killed", "sh", "-c", "sleep 0.1; " + script)
        assert session.wait(timeout=60) == 0  # another session has another supervisor
        os.kill(pid, signal.SIGKILL)
        until(lambda: "supervisor of ownership has ended" in rl("logs", "killed").stderr)
        assert rl.out("ps", "--format", "{{.Names}}") == "killed"
        assert rl.out("exec", "killed", "echo", "alive") == "alive"
    finally:
        rl("rm", "-f", "killed")


def test_calls_fail_cleanly_without_their_supervisor(rl: World) -> None:
    script = "while ! chown 5:5 /tmp 2>&1 | grep -i implemented; do sleep 0.1; done; touch /f && echo lives"
    session = rl.spawn(
        "run", "--name", "lost", *FORCED, "busybox", "sh", "-c", script, stdout=subprocess.PIPE
    )
    try:
        (pid,) = until(lambda: supervisors(rl))  # type: ignore[misc]
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        out, _ = session.communicate(timeout=60)
        assert out == b"chown: /tmp: Function not implemented\nlives\n"
    finally:
        rl("rm", "-f", "lost")


def test_it_is_told(rl: World, poor: World) -> None:
    world = World()
    world.env["ROOTLESS_IDMAP_MODE"] = "single"
    try:
        busybox(world)
        said = [world("run", "--rm", "busybox", "true").stderr for _ in range(2)]
        assert ["only recorded" in text for text in said] == [True, False]
    finally:
        world.close()
    rl("create", "--name", "told", *FORCED, "busybox", "true")
    poor("create", "--name", "told", "busybox", "true")
    for one in (rl, poor):
        mode = one.out("inspect", "-f", "{{.HostConfig.UsernsMode}}", "told")
        assert mode == "single"
        one("rm", "told")
    status = json.loads(poor.out("info", "--format", "{{json .DriverStatus}}"))
    assert ["ID Map", "single"] in status
    assert ["Ownership", "emulated and recorded"] in status


def test_a_kernel_that_cannot_ask(old: World) -> None:
    """Everything succeeds without effect, in exec sessions too, and doctor says so."""
    script = (
        "touch /f; chown 5:5 /f && mknod /n c 1 3 && chgrp 7 /f; echo $?; ls /n 2>&1; chmod 600 /f"
    )
    out = old.out("run", "--name", "silent", "busybox", "sh", "-c", script)
    assert out.splitlines() == ["0", "ls: /n: No such file or directory"]
    assert described(exported(old, "silent"))["f"][2:] == (0, 0)
    old("rm", "silent")
    old("run", "-d", "--name", "silent", "busybox", "sleep", "1000")
    old("exec", "silent", "chown", "5:5", "/tmp")
    assert supervisors(old) == []
    old("rm", "-f", "silent")
    assert "succeed without effect" in old("doctor", check=False).stdout
    status = json.loads(old.out("info", "--format", "{{json .DriverStatus}}"))
    assert ["ID Map", "single"] in status


def test_a_file_written_anew_keeps_the_owner_of_the_old(rl: World) -> None:
    rl(
        "run",
        "--name",
        "base",
        *FORCED,
        "busybox",
        "sh",
        "-c",
        "chown 0:42 /etc/group; chown 0:43 /etc/passwd",
    )
    rl("commit", "base", "base:1")
    script = (
        "cp /etc/group /etc/group+; chmod 644 /etc/group+; chown 0:0 /etc/group+; mv /etc/group+ /etc/group; "
        "chown 0:0 /etc/passwd"
    )
    rl("run", "--name", "anew", *FORCED, "base:1", "sh", "-ec", script)
    rl("commit", "anew", "anew:1")
    for found in (described(top_layer(rl, "anew:1")), described(exported(rl, "anew"))):
        assert (found["etc/group"][2:], found["etc/passwd"][2:]) == ((0, 42), (0, 0))
    rl("rm", "base", "anew")


def test_hosts_files_that_are_not_ours_stay_refused(rl: World) -> None:
    """A file of the host's root: the owner cannot be changed, and nothing is recorded."""
    done = rl(
        "run", "--rm", *FORCED, "-v", "/etc/hostname:/h", "busybox", "chown", "5", "/h", code=1
    )
    assert "Operation not permitted" in done.stderr


def test_rootfs_directories(rl: World) -> None:
    top = f"{rl.top}/tree"
    os.makedirs(f"{top}/bin")
    subprocess.run(["cp", "/bin/busybox", f"{top}/bin/busybox"], check=True)
    script = "b=/bin/busybox; $b touch /f; $b chown 5:6 /f; $b ln -s f /l; $b chown -h 7:8 /l"
    for suffix, name in (("", "direct"), (":O", "over")):
        words = ("--name", name, *FORCED, "--rootfs", f"{top}{suffix}")
        rl("run", *words, "/bin/busybox", "sh", "-ec", script)
        found = described(exported(rl, name))
        assert (found["f"][2:], found["l"][2:]) == ((5, 6), (7, 8))
        rl("rm", name)
        for left in ("f", "l"):
            if os.path.lexists(f"{top}/{left}"):
                assert suffix == ""
                os.unlink(f"{top}/{left}")
