"""What builds keep: listed, pruned by filters and size, shared by builds at once, whole after kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildrig import build, cached, image, shell
from rig import World, busybox
from webrig import Web

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    try:
        busybox(made)
        yield made
    finally:
        made.close()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    try:
        yield made
    finally:
        made.close()


def listed(world: World, *words: str) -> list[dict[str, str]]:
    out = world.out("builder", "du", "--format", "json", *words)
    return [json.loads(line) for line in out.split("\n") if line]


def test_listing_and_pruning(world: World, ctx: Path, web: Web) -> None:
    web.files["/f"] = b"x" * 5000
    text = (
        "FROM busybox\nRUN --mount=type=cache,target=/c head -c 3000 /dev/zero > /c/x; echo alone > /alone\n"
        f"FROM busybox\nADD {web.url}/f /f\nRUN echo second; head -c 100000 /dev/zero > /z\n"
    )
    image(world, ctx, text, "-t", "kept", "--target=0")
    image(world, ctx, text, "-t", "kept2")
    found = listed(world)
    assert sorted(one["Type"] for one in found) == [
        "exec.cachemount",
        *["regular"] * 3,
        "source.http",
    ]
    assert {one["Shared"] for one in found if one["Type"] == "regular"} == {"true"}
    assert [one["Description"] for one in listed(world, "--filter", "type=source.http")] == [
        f"{web.url}/f"
    ]
    assert len(listed(world, "--filter", "description=second")) == 1
    assert listed(world, "--filter", "until=1h") == []
    plain = world.out("buildx", "du")
    assert plain.startswith("ID")
    assert "Total:" in plain
    verbose = world.out("builder", "du", "--verbose", "--filter", "description=second")
    assert "Description:  RUN echo second" in verbose or "RUN echo second" in verbose
    assert "Shared:      true" in verbose
    # An image has them: nothing goes without --all, nor what was just used with until.
    assert "Deleted" not in world.out("builder", "prune", "-f")
    assert "Deleted" not in world.out("builder", "prune", "-af", "--filter", "until=1h")
    world("builder", "prune", "-af", "--filter", "type=exec.cachemount")
    assert [one["Type"] for one in listed(world, "--filter", "type=exec.cachemount")] == []
    world("rmi", "-f", "kept", "kept2")
    world("buildx", "prune", "-af", "--filter", "description=second")
    assert cached(build(world, ctx, text)) == [True, False]
    world("rmi", "-f", *world.out("images", "-aq").split(), check=False)
    busybox(world)
    world("builder", "prune", "-af", "--reserved-space", "1g")
    assert len(listed(world)) == 4
    world("builder", "prune", "-af", "--reserved-space", "1")
    assert listed(world) == []


def test_the_oldest_goes_first(world: World, ctx: Path) -> None:
    for name in ("a", "b"):
        text = f"FROM busybox\nRUN echo {name}; head -c 1000000 /dev/urandom > /{name}\n"
        build(world, ctx, text, "-t", name)
    world("rmi", "-f", "a", "b")
    steps = Path(world.home, ".local/share/rootless/cache/build/steps")
    for path in steps.iterdir():
        if "echo a;" in path.read_text(errors="replace"):
            os.utime(path, (1, 1))
    world("builder", "prune", "-af", "--keep-storage", "2500k")
    assert [one["Description"].split()[2] for one in listed(world)] == ["b;"]


def test_two_builds_at_once_share_work(world: World, ctx: Path) -> None:
    (ctx / "Dockerfile").write_text(
        "FROM busybox\nRUN head -c 16 /dev/urandom > /r; sleep 1\nRUN cat /r /r > /s; sleep 1\n"
    )
    words = [*world.argv, "build", "-q", str(ctx)]
    running = [subprocess.Popen(words, env=world.env, stdout=subprocess.PIPE) for _ in range(4)]
    ids = {one.communicate(timeout=120)[0] for one in running}
    assert [one.returncode for one in running] == [0] * 4
    assert len(ids) == 1


def test_builds_killed_at_any_moment_leave_what_is_right(world: World, ctx: Path, web: Web) -> None:
    chance = random.Random(6)
    (ctx / "f").write_text("file")
    web.files["/u"] = b"url" * 100_000
    text = f"FROM busybox AS a\nRUN echo one > /1\nADD {web.url}/u /u\nRUN cat /1 /1 > /2\n"
    text += "FROM busybox\nCOPY f /f\nCOPY --from=a /2 /u /\nRUN cat /2 /f > /3\n"
    for number in range(8):
        (ctx / "Dockerfile").write_text(f"{text}RUN echo {number} > /n\n")
        words = [*world.argv, "build", "-q", "-t", "killed", str(ctx)]
        one = subprocess.Popen(
            words, env=world.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.05, 1.2))
        os.kill(one.pid, signal.SIGKILL)
        one.wait()
        if number == 3:
            world("builder", "prune", "-f")
    made = image(world, ctx, text)
    assert shell(world, made, "cat /3; wc -c < /u") == "one\none\nfile300000"
    assert all(cached(build(world, ctx, text)))
    left = Path(world.home, ".local/share/rootless/build")
    assert [name for name in os.listdir(left) if not name.startswith(".")] == []
