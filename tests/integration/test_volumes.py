"""Volumes as a user meets them: made, filled, shared, overlaid, removed; and what is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from rig import World, busybox, lines, until

pytestmark = pytest.mark.requires(
    "ordinary-user", "subid", "overlay", "busybox", "fuse", "fuse-overlayfs"
)

DRIVERS = ("overlay", "fuse-overlayfs", "fusepy", "copy")


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


@pytest.fixture(autouse=True)
def nothing_stays(rl: World) -> Iterator[None]:
    """Every test begins and ends without containers and volumes."""
    yield
    for name in rl.names():
        rl("rm", "-fv", name)
    left = names(rl)
    if left:
        rl("volume", "rm", *left)
    assert os.listdir(store(rl)) == []


def store(rl: World) -> str:
    path = f"{rl.home}/.local/share/rootless/volumes"
    os.makedirs(path, exist_ok=True)
    return path


def names(rl: World) -> list[str]:
    return list(lines(rl.out("volume", "ls", "-q")))


def sh(rl: World, mounts: list[str], script: str, *flags: str) -> str:
    """What SCRIPT says in a container with these -v mounts."""
    words = [word for mount in mounts for word in ("-v", mount)]
    return rl.out("run", "--rm", *flags, *words, "busybox", "sh", "-c", script)


# content


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_new_volume_gets_what_the_image_has(rl: World, driver: str) -> None:
    listing = "cd /etc; stat -c '%n %u:%g %a %s %Y' . group passwd"
    # The image's directory as a container without the volume sees it.
    mine = rl.out("--storage-driver", driver, "run", "--rm", "busybox", "sh", "-c", listing)
    found = rl.out(
        *("--storage-driver", driver, "run", "--rm", "-v", "etc:/etc", "busybox"),
        *("sh", "-c", listing),
    )
    assert [line.split()[:4] for line in lines(found)][1:] == [
        line.split()[:4] for line in lines(mine)
    ][1:]
    assert sh(rl, ["etc:/x"], "cat /x/passwd; echo more >> /x/passwd") == rl.out(
        "run", "--rm", "busybox", "cat", "/etc/passwd"
    )
    assert "more" in sh(rl, ["etc:/etc"], "cat /etc/passwd"), "filled once, then it is data"


def test_owners_modes_links_and_attributes_are_copied(rl: World) -> None:
    script = (
        "mkdir -p /d/sub; chown 5:6 /d; chmod 1750 /d; echo x > /d/f; chown 7:8 /d/f; chmod 4711 /d/f; "
        "ln /d/f /d/sub/hard; ln -s /etc/passwd /d/l; mkfifo /d/p; chmod 700 /d/sub"
    )
    rl("run", "--name", "maker", "busybox", "sh", "-c", script)
    rl("commit", "maker", "filled")
    seen = "cd /d; stat -c '%n %F %u:%g %a %h' . f l p sub sub/hard; readlink l"
    wanted = rl.out("run", "--rm", "filled", "sh", "-c", seen)
    got = rl.out("run", "--rm", "-v", "vol:/d", "filled", "sh", "-c", seen)
    assert got == wanted
    assert "directory 5:6 1750" in lines(got)[0]
    rl("rm", "maker")
    rl("rmi", "filled")


def test_nocopy_and_a_volume_in_use_stay_as_they_are(rl: World) -> None:
    assert sh(rl, ["empty:/usr:nocopy"], "ls -A /usr") == ""
    sh(rl, ["used:/x"], "touch /x/mine")
    assert sh(rl, ["used:/etc"], "ls -A /etc/mine") == "/etc/mine"
    assert sh(rl, ["used:/etc"], "ls /etc/group 2>&1; true") != "/etc/group"
    words = ("--mount", "src=third,dst=/etc,volume-nocopy")
    assert rl.out("run", "--rm", *words, "busybox", "sh", "-c", "ls /etc/group || echo no") == "no"


@pytest.mark.parametrize("userns", ["keep-id", "auto", "host"])
def test_the_containers_user_can_write_with_every_map(rl: World, userns: str) -> None:
    flags = ["--userns", userns]
    assert sh(rl, ["vol:/new"], "echo hi > /new/f; cat /new/f", *flags) == "hi"
    assert sh(rl, ["vol2:/root"], "stat -c %u /root", "--user", "0", *flags) == "0"
    assert sh(rl, ["vol:/new"], "cat /new/f", *flags) == "hi"


def test_a_volume_over_a_file_is_refused_before_anything_is_made(rl: World) -> None:
    for mount in ("vol:/etc/passwd", "/etc/passwd"):
        done = rl("run", "-v", mount, "busybox", "true", code=125)
        assert "cannot mount volume over existing file" in done.stderr
    assert rl.names() == [] and names(rl) == []


def test_no_space_while_copying_leaves_no_container(rl: World) -> None:
    """The store on a full filesystem: a tmpfs with room for little, in a namespace of the test's own."""
    script = (
        'mount -t tmpfs -o size=5m,mode=700 tmpfs "$DATA" && rl load -i "$LAYOUT" && '
        'dd if=/dev/zero of="$DATA/fill" bs=64k 2>/dev/null; '
        'dd if=/dev/null of="$DATA/fill" bs=64k seek=0 count=0 conv=notrunc 2>/dev/null; '
        'truncate -s -200K "$DATA/fill"; rl run -v vol:/bin --name full busybox true; echo "code $?"; '
        'rm "$DATA/fill"; rl ps -aq; rl volume ls -q; rl volume rm vol 2>/dev/null; '
        'ls -A "$DATA/rootless/volumes" "$DATA/rootless/containers"'
    )
    layout = f"{rl.top}/layout"
    data = f"{rl.top}/small"
    os.mkdir(data)
    from rig import TOP

    subprocess.run(["python3", f"{TOP}/tests/images/busybox.py", layout], check=True)
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in rl.argv)
    done = subprocess.run(
        [*("unshare", "-Urm", "--map-auto"), "bash", "-c", f'rl() {{ {quoted} "$@"; }}; {script}'],
        env={**rl.env, "DATA": data, "XDG_DATA_HOME": data, "LAYOUT": layout},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "code 125" in done.stdout, done.stdout + done.stderr
    assert "ENOSPC" in done.stderr
    tail = done.stdout.partition("code 125\n")[2]
    assert [line for line in lines(tail) if line and not line.endswith(":")] == []


# kinds of mounts


def test_anonymous_volumes_go_with_their_container(rl: World) -> None:
    rl("run", "--rm", "-v", "/data", "busybox", "touch", "/data/x")
    assert names(rl) == []
    rl("run", "-d", "--rm", "--name", "gone", "-v", "/data", "busybox", "sleep", "0.2")
    until(lambda: not rl.names())
    assert until(lambda: not names(rl))
    rl("run", "--name", "kept", "-v", "/data", "-v", "named:/n", "busybox", "touch", "/data/x")
    (name,) = set(names(rl)) - {"named"}
    assert len(name) == 64 and set(name) <= set("0123456789abcdef")
    (found,) = json.loads(rl.out("volume", "inspect", name))
    assert found["Labels"] == {"com.docker.volume.anonymous": ""}
    rl("rm", "kept")
    assert set(names(rl)) == {name, "named"}, "without -v it stays"
    rl("run", "--name", "other", "-v", "/data", "-v", "named:/n", "busybox", "true")
    rl("rm", "-v", "other")
    assert set(names(rl)) == {name, "named"}
    assert lines(rl.out("volume", "prune", "-f"))[:2] == ["Deleted Volumes:", name]
    assert names(rl) == ["named"]


def test_volumes_of_the_image(rl: World) -> None:
    rl("create", "--name", "maker", "busybox", "true")
    rl("commit", "-c", "VOLUME /etc /fresh", "maker", "withvol")
    rl("run", "--name", "box", "withvol", "touch", "/etc/x", "/fresh/y")
    found = json.loads(rl.out("inspect", "box"))[0]
    assert {m["Destination"]: m["Type"] for m in found["Mounts"]} == {
        "/etc": "volume",
        "/fresh": "volume",
    }
    assert found["HostConfig"]["Binds"] is None
    assert rl.out("start", "-a", "box") == ""
    changed = rl.out("diff", "box")
    assert "/etc/x" not in changed and "/fresh/y" not in changed
    got = rl.out("run", "--rm", "--volumes-from", "box", "withvol", "ls", "/etc/x", "/fresh/y")
    assert lines(got) == ["/etc/x", "/fresh/y"]
    assert len(names(rl)) == 2, "what was borrowed stays with its container"
    rl("run", "--rm", "-v", "mine:/etc", "--tmpfs", "/fresh", "withvol", "true")
    rl("rm", "-v", "box", "maker")
    assert names(rl) == ["mine"]
    rl("rmi", "withvol")


def test_volumes_from_other_containers(rl: World) -> None:
    host = f"{rl.home}/host"
    os.makedirs(host, exist_ok=True)
    rl("create", "--name", "aa", "-v", "va:/a", "-v", f"{host}:/h", "busybox", "true")
    rl("create", "--name", "bb", "-v", "vb:/b", "-v", "vb2:/a", "busybox", "true")
    script = "cd /; for d in a b h; do touch $d/t 2>/dev/null && echo $d; done; true"
    both = ("--volumes-from", "aa:ro", "--volumes-from", "bb")
    assert rl.out("run", "--rm", *both, "busybox", "sh", "-c", script) == "a\nb"
    assert sh(rl, ["vb2:/x"], "ls /x") == "t", "the later one wins"
    mine = rl.out("run", "--rm", *both, "-v", "own:/a", "busybox", "sh", "-c", "ls -A /a")
    assert mine == "", "and -v wins over both"
    done = rl("run", "--volumes-from", "nobody", "busybox", "true", code=125)
    assert "no such container: nobody" in done.stderr
    done = rl("run", "--volumes-from", "aa:rx", "busybox", "true", code=125)
    assert "invalid mode: rx" in done.stderr
    rl("rm", "-v", "aa")
    assert "va" in names(rl)


@pytest.mark.parametrize("driver", DRIVERS)
def test_changes_over_a_source_are_the_containers_and_end_with_it(rl: World, driver: str) -> None:
    host = f"{rl.home}/over-{driver}"
    os.makedirs(host)
    with open(f"{host}/kept", "w") as file:
        file.write("host\n")
    os.chmod(host, 0o750)
    rl("run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", "echo v > /v/f; chown 3:4 /v")
    rl(
        *("--storage-driver", driver, "create", "--name", "over"),
        *("-v", f"{host}:/h:O", "-v", "data:/v:O", "busybox", "sh", "-c"),
        "stat -c %u:%g:%a /h /v; cat /h/* /v/*; rm /h/kept /v/f; echo new > /h/new; ls /h /v",
    )
    wanted = ["0:0:750", "3:4:755", "host", "v", "/h:", "new", "", "/v:"]
    for _ in range(2):
        assert list(lines(rl.out("start", "-a", "over"))) == wanted
        assert os.listdir(host) == ["kept"]
    directory = (
        f"{rl.home}/.local/share/rootless/containers/{rl.out('inspect', '-f', '{{.Id}}', 'over')}"
    )
    assert until(lambda: not os.path.lexists(f"{directory}/mounts/0/upper"))
    assert sh(rl, ["data:/v"], "cat /v/f") == "v"


def test_the_copy_driver_does_not_copy_the_container_into_itself(rl: World) -> None:
    done = rl(
        *("--storage-driver", "copy", "run", "-v", f"{rl.home}:/h:O", "busybox", "true"), code=125
    )
    assert "the container's own files are in it" in done.stderr


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_image_is_mounted_readonly(rl: World, driver: str) -> None:
    rl("run", "--name", "maker", "busybox", "sh", "-c", "rm -r /usr; echo two > /two")
    rl("commit", "maker", "twolayers")
    rl("rm", "maker")
    got = rl.out(
        *("--storage-driver", driver, "run", "--name", "box"),
        *("--mount", "type=image,src=twolayers,dst=/i"),
        *("--mount", "type=image,src=twolayers,image-subpath=etc,dst=/e"),
        *(
            "busybox",
            "sh",
            "-c",
            "cat /i/two; ls -d /i/usr 2>&1; ls /e; touch /i/x /e/x 2>&1; true",
        ),
    )
    assert lines(got)[0] == "two"
    assert "No such file" in lines(got)[1]
    assert "passwd" in lines(got)
    assert got.count("Read-only file system") == 2
    done = rl("rmi", "twolayers", check=False)
    assert done.returncode == 1 and "using its referenced image" in done.stderr
    (found, _) = json.loads(rl.out("inspect", "-f", "{{json .Mounts}}", "box"))
    assert (found["Type"], found["RW"], found["Source"]) == ("image", False, "twolayers")
    rl("rm", "box")
    rl("rmi", "twolayers")


def test_a_subpath_cannot_lead_out(rl: World) -> None:
    sh(
        rl,
        ["data:/v"],
        "mkdir -p /v/a/b; echo in > /v/a/b/f; ln -s /etc /v/abs; ln -s ../../../../etc /v/rel; "
        "mkdir /v/etc; echo mine > /v/etc/f; ln -s a/b /v/good; echo file > /v/file",
    )

    def sub(path: str, script: str, code: int = 0) -> str:
        words = ("--mount", f"src=data,dst=/s,volume-subpath={path}")
        done = rl("run", "--rm", *words, "busybox", "sh", "-c", script, code=code)
        return done.stdout + done.stderr

    assert sub("a/b", "cat /s/f") == "in\n"
    assert sub("good", "cat /s/f") == "in\n"
    assert sub("abs", "cat /s/f; ls /s") == "mine\nf\n"
    assert sub("rel", "cat /s/f; ls /s") == "mine\nf\n"
    assert sub("file", "cat /s") == "file\n"
    assert "no such file or directory" in sub("nope", "true", code=125)


def test_ownership_for_the_containers_user(rl: World) -> None:
    host = f"{rl.home}/yours"
    os.makedirs(f"{host}/sub")
    os.symlink("/etc", f"{host}/link")
    done = rl(
        *("run", "--rm", "-u", "7:8", "-v", f"{host}:/h:U", "busybox", "sh", "-c"),
        "touch /h/sub/x; stat -c %u:%g /h /h/sub /h/link",
    )
    assert lines(done.stdout) == ["7:8"] * 3
    assert "the owner of 3 entries was changed" in done.stderr
    assert rl.out("run", "--rm", "busybox", "stat", "-c", "%u", "/etc") == "0"
    rl("unshare", "rm", "-r", host)
    done = rl("run", "-u", "nobody-here", "-v", "vol:/h:U", "busybox", "true", code=125)
    assert "unable to find user nobody-here" in done.stderr
    done = rl("run", "-u", "99999", "-v", "vol:/h:U", "busybox", "true", code=125)
    assert "the container's ID map does not have that user" in done.stderr
    single = {"ROOTLESS_IDMAP_MODE": "single"}
    done = rl("run", "--rm", "-u", "5", "-v", "vol:/h:U", "busybox", "true", env=single)
    assert "U changes nothing in a container of one ID" in done.stderr
    rl("volume", "rm", "vol")
    assert rl.names() == [] and names(rl) == []


def test_driver_options(rl: World) -> None:
    rl(
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=1m,mode=700",
        "mem",
    )
    assert sh(rl, ["mem:/m"], "stat -c %a /m; grep ' /m ' /proc/mounts | grep -o size=1024k") == (
        "700\nsize=1024k"
    )
    host = f"{rl.home}/bound"
    os.makedirs(host)
    rl("volume", "create", "-o", "type=none", "-o", f"device={host}", "-o", "o=bind,ro", "ref")
    assert "Read-only" in sh(rl, ["ref:/r"], "touch /r/x 2>&1; true")
    done = rl("volume", "export", "mem", check=False, code=1)
    assert "which is there only in a running container" in done.stderr
    words = (
        "--mount",
        f"type=volume,src=made,dst=/r,volume-opt=type=none,volume-opt=device={host},volume-opt=o=bind,volume-label=a=b",
    )
    rl("run", "--rm", *words, "busybox", "touch", "/r/x")
    assert os.listdir(host) == ["x"]
    (found,) = json.loads(rl.out("volume", "inspect", "made"))
    assert found["Options"] == {"type": "none", "device": host, "o": "bind"}
    assert found["Labels"] == {"a": "b"}
    rl("volume", "rm", "made")
    assert os.listdir(host) == ["x"], "what is the host's stays"
    done = rl("run", "--volume-driver", "nfs", "-v", "xx:/x", "busybox", "true", code=125)
    assert 'plugin "nfs" not found' in done.stderr


def test_missing_sources(rl: World) -> None:
    rl("run", "--rm", "-v", "./made/here:/x", "busybox", "touch", "/x/y", cwd=rl.home)
    assert os.listdir(f"{rl.home}/made/here") == ["y"]
    done = rl("create", "--mount", "type=bind,src=/nowhere,dst=/x", "busybox", code=125)
    assert (
        'invalid mount config for type "bind": bind source path does not exist: /nowhere'
        in done.stderr
    )
    rl(
        *("run", "--rm", "--mount", f"type=bind,src={rl.home}/made/2,dst=/x,bind-create-src"),
        *("busybox", "true"),
    )
    assert os.path.isdir(f"{rl.home}/made/2")
    done = rl("run", "-v", "va:/x", "-v", "vb:/x/", "busybox", "true", code=125)
    assert "uplicate mount point: /x" in done.stderr
    assert rl.names() == [] and names(rl) == []


def test_nested_targets_are_mounted_from_the_top(rl: World) -> None:
    mounts = ["deep:/a/b/c", "top:/a", "mid:/a/b"]
    sh(rl, mounts, "echo 1 > /a/f; echo 2 > /a/b/f; echo 3 > /a/b/c/f")
    for volume, content in (("top", "1"), ("mid", "2"), ("deep", "3")):
        assert sh(rl, [f"{volume}:/x"], "cat /x/f") == content


# verbs


def test_create_list_and_remove(rl: World) -> None:
    assert rl.out("volume", "create", "--label", "a=1", "one") == "one"
    assert rl.out("volume", "create", "one") == "one"
    assert rl.out("volume", "create", "--name", "two") == "two"
    anonymous = rl.out("volume", "create")
    assert rl.out("volume", "ls", "-f", "label=a=1", "-q") == "one"
    assert (
        rl.out("volume", "ls", "-f", "name=^tw", "--format", "{{.Name}}:{{.Driver}}") == "two:local"
    )
    assert lines(rl.out("volume", "ls"))[0].split() == ["DRIVER", "VOLUME", "NAME"]
    rl("create", "--name", "user", "-v", "one:/x", "busybox", "true")
    assert rl.out("volume", "ls", "-qf", "dangling=false") == "one"
    assert set(lines(rl.out("volume", "ls", "-qf", "dangling=true"))) == {"two", anonymous}
    user = rl.out("inspect", "-f", "{{.Id}}", "user")
    done = rl("volume", "rm", "two", "one", "nope", code=1)
    assert done.stdout == "two\n"
    assert f"remove one: volume is in use - [{user}]" in done.stderr
    assert "no such volume: nope" in done.stderr
    assert rl.out("volume", "rm", "-f", "nope") == "nope"
    assert (
        "conflict"
        in rl("volume", "create", "-o", "type=tmpfs", "-o", "device=t", "one", code=1).stderr
    )
    assert rl("volume", "inspect", "nope", code=1).stdout == "[]\n"
    assert json.loads(rl.out("inspect", "--type", "volume", "one"))[0]["Name"] == "one"
    assert rl.out("volume", "prune", "-f", "--filter", "label!=a") != ""
    rl("rm", "user")
    rl("volume", "prune", "-af", "--filter", "label=b")
    assert names(rl) == ["one"]
    assert "one" in rl.out("volume", "prune", "-af")


@pytest.mark.parametrize("name", ["a/b", "a", "-x", ".hidden", "a b", "x" * 256, ""])
def test_bad_names(rl: World, name: str) -> None:
    done = rl("volume", "create", "--", name, check=False)
    assert done.returncode == 1, done.stderr
    assert names(rl) == []


def test_backup_and_restore(rl: World) -> None:
    sh(
        rl,
        ["data:/v"],
        "echo x > /v/f; chown 5:6 /v/f; ln -s f /v/l; mkdir /v/d; chmod 750 /v; chown 9 /v",
    )
    archive = f"{rl.home}/data.tar"
    rl("volume", "export", "-o", archive, "data")
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar}
    assert (members["f"].uid, members["f"].gid) == (5, 6)
    rl("volume", "create", "copy")
    rl("volume", "import", "copy", archive)
    look = "cd /v; stat -c '%n %u:%g %a' . f l d"
    assert sh(rl, ["copy:/v"], look) == sh(rl, ["data:/v"], look)
    sh(rl, ["copy:/v"], "echo other > /v/f; echo mine > /v/mine")
    with open(archive, "rb") as file:
        piped = subprocess.run(
            [*rl.argv, "volume", "import", "copy", "-"],
            env=rl.env,
            stdin=file,
            check=False,
            timeout=60,
        )
    assert piped.returncode == 0
    assert sh(rl, ["copy:/v"], "cat /v/f /v/mine") == "x\nmine"
    assert rl("volume", "import", "nope", archive, code=1).stderr.strip().endswith("nope")


