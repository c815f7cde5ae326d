"""rootless build on the real runtime: instructions, cache, failure, and what must never happen."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import Done, World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    try:
        busybox(made)
        yield made
    finally:
        made.close()


@pytest.fixture
def ctx(tmp_path: Path) -> Path:
    return tmp_path


def build(world: World, ctx: Path, text: str, *words: str, **options: Any) -> Done[str]:
    (ctx / "Dockerfile").write_text(text)
    return world("build", "--progress=plain", *words, str(ctx), **options)


def image(world: World, ctx: Path, text: str, *words: str, **options: Any) -> str:
    """The ID of the image that TEXT comes to."""
    (ctx / "Dockerfile").write_text(text)
    return world.out("build", "-q", *words, str(ctx), **options)


def config(world: World, name: str) -> dict[str, Any]:
    (found,) = json.loads(world.out("image", "inspect", name))
    return dict(found["Config"])


def shell(world: World, image_id: str, script: str) -> str:
    return world.out("run", "--rm", "--network=none", image_id, "sh", "-c", script)


def cached(done: Done[str]) -> list[bool]:
    """Of each step (not FROM, not the export): whether it came from the cache."""
    numbers = re.findall(r"^#(\d+) \[.*?\] (?:RUN|COPY|ADD|WORKDIR|copy)", done.stderr, re.M)
    return [f"#{number} CACHED" in done.stderr for number in numbers]


def test_an_image_is_what_its_dockerfile_says(world: World, ctx: Path) -> None:
    (ctx / "file").write_text("from the context")
    build(
        world,
        ctx,
        """FROM busybox AS first
ARG WHO=nobody
ENV GREETING="hello $WHO"
WORKDIR /work/dir
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
    assert world.out("run", "--rm", "made:1") == "app\n/work/dir/mine"
    assert world.out("run", "--rm", "also", "/work/dir/file", "/work/dir/said") == (
        "from the contexthello you"
    )
    assert shell_of(world, "made:1", "stat -c %U /work/dir/mine /work/dir") == "app\nroot"
    found = config(world, "made:1")
    assert found["Labels"] == {"a": "b", "c": "d"}
    assert found["ExposedPorts"] == {"80/tcp": {}}
    assert (found["User"], found["WorkingDir"], found["StopSignal"]) == (
        "app",
        "/work/dir/mine",
        "SIGINT",
    )
    assert "GREETING=hello you" in found["Env"]


def shell_of(world: World, name: str, script: str) -> str:
    return world.out("run", "--rm", "--entrypoint", "sh", name, "-c", script)


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


def test_what_is_mounted_leaves_no_trace(world: World, ctx: Path) -> None:
    (ctx / "s").write_text("secret")
    text = (
        "FROM busybox AS b\nFROM scratch\nCOPY --from=busybox /bin/busybox /bin/\n"
        "RUN --mount=type=secret,id=s --mount=type=cache,target=/var/cache/deep "
        '--mount=type=tmpfs,target=/t ["/bin/busybox", "true"]\n'
    )
    made = image(world, ctx, text, "--secret", f"id=s,src={ctx}/s")
    name = world.out("create", made, "/bin/busybox")
    listing = subprocess.run(
        [*world.argv, "export", name], env=world.env, capture_output=True, check=True
    ).stdout
    world("rm", name)
    for path in (b"run", b"var", b"etc", b"secrets", b"cache"):
        assert b"\0" + path + b"/" not in listing, path


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


def test_copying(world: World, ctx: Path) -> None:
    for path in ("d/e/f.txt", "d/e/g.log", "d/h.txt", "top.txt"):
        (ctx / path).parent.mkdir(parents=True, exist_ok=True)
        (ctx / path).write_text(path)
    (ctx / "d" / "link").symlink_to("h.txt")
    (ctx / "d" / "h.txt").chmod(0o640)
    os.mkfifo(ctx / "d" / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(ctx / "d" / "sock"))
    made = image(
        world,
        ctx,
        """FROM busybox
COPY d /copied
COPY --chown=app:2000 --chmod=u=rwX,go=rX d /owned/
COPY --chown=77 top.txt /seven
COPY --exclude=**/*.log --exclude=fifo d /without
COPY --parents d/./e/*.txt top.txt /parents/
COPY *.txt d/e/f.t?t /wild/
COPY d/link /followed
COPY --link top.txt /bin/linked/
COPY --chmod=4755 <<-one <<"two" /in/
	x $PATH
	one
$PATH
two
COPY top.txt /tmp
""",
    )
    assert shell(world, made, "cd /copied; find . | sort; readlink link; stat -c %a h.txt") == (
        ".\n./e\n./e/f.txt\n./e/g.log\n./fifo\n./h.txt\n./link\nh.txt\n640"
    )
    assert shell(world, made, "stat -c '%U:%g %a' /owned/h.txt /owned/e /seven") == (
        "app:2000 644\napp:2000 755\nUNKNOWN:77 644"
    )
    assert shell(world, made, "find /without /parents /wild -type f | sort") == (
        "/parents/e/f.txt\n/parents/top.txt\n/wild/f.txt\n/wild/top.txt\n"
        "/without/e/f.txt\n/without/h.txt"
    )
    assert shell(world, made, "cat /followed; cat /bin/linked/top.txt; cat /tmp/top.txt") == (
        "d/h.txttop.txttop.txt"
    )
    assert shell(world, made, "cat /in/one /in/two; stat -c %a /in/one") == (
        "x /usr/bin:/bin\n$PATH\n4755"
    )


