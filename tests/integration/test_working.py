"""rootless working: images made by scripts, without a Dockerfile."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from buildrig import config, shell
from rig import World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


def test_an_image_from_a_script(world: World, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("copied")
    (tmp_path / "d" / "skipped.log").write_text("")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "d" / "f", "unpacked")
    c = world.out("working", "from", "busybox")
    assert c == "busybox-working"
    world("working", "config", "-w", "/srv", "-e", "WHO=you", "--user", "app", c)
    done = world(
        "working",
        "run",
        "--user",
        "root",
        c,
        "--",
        "sh",
        "-c",
        "mkdir -p /srv; echo $WHO > who; pwd",
    )
    assert done.stdout == "/srv\n"
    assert world.out("working", "run", c, "id", "-un") == "app"
    world(
        "working",
        "copy",
        "--chown",
        "app:2000",
        "--chmod",
        "u=rw,go=",
        "--exclude",
        "*.log",
        c,
        f"{tmp_path}/d",
        "there",
    )
    world("working", "copy", "--from", "busybox", c, "/etc/group", "/base-group")
    world("working", "add", c, f"{tmp_path}/a.tar", "/opt/")
    world("working", "copy", c, f"{tmp_path}/a.tar", cwd=str(tmp_path))
    words = (
        "--cmd",
        "cat who 'there/f'",
        "--entrypoint",
        '["env", "A=b"]',
        "--label",
        "k=v",
        "--port",
        "80",
        "--author",
        "me",
    )
    world(
        "working",
        "config",
        *words,
        "--env",
        "WHO-",
        "--stop-signal",
        "INT",
        "-c",
        "HEALTHCHECK NONE",
        c,
    )
    image = world.out("working", "commit", "-m", "said", c, "scripted:1")
    assert world.out("run", "--rm", "-u", "0", "scripted:1") == "you\ncopied"
    script = (
        "stat -c '%U %g %a' there/f; ls there; head -n1 /base-group; cat /opt/unpacked; "
        "ls a.tar; echo ${WHO-none}"
    )
    found = world.out("run", "--rm", "-u", "0", "--entrypoint", "sh", "scripted:1", "-c", script)
    assert found == "app 2000 600\nf\nroot:x:0:\ncopieda.tar\nnone"
    made = config(world, "scripted:1")
    assert (made["User"], made["WorkingDir"], made["StopSignal"]) == ("app", "/srv", "INT")
    assert made["Cmd"] == ["cat", "who", "there/f"]
    assert made["Labels"] == {"k": "v"}
    assert made["ExposedPorts"] == {"80/tcp": {}}
    (record,) = json.loads(world.out("image", "inspect", image))
    assert len(record["RootFS"]["Layers"]) == 2  # all of it is one layer
    assert record["Author"] == "me"
    # It goes on after the commit, and is none of those that are pruned.
    world("container", "prune", "-f")
    world("working", "run", "-u", "root", c, "rm", "/srv/who")
    world("working", "commit", "--rm", c, "scripted:2")
    assert shell_fails(world, "scripted:2", "cat /srv/who")
    assert c not in world.out("working", "ls")
    assert world.out("run", "--rm", "-u", "0", "scripted:1") == "you\ncopied"


def shell_fails(world: World, name: str, script: str) -> bool:
    done = world("run", "--rm", "--entrypoint", "sh", name, "-c", script, check=False)
    return done.returncode != 0


def test_mounted_it_is_a_directory_of_the_hosts(world: World) -> None:
    c = world.out("working", "from", "--name", "mm", "busybox")
    where = world.out("working", "mount", c)
    assert where == world.out("working", "mount", c)
    assert world.out("working", "mount") == f"{c} {where}"
    Path(where, "etc/mine").write_text("by the host's programs\n")
    subprocess.run(["mkdir", "-p", f"{where}/opt/x"], check=True)
    assert os.path.exists(f"{where}/bin/busybox")
    # One writable layer is mounted once.
    done = world("working", "run", c, "true", check=False)
    assert "it is mounted" in done.stderr
    assert "rootless working umount mm" in done.stderr
    assert world.out("working", "umount", c) == c
    assert not os.path.exists(where)
    assert world.out("working", "run", c, "cat", "/etc/mine") == "by the host's programs"
    image = world.out("working", "commit", c)
    assert shell(world, image, "ls -d /opt/x; stat -c %U /etc/mine") == "/opt/x\nroot"
    where = world.out("working", "mount", c)
    world("working", "rm", c)
    until(lambda: not os.path.exists(where))
    assert not [line for _, line in world.processes() if "libexec/realm" in line and where in line]


def test_whoever_removes_it_ends_its_mount(world: World) -> None:
    c = world.out("working", "from", "--name", "mounted", "busybox")
    where = world.out("working", "mount", c)
    holder = where.split("/")[2]
    assert os.path.exists(f"/proc/{holder}/root{world.top}")
    world("rm", "-f", c)
    until(lambda: not os.path.exists(f"/proc/{holder}"))


def test_from_nothing(world: World) -> None:
    c = world.out("working", "from", "scratch")
    assert c == "scratch-working"
    other = world.out("working", "from", "scratch")
    assert other == "scratch-working-1"
    world("working", "copy", "--from", "busybox", c, "/bin/busybox", "/bin/sh")
    assert world.out("working", "run", c, "/bin/sh", "-c", "echo hi") == "hi"
    world("working", "commit", c, "alone")
    assert shell(world, "alone", "echo ok") == "ok"
    assert shell(world, "alone", "echo /*") == "/bin /dev /etc /proc /sys"
    table = world.out("working", "ls").splitlines()
    assert table[0].split() == [
        "CONTAINER",
        "ID",
        "IMAGE",
        "ID",
        "IMAGE",
        "NAME",
        "CONTAINER",
        "NAME",
    ]
    assert [line.split()[2:] for line in table[1:]] == [["scratch", c], ["scratch", other]]
    assert len(world.out("working", "ls", "-q").split()) == 2
    world("working", "rm", "--all")
    assert world.out("working", "containers", "-n") == ""


def test_a_command_for_itself(world: World, tmp_path: Path) -> None:
    c = world.out("working", "from", "--name", "rr", "busybox")
    (tmp_path / "in").write_text("mounted")
    done = world(
        "working",
        "run",
        "-e",
        "X=1",
        "-v",
        f"{tmp_path}:/m:ro",
        "-w",
        "/tmp",
        c,
        "sh",
        "-c",
        "cat /m/in; echo $X; pwd; cat; exit 7",
        code=7,
        input="stdin\n",
    )
    assert done.stdout == "mounted1\n/tmp\nstdin\n"
    assert world.out("working", "run", "--network=none", c, "ls", "/sys/class/net") == "lo"
    assert "no-such" in world("working", "run", c, "no-such", code=127).stderr
    world("working", "run", c, "/etc/passwd", code=126)
    world("working", "rm", c)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("from", "--pull=never", "no/such"), "no such image"),
        (("from", "--pull=x", "busybox"), "invalid --pull"),
        (("from", "--name", "ordinary", "busybox"), "ordinary"),
        (("run", "ordinary", "true"), "it is not a working container"),
        (("run", "nobody", "true"), "no such container: nobody"),
        (("run", "ww", "--"), "no command"),
        (("run", "-v", "name:/x", "ww", "true"), "give a directory"),
        (("copy", "ww", "/no/such", "/x"), "ENOENT"),
        (("copy", "ww", "https://example.invalid/x", "/x"), "cannot fetch URLs"),
        (("copy", "--from=no/such", "ww", "/x", "/x"), "no such image"),
        (("copy", "--chown=whoever", "ww", "/etc/passwd", "/x"), "whoever"),
        (("config", "--env", "X", "ww"), "KEY=VALUE"),
        (("config", "--port", "x", "ww"), "invalid --port"),
        (("config", "--cmd", "['a']", "ww"), "no JSON array"),
        (("config", "--cmd", "a 'b", "ww"), "invalid --cmd"),
        (("config", "--stop-signal", "SIGNONE", "ww"), "SIGNONE"),
        (("config", "-c", "RUN true", "ww"), "RUN"),
        (("commit", "ww", "UPPER"), "UPPER"),
        (("rm",), "missing"),
        (("umount", "--all", "ww"), "at once"),
        (("mount", "nobody"), "no such container"),
    ],
)
def test_what_cannot_be(world: World, words: tuple[str, ...], why: str) -> None:
    if "ww" not in world.names():
        world("working", "from", "--name", "ww", "busybox")
        world("create", "--name", "ordinary", "busybox")
    done = world("working", *words, check=False)
    assert done.returncode in (1, 125)
    assert why in done.stderr


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (("--storage-driver", "fuse-overlayfs"), {}),
        (("--storage-driver", "fusepy"), {}),
        (("--storage-driver", "copy"), {}),
        ((), {"ROOTLESS_IDMAP_MODE": "single"}),
    ],
)
def test_on_the_other_rungs(words: tuple[str, ...], env: dict[str, str], tmp_path: Path) -> None:
    other = World()
    try:
        other.env.update(env)
        busybox(other)
        (tmp_path / "f").write_text("x")
        c = other.out(*words, "working", "from", "busybox")
        other(*words, "working", "copy", "--chown", "app:2000", c, f"{tmp_path}/f", "/d/f")
        other(*words, "working", "run", c, "sh", "-c", "cat /d/f > /ran; rm -r /home")
        if "fuse" in " ".join(words):
            done = other(*words, "working", "mount", c, check=False)
            assert "shows files only in the container's user namespace" in done.stderr
            other(*words, "working", "run", c, "cp", "/ran", "/mounted")
        else:
            where = other.out(*words, "working", "mount", c)
            Path(where, "mounted").write_text(Path(where, "ran").read_text())
            other(*words, "working", "umount", c)
        image = other.out(*words, "working", "commit", "--rm", c)
        script = "cat /ran /mounted; echo; ls /home 2>&1 || true"
        found = other.out(*words, "run", "--rm", image, "sh", "-c", script)
        assert found == "xx\nls: /home: No such file or directory"
        name = other.out(*words, "create", image)
        other(*words, "export", "-o", f"{tmp_path}/all.tar", name)
        other("rm", name)
        with tarfile.open(tmp_path / "all.tar") as tar:
            found_file = tar.getmember("d/f")
        assert (found_file.uid, found_file.gid) == (1000, 2000)
    finally:
        other.close()
