"""--userns keep-id: the caller's own ID inside, an image whose owners follow, and what that costs."""

from __future__ import annotations

import concurrent.futures
import glob
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import Done, World, busybox

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")
DRIVERS = [
    "overlay",
    pytest.param("fuse-overlayfs", marks=pytest.mark.requires("fuse", "fuse-overlayfs")),
    pytest.param("fusepy", marks=pytest.mark.requires("fuse")),
    "copy",
]
SCRIPT = (
    "id -u; id -g; stat -c '%u:%g %a' / /etc /etc/passwd /bin/busybox /owned /owned/f /owned/link; "
    "cat /owned/big | md5sum; cat /owned/f; stat -c %s /owned/big; ls /owned /gone 2>&1"
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    found = World()
    busybox(found)
    script = (
        "echo svc:x:1234:99::/:/bin/sh >> /etc/passwd; "
        "mkdir /owned /gone; echo text > /owned/f; ln /owned/f /owned/hard; ln -s f /owned/link; "
        "head -c 300000 /dev/zero > /owned/big; chown 7:8 /owned/f; chown -h 9:9 /owned/link; "
        "chmod 4750 /owned/f; chown 33:33 /owned; touch /owned/late /gone/x; chmod 600 /owned/big"
    )
    found("run", "--name", "one", "busybox", "sh", "-c", script)
    found("commit", "one", "two")
    found("rm", "one")
    found(
        "run",
        "--name",
        "one",
        "two",
        "sh",
        "-c",
        "rm -r /gone /owned/late; mkdir /gone; touch /gone/y",
    )
    found("commit", "one", "three")
    found("rm", "one")
    yield found
    found("system", "reset", "-f")
    found.close()


@pytest.fixture(params=DRIVERS)
def rl(request: pytest.FixtureRequest, world: World) -> Iterator[World]:
    world.env["ROOTLESS_STORAGE_DRIVER"] = request.param
    yield world
    world.env.pop("ROOTLESS_STORAGE_DRIVER")
    for name in world.names():
        world("rm", "-f", name)


def layers(world: World) -> list[str]:
    return sorted(os.listdir(f"{world.home}/.local/share/rootless/layers"))


def test_owners_are_those_of_the_image(rl: World) -> None:
    plain = rl.out("run", "--rm", "three", "sh", "-c", SCRIPT).split("\n")
    kept = rl.out(
        "run", "--rm", "--userns", "keep-id", "--user", "0:0", "three", "sh", "-c", SCRIPT
    ).split("\n")
    assert kept == plain
    assert "7:8 4750" in plain
    assert "33:33 755" in plain
    mine = rl.out("run", "--rm", "--userns", "keep-id", "three", "sh", "-c", "id -u; id -g").split()
    assert mine == [str(os.getuid()), str(os.getgid())]
    other = rl.out(
        *("run", "--rm", "--userns", "keep-id:uid=7,gid=8", "three"),
        *("sh", "-c", "id -u; id -g; stat -c %u /owned/f /etc; cat /owned/f"),
    )
    assert other.split() == ["7", "8", "7", "0", "text"]


def test_files_of_the_caller_keep_their_owner(rl: World, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "in").write_text("x")
    (tmp_path / "in").chmod(0o600)
    rl(
        *("run", "--rm", "--userns", "keep-id", "-v", f"{tmp_path}:/here", "busybox"),
        *("sh", "-c", "cat /here/in > /here/out; stat -c %u /here/in | grep -qx $(id -u)"),
    )
    assert (tmp_path / "out").stat().st_uid == os.getuid()


def test_what_it_writes_comes_out_with_its_owners(rl: World) -> None:
    script = "rm /gone/y; touch /new; chown 1000:1000 /new; echo 2 >> /owned/big"
    rl(
        *("run", "--name", "one", "--userns", "keep-id", "--user", "0", "three"),
        *("sh", "-c", f"{script}; chown 5 /etc/passwd"),
    )
    assert [line for line in rl.out("diff", "one").split("\n") if line != "C /owned"] == [
        *("C /etc", "C /etc/passwd", "C /gone", "D /gone/y", "A /new", "C /owned/big")
    ]
    rl("commit", "one", "four")
    shown = rl.out(
        "run",
        "--rm",
        "four",
        "stat",
        "-c",
        "%u:%g %s",
        "/new",
        "/etc/passwd",
        "/owned/f",
        "/owned/big",
    )
    assert [line.split()[0] for line in shown.split("\n")] == ["1000:1000", "5:0", "7:8", "0:0"]
    assert shown.split("\n")[3] == "0:0 300002"
    again = rl.out("start", "-a", "one")
    assert again == ""
    rl("rmi", "four")


def test_the_cost_is_told_once_per_image_and_map(rl: World) -> None:
    words = ["run", "--rm", "--userns", "keep-id:uid=1234,gid=1234", "three", "true"]
    lazily = rl.env["ROOTLESS_STORAGE_DRIVER"] != "overlay"
    before = layers(rl)
    first = rl(*words).stderr
    told = [line for line in first.split("\n") if "once per image and map" in line]
    if lazily:
        assert told == [], "nothing is copied"
        assert sorted(layers(rl)) == before
        return
    assert len(told) == 1
    assert "making three fit --userns keep-id:uid=1234,gid=1234" in told[0]
    assert "3 layers, " in told[0]
    assert " files, " in told[0]
    assert rl(*words).stderr == "", "it is said when it happens"
    assert "once per" in rl(*words[:3], "keep-id:uid=1235,gid=1235", *words[4:]).stderr
    assert (
        rl("run", "-q", "--rm", "--userns", "keep-id:uid=1236,gid=1236", "three", "true").stderr
        == ""
    )


def test_parallel_starts_make_layers_once(world: World) -> None:
    words = ["run", "--rm", "--userns", "keep-id:uid=777,gid=777", "three", "id", "-u"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: world(*words), range(4)))
    assert [one.stdout for one in done] == ["777\n"] * 4
    (directory,) = [name for name in layers(world) if "777" in name]
    top = f"{world.home}/.local/share/rootless/layers/{directory}"
    assert len(os.listdir(top)) in (1, 3), "an image or its layers; no locks, no half-made trees"


