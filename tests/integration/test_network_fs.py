"""storage.root where a home directory often is: on a filesystem that refuses owners and attributes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import pytest
from rig import TOP, World, busybox, until

pytestmark = pytest.mark.requires(
    "ordinary-user", "subid", "overlay", "busybox", "fuse", "fusermount3"
)


class Poor:
    """A world of which the data root is a poor filesystem of some type."""

    def __init__(self, kind: str) -> None:
        self.world = World()
        self.root = f"{self.world.top}/share"
        self.below = f"{self.world.top}/below"
        for path in (self.root, self.below):
            os.mkdir(path)
        self.server = subprocess.Popen(
            [
                sys.executable,
                f"{TOP}/tests/integration/poorfs.py",
                self.below,
                self.root,
                *kind.split(),
            ]
        )
        until(lambda: os.path.ismount(self.root))
        self.world.env["ROOTLESS_STORAGE_ROOT"] = f"{self.root}/store"

    def close(self) -> None:
        self.world("system", "reset", "-f")
        subprocess.run(["fusermount3", "-u", self.root], check=True)
        try:
            self.server.wait(2)
        except subprocess.TimeoutExpired:  # a mount namespace of another test's has it still
            self.server.terminate()
            self.server.wait(10)
        self.world.env.pop("ROOTLESS_STORAGE_ROOT")
        self.world.close()


@pytest.fixture
def share() -> Iterator[Poor]:
    poor = Poor("sshfs")
    yield poor
    poor.close()


@pytest.fixture
def plain() -> Iterator[Poor]:
    poor = Poor("")
    poor.world.env["ROOTLESS_STORAGE_LOCAL"] = "none"
    yield poor
    poor.close()


def test_layers_and_containers_move_to_the_node(share: Poor) -> None:
    rl = share.world
    busybox(rl)
    done = rl(
        "run",
        "--name",
        "one",
        "busybox",
        "sh",
        "-c",
        "chown 1:1 /etc/passwd; stat -c %u /etc/passwd",
    )
    assert done.stdout == "1\n", "owners work, as they do on a local disk"
    info = json.loads(rl.out("info", "--format", "json"))
    assert info["Driver"] == "overlay"
    local = os.readlink(f"{share.root}/store/.local-{os.uname().nodename}")
    assert f"{share.root}/store is on fuse.sshfs" in done.stderr or local in rl.out("doctor")
    assert os.path.isdir(f"{share.root}/store/images/blobs"), "blobs stay"
    assert sorted(os.listdir(f"{share.root}/store/images/blobs")) == ["sha256"]
    assert not os.path.exists(f"{share.root}/store/layers")
    assert os.listdir(f"{local}/layers") == ["overlay"]
    assert os.listdir(f"{local}/containers")
    again = rl("run", "--rm", "busybox", "true")
    assert "is on" not in again.stderr, "said once"
    assert rl.names() == ["one"]


def test_a_place_can_be_chosen(share: Poor) -> None:
    rl = share.world
    rl.env["ROOTLESS_STORAGE_LOCAL"] = f"{rl.top}/node"
    busybox(rl)
    rl("run", "--rm", "busybox", "true")
    (found,) = os.listdir(f"{rl.top}/node")
    assert os.path.isdir(f"{rl.top}/node/{found}/layers/overlay")
    done = rl("ps", env={"ROOTLESS_STORAGE_LOCAL": "relative"}, code=125)
    assert "cannot use storage.local 'relative'" in done.stderr
    os.mkdir(f"{rl.top}/open", 0o777)
    os.chmod(f"{rl.top}/open", 0o777)
    done = rl("ps", env={"ROOTLESS_STORAGE_LOCAL": f"{rl.top}/open"}, code=125)
    assert "is not a directory that only you can write" in done.stderr


def test_probes_tell_what_is_missing(plain: Poor) -> None:
    """Where everything is to stay, the ladder goes down by what was tried."""
    rl = plain.world
    report = json.loads(rl("doctor", "--json", check=False).stdout)
    features = next(one for one in report["features"] if one["name"] == "storage")
    assert not features["usable"]
    for word in ("whiteouts", "xattrs", "dtype", "chown", "reflink"):
        assert f"no {word}" in features["why"]
    for word in ("mmap", "locks"):
        assert f"no {word}" not in features["why"]
    storage = next(one for one in report["ladders"] if one["name"] == "storage")
    rungs = {one["name"]: one for one in storage["rungs"]}
    assert not rungs["overlay"]["usable"]
    assert storage["chosen"] in ("fuse-overlayfs", "fusepy")


@pytest.mark.parametrize("without", ["mmap", "locks"])
def test_what_else_may_be_missing_is_told(without: str) -> None:
    """Direct I/O forbids shared mappings; a server may refuse locks."""
    poor = Poor(f"sshfs {without}")
    poor.world.env["ROOTLESS_STORAGE_LOCAL"] = "none"
    try:
        report = json.loads(poor.world("doctor", "--json", check=False).stdout)
        features = next(one for one in report["features"] if one["name"] == "storage")
        assert f"no {without}" in features["why"]
    finally:
        poor.close()


def test_a_server_of_no_known_type_that_refuses_attributes_is_moved_from(plain: Poor) -> None:
    rl = plain.world
    del rl.env["ROOTLESS_STORAGE_LOCAL"]
    busybox(rl)
    done = rl("run", "--rm", "busybox", "stat", "-c", "%u", "/home/app")
    assert done.stdout == "1000\n"
    local = os.readlink(f"{plain.root}/store/.local-{os.uname().nodename}")
    assert os.path.isdir(f"{local}/layers/overlay")
    assert not os.path.exists(f"{plain.root}/store/layers")


def test_refused_owners_are_named(plain: Poor) -> None:
    done = plain.world("import", "-", "owned:1", check=False, input=owned())
    assert done.returncode == 1
    assert 'cannot unpack entry "f": the filesystem does not let it belong to 5:6' in done.stderr
    assert "storage.local" in done.stderr
    assert plain.world.out("images", "-q") == ""


def owned() -> str:
    """An archive with a file of somebody else's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        info = tarfile.TarInfo("f")
        info.uid, info.gid = 5, 6
        out.addfile(info)
    return buffer.getvalue().decode("ascii")