def test_owners_recorded_in_single_id_mode_come_and_go(rl: World) -> None:
    single = {"ROOTLESS_IDMAP_MODE": "single"}
    script = "echo x > /v/f; chown 5:6 /v/f"
    rl("run", "--rm", "-v", "one:/v", "busybox", "sh", "-c", script, env=single)
    archive = f"{rl.home}/one.tar"
    for name in ("one", "two"):
        rl("volume", "export", "-o", archive, name, env=single)
        with tarfile.open(archive) as tar:
            assert (tar.getmember("f").uid, tar.getmember("f").gid) == (5, 6)
        rl("volume", "create", "two")
        rl("volume", "import", "two", archive, env=single)
    rl("volume", "create", "three")
    rl("volume", "import", "three", archive)
    assert sh(rl, ["three:/v"], "stat -c %u:%g /v/f") == "5:6"


def test_a_damaged_archive_changes_nothing(rl: World) -> None:
    sh(rl, ["data:/v"], "echo old > /v/f")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("f")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"new\n"))
    broken = f"{rl.home}/broken.tar"
    with open(broken, "wb") as file:
        file.write(buffer.getvalue()[:1024] + b"garbage" * 100)
    done = rl("volume", "import", "data", broken, check=False)
    assert done.returncode == 1 and "cannot import into volume data" in done.stderr
    assert sh(rl, ["data:/v"], "cat /v/f; ls -A /v") == "old\nf"


