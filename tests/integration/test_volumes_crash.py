"""Volumes and kill -9: at each step nothing half-made is visible; races of creation and removal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from rig import TOP, World, busybox, lines, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        for name in lines(world.out("volume", "ls", "-q")):
            world("volume", "rm", name, check=False)
        world.close()


def volumes_dir(rl: World) -> str:
    return f"{rl.home}/.local/share/rootless/volumes"


def names(rl: World) -> list[str]:
    return [line for line in lines(rl.out("volume", "ls", "-q")) if line]


def left(rl: World) -> list[str]:
    return [name for name in os.listdir(volumes_dir(rl)) if name[0] == "."]


# Runs the command line after replacing a function by one that kills the process: "module:attribute:number".
KILLED = """
import os, signal, sys
sys.path[:0] = [{top!r}]
sys.path += [{site!r}]
where, attribute, after = sys.argv.pop(1).split(":")
module = __import__(where, fromlist=["x"])
owner, _, name = attribute.rpartition(".")
target = getattr(module, owner) if owner else module
real, count = getattr(target, name), int(after)
def fatal(*args, **named):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **named)
setattr(target, name, fatal)
from rootless.__main__ import script
script()
"""


def killed(rl: World, where: str, *words: str) -> None:
    """Run a command that is killed at its Nth call of a function."""
    from rig import SITE

    code = KILLED.format(top=TOP, site=SITE)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, where, *words],
        env=rl.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done


@pytest.mark.parametrize("step", range(4))
def test_a_killed_create_is_not_seen(rl: World, step: int) -> None:
    places = (
        "rootless.store.files:write:0",
        "rootless.store.files:sync_dir:0",
        "os:rename:0",
        "os:fsync:0",
    )
    killed(rl, places[step], "volume", "create", "victim")
    assert names(rl) == []
    assert rl.out("volume", "create", "victim") == "victim"
    rl("volume", "prune", "-af")
    assert left(rl) == []


@pytest.mark.parametrize(
    "place",
    [
        "rootless.engine.context:Context.remove_trees:0",
        "rootless.store.volumes:VolumeStore.trash:0",
    ],
)
def test_a_killed_removal_is_whole_or_none(rl: World, place: str) -> None:
    rl("run", "--rm", "-v", "victim:/etc", "busybox", "true")
    killed(rl, place, "volume", "rm", "victim")
    if place.endswith("trash:0"):
        assert rl.out("run", "--rm", "-v", "victim:/x", "busybox", "ls", "/x/passwd") == "/x/passwd"
        rl("volume", "rm", "victim")
    assert names(rl) == []
    rl("volume", "prune", "-f")
    assert left(rl) == []


@pytest.mark.parametrize(
    "place",
    [
        "rootless.engine.rootfs:run_with_root:0",
        "rootless.store.claims:Claims.claim_random:0",
        "rootless.store.worker:result:0",
        "os:rename:2",
    ],
)
def test_a_killed_create_of_a_container_leaves_nothing(rl: World, place: str) -> None:
    killed(rl, place, "create", "-v", "victim:/etc", "-v", "/anon", "busybox", "true")
    until(lambda: not workers(rl))
    assert rl.names() == []
    rl("create", "--name", "later", "busybox", "true")
    rl("rm", "later")  # a removal sweeps
    assert names(rl) == []
    assert left(rl) == []
    got = rl.out("run", "--rm", "-v", "victim:/etc", "busybox", "ls", "/etc/passwd")
    assert got == "/etc/passwd"
    rl("volume", "rm", "victim")


def workers(rl: World) -> list[str]:
    return [line for _, line in rl.processes() if "volumeworker.py" in line]


def until_started(rl: World, process: subprocess.Popen[bytes]) -> None:
    until(lambda: workers(rl) or process.poll() is not None)


def big(rl: World) -> None:
    """A volume whose content takes a while."""
    script = "mkdir /v/d; i=0; while [ $i -lt 3000 ]; do echo $i > /v/d/$i; i=$((i+1)); done"
    rl("run", "--rm", "-v", "source:/v", "busybox", "sh", "-c", script)


@pytest.fixture(scope="module")
def archive(rl: World) -> str:
    big(rl)
    path = f"{rl.home}/big.tar"
    rl("volume", "export", "-o", path, "source")
    return path


def test_a_killed_import_changes_nothing_or_all(rl: World, archive: str) -> None:
    wanted = 3000
    partial = set()
    for attempt in range(12):
        rl("run", "--rm", "-v", "victim:/v", "busybox", "sh", "-c", "mkdir /v/d; echo old > /v/d/0")
        process = rl.spawn("volume", "import", "victim", archive)
        until_started(rl, process)
        time.sleep(0.02 * attempt)
        for pid, line in rl.processes():
            if "volumeworker.py" in line:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        process.wait(30)
        # The next start puts in place what was whole.
        look = "ls /v/d | wc -l; cat /v/d/0"
        got = rl.out("run", "--rm", "-v", "victim:/v", "busybox", "sh", "-c", look).split()
        assert got in (["1", "old"], [str(wanted), "0"]), (attempt, got)
        partial.add(got[0])
        rl("volume", "prune", "-f")
        inside = os.listdir(f"{volumes_dir(rl)}/victim")
        assert sorted(inside) == ["_data", "lock", "volume.json"], inside
        rl("volume", "rm", "victim")
    assert "1" in partial, "no import was killed in time"


def test_what_a_killed_fill_had_ready_is_put_in_place(rl: World) -> None:
    """Killed between the suffix's going and the last entry's move: the state is made by hand."""
    rl("run", "--rm", "-v", "victim:/etc", "busybox", "true")
    directory = f"{volumes_dir(rl)}/victim"
    rl(
        "unshare",
        "sh",
        "-c",
        f"mkdir {directory}/fill && mv {directory}/_data/passwd {directory}/fill/",
    )
    rl("create", "--name", "user", "-v", "victim:/x", "busybox", "ls", "/x/passwd", "/x/group")
    assert lines(rl.out("start", "-a", "user")) == ["/x/group", "/x/passwd"]
    assert not os.path.lexists(f"{directory}/fill")
    rl("rm", "user")
    rl("volume", "rm", "victim")


@pytest.mark.parametrize("verb", ["create", "run"])
def test_creating_a_user_and_removing_the_volume_at_once(rl: World, verb: str) -> None:
    """Either the removal wins, and the container gets a new volume, or the container does."""
    for attempt in range(6):
        rl("run", "--rm", "-v", "raced:/v", "busybox", "touch", "/v/old")
        words = [verb, *(["--rm"] if verb == "run" else []), "--name", f"racer{attempt}"]
        racers = [
            rl.spawn(*words, "-v", "raced:/v", "busybox", "ls", "-A", "/v", stdout=subprocess.PIPE),
            *(
                rl.spawn("volume", "rm", "raced", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for _ in range(3)
            ),
        ]
        output, _ = racers[0].communicate(timeout=60)
        removed = 0
        for racer in racers[1:]:
            racer.communicate(timeout=60)
            removed += racer.returncode == 0
        assert racers[0].returncode == 0
        if verb == "create":
            (found,) = json.loads(rl.out("inspect", "-f", "{{json .Mounts}}", f"racer{attempt}"))
            assert os.path.isdir(found["Source"]), "its volume is there"
            rl("start", f"racer{attempt}")
            rl("rm", "-f", f"racer{attempt}")
        else:
            assert (b"old" in output) or removed
        rl("volume", "rm", "-f", "raced")
    assert left(rl) == []


def test_many_containers_share_a_new_volume(rl: World) -> None:
    racers = [
        rl.spawn("run", "--rm", "-v", "shared:/etc", "busybox", "cat", "/etc/passwd", stdout=-1)
        for _ in range(6)
    ]
    outputs = {racer.communicate(timeout=60)[0] for racer in racers}
    assert len(outputs) == 1
    assert b"root" in outputs.pop()
    rl("volume", "rm", "shared")
    assert left(rl) == []


def test_a_monitor_killed_before_it_could_clear_away(rl: World) -> None:
    before = names(rl)
    rl("run", "-d", "--rm", "--name", "gone", "-v", "/anon", "busybox", "sleep", "1000")
    assert len(names(rl)) == len(before) + 1
    state = f"{rl.home}/.local/share/rootless/containers"
    (container,) = os.listdir(state)
    for pid, line in rl.processes():
        if "monitor" in line and container in line:
            os.kill(pid, signal.SIGKILL)
    until(lambda: rl.out("inspect", "-f", "{{.State.Running}}", "gone") == "false")
    rl("rm", "gone")
    assert names(rl) == before
