"""ADD of URLs, of git repositories and of archives: what comes, when it comes again, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from buildrig import build, cached, image, shell
from rig import TOP, World, busybox
from webrig import Web, git

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


def tar_of(name: str, text: str, uid: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        directory = tarfile.TarInfo("d")
        directory.type, directory.mode, directory.uid = tarfile.DIRTYPE, 0o755, uid
        tar.addfile(directory)
        info = tarfile.TarInfo(f"d/{name}")
        info.size, info.uid = len(text), uid
        tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def test_files_of_urls(world: World, ctx: Path, web: Web) -> None:
    web.files.update({"/dir/some%20file*?x=1": b"one", "/": b"root", "/f": b"plain"})
    (ctx / "local").write_text("here")
    made = image(
        world,
        ctx,
        f"FROM busybox\nADD {web.url}/dir/some%20file*?x=1 /in/\nADD {web.url}/f /as/name\n"
        f"ADD {web.url}/f local /both/\nADD --chown=7:8 --chmod=755 {web.url}/f /own\n"
        f"ADD {web.url} /top/\n",
    )
    found = shell(
        world,
        made,
        "cat '/in/some file*' /as/name /both/f /both/local; ls /top; stat -c '%u:%g %a %Y' /as/name /own",
    )
    lines = found.split("\n")
    assert lines[0] == "oneplainplainhere__unnamed__" or lines[:2] == [
        "oneplainplainhere",
        "__unnamed__",
    ]
    assert "0:0 600 1445412480" in lines
    assert "7:8 755 1445412480" in lines


def test_a_url_is_asked_again_and_comes_only_when_it_changed(
    world: World, ctx: Path, web: Web
) -> None:
    text = f"FROM busybox\nADD {web.url}/again /x\n"
    web.files["/again"] = b"1"
    first = image(world, ctx, text)
    done = build(world, ctx, text)
    assert cached(done) == [True]
    assert [status for _, status in web.asked] == [200, 304]
    web.files["/again"] = b"2"
    assert shell(world, image(world, ctx, text), "cat /x") == "2"
    web.files["/again"] = b"1"
    assert image(world, ctx, text) == first
    web.etags = False
    image(world, ctx, text)
    assert [status for _, status in web.asked] == [200, 304, 200, 200, 200]


def test_a_checksum(world: World, ctx: Path, web: Web) -> None:
    web.files["/sum"] = b"checked"
    good = hashlib.sha256(b"checked").hexdigest()
    text = "FROM busybox\nADD --checksum=sha256:{} " + f"{web.url}/sum /x\n"
    done = build(world, ctx, text.format("0" * 64), code=1)
    assert f"digest mismatch, it is sha256:{good}" in done.stderr
    made = image(world, ctx, text.format(good))
    assert shell(world, made, "cat /x") == "checked"
    asked = len(web.asked)
    web.files["/sum"] = b"forged!"
    assert image(world, ctx, text.format(good)) == made
    assert len(web.asked) == asked, "a checksum that is known asks nobody"
    for line, message in (
        ("ADD --checksum=md5:00 http://x.invalid/f /x", "invalid checksum"),
        ("ADD --checksum=sha256:00 Dockerfile /x", "for URLs and git repositories"),
        (f"ADD --checksum=sha256:{good} {web.url}/sum {web.url}/f /x/", "for one source"),
    ):
        assert message in build(world, ctx, f"FROM busybox\n{line}\n", code=1).stderr


def test_a_kept_file_that_was_changed_is_not_used(world: World, ctx: Path, web: Web) -> None:
    web.files["/kept"] = b"right"
    text = f"FROM busybox\nADD {web.url}/kept /x\n"
    image(world, ctx, text)
    (record,) = (
        path for path in Path(world.top).rglob("record") if f"{web.url}/kept" in path.read_text()
    )
    for kept in record.parent.glob("*-*"):
        kept.write_bytes(b"wrong")
    made = image(world, ctx, text.replace("/x", "/y"))
    assert shell(world, made, "cat /y") == "right"
    record.write_text("{")
    made = image(world, ctx, text.replace("/x", "/z"))
    assert shell(world, made, "cat /z") == "right"


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (404, {}, "invalid response status 404"),
        (403, {}, "invalid response status 403"),
        (304, {}, "invalid response status 304"),
        (200, {"Content-Length": "99"}, "cannot fetch"),
        (302, {"Location": "file:///etc/passwd"}, "not an HTTPS URL"),
        (302, {"Location": "/loop"}, "redirects"),
    ],
)
def test_answers_that_are_refused(
    world: World, ctx: Path, web: Web, status: int, headers: dict[str, str], message: str
) -> None:
    web.files["/loop"] = b"short"
    web.lie["/loop"] = (status, headers)
    done = build(world, ctx, f"FROM busybox\nADD {web.url}/loop /x\n", code=1)
    assert message in done.stderr
    assert "cannot fetch http://127.0.0.1" in done.stderr


def test_unpacking(world: World, ctx: Path, web: Web) -> None:
    data = web.files["/a.tgz"] = tar_of("f", "inside", uid=1234)
    (ctx / "a.tgz").write_bytes(data)
    made = image(
        world,
        ctx,
        f"FROM busybox\nADD {web.url}/a.tgz /kept/\nADD --unpack {web.url}/a.tgz /url/\n"
        "ADD a.tgz /local/\nADD --chown=7:8 a.tgz /own/\nADD --unpack=false a.tgz /no/\n",
    )
    assert shell(world, made, "ls /kept /no; cat /url/d/f /local/d/f") == (
        "/kept:\na.tgz\n\n/no:\na.tgz\ninsideinside"
    )
    (ctx / "a.tar").write_bytes(gzip.decompress(data))
    subprocess.run(["zstd", "-q", str(ctx / "a.tar")], check=True)
    zstd = image(world, ctx, "FROM busybox\nADD a.tar.zst /zst/\n")
    assert shell(world, zstd, "cat /zst/d/f") == "inside"
    assert shell(world, made, "stat -c '%u:%g' /local/d/f /own /own/d /own/d/f") == (
        "1234:0\n7:8\n7:8\n7:8"
    )


def test_git_repositories(world: World, ctx: Path, web: Web) -> None:
    work = ctx / "work"
    for path in (work, ctx / "served", ctx / "ctx"):
        path.mkdir()
    git(work, "init", "-q")
    (work / "d").mkdir()
    (work / "d" / "f").write_text("1")
    git(work, "add", ".")
    git(work, "commit", "-qm", "1")
    git(ctx, "clone", "-q", "--bare", str(work), str(ctx / "served" / "r.git"))
    url, sha = f"{web.url}/git/r.git", git(work, "rev-parse", "HEAD")
    text = (
        f"FROM busybox\nADD {url} /all\nADD {url}#main:d /sub/\n"
        f"ADD --keep-git-dir --checksum={sha} {url}#main /git\n"
    )
    made = image(world, ctx / "ctx", text)
    assert shell(
        world, made, "ls -A /all /sub; cat /git/.git/HEAD; stat -c '%u %a %Y' /all/d/f"
    ) == (f"/all:\nd\n\n/sub:\nf\n{sha}\n0 644 1580608922")
    assert cached(build(world, ctx / "ctx", text)) == [True, True, True]
    (work / "d" / "f").write_text("2")
    git(work, "commit", "-qam", "2")
    git(work, "push", "-q", str(ctx / "served" / "r.git"), "main")
    text = f"FROM busybox\nADD {url} /all\n"
    assert shell(world, image(world, ctx / "ctx", text), "cat /all/d/f") == "2"
    done = build(world, ctx / "ctx", f"FROM busybox\nADD --checksum={sha} {url} /x\n", code=1)
    assert "expected checksum to match" in done.stderr
    done = build(world, ctx / "ctx", f"FROM busybox\nADD file://{work}/.git /x\n", code=1)
    assert "not found in the build context" in done.stderr
    done = build(world, ctx / "ctx", f"FROM busybox\nADD {url}#-x /x\n", code=1)
    assert "invalid git ref" in done.stderr


@pytest.mark.parametrize("lane", ["one ID", "copy"])
def test_on_other_rungs(ctx: Path, web: Web, lane: str) -> None:
    """An archive as context, a URL, and owners of an unpacked archive, where IDs or the overlay are missing."""
    world = World()
    try:
        if lane == "one ID":
            libexec = Path(world.top, "libexec")
            real = os.environ.get("ROOTLESS_LIBEXEC") or f"{TOP}/rootless/libexec"
            shutil.copytree(real, libexec)
            script = f'#!/bin/sh\nexec setpriv --no-new-privs {real}/launch "$@"\n'
            (libexec / "launch").write_text(script)
            world.env["ROOTLESS_LIBEXEC"] = str(libexec)
        else:
            world.env["ROOTLESS_STORAGE_DRIVER"] = lane
        busybox(world)
        web.files["/u"] = b"from a url"
        text = f"FROM busybox\nADD {web.url}/u /u\nADD --chown=7:8 a.tgz /own/\nCOPY a.tgz /a.tgz\n"
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, data in (("Dockerfile", text.encode()), ("a.tgz", tar_of("f", "in", uid=5))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        words = [*world.argv, "build", "-q", "-o", f"type=tar,dest={ctx}/made.tar", "-"]
        done = subprocess.run(
            words, env=world.env, input=out.getvalue(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        with tarfile.open(ctx / "made.tar") as tar:
            file = tar.extractfile("u")
            assert file is not None
            assert file.read() == b"from a url"
            member = tar.getmember("own/d/f")
            assert (member.uid, member.gid, tar.getmember("a.tgz").uid) == (7, 8, 0)
    finally:
        world.close()