def test_an_ignore_file_is_obeyed(world: World, ctx: Path) -> None:
    for path in ("keep/a", "keep/b.o", "gone/c", "gone/but/d"):
        (ctx / path).parent.mkdir(parents=True, exist_ok=True)
        (ctx / path).write_text(path)
    (ctx / ".dockerignore").write_text("**/*.o\ngone\n!gone/but/d\nDockerfile\n")
    text = "FROM busybox\nCOPY . /x\nRUN --mount=target=/m,rw find /m -type f | sort > /seen; touch /m/new\n"
    made = image(world, ctx, text)
    assert (
        shell(world, made, "cd /x; find . -type f | sort")
        == "./.dockerignore\n./gone/but/d\n./keep/a"
    )
    assert shell(world, made, "cat /seen") == "/m/.dockerignore\n/m/gone/but/d\n/m/keep/a"
    assert not (ctx / "new").exists()
    done = build(world, ctx, "FROM busybox\nCOPY keep/b.o /x\n", code=1)
    assert '"/keep/b.o": not found' in done.stderr
    (ctx / "Dockerfile.dockerignore").write_text("keep\n")
    made = image(world, ctx, "FROM busybox\nCOPY . /x\n")
    assert (
        shell(world, made, "cd /x; find . -type f | grep -v ocker | sort")
        == "./gone/but/d\n./gone/c"
    )


def test_no_link_leads_out(world: World, ctx: Path) -> None:
    outside = ctx / "outside"
    outside.mkdir()
    (outside / "precious").write_text("untouched")
    inner = ctx / "ctx"
    inner.mkdir()
    (inner / "escape").symlink_to(outside)
    (inner / "f").write_text("new")
    done = build(world, inner, "FROM busybox\nCOPY escape/precious /x\n", code=1)
    assert "not found in the build context" in done.stderr
    text = f"FROM busybox\nRUN ln -s {outside} /out; ln -s {outside}/precious /one\nCOPY f {{}}\n"
    done = build(world, inner, text.format("/out/precious"), check=False)
    assert (outside / "precious").read_text() == "untouched"
    assert sorted(os.listdir(outside)) == ["precious"]
    made = image(world, inner, text.format("/one"))
    assert shell(world, made, "cat /one") == "new"
    assert (outside / "precious").read_text() == "untouched"


def test_stubs_are_cleaned_without_following_links(world: World, ctx: Path) -> None:
    outside = ctx / "outside"
    outside.mkdir()
    (outside / "hosts").touch()
    build(
        world,
        ctx,
        f"FROM busybox\nRUN mv /etc /etc2 2>/dev/null; rm -rf /etc; ln -s {outside} /etc; true\n",
        check=False,
    )
    assert (outside / "hosts").exists()


def test_unreadable_files_are_told(world: World, ctx: Path) -> None:
    (ctx / "shut").write_text("x")
    (ctx / "shut").chmod(0)
    done = build(world, ctx, "FROM busybox\nCOPY . /x\n", code=1)
    assert "shut" in done.stderr
    assert "EACCES" in done.stderr


def test_a_local_archive_is_unpacked_by_add_only(world: World, ctx: Path) -> None:
    (ctx / "in").write_text("inside")
    subprocess.run(["tar", "-C", str(ctx), "-czf", str(ctx / "a.tgz"), "in"], check=True)
    (ctx / "plain.gz").write_bytes(b"\x1f\x8b not one")
    made = image(
        world,
        ctx,
        "FROM busybox\nADD a.tgz /add/\nCOPY a.tgz /copy/\nADD --unpack=false a.tgz /kept/\n"
        "ADD plain.gz /add/\n",
    )
    assert shell(world, made, "ls /add /copy /kept; cat /add/in") == (
        "/add:\nin\nplain.gz\n\n/copy:\na.tgz\n\n/kept:\na.tgz\ninside"
    )
    done = build(world, ctx, "FROM busybox\nADD http://example.invalid/x /x\n", code=1)
    assert "not there yet" in done.stderr


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


