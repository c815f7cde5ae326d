"""Files in and out of containers: cp, diff, export, commit, import, on every storage driver."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import World, busybox, until

pytestmark = pytest.mark.requires(
    "ordinary-user", "subid", "overlay", "busybox", "fuse", "fuse-overlayfs"
)

DRIVERS = ("overlay", "fuse-overlayfs", "fusepy", "copy")
CHANGE = (
    "rm /etc/group; echo 1 > /etc/new; mkdir -p /d/sub; ln -s x /d/l; chmod 700 /home; "
    "rm -rf /tmp; mkdir /tmp; chown 5:6 /etc/new; ln /etc/new /etc/new2; mkfifo /d/p"
)
CHANGES = """\
A /d
A /d/l
A /d/p
A /d/sub
C /etc
D /etc/group
A /etc/new
A /etc/new2
C /home
C /tmp
"""


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


@pytest.fixture(params=DRIVERS)
def box(rl: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """A stopped container that has changed this and that."""
    name = f"box-{request.param}"
    rl("--storage-driver", request.param, "run", "--name", name, "busybox", "sh", "-c", CHANGE)
    yield name
    rl("rm", "-f", name)


@pytest.fixture(params=["stopped", "running"])
def either(rl: World, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"either-{request.param}"
    if request.param == "running":
        rl("run", "-d", "--name", name, "busybox", "sleep", "1000")
    else:
        rl("create", "--name", name, "busybox", "true")
    yield name
    rl("rm", "-f", name)


def binary(rl: World, *words: str, data: bytes | None = None) -> bytes:
    done = subprocess.run(
        [*rl.argv, *words], env=rl.env, input=data, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def test_diff(rl: World, box: str) -> None:
    assert rl("diff", box).stdout == CHANGES


def test_diff_of_an_untouched_container_is_empty(rl: World, either: str) -> None:
    assert rl("diff", either).stdout == ""


def test_export_has_everything_with_its_owner(rl: World, box: str) -> None:
    found = members(binary(rl, "export", box))
    assert {"bin/busybox", "etc/new", "d/sub", "d/l", "home/app"} <= set(found)
    assert "etc/group" not in found
    assert (found["etc/new"].uid, found["etc/new"].gid) == (5, 6)
    assert found["etc/new2"].islnk() or found["etc/new"].islnk()
    assert found["d/p"].isfifo()
    assert found["home"].mode == 0o700


def test_export_to_a_file(rl: World, either: str, tmp_path: Path) -> None:
    path = tmp_path / "root.tar"
    rl("export", "-o", str(path), either)
    found = members(path.read_bytes())
    assert "bin/busybox" in found
    assert not any(name.startswith("proc/") for name in found), "what is mounted stays out"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")], "no leftovers"


def test_commit_gives_the_same_tree(rl: World, box: str) -> None:
    image = f"img-{box}:1"
    ident = rl.out(
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "ENV A=b",
        "-c",
        "USER app",
        "-c",
        "HEALTHCHECK --interval=7s CMD true",
        *("-c", "WORKDIR $A", "-c", "STOPSIGNAL SIGQUIT"),
        box,
        image,
    )
    try:
        script = "ls -ln /etc/new /etc/new2; ls -A /tmp /d; test ! -e /etc/group; stat -c %a /home; echo $A"
        text = rl.out("run", "--rm", "--user", "0", image, "sh", "-c", script)
        assert "-rw-r--r--    2 5        6" in text, "owner and hard link"
        assert text.splitlines()[2:] == ["/d:", "l", "p", "sub", "", "/tmp:", "700", "b"]
        config = json.loads(rl.out("image", "inspect", image))[0]
        assert config["Id"] == ident
        assert config["Author"] == "me"
        assert config["Comment"] == "why" or config["Config"]["User"] == "app"
        assert config["Config"]["Cmd"] == ["sh", "-c", CHANGE], "the command it was run with"
        assert config["Config"]["Healthcheck"] == {
            "Test": ["CMD-SHELL", "true"],
            "Interval": 7 * 10**9,
        }
        assert config["Config"]["StopSignal"] == "SIGQUIT"
        assert config["Config"]["WorkingDir"] == "/b", "later lines see what earlier ones set"
        assert rl.out("run", "--rm", image, "id", "-un") == "app"
    finally:
        rl("rmi", "-f", image)


def test_commit_of_a_commit(rl: World) -> None:
    """Whiteouts and opaque directories of one layer hide what the one below has."""
    rl("run", "--name", "one", "busybox", "sh", "-c", "mkdir /x; touch /x/a /x/b")
    rl("commit", "one", "two:1")
    rl(
        "run",
        "--name",
        "two",
        "two:1",
        "sh",
        "-c",
        "rm /x/a; rm -rf /home; mkdir /home; touch /home/n",
    )
    rl("commit", "two", "two:2")
    try:
        assert rl.out("run", "--rm", "two:2", "ls", "/x", "/home").split() == [
            "/home:",
            "n",
            "/x:",
            "b",
        ]
        for driver in DRIVERS[1:]:
            text = rl.out("--storage-driver", driver, "run", "--rm", "two:2", "ls", "/x", "/home")
            assert text.split() == ["/home:", "n", "/x:", "b"], driver
    finally:
        rl("rm", "-f", "one", "two")
        rl("rmi", "-f", "two:1", "two:2")


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ("RUN x", "RUN is no instruction for --change"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("LABEL", "LABEL requires at least one argument"),
        ("ENV a='", "looking for matching single-quote"),
        ("STOPSIGNAL none", "none"),
        ("HEALTHCHECK --interval=x CMD true", "invalid duration 'x' for interval"),
    ],
)
def test_bad_changes_make_no_image(rl: World, either: str, change: str, phrase: str) -> None:
    before = rl.out("images", "-aq")
    done = rl("commit", "-c", change, either, code=1)
    assert phrase in done.stderr
    assert rl.out("images", "-aq") == before


def test_import_round_trip(rl: World, either: str) -> None:
    data = binary(rl, "export", either)
    ident = (
        binary(rl, "import", "-c", 'CMD ["echo","hi"]', "-", "flat:1", data=data).decode().strip()
    )
    try:
        assert ident.startswith("sha256:")
        assert rl.out("run", "--rm", "flat:1") == "hi"
        assert len(json.loads(rl.out("image", "inspect", "flat:1"))[0]["RootFS"]["Layers"]) == 1
    finally:
        rl("rmi", "flat:1")


def test_import_of_garbage_makes_no_image(rl: World, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"no archive at all" * 100)
    before = rl.out("images", "-aq")
    rl("import", str(path), "bad:1", code=1)
    rl("import", str(tmp_path / "none"), "bad:1", code=1)
    assert rl.out("images", "-aq") == before


def test_import_of_nothing_is_an_empty_image(rl: World) -> None:
    rl("import", "-", "empty:1", input="")
    rl("commit", rl.out("create", "--name", "one", "empty:1", "/x"), "empty:2")
    rl("rm", "one")
    rl("rmi", "empty:1", "empty:2")


# cp


def test_file_out_and_in(rl: World, either: str, tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_text("text")
    source.chmod(0o4711)
    rl("cp", str(source), f"{either}:/etc/g")
    rl("cp", str(source), f"{either}:/home")
    rl("cp", f"{either}:/etc/g", str(tmp_path / "back"))
    rl("cp", f"{either}:/home/f", str(tmp_path / "dir"), code=0)
    assert (tmp_path / "back").read_text() == (tmp_path / "dir").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o711, "nothing is set-ID to us"
    found = members(binary(rl, "cp", f"{either}:/etc/g", "-"))["g"]
    assert (found.uid, found.gid, found.mode) == (0, 0, 0o4711), (
        "it belongs to the container's root"
    )


def test_directories(rl: World, either: str, tmp_path: Path) -> None:
    """Docker's rules: into an existing directory under its name, to a new one as that, "/." its content."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "f").write_text("1")
    (tree / "link").symlink_to("sub/f")
    rl("cp", str(tree), f"{either}:/home")
    rl("cp", str(tree), f"{either}:/new")
    rl("cp", f"{tree}/.", f"{either}:/tmp")
    for where in ("home/tree", "new", "tmp"):
        found = members(binary(rl, "cp", f"{either}:/{where}/.", "-"))
        assert {"sub", "sub/f", "link"} <= set(found)
        assert found["link"].linkname == "sub/f"
    out = tmp_path / "out"
    out.mkdir()
    rl("cp", f"{either}:/new", str(out))
    rl("cp", f"{either}:/new", str(tmp_path / "fresh"))
    rl("cp", f"{either}:/new/.", str(out))
    for path in (out / "new", tmp_path / "fresh", out):
        assert (path / "sub" / "f").read_text() == "1"
        assert os.readlink(path / "link") == "sub/f"


