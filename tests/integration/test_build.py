"""rootless build on the real runtime: stages, cache, failure, progress, and what must never happen."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from buildrig import build, cached, config, image, shell, shell_of
from rig import World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


def test_an_image_is_what_its_dockerfile_says(world: World, ctx: Path) -> None:
    (ctx / "file").write_text("from the context")
    build(
        world,
        ctx,
        """FROM busybox AS first
ARG WHO=nobody
ENV GREETING="hello $WHO"
WORKDIR /srv/dir
COPY file .
RUN echo "$GREETING" > said; adduser -D me 2>/dev/null || true
USER app
WORKDIR mine
RUN id -un > who; pwd >> who
LABEL a=b
EXPOSE 80
STOPSIGNAL SIGINT
ENTRYPOINT ["cat"]
CMD ["who"]
""",
        *("-t", "made:1", "-t", "also", "--build-arg", "WHO=you", "--label", "c=d"),
    )
    assert world.out("run", "--rm", "made:1") == "app\n/srv/dir/mine"
    assert world.out("run", "--rm", "also", "/srv/dir/file", "/srv/dir/said") == (
        "from the contexthello you"
    )
    assert shell_of(world, "made:1", "stat -c %U /srv/dir/mine /srv/dir") == "app\nroot"
    found = config(world, "made:1")
    assert found["Labels"] == {"a": "b", "c": "d"}
    assert found["ExposedPorts"] == {"80/tcp": {}}
    assert (found["User"], found["WorkingDir"], found["StopSignal"]) == (
        "app",
        "/srv/dir/mine",
        "SIGINT",
    )
    assert "GREETING=hello you" in found["Env"]


def test_a_second_build_does_nothing_and_gives_the_same_image(world: World, ctx: Path) -> None:
    (ctx / "f").write_text("1")
    text = "FROM busybox\nWORKDIR /cache1\nCOPY f f\nRUN cat f > g\nLABEL x={}\n"
    first = image(world, ctx, text.format(1))
    os.utime(ctx / "f", (1, 1))
    assert image(world, ctx, text.format(1)) == first
    done = build(world, ctx, text.format(2))
    assert cached(done) == [True, True, True]
    (ctx / "f").write_text("2")
    done = build(world, ctx, text.format(2))
    assert cached(done) == [True, False, False]
    assert cached(build(world, ctx, text.format(2), "--no-cache")) == [False, False, False]
    assert cached(build(world, ctx, text.format(2))) == [True, True, True]


def test_layers_hold_what_changed_and_nothing_else(world: World, ctx: Path) -> None:
    text = (
        "FROM busybox\nRUN mkdir /a && touch /a/x /a/y\n"
        "RUN rm /a/x; rm -r /home; mkdir /home; touch /home/n\n"
    )
    made = image(world, ctx, text)
    assert shell(world, made, "ls -d /a/* /home/*") == "/a/y\n/home/n"
    assert shell(world, made, "ls -A /etc") == shell(world, "busybox", "ls -A /etc")
    (record,) = json.loads(world.out("image", "inspect", made))
    layers = record["RootFS"]["Layers"]
    assert len(layers) == 3
    # What was taken over from the build is what its blob holds.
    store = f"{world.home}/.local/share/rootless/layers"
    for name in layers[1:]:
        world("unshare", "rm", "-rf", *[str(p) for p in Path(store).glob(f"*/{name[7:]}")])
    assert shell(world, made, "ls -d /a/* /home/*") == "/a/y\n/home/n"


def test_a_step_that_changes_nothing_makes_no_layer(world: World, ctx: Path) -> None:
    made = image(world, ctx, "FROM busybox\nRUN true\nWORKDIR /\n")
    (record,) = json.loads(world.out("image", "inspect", made))
    assert len(record["RootFS"]["Layers"]) == 1


def test_a_failing_command_tells_and_names_the_last_good_step(world: World, ctx: Path) -> None:
    text = 'FROM busybox\nRUN echo kept > /state\nRUN echo "this is why"; exit 42\n'
    done = build(world, ctx, text, "-t", "never", code=1)
    assert "this is why" in done.stderr
    assert "exit code: 42" in done.stderr
    assert "   3 | >>> RUN echo" in done.stderr
    assert "Dockerfile:3:1" in done.stderr
    found = re.search(r"steps before it are image ([0-9a-f]{12})", done.stderr)
    assert found
    assert shell(world, found[1], "cat /state") == "kept"
    assert "never" not in world.out("images", "--format", "{{.Repository}}")
    quiet = world("build", "-q", str(ctx), code=1)
    assert "this is why" in quiet.stderr


def test_a_command_that_is_not_there(world: World, ctx: Path) -> None:
    done = build(world, ctx, 'FROM busybox\nRUN ["/no/such"]\n', code=1)
    assert "/no/such" in done.stderr


def test_stages(world: World, ctx: Path) -> None:
    text = """FROM busybox AS compile