@pytest.mark.parametrize("driver", ["fuse-overlayfs", "fusepy", "copy"])
def test_containers_run_there_with_one_id(plain: Poor, driver: str) -> None:
    """Owners are refused, so there is one ID; whiteouts are files, so deletions last."""
    rl = plain.world
    rl.env.update(ROOTLESS_STORAGE_DRIVER=driver, ROOTLESS_IDMAP_MODE="single")
    busybox(rl)
    rl("run", "--name", "one", "busybox", "sh", "-ec", "rm /etc/group; echo 1 > /new; mkdir /d")
    assert os.listdir(f"{plain.root}/store/layers") == ["files+single"]
    assert rl.out("diff", "one").split("\n") == ["A /d", "C /etc", "D /etc/group", "A /new"]
    rl("commit", "one", "two")
    text = rl.out("run", "--rm", "two", "sh", "-c", "ls /etc /d; cat /new")
    assert "group" not in text
    assert text.endswith("1")


@pytest.mark.parametrize("driver", ["fuse-overlayfs", "fusepy", "copy"])
def test_owners_are_recorded_where_files_have_no_attributes(plain: Poor, driver: str) -> None:
    """One ID and a filesystem that can store nothing of an owner: all of it is in journals."""
    rl = plain.world
    rl.env.update({"ROOTLESS_IDMAP_MODE": "single", "ROOTLESS_STORAGE_DRIVER": driver})
    busybox(rl)
    script = (
        "echo x > /f; chown 33:44 /f; mkdir /d; chown 5:6 /d; ln -s f /l; chown -h 7:8 /l; mv /f /g; "
        "mknod /n c 1 3; chown 0:9 /n; chown 10:11 /etc/passwd; "
        "echo y > /back; chown 1:1 /back; chown 0:0 /back"
    )
    rl("run", "--name", "kept", "busybox", "sh", "-ec", script)
    done = subprocess.run([*rl.argv, "export", "kept"], env=rl.env, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        found = {info.name: (info.type, info.uid, info.gid) for info in archive}
    wanted = {
        "g": (b"0", 33, 44),
        "d": (b"5", 5, 6),
        "l": (b"2", 7, 8),
        "n": (b"3", 0, 9),
        "etc/passwd": (b"0", 10, 11),
        "back": (b"0", 0, 0),
    }
    assert {name: found.get(name) for name in wanted} == wanted
    rl("commit", "kept", "kept:1")
    rl("run", "--name", "again", "kept:1", "sh", "-c", "echo z >> /g")
    done = subprocess.run(
        [*rl.argv, "export", "again"], env=rl.env, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        found = {info.name: (info.type, info.uid, info.gid) for info in archive}
    assert {name: found.get(name) for name in wanted} == wanted