def test_links_are_followed_only_with_L(rl: World, either: str, tmp_path: Path) -> None:
    os.symlink("passwd", tmp_path / "l")
    (tmp_path / "passwd").write_text("host")
    rl("cp", str(tmp_path / "l"), f"{either}:/etc/l")
    assert members(binary(rl, "cp", f"{either}:/etc/l", "-"))["l"].issym()
    assert members(binary(rl, "cp", "-L", f"{either}:/etc/l", "-"))["l"].isreg()
    rl("cp", "-L", str(tmp_path / "l"), f"{either}:/etc/m")
    assert members(binary(rl, "cp", f"{either}:/etc/m", "-"))["m"].isreg()


def test_links_at_the_destination_are_followed(rl: World, either: str, tmp_path: Path) -> None:
    """Docker writes what a link names, there or not, and keeps the link; a directory is gone into."""
    (tmp_path / "f").write_text("new")
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as out:
        for name, link in (
            ("lf", "/home/t/real"),
            ("ln", "none"),
            ("ld", "../t"),
            ("loop", "loop"),
        ):
            info = tarfile.TarInfo(f"t/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, link
            out.addfile(info)
        info = tarfile.TarInfo("t/real")
        info.size = 3
        out.addfile(info, io.BytesIO(b"old"))
    binary(rl, "cp", "-", f"{either}:/home", data=archive.read_bytes())
    for name in ("lf", "ln", "ld"):
        rl("cp", str(tmp_path / "f"), f"{either}:/home/t/{name}")
    rl("cp", str(tmp_path / "f"), f"{either}:/home/t/loop", code=1)
    found = members(binary(rl, "cp", f"{either}:/home/t", "-"))
    assert {name for name, one in found.items() if one.issym()} == {
        *("t/lf", "t/ln", "t/ld", "t/loop")
    }
    assert {name: one.size for name, one in found.items() if one.isreg()} == {
        "t/real": 3,
        "t/none": 3,
        "t/f": 3,
    }
    assert b"new" in binary(rl, "cp", f"{either}:/home/t/real", "-")
    (tmp_path / "old").write_text("old")
    (tmp_path / "here").symlink_to("old")
    (tmp_path / "dangling").symlink_to("made")
    for name in ("here", "dangling"):
        rl("cp", f"{either}:/home/t/f", str(tmp_path / name))
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "old").read_text() == (tmp_path / "made").read_text() == "new"