def test_cp_reaches_a_volume_of_a_stopped_container(rl: World) -> None:
    rl("create", "--name", "box", "-v", "data:/v", "busybox", "true")
    source = f"{rl.home}/file"
    with open(source, "w") as file:
        file.write("in\n")
    rl("cp", source, "box:/v/file")
    assert sh(rl, ["data:/v"], "cat /v/file") == "in"
    rl("cp", "box:/v/file", f"{rl.home}/back")
    with open(f"{rl.home}/back") as back:
        assert back.read() == "in\n"


# what is shown


def test_inspect_and_ps(rl: World) -> None:
    rl(
        *("create", "--name", "box", "-v", "data:/v:ro", "-v", "/anon"),
        *("--mount", "src=other,dst=/o,volume-nocopy", "--mount", "type=tmpfs,dst=/t"),
        *("busybox", "true"),
    )
    (found,) = json.loads(rl.out("container", "inspect", "box"))
    mounts = {mount["Destination"]: mount for mount in found["Mounts"]}
    assert mounts["/v"] == {
        "Type": "volume",
        "Name": "data",
        "Source": f"{store(rl)}/data/_data",
        "Destination": "/v",
        "Driver": "local",
        "Mode": "ro",
        "RW": False,
        "Propagation": "",
    }
    assert found["HostConfig"]["Binds"] == ["data:/v:ro"]
    assert [m["Target"] for m in found["HostConfig"]["Mounts"]] == ["/o", "/t"]
    assert found["HostConfig"]["Mounts"][0]["VolumeOptions"] == {"NoCopy": True}
    assert found["Config"]["Volumes"] == {"/anon": {}}
    shown = rl.out("ps", "-a", "--format", "{{.LocalVolumes}} {{.Mounts}}")
    assert shown.startswith("3 data,") and "other" in shown
    assert rl.out("ps", "-aq", "--filter", "volume=data") == rl.out("ps", "-aq")
    assert rl.out("ps", "-aq", "--filter", "volume=/v") != ""
    assert rl.out("ps", "-aq", "--filter", "volume=nope") == ""


