"""What builds do with files: COPY, ADD, ignore files, mounts of RUN, secrets, links that lead nowhere."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from buildrig import build, image, shell
from rig import World

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


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
        *("boundro", "f yes", "other ro", "x y", "s3cret400", "1000 444", "s3cret"),
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
    names = tarfile.open(fileobj=io.BytesIO(listing)).getnames()
    assert sorted(names) == ["bin", "bin/busybox"]


@pytest.mark.parametrize(
    "line",
    [
        "RUN --device=vendor.com/gpu true",
    ],
)
def test_what_is_not_there_yet_is_refused(world: World, ctx: Path, line: str) -> None:
    done = build(world, ctx, f"FROM busybox AS other\nFROM busybox\n{line}\n", code=1)
    assert "not there yet" in done.stderr


def test_a_cache_begins_with_what_a_stage_has(world: World, ctx: Path) -> None:
    (ctx / "d").mkdir()
    (ctx / "d" / "f").write_text("context")
    text = """FROM busybox AS seed
RUN mkdir -p /s/sub && echo {seed} > /s/sub/one && chown -R app:2000 /s/sub
FROM busybox
ARG N
RUN --mount=type=cache,id=seeded,target=/c,from=seed,source=/s \\
    stat -c '%U %g' /c/sub/one > /seen; cat /c/sub/one >> /seen; echo $N >> /c/log; cat /c/log >> /seen
RUN --mount=type=cache,id=whole,target=/c,from=busybox [ -x /c/bin/busybox ] && touch /c/more
"""
    made = image(world, ctx, text.format(seed="one"), "--build-arg", "N=1")
    assert shell(world, made, "cat /seen; ls /c 2>&1 || true") == (
        "app 2000\none\n1\nls: /c: No such file or directory"
    )
    # It is filled once, and kept; what it begins with being another makes another.
    made = image(world, ctx, text.format(seed="one"), "--build-arg", "N=2")
    assert shell(world, made, "cat /seen") == "app 2000\none\n1\n2"
    made = image(world, ctx, text.format(seed="two"), "--build-arg", "N=3")
    assert shell(world, made, "cat /seen") == "app 2000\ntwo\n3"
    done = build(
        world,
        ctx,
        "FROM busybox\nRUN --mount=type=cache,target=/c,from=busybox,source=/no true\n",
        code=1,
    )
    assert "/no" in done.stderr
    assert "   2 | >>> RUN" in done.stderr