def test_the_root_of_a_running_container_can_be_copied(rl: World, tmp_path: Path) -> None:
    """What the kernel shows below /proc and /sys is left out, unless it is asked for by name."""
    rl("run", "-d", "--name", "whole", "busybox", "sleep", "1000")
    try:
        rl("cp", "whole:/", str(tmp_path / "root"))
        assert os.listdir(tmp_path / "root" / "proc") == []
        assert os.listdir(tmp_path / "root" / "sys") == []
        assert os.path.exists(tmp_path / "root" / "bin" / "busybox")
        rl("cp", "whole:/proc/version", str(tmp_path / "version"))
        assert (tmp_path / "version").read_text().startswith("Linux")
    finally:
        rl("rm", "-f", "whole")


def test_archives_on_stdin_keep_owners(rl: World, either: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("owned/.wh.file")
        info.uid, info.gid, info.size = 7, 8, 2
        archive.addfile(info, io.BytesIO(b"ok"))
    binary(rl, "cp", "-", f"{either}:/home", data=buffer.getvalue())
    found = members(binary(rl, "cp", f"{either}:/home/owned", "-"))
    assert (found["owned/.wh.file"].uid, found["owned/.wh.file"].gid) == (7, 8)


def test_volumes_are_seen(rl: World, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("shared")
    rl("create", "--name", "vol", "-v", f"{tmp_path}:/v", "busybox", "true")
    try:
        assert "f" in members(binary(rl, "cp", "vol:/v/f", "-"))
        rl("cp", "/etc/hostname", "vol:/v/h")
        assert (tmp_path / "h").exists()
        assert rl.out("diff", "vol") in ("", "A /v"), "what is in a volume is none of its changes"
    finally:
        rl("rm", "-f", "vol")


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (["{c}:/nope", "{t}/x"], "could not find the file /nope"),
        (["{t}/none", "{c}:/x"], "no such file or directory"),
        (["{t}/f", "{c}:/none/x"], "could not find the file /none"),
        (["{t}/f", "{c}:/none/"], "no such directory"),
        (["{t}/d", "{c}:/etc/passwd"], "cannot copy directory"),
        (["{t}/f", "{c}:/etc/passwd/"], "extraction point is not a directory"),
        (["{c}:/etc", "{t}/f"], "cannot copy directory"),
        (["{c}:/etc/passwd", "{t}/no/x"], "does not exist"),
        (["{c}:/a", "{c}:/b"], "copying between containers is not supported"),
        (["/a", "/b"], "must specify at least one container source"),
        (["{t}/f", "{c}:"], "destination can not be empty"),
        (["nosuch:/a", "/b"], "no such container: nosuch"),
    ],
)
def test_bad_copies(rl: World, either: str, tmp_path: Path, words: list[str], phrase: str) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "d").mkdir()
    done = rl("cp", *(word.format(c=either, t=tmp_path) for word in words), check=False)
    assert done.returncode in (1, 125)
    assert phrase in done.stderr