def test_mounts(world: World, ctx: Path) -> None:
    (ctx / "sub").mkdir()
    (ctx / "sub" / "f").write_text("bound")
    (ctx / "token").write_text("s3cret")
    agent = f"{world.top}/agent"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(agent)
        listening.listen()
        made = image(
            world,
            ctx,
            """FROM busybox AS other
RUN echo other > /o; mkdir /d; echo deep > /d/x
FROM busybox
RUN --mount=source=sub,target=/b cat /b/f > /1; touch /b/no 2>/dev/null || echo ro >> /1
RUN --mount=source=sub,target=/b,rw touch /b/yes && ls /b > /2
RUN --mount=from=other,target=/b cat /b/o > /3; mkdir /b/no 2>/dev/null || echo ro >> /3
RUN --mount=from=other,source=d,target=/b,rw touch /b/y; ls /b > /4
RUN --mount=type=secret,id=t cat /run/secrets/t > /5; stat -c %a /run/secrets/t >> /5
RUN --mount=type=secret,id=t,target=/s,mode=0444,uid=1000 stat -c '%u %a' /s > /6
RUN --mount=type=secret,id=t,env=TOKEN echo "$TOKEN" > /7; ls /run/secrets 2>/dev/null >> /7; true
RUN --mount=type=secret,id=none ls /run/secrets 2>/dev/null > /8; true
RUN --mount=type=tmpfs,target=/t,size=1m df /t | tail -1 | awk '{print $2}' > /9
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && echo "$SSH_AUTH_SOCK" > /10
RUN --mount=type=cache,target=/c,uid=1000,gid=1000,mode=0700 stat -c '%u:%g %a' /c > /11
""",
            *("--secret", f"id=t,src={ctx}/token", "--ssh", f"default={agent}"),
        )
    found = shell(
        world, made, "for n in 1 2 3 4 5 6 7 8 9 10 11; do cat /$n | tr '\\n' ' '; echo; done"
    )
    assert [line.strip() for line in found.split("\n")] == [
        *("bound ro", "f yes", "other ro", "x y"),
        *(
            "s3cret 400".replace(" ", "", 0).replace("s3cret 400", "s3cret400"),
            "1000 444",
            "s3cret",
        ),
        *("", "1024", "/run/buildkit/ssh_agent.0", "1000:1000 700"),
    ]
    assert sorted(os.listdir(ctx / "sub")) == ["f"]
    assert "s3cret" not in world.out("image", "inspect", made)
    text = "FROM busybox\nRUN --mount=type=secret,id=nope,required true\n"
    assert "secret nope: not found" in build(world, ctx, text, code=1).stderr


def test_a_secrets_content_is_in_no_key(world: World, ctx: Path) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=k cat /run/secrets/k > /k\n"
    (ctx / "k").write_text("one")
    first = image(world, ctx, text, "--secret", f"id=k,src={ctx}/k")
    (ctx / "k").write_text("two")
    assert image(world, ctx, text, "--secret", f"id=k,src={ctx}/k") == first


def test_scripts_in_heredocs(world: World, ctx: Path) -> None:
    made = image(
        world,
        ctx,
        """FROM busybox
RUN <<EOF
echo one > /1
echo two >> /1
EOF
RUN <<EOF cat > /2
from $HOME
EOF
RUN <<EOF
#!/bin/awk BEGIN { print "awk" > "/3" }
EOF
RUN cat > /4 <<"A" && cat >> /4 <<B
$HOME
A
b
B
""",
    )
    assert shell(world, made, "cat /1 /2 /4") == "one\ntwo\nfrom /root\n$HOME\nb"


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
        (["--platform=linux/s390x"], "cannot build for linux/s390x"),
        (["--target=nope"], "target stage 'nope' could not be found"),
        (["--secret=id=x,src=/no/such"], "cannot read secret x: ENOENT"),
        (["--secret=src=/x"], "it needs an id"),
        (["--progress=foo"], "invalid --progress 'foo'"),
        (["-t", "UPPER"], "UPPER"),
        (["-f", "/no/such"], "cannot read Dockerfile"),
        (["--output=x"], "unknown flag: --output"),
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
    assert "not URLs or git" in world("build", "https://example.invalid/x.git", code=1).stderr


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
        other("builder", "prune", "-a", "-f")
        cache = Path(other.home, ".local/share/rootless/build-cache")
        assert [name for name in os.listdir(cache) if not name.endswith(".lock")] == []
        assert other.out("run", "--rm", "kept", "cat", "/k") == "kept"
        assert cached(other("build", "--progress=plain", str(ctx))) == [False]
    finally:
        other.close()
