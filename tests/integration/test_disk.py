"""Room on disk: sizes, soft quotas, pruning, resetting, and all of that on a full filesystem."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import SITE, TOP, World, busybox

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")

# A tmpfs of its own in a mount namespace of its own, and what a script does in it; the realm is made inside.
SMALL = r"""
import os, subprocess, sys
sys.path[:0] = [{rig!r}]
from rig import World, busybox
world = World()
os.makedirs(f"{{world.top}}/disk")
mount = ["mount", "-t", "tmpfs", "-o", "size={size},mode=755", "none", f"{{world.top}}/disk"]
subprocess.run(mount, check=True)
world.env["ROOTLESS_STORAGE_ROOT"] = root = f"{{world.top}}/disk/store"
busybox(world)

def fill():
    with open(f"{{world.top}}/disk/filler", "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break
    free = os.statvfs(root)
    assert free.f_bavail == 0, free

try:
    exec(sys.stdin.read())
finally:
    world("system", "reset", "-f")
    assert os.listdir(root) == [], os.listdir(root)
print("done")
"""


def on_a_small_disk(script: str, size: str = "24m") -> None:
    """Run SCRIPT (with world, root and fill) where storage.root is a tmpfs of SIZE."""
    program = SMALL.format(rig=os.path.dirname(os.path.abspath(__file__)), size=size)
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--map-auto",
            "--mount",
            sys.executable,
            "-c",
            program,
        ],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{TOP}:{SITE}"},
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout + done.stderr


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


def test_full_disk_can_be_freed() -> None:
    """rm, prune, rmi and reset need no room."""
    on_a_small_disk(
        """
world("run", "--name", "one", "busybox", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=2")
world("run", "--name", "two", "busybox", "true")
fill()
done = world("run", "--name", "three", "busybox", "true", check=False)
assert done.returncode == 125, done
assert "ENOSPC" in done.stderr or "no space" in done.stderr, done.stderr
assert "three" not in world.names()
world("rm", "one")
assert os.statvfs(root).f_bavail * 4096 > 1 << 20
fill()
assert "Total reclaimed space" in world.out("container", "prune", "-f")
fill()
world("rmi", "busybox")
fill()
"""
    )


def test_a_container_that_fills_the_disk_sees_it_and_nothing_breaks() -> None:
    for driver in ("overlay", "fuse-overlayfs", "fusepy", "copy"):
        on_a_small_disk(
            f"""
driver = {driver!r}
words = ["--storage-driver", driver, "run", "--name", "one", "busybox"]
script = "dd if=/dev/zero of=/big bs=1M count=64; echo rc $?; ls / >/dev/null; rm /big; echo x > /y"
done = world(*words, "sh", "-c", script)
assert "rc 1" in done.stdout, done
assert "No space left" in done.stderr, done
assert "A /y" in world.out("diff", "one")
assert "/big" not in world.out("diff", "one")
"""
        )


def test_pull_and_commit_on_a_full_disk_leave_nothing() -> None:
    on_a_small_disk(
        """
world("run", "--name", "one", "busybox", "sh", "-c", "head -c 3000000 /dev/urandom > /big")
images = world.out("images", "-aq")
fill()
done = world("commit", "one", "two", check=False)
assert done.returncode == 1 and "no space" in done.stderr.lower(), done
assert world.out("images", "-aq") == images
assert not os.listdir(f"{root}/images/ingest") if os.path.isdir(f"{root}/images/ingest") else True
"""
    )


def test_an_id_map_on_a_full_disk_leaves_nothing() -> None:
    on_a_small_disk(
        """
words = ["run", "--rm", "--userns", "keep-id:uid=5,gid=5", "busybox", "id", "-u"]
world("run", "--rm", "busybox", "true")
fill()
done = world(*words, check=False)
assert done.returncode == 125 and "no space" in done.stderr.lower(), done
assert "Traceback" not in done.stderr
layers = f"{root}/layers"
assert not [n for d in os.listdir(layers) for n in os.listdir(f"{layers}/{d}") if "." in n]
os.unlink(f"{world.top}/disk/filler")
assert world.out(*words) == "5"
fill()
world("image", "prune", "-f")
assert os.listdir(layers) == ["overlay"], os.listdir(layers)
"""
    )


def test_sizes(rl: World) -> None:
    for driver in ("overlay", "fuse-overlayfs", "fusepy", "copy"):
        script = (
            "dd if=/dev/zero of=/f bs=1000 count=5; ln /f /g; rm /etc/group; mkdir -m 0 /secret"
        )
        rl("--storage-driver", driver, "run", "--name", "size", "busybox", "sh", "-c", script)
        found = json.loads(rl.out("inspect", "--size", "size"))[0]
        rl("rm", "size")
        assert found["SizeRw"] == 5000 or (driver == "copy" and found["SizeRw"] == 10000), driver
        assert found["SizeRootFs"] > found["SizeRw"]


def test_unreadable_directories_count(rl: World) -> None:
    script = "mkdir /d; head -c 7777 /dev/zero > /d/f; chown -R 5:5 /d; chmod 0 /d"
    rl("run", "--name", "hidden", "busybox", "sh", "-c", script)
    assert rl.out("ps", "-as", "--format", "{{.Size}}").startswith("7.78kB")
    rl("rm", "hidden")


def test_soft_quota_holds_at_start_and_says_so(rl: World) -> None:
    words = ["--storage-driver", "overlay", "run", "--name", "qq", "--storage-opt", "size=1m"]
    done = rl(*words, "busybox", "sh", "-c", "dd if=/dev/zero of=/f bs=1M count=2")
    assert "checks the size of the writable layer at each start" in done.stderr
    done = rl("start", "qq", check=False)
    assert done.returncode != 0
    assert "its writable layer holds 2097152 bytes, more than the 1048576" in done.stderr
    assert json.loads(rl.out("inspect", "qq"))[0]["HostConfig"]["StorageOpt"] == {"size": "1048576"}
    rl("rm", "qq")
    done = rl(
        "run", "--rm", "--strict-limits", "--storage-opt", "size=1m", "busybox", "true", code=125
    )
    assert "cannot enforce --storage-opt size" in done.stderr
    rl("run", "--rm", "--storage-opt", "inodes=5", "busybox", "true", code=125)


@pytest.mark.requires("fuse")
def test_hard_quota_of_our_own_filesystem(rl: World) -> None:
    words = ["--storage-driver", "fusepy", "run", "--strict-limits", "--storage-opt", "size=1m"]
    script = (
        "dd if=/dev/zero of=/f bs=64k count=64; wc -c < /f; rm /f; echo again > /g; df / | tail -1"
    )
    done = rl(*words, "--rm", "busybox", "sh", "-c", script)
    assert "warning" not in done.stderr
    assert "No space left on device" in done.stderr
    size, df = done.stdout.split("\n")[:2]
    assert 0 < int(size) <= 1 << 20
    assert df.split()[1] == "1024"


def test_container_prune(rl: World) -> None:
    rl("create", "--name", "new", "--label", "keep=1", "busybox", "true")
    rl("run", "--name", "old", "busybox", "true")
    rl("run", "-d", "--name", "alive", "busybox", "sleep", "1000")
    assert rl.out("container", "prune", "-f", "--filter", "until=1h").startswith("Total reclaimed")
    text = rl.out("container", "prune", "-f", "--filter", "label!=keep")
    assert text.startswith("Deleted Containers:\n")
    assert sorted(rl.names()) == ["alive", "new"]
    refused = rl("container", "prune", input="n\n")
    assert "This will remove all stopped containers" in refused.stdout
    assert sorted(rl.names()) == ["alive", "new"]
    rl("container", "prune", input="y\n")
    assert rl.names() == ["alive"]
    rl("rm", "-f", "alive")


def test_image_and_system_prune(rl: World) -> None:
    rl("run", "--name", "cc", "busybox", "touch", "/x")
    for name in ("img:1", "img:1", "img:2"):
        rl("commit", "cc", name)
    text = rl.out("image", "prune", "-f")
    assert text.count("deleted: sha256:") == 1, "the one that lost its name"
    assert rl("image", "inspect", "img:1", "img:2")
    text = rl.out("image", "prune", "-af")
    assert "untagged: img:1" in text and "untagged: img:2" in text
    assert "busybox" not in text, "a container uses it"
    text = rl.out("system", "prune", "-f")
    assert "Deleted Containers:" in text
    assert "Total reclaimed space: " in text
    assert rl.out("images", "-q"), "busybox has a name"
    assert rl.names() == []


def test_reset(rl: World) -> None:
    world = World()
    busybox(world)
    world("run", "-d", "--name", "alive", "busybox", "sh", "-c", "chown 7 /etc; sleep 1000")
    refused = world("system", "reset", input="\n")
    assert "all containers" in refused.stdout
    assert world.names() == ["alive"]
    world("system", "reset", "--force")
    assert os.listdir(f"{world.home}/.local/share/rootless") == []
    assert not [line for _, line in world.processes() if "realm" in line or "monitor" in line]
    assert world.names() == []
    busybox(world)
    assert world.out("run", "--rm", "busybox", "echo", "again") == "again"
    world.close()


def test_unshare(rl: World, tmp_path: Path) -> None:
    done = rl("unshare", "sh", "-c", "id -u; exit 7", code=7)
    assert done.stdout == "0\n"
    rl("unshare", "sh", "-c", f"touch {tmp_path}/f; chown 5:6 {tmp_path}/f")
    assert os.stat(tmp_path / "f").st_uid > 65536
    assert rl.out("unshare", "stat", "-c", "%u:%g", str(tmp_path / "f")) == "5:6"
    assert rl.out("unshare", "printenv", "HOME") == rl.home
    rl("unshare", "nosuchprogram", code=127)
    rl("unshare", "rm", str(tmp_path / "f"))


def test_rootfs_with_changes_apart(rl: World, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    for driver in ("overlay", "fuse-overlayfs", "fusepy", "copy"):
        words = ["--storage-driver", driver, "run", "--name", "apart", "--rootfs", f"{root}:O"]
        rl(
            *words,
            "/bin/busybox",
            "sh",
            "-c",
            "/bin/busybox touch /x; /bin/busybox rm /bin/busybox",
        )
        assert rl.out("diff", "apart") == "C /bin\nD /bin/busybox\nA /x", driver
        rl("rm", "apart")
        assert sorted(os.listdir(root)) == ["bin"], driver
        assert os.listdir(root / "bin") == ["busybox"], driver