def test_links_of_a_container_lead_nowhere_else(rl: World, either: str, tmp_path: Path) -> None:
    """Absolute links and climbing ones mean paths of the container, for reading and for writing."""
    secret = tmp_path / "secret"
    secret.write_text("host")
    for number, target in enumerate((str(tmp_path), "../" * 20 + str(tmp_path))):
        os.symlink(target, tmp_path / f"l{number}")
        rl("cp", str(tmp_path / f"l{number}"), f"{either}:/home/l{number}")
        done = rl("cp", f"{either}:/home/l{number}/secret", "-", check=False)
        assert done.returncode == 1
        assert "could not find the file" in done.stderr
        rl("cp", "/etc/hostname", f"{either}:/home/l{number}/planted", check=False)
    assert sorted(name for name in os.listdir(tmp_path) if name != "world") == [
        "l0",
        "l1",
        "secret",
    ]


def test_the_symlink_swap_race_is_lost(rl: World, tmp_path: Path) -> None:
    """A container that swaps a directory for a link to the host's root while cp writes and reads."""
    target = tmp_path / "host"
    target.mkdir()
    (target / "f").write_text("host")
    up = "../" * 12
    script = (
        f"mkdir /r; cd /r; mkdir real; echo inside > real/f; ln -s {up}{target} evil; mv real d; "
        "touch /ready; while :; do mv d real; mv evil d; mv d evil; mv real d; done"
    )
    rl("run", "-d", "--name", "racer", "busybox", "sh", "-c", script)
    try:
        until(lambda: rl("cp", "racer:/ready", "-", check=False).returncode == 0)
        (tmp_path / "plant").write_text("x")
        read: list[bytes] = []

        def reader() -> None:
            for _ in range(25):
                done = subprocess.run(
                    [*rl.argv, "cp", "racer:/r/d/f", "-"],
                    env=rl.env,
                    capture_output=True,
                    check=False,
                )
                read.append(done.stdout)

        thread = threading.Thread(target=reader)
        thread.start()
        for _ in range(25):
            rl("cp", str(tmp_path / "plant"), "racer:/r/d/plant", check=False)
        thread.join()
        assert not any(b"host" in data for data in read)
        assert any(b"inside" in data for data in read), "and the honest half of them worked"
        assert os.listdir(target) == ["f"]
    finally:
        rl("rm", "-f", "racer")


def _locked(inode: int) -> bool:
    """Whether somebody holds a lock on the file with that number."""
    with open("/proc/locks", encoding="ascii") as file:
        return any(line.split()[5].endswith(f":{inode}") for line in file if "->" not in line)


def test_a_container_being_copied_does_not_start(rl: World, tmp_path: Path) -> None:
    """The writable layer is mounted once at a time: a start meanwhile is refused, not corrupting."""
    identity = rl.out("create", "--name", "slow", "busybox", "true")
    receiving, sending = os.pipe()
    copy = subprocess.Popen([*rl.argv, "cp", "-", "slow:/tmp"], env=rl.env, stdin=receiving)
    os.close(receiving)
    try:
        inode = os.stat(f"{rl.home}/.local/share/rootless/containers/{identity}/lock").st_ino
        assert until(lambda: _locked(inode))
        assert rl("start", "slow", check=False).returncode != 0
    finally:
        os.write(sending, bytes(1024))
        os.close(sending)
        assert copy.wait(30) == 0
        rl("start", "-a", "slow")
        rl("rm", "-f", "slow")