def test_a_killed_command_leaves_nothing_that_counts(world: World) -> None:
    """Whenever the end comes, the next command makes what is missing and believes nothing half-made."""
    wanted = world.out("run", "--rm", "three", "sh", "-c", SCRIPT)
    killed = 0
    for number in range(10):
        words = ["run", "--rm", "--userns", f"keep-id:uid={300 + number},gid={300 + number}"]
        words += ["--user", "0:0", "three", "sh", "-c", SCRIPT]
        process = world.spawn(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.03 + 0.02 * number)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        assert world.out(*words) == wanted
        (directory,) = [name for name in layers(world) if name.endswith(f"-{300 + number}")]
        top = f"{world.home}/.local/share/rootless/layers/{directory}"
        assert [name for name in os.listdir(top) if "." in name] == []
    assert killed


def test_data_is_shared_where_the_kernel_can(world: World) -> None:
    report = json.loads(world("doctor", "--json", check=False).stdout)
    features = {one["name"]: one for one in report["features"]}
    world("run", "--rm", "--userns", "keep-id:uid=55,gid=55", "three", "true")
    (name,) = [name for name in layers(world) if name.endswith("+keep-id-55-55")]
    assert name.startswith("shared+") == ("its data is shared" in features["keep-id"]["why"])
    if not name.startswith("shared+"):
        return
    top = f"{world.home}/.local/share/rootless/layers/{name}"
    script = f"find {top} -size +4k -type f -exec stat -c '%n %b' {{}} +"
    found = world.out("unshare", "sh", "-c", script).split("\n")
    assert {line.split("/")[-1].split()[0] for line in found} >= {"big", "busybox"}
    assert max(int(line.split()[-1]) for line in found) <= 8, "a block for attributes, at most"


def patched(world: World, **changes: object) -> None:
    """Make this world's machine another: facts are believed until the boot ends."""
    world("info")
    (path,) = glob.glob(f"{world.runtime}/rootless/*/facts.json")
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    found["facts"].update(changes)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file)


def test_without_the_kernels_help_layers_are_copied(world: World) -> None:
    """Before Linux 6.16: each layer is copied with other owners; the copy stays for the next run."""
    patched(world, overlay_data=False)
    words = ["--userns", "keep-id:uid=66,gid=66", "--user", "0:0", "three", "sh", "-c", SCRIPT]
    try:
        done = world("run", "--rm", *words)
        assert "all of it is copied" in done.stderr
        assert done.stdout == world.out("run", "--rm", "three", "sh", "-c", SCRIPT) + "\n"
        assert (
            len(os.listdir(f"{world.home}/.local/share/rootless/layers/overlay+keep-id-66-66")) == 3
        )
    finally:
        patched(world, overlay_data=True)
    assert world("run", "--rm", *words).stdout == done.stdout, "as before, by whatever way"


def test_automatic_maps_copy_what_they_can_map(world: World) -> None:
    words = ["run", "--rm", "--userns", "auto", "--user", "0:0", "three", "sh", "-c", SCRIPT]
    done = world(*words)
    assert "all of it is copied" in done.stderr or "extents are shared" in done.stderr
    assert done.stdout == world.out("run", "--rm", "three", "sh", "-c", SCRIPT) + "\n"