COUNT = """
import os, stat, sys
seen, total = set(), 0
for top in sys.argv[1:]:
    for where, dirs, files in os.walk(top):
        for name in dirs + files:
            info = os.lstat(os.path.join(where, name))
            if stat.S_ISREG(info.st_mode) and (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                total += info.st_size
print(total)
"""


def test_system_df_counts_what_is_there(rl: World) -> None:
    sh(rl, ["data:/v"], "dd if=/dev/zero of=/v/f bs=1000 count=300 2>/dev/null; ln /v/f /v/g")
    rl("volume", "create", "idle")
    # Layers of ID maps go: the sizes of their files say nothing of what they hold.
    rl("image", "prune", "-f")
    rl("run", "--name", "box", "-v", "data:/v", "busybox", "sh", "-c", "echo hello > /written")
    rl("commit", "box", "derived")

    def count(*paths: str) -> int:
        root = f"{rl.home}/.local/share/rootless"
        words = ["python3", "-c", COUNT, *(f"{root}/{path}" for path in paths)]
        return int(rl.out("unshare", *words))

    rows = {
        row["Type"]: row
        for row in map(json.loads, lines(rl.out("system", "df", "--format", "json")))
    }
    assert rows["Images"]["TotalCount"] == "2" and rows["Images"]["Active"] == "1"
    assert rows["Containers"]["TotalCount"] == "1" and rows["Containers"]["Active"] == "0"
    assert rows["Local Volumes"]["TotalCount"] == "2" and rows["Local Volumes"]["Active"] == "1"
    assert rows["Local Volumes"]["Size"] == "300kB"
    exact = rl.out(
        *("system", "df", "-v", "--format"),
        "{{range .Volumes}}{{.Name}} {{.Links}} {{.Size}};{{end}}{{range .Images}}{{.Repository}} "
        "{{.SharedSize}};{{end}}",
    )
    assert "data 1 300kB;idle 0 0B;" in exact
    shared = [
        part.split()[1]
        for part in exact.split(";")
        if part.split()[:1] in (["busybox"], ["derived"])
    ]
    assert len(shared) == 2 and shared[0] == shared[1] != "0B"
    from rootless.cli import units

    assert rows["Images"]["Size"] == units.human_size(count("images", "layers"))
    assert rows["Containers"]["Size"] == units.human_size(count("containers"))
    assert rows["Containers"]["Reclaimable"] == f"{rows['Containers']['Size']} (100%)"
    assert "Local Volumes space usage:" in rl.out("system", "df", "-v")
    rl("rm", "box")
    rl("rmi", "derived")


def test_prune_of_everything_takes_anonymous_volumes_only_if_asked(rl: World) -> None:
    rl("run", "--name", "box", "-v", "/anon", "-v", "named:/n", "busybox", "true")
    rl("tag", "busybox", "again")
    rl("system", "prune", "-f")
    assert len(names(rl)) == 2
    assert "Deleted Volumes" in rl.out("system", "prune", "-f", "--volumes")
    assert names(rl) == ["named"]
    rl("rmi", "again")