RUN echo product > /out; chown app /out
FROM busybox AS unneeded
RUN exit 1
FROM compile AS more
RUN echo more >> /out
FROM scratch AS final
COPY --from=more /out /bin/
COPY --from=0 --chown=5 /out /zero
COPY --from=busybox /bin/busybox /bin/sh
"""
    made = image(world, ctx, text)
    assert shell(world, made, "read -r a < /bin/out; echo $a") == "product"
    name = world.out("create", made, "x")
    listing = subprocess.run(
        f"{' '.join(map(repr, world.argv))} export {name} | tar -tvf - --numeric-owner",
        shell=True, env=world.env, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    world("rm", name)
    assert re.search(r"1000/0 .* bin/out", listing)
    assert re.search(r"5/5 .* zero", listing)
    done = build(world, ctx, text, "--target", "unneeded", code=1)
    assert "exit code: 1" in done.stderr


def test_equal_steps_are_done_once(world: World, ctx: Path) -> None:
    count = "--mount=type=cache,id=once,target=/c echo x >> /c/log; sleep 0.3"
    text = (
        f"FROM busybox AS a\nRUN {count}\nFROM busybox AS b\nRUN {count}\n"
        "FROM scratch\nCOPY --from=a /etc /a\nCOPY --from=b /etc /b\n"
    )
    image(world, ctx, text)
    made = image(
        world, ctx, "FROM busybox\nRUN --mount=type=cache,id=once,target=/c cp /c/log /n\n"
    )
    assert shell(world, made, "cat /n") == "x"


def test_a_stage_that_comes_to_the_same_lets_the_next_be_cached(world: World, ctx: Path) -> None:
    text = (
        "FROM busybox AS a\nRUN : {}; echo same > /same; touch -d @1 /same\n"
        "FROM busybox\nCOPY --from=a /same /s\nRUN : s\n"
    )
    build(world, ctx, text.format(1))
    done = build(world, ctx, text.format(2))
    assert cached(done) == [False, True, True]


def test_thirty_stages_side_by_side(world: World, ctx: Path) -> None:
    stages = "".join(f"FROM busybox AS s{n}\nRUN echo {n} > /f\n" for n in range(30))
    copies = "".join(f"COPY --from=s{n} /f /f{n}\n" for n in range(30))
    text = f"{stages}FROM busybox\n{copies}"
    made = image(world, ctx, text)
    assert shell(world, made, "cat /f0 /f17 /f29") == "0\n17\n29"
    assert image(world, ctx, text) == made
    build_dirs = f"{world.home}/.local/share/rootless/build"
    before = os.stat(build_dirs).st_mtime_ns
    assert image(world, ctx, text) == made
    assert os.stat(build_dirs).st_mtime_ns == before  # nothing was mounted to find that


def test_two_builds_at_once_share_their_work(world: World, ctx: Path) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,id=two,target=/c echo x >> /c/log; sleep 1; cp /c/log /n\n"
    (ctx / "Dockerfile").write_text(text)
    runs = [
        world.spawn("build", "-q", str(ctx), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(3)
    ]
    ids = {run.communicate(timeout=60)[0] for run in runs}
    assert len(ids) == 1
    assert shell(world, ids.pop().decode().strip(), "cat /n") == "x"


def test_triggers_run_in_what_is_built_on_the_image(world: World, ctx: Path) -> None:
    (ctx / "app").write_text("code")
    build(
        world, ctx, "FROM busybox\nONBUILD COPY app /app\nONBUILD RUN cp /app /app2\n", "-t", "on:1"
    )
    made = image(world, ctx, "FROM on:1\nRUN cat /app2 > /done\n")
    assert shell(world, made, "cat /done") == "code"
    assert not config(world, made).get("OnBuild")


@pytest.mark.parametrize("driver", ["fuse-overlayfs", "fusepy", "copy"])
def test_other_storage_drivers_build_the_same(world: World, ctx: Path, driver: str) -> None:
    (ctx / "f").write_text("x")
    text = (
        "FROM busybox AS a\nCOPY --chown=app f /d/\nRUN rm -r /home; echo y > /d/y; chmod 600 /d/f\n"
        "FROM busybox\nCOPY --from=a /d /e\nRUN cat /e/f /e/y > /z\n"
    )
    (ctx / "Dockerfile").write_text(text)
    made = world.out("--storage-driver", driver, "build", "-q", "--no-cache", str(ctx))
    assert shell(world, made, "cat /z; stat -c '%U %a' /e/f") == "xy\napp 600"
    target = world.out("--storage-driver", driver, "build", "-q", "--target", "a", str(ctx))
    assert (
        shell(world, target, "ls /home 2>&1; ls /d") == "ls: /home: No such file or directory\nf\ny"
    )


def test_the_same_input_gives_the_same_image_elsewhere_and_with_one_id(ctx: Path) -> None:
    (ctx / "f").write_text("x")
    (ctx / "Dockerfile").write_text(
        "FROM busybox\nWORKDIR /w\nCOPY --chown=app:2000 f .\n"
        "RUN mkdir d; echo 1 > d/1; chown app d\nLABEL a=b\n"
    )
    ids = []
    for extra in ({}, {}, {"ROOTLESS_IDMAP_MODE": "single"}):
        other = World()
        try:
            other.env.update(extra)
            busybox(other)
            env = {"SOURCE_DATE_EPOCH": "1700000000"}
            ids.append(other.out("build", "-q", str(ctx), env=env))
            (record,) = json.loads(other.out("image", "inspect", ids[-1]))
            assert record["Created"] == "2023-11-14T22:13:20Z"
            if not extra:  # with one ID owners are only recorded
                shown = other.out("run", "--rm", ids[-1], "stat", "-c", "%U", "f", "d")
                assert shown == "app\napp"
        finally:
            other.close()
    assert len(set(ids)) == 1


def test_a_killed_build_loses_only_what_ran(world: World, ctx: Path) -> None:
    text = "FROM busybox\nRUN echo kill1 > /1\nRUN echo kill2 > /2\nRUN echo started; sleep 300\n"
    (ctx / "Dockerfile").write_text(text)
    running = world.spawn(
        "build", "--progress=plain", "-t", "halfmade", str(ctx), stderr=subprocess.PIPE
    )
    assert running.stderr is not None
    for line in running.stderr:
        if b"started" in line and b"RUN" not in line:
            break
    steps = Path(world.home, ".local/share/rootless/cache/build/steps")
    until(lambda: sum("kill2" in p.read_text() for p in steps.iterdir() if len(p.name) == 64))
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    running.stderr.close()
    until(lambda: not any("sleep 300" in line for _, line in _everybody()))
    done = build(world, ctx, text.replace("started; sleep 300", "over"))
    assert cached(done) == [True, True, False]
    assert "halfmade" not in world.out("images", "--format", "{{.Repository}}")
    left = os.listdir(f"{world.home}/.local/share/rootless/build")
    assert left == []


def _everybody() -> list[tuple[int, str]]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = (
                Path("/proc", name, "cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode("utf-8", "replace")
            )
        except OSError:
            continue
        found.append((int(name), line))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_ends_at_once(world: World, ctx: Path, number: int) -> None:
    text = f"FROM busybox AS a\nRUN echo go{number}; sleep 301\nFROM busybox\nCOPY --from=a /x /x\n"
    (ctx / "Dockerfile").write_text(text)
    running = world.spawn("build", "--progress=plain", str(ctx), stderr=subprocess.PIPE)
    assert running.stderr is not None
    for line in running.stderr:
        if f"go{number}".encode() in line and b"RUN" not in line:
            break
    running.send_signal(number)
    assert running.wait(timeout=30) != 0
    running.stderr.close()
    until(lambda: not any("sleep 301" in line for _, line in _everybody()))


def test_a_failing_stage_ends_the_others(world: World, ctx: Path) -> None:
    text = (
        "FROM busybox AS slow\nRUN sleep 302\nFROM busybox AS bad\nRUN sleep 0.5; exit 9\n"
        "FROM scratch\nCOPY --from=slow /etc /a\nCOPY --from=bad /etc /b\n"
    )
    done = build(world, ctx, text, code=1)
    assert "exit code: 9" in done.stderr
    until(lambda: not any("sleep 302" in line for _, line in _everybody()))


def test_progress_and_what_is_printed(world: World, ctx: Path) -> None:
    iid = ctx / "iid"
    text = "FROM busybox\nRUN echo progress$((1 + 1)); printf partial\n"
    done = build(world, ctx, text, "--iidfile", str(iid))
    assert re.search(r"^#2 \[2/2\] RUN echo", done.stderr, re.M)
    assert re.search(r"^#2 \d+\.\d{3} progress2$", done.stderr, re.M)
    assert re.search(r"^#2 \d+\.\d{3} partial$", done.stderr, re.M)
    assert re.search(r"^#2 DONE \d+\.\ds$", done.stderr, re.M)
    assert done.stdout == ""
    quiet = world("build", "-q", str(ctx))
    assert quiet.stdout == f"{iid.read_text()}\n"
    assert quiet.stderr == ""
    raw = world("build", "--no-cache", "--progress=rawjson", str(ctx))
    events = [json.loads(line) for line in raw.stderr.splitlines()]
    assert any("progress2" in _decoded(one) for event in events for one in event.get("logs", ()))
    assert any(one.get("completed") for event in events for one in event.get("vertexes", ()))
    tty = world("build", "--progress=tty", str(ctx))
    assert "[+] Building" in tty.stderr
    assert "CACHED [2/2] RUN echo" in tty.stderr


def _decoded(entry: dict[str, Any]) -> str:
    import base64

    return base64.b64decode(entry["data"]).decode()


def test_looking_without_building(world: World, ctx: Path) -> None:
    text = "# a about it\nFROM busybox AS a\nARG V=1\nCMD echo\n"
    done = build(world, ctx, text, "--check", code=1)
    assert "WARNING: JSONArgsRecommended\n" in done.stdout
    assert "1 warning has been found" in done.stdout
    assert "a (default)   about it" in build(world, ctx, text, "--call=targets").stdout
    assert re.search(r"V\s+1", build(world, ctx, text, "--call=outline").stdout)
    done = build(world, ctx, text.replace("CMD echo", 'CMD ["echo"]'), "--check")
    assert done.stdout == "Check complete, no warnings found.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--platform=windows/amd64"], "cannot build for windows/amd64"),
        (["--target=nope"], "target stage 'nope' could not be found"),
        (["--secret=id=x,src=/no/such"], "cannot read secret x: ENOENT"),
        (["--secret=src=/x"], "it needs an id"),
        (["--progress=foo"], "invalid --progress 'foo'"),
        (["-t", "UPPER"], "UPPER"),
        (["-f", "/no/such"], "cannot read Dockerfile"),
        (["--output=type=x"], "is none of"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_done(
    world: World, ctx: Path, words: list[str], message: str
) -> None:
    done = build(world, ctx, "FROM busybox\n", *words, check=False)
    assert done.returncode in (1, 125)
    assert message in done.stderr


def test_a_dockerfile_from_stdin(world: World) -> None:
    made = world.out("build", "-q", "-", input="FROM busybox\nRUN echo stdin > /x\n")
    assert shell(world, made, "cat /x") == "stdin"
    done = world("build", "-", input="FROM busybox\nCOPY a /b\n", code=1)
    assert "there is none" in done.stderr


def test_networks_of_a_run(world: World, ctx: Path) -> None:
    links = "ls /sys/class/net | tr '\\n' ' ' > /n"
    made = image(world, ctx, f"FROM busybox\nRUN --network=none {links}\n")
    assert shell(world, made, "cat /n").split() == ["lo"]
    made = image(world, ctx, f"FROM busybox\nRUN --network=default {links}\n", "--network=bridge")
    assert "eth0" in shell(world, made, "cat /n")


def test_pruning(ctx: Path) -> None:
    other = World()
    try:
        busybox(other)
        text = (
            "FROM busybox AS a\nRUN echo prune > /a\nFROM busybox\n"
            "RUN --mount=type=cache,target=/c echo kept > /k; touch /c/x\n"
        )
        (ctx / "Dockerfile").write_text(text)
        other("build", "--target", "a", str(ctx))
        other("build", "-t", "kept", str(ctx))
        other("rmi", "-f", *other.out("images", "-q", "-f", "dangling=true").split())
        assert cached(other("build", "--progress=plain", "--target", "a", str(ctx))) == [True]
        other("rmi", "-f", *other.out("images", "-q", "-f", "dangling=true").split())
        done = other("builder", "prune", "-f")
        assert "Deleted build cache objects" in done.stdout
        assert cached(other("build", "--progress=plain", str(ctx))) == [True]
        assert cached(other("build", "--progress=plain", "--target", "a", str(ctx))) == [False]
        assert cached(other("build", "--progress=plain", str(ctx))) == [True]
        other("system", "prune", "-f")
        assert cached(other("build", "--progress=plain", str(ctx))) == [True]
        other("builder", "prune", "-a", "-f")
        cache = Path(other.home, ".local/share/rootless/build-cache")
        assert [name for name in os.listdir(cache) if not name.endswith(".lock")] == []
        assert other.out("run", "--rm", "kept", "cat", "/k") == "kept"
        assert cached(other("build", "--progress=plain", str(ctx))) == [False]
    finally:
        other.close()