def test_a_base_layer_that_went_comes_back(world: World) -> None:
    top = f"{world.home}/.local/share/rootless/layers"
    world("run", "--rm", "--userns", "keep-id", "three", "true")
    world("unshare", "rm", "-rf", f"{top}/overlay")
    out = world.out(
        "run", "--rm", "--userns", "keep-id", "--user", "0", "three", "md5sum", "/owned/big"
    )
    assert out == world.out("run", "--rm", "three", "md5sum", "/owned/big")


def test_pruning_takes_what_no_container_needs(world: World) -> None:
    world("run", "--rm", "--userns", "keep-id:uid=88,gid=88", "three", "true")
    world("run", "--name", "kept", "--userns", "keep-id:uid=89,gid=89", "three", "true")
    maps = [name.partition("+")[2] for name in layers(world)]
    assert {"keep-id-88-88", "keep-id-89-89"} <= set(maps)
    done = world("image", "prune", "-f")
    assert "Total reclaimed space: 0B" not in done.stdout
    maps = [name.partition("+")[2] for name in layers(world)]
    assert "keep-id-88-88" not in maps and "keep-id-89-89" in maps
    assert world("start", "-a", "kept").stderr == ""
    assert (
        "once per image"
        in world(*["run", "--rm", "--userns", "keep-id:uid=88,gid=88", "three", "true"]).stderr
    )
    world("rm", "kept")


def test_removal_takes_the_trees_of_all_maps(world: World) -> None:
    world("tag", "three", "gone")
    world("run", "--rm", "--userns", "keep-id", "gone", "true")
    world("run", "--name", "one", "two", "touch", "/only")
    world("commit", "one", "only")
    world("rm", "one")
    world("run", "--rm", "--userns", "keep-id", "only", "true")
    top = f"{world.home}/.local/share/rootless/layers"
    before = {name: len(os.listdir(f"{top}/{name}")) for name in layers(world)}
    world("rmi", "only", "gone")
    after = {name: len(os.listdir(f"{top}/{name}")) for name in layers(world)}
    assert after["overlay"] == before["overlay"] - 1
    (kept,) = [n for n in before if n.endswith(f"+keep-id-{os.getuid()}-{os.getgid()}")]
    assert after[kept] == before[kept] - 1
    assert stat.S_ISDIR(os.stat(f"{top}/{kept}").st_mode)


def advised(done: Done) -> list[str]:
    return [line for line in done.stderr.split("\n") if "is said once for this directory" in line]


def test_a_mount_that_the_user_cannot_write_to(world: World, tmp_path: Path) -> None:
    """The one hint names the map that makes it work, and it does."""
    world("tag", "three", "app")
    names = ("named", "plain", "quiet", "open", "group", "read", "off", "late")
    mounts = {name: tmp_path / name for name in names}
    for path in mounts.values():
        path.mkdir(mode=0o755)

    def run(name: str, *words: str, suffix: str = "", **more: str) -> Done:
        volume = f"{mounts[name]}:/data{suffix}"
        return world("run", "--rm", "-v", volume, *words, "app", "true", env=more)

    me = "--userns keep-id:uid=1234,gid=99 makes that user you"
    (line,) = advised(run("plain", "--user", "1234:99"))
    assert line.startswith(f"rootless: note: {mounts['plain']} is yours, and user 1234:99 of the ")
    assert me in line
    assert advised(run("plain", "--user", "1234:99")) == [], "once"
    (line,) = advised(run("named", "--user", "svc"))
    assert "keep-id:uid=1234,gid=99 " in line
    world(
        *("run", "--rm", "-v", f"{mounts['plain']}:/data", "--userns", "keep-id:uid=1234,gid=99"),
        *("--user", "1234:99", "app", "touch", "/data/written"),
    )
    assert (mounts["plain"] / "written").stat().st_uid == os.getuid()
    assert advised(run("quiet", "-q", "--user", "1234")) == []
    assert advised(run("late")) == [], "root can"
    assert advised(run("late", "--user", "0:5")) == []
    assert advised(run("read", "--user", "5", suffix=":ro")) == []
    assert advised(run("off", "--user", "5", ROOTLESS_RUN_ADVICE="none")) == []
    mounts["open"].chmod(0o777)
    assert advised(run("open", "--user", "5")) == []
    mounts["group"].chmod(0o775)
    assert advised(run("group", "--user", "4321")) == [], "group 0 in there is the caller's"
    assert len(advised(run("late", "--user", "5", "--group-add", "7"))) == 1
    assert advised(world("run", "--rm", "-v", "/tmp:/data", "--user", "5", "app", "true")) == []


def test_the_images_own_user_counts(world: World, tmp_path: Path) -> None:
    world("run", "--name", "one", "three", "true")
    world("commit", "-c", "USER svc", "one", "served")
    world("rm", "one")
    tmp_path.chmod(0o755)
    done = world("create", "--name", "one", "-v", f"{tmp_path}:/data", "served", "true")
    (line,) = advised(done)
    assert "user svc of the container cannot write to it at /data" in line
    world("rm", "one")
