"""Contexts that are no directory of the caller's: archives, URLs, git repositories, named contexts."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from buildrig import build, image, shell
from oci_layout import Layout
from rig import Done, World
from webrig import Web, git

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


def archive(
    entries: dict[str, str], mode: int = 0o644, links: dict[str, str] | None = None
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in entries.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(text.encode()), mode, 1234
            tar.addfile(info, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def from_stdin(world: World, data: bytes, *words: str, code: int = 0) -> Done[str]:
    """Build with DATA on stdin; stdout is the ID."""
    done = subprocess.run(
        [*world.argv, "build", "-q", *words],
        env=world.env,
        input=data,
        capture_output=True,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    out = done.stdout.decode().strip()
    return Done(done.args, done.returncode, out, done.stderr.decode())


FILES = {"Dockerfile": "FROM busybox\nCOPY sub/f /f\n", "sub/f": "archived"}


@pytest.mark.parametrize("program", ["cat", "gzip", "bzip2", "xz", "zstd"])
def test_an_archive_on_stdin(world: World, program: str) -> None:
    data = subprocess.run([program], input=archive(FILES), capture_output=True, check=True).stdout
    made = from_stdin(world, data, "-").stdout
    assert shell(world, made, "cat /f; stat -c '%u:%g %a' /f") == "archived0:0 644"


def test_an_archives_dockerfile_and_ignore_file(world: World) -> None:
    entries = {
        **FILES,
        "d/Other": "FROM busybox\nCOPY . /all/\n",
        "d/Other.dockerignore": "sub\nDockerfile\n",
        "kept": "x",
    }
    made = from_stdin(world, archive(entries), "-f", "d/Other", "-").stdout
    assert shell(world, made, "cd /all; find . -type f | sort") == (
        "./d/Other\n./d/Other.dockerignore\n./kept"
    )
    done = from_stdin(world, archive(entries), "-f", "nope", "-", code=1)
    assert "cannot read Dockerfile nope: the context does not have it" in done.stderr
    done = from_stdin(world, archive(entries), "-f", "-", "-", code=1)
    assert "can't use stdin for both" in done.stderr


def test_an_archives_closed_files_are_copied(world: World) -> None:
    entries = {
        "Dockerfile": "FROM busybox\nCOPY --chmod=600 shut /shut\nCOPY shut /as\n",
        "shut": "x",
    }
    made = from_stdin(world, archive(entries, mode=0), "-f", "Dockerfile", "-", code=1)
    entries.pop("Dockerfile")
    data = archive(entries, mode=0)
    both = io.BytesIO(archive({"Dockerfile": "FROM busybox\nCOPY shut /shut\n"}))
    with (
        tarfile.open(fileobj=both, mode="a") as tar,
        tarfile.open(fileobj=io.BytesIO(data)) as more,
    ):
        for member in more:
            tar.addfile(member, more.extractfile(member))
    made = from_stdin(world, both.getvalue(), "-")
    assert shell(world, made.stdout, "stat -c %a /shut; cat /shut") == "0\nx"


def test_no_archive_leads_out(world: World, ctx: Path) -> None:
    secret = ctx / "secret"
    secret.write_text("FROM busybox\nLABEL stolen=1\n")
    done = from_stdin(world, archive({}, links={"Dockerfile": str(secret)}), "-", code=1)
    assert "cannot read Dockerfile" in done.stderr
    for name in ("../out", "/tmp/../../out"):
        data = archive({**FILES, name: "x"})
        done = subprocess.run(
            [*world.argv, "build", "-q", "-"],
            env=world.env,
            input=data,
            capture_output=True,
            check=False,
        )
        assert not (Path(world.top) / "out").exists()
    data = archive({**FILES}, links={"l": str(ctx)})
    with_link = io.BytesIO(data)
    with tarfile.open(fileobj=with_link, mode="a") as tar:
        info = tarfile.TarInfo("l/new")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    done = from_stdin(world, with_link.getvalue(), "-", code=1)
    assert not (ctx / "new").exists()
    done = from_stdin(world, archive(FILES)[:900], "-", code=1)
    assert "cannot" in done.stderr


def test_nothing_of_a_context_stays(world: World) -> None:
    from_stdin(world, archive(FILES), "-")
    from_stdin(world, archive(FILES)[:900], "-", code=1)
    left = [
        path for path, _, _ in os.walk(world.top) if "/build/" in path and "/cache/" not in path
    ]
    assert left == []


def test_a_dockerfile_alone(world: World, web: Web) -> None:
    made = from_stdin(world, b"FROM busybox\nRUN echo alone > /a\n", "-").stdout
    assert shell(world, made, "cat /a") == "alone"
    done = from_stdin(world, b"FROM busybox\nCOPY x /\n", "-", code=1)
    assert "there is none" in done.stderr
    web.files["/Dockerfile"] = b"FROM busybox\nRUN echo url > /a\n"
    made = world.out("build", "-q", f"{web.url}/Dockerfile")
    assert shell(world, made, "cat /a") == "url"
    done = world("build", "-q", f"{web.url}/none", code=1)
    assert "invalid response status 404" in done.stderr


def test_an_archive_of_a_url(world: World, ctx: Path, web: Web) -> None:
    web.files["/ctx.tar"] = archive(FILES)
    made = world.out("build", "-q", f"{web.url}/ctx.tar")
    assert shell(world, made, "cat /f") == "archived"
    assert world.out("build", "-q", f"{web.url}/ctx.tar") == made
    assert [status for _, status in web.asked] == [200, 304]
    web.files["/D"] = b"FROM busybox\nCOPY here /h\n"
    (ctx / "here").write_text("local")
    made = world.out("build", "-q", "-f", f"{web.url}/D", str(ctx))
    assert shell(world, made, "cat /h") == "local"


@pytest.fixture
def served(ctx: Path, web: Web) -> str:
    """The URL of a repository with a branch, a tag, a directory, a program and a submodule."""
    inner, outer = ctx / "inner", ctx / "outer"
    for path in (inner, outer, ctx / "served"):
        path.mkdir()
    git(inner, "init", "-q")
    (inner / "part").write_text("submodule")
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "1")
    git(ctx, "clone", "-q", "--bare", str(inner), str(ctx / "served" / "inner.git"))
    git(outer, "init", "-q")
    (outer / "d").mkdir()
    (outer / "Dockerfile").write_text("FROM busybox\nCOPY . /all/\n")
    (outer / "d" / "Dockerfile").write_text("FROM busybox\nCOPY . /sub/\n")
    (outer / "run").write_text("#!/bin/sh\n")
    (outer / "run").chmod(0o777)
    (outer / ".gitmodules").write_text(
        f'[submodule "m"]\n\tpath = m\n\turl = {web.url}/git/inner.git\n'
    )
    sha = git(inner, "rev-parse", "HEAD")
    git(outer, "add", ".")
    git(outer, "update-index", "--add", "--cacheinfo", f"160000,{sha},m")
    git(outer, "commit", "-qm", "1")
    git(outer, "tag", "-a", "-m", "x", "v1")
    git(outer, "checkout", "-q", "-b", "other")
    (outer / "new").write_text("on other")
    git(outer, "add", "new")
    git(outer, "commit", "-qm", "2")
    git(outer, "checkout", "-q", "main")
    git(ctx, "clone", "-q", "--bare", str(outer), str(ctx / "served" / "outer.git"))
    return f"{web.url}/git/outer.git"


def test_git_contexts(world: World, ctx: Path, served: str) -> None:
    listing = "cd /all; find . -type f | sort; stat -c %a run d; date -u -r run +%F"
    plain = "./.gitmodules\n./Dockerfile\n./d/Dockerfile\n./m/part\n./run\n755\n755\n2020-02-02"
    made = world.out("build", "-q", served)
    assert shell(world, made, listing) == plain
    assert world.out("build", "-q", f"{served}#v1") == made
    assert world.out("build", "-q", f"{served}?tag=v1") == made
    sha = git(ctx / "outer", "rev-parse", "main")
    assert world.out("build", "-q", f"{served}#{sha}") == made
    assert world.out("build", "-q", f"{served}?checksum={sha[:10]}") == made
    made = world.out("build", "-q", f"{served}#other")
    assert shell(world, made, "cat /all/new") == "on other"
    made = world.out("build", "-q", f"{served}#other:d")
    assert shell(world, made, "ls /sub") == "Dockerfile"
    made = world.out("build", "-q", f"{served}?branch=other&subdir=d")
    assert shell(world, made, "ls /sub") == "Dockerfile"
    made = world.out("build", "-q", f"{served}?submodules=false")
    assert shell(world, made, "ls /all/m") == ""
    keep = ("--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    made = world.out("build", "-q", *keep, f"{served}#other")
    assert shell(world, made, "cat /all/.git/HEAD") == git(ctx / "outer", "rev-parse", "other")
    local = world.out("build", "-q", f"file://{ctx}/outer#other:d")
    assert shell(world, local, "ls /sub") == "Dockerfile"


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("#nope", "it has no ref nope"),
        ("#--upload-pack=touch", "invalid git ref"),
        ("#main:none", "cannot use directory none"),
        ("#main:out", "cannot use directory out"),
        ("?checksum=ffffffffff", "expected checksum to match"),
        ("?upload-pack=x", "unexpected 'upload-pack'"),
        ("#1111111111111111111111111111111111111111", "cannot fetch"),
    ],
)
def test_git_refusals(world: World, ctx: Path, served: str, tail: str, message: str) -> None:
    (ctx / "outer" / "out").symlink_to("/etc")
    git(ctx / "outer", "add", ".")
    git(ctx / "outer", "commit", "-qm", "3")
    git(ctx / "outer", "push", "-q", str(ctx / "served" / "outer.git"), "main")
    done = world("build", f"{served}{tail}", code=1)
    assert message in done.stderr


def test_a_repository_runs_nothing_here(world: World, ctx: Path, served: str) -> None:
    """Hooks, filters, submodules by path or program, options in submodules: none of them does anything."""
    outer, mark = ctx / "outer", ctx / "ran"
    (outer / ".gitattributes").write_text("* filter=evil\n")
    git(outer, "config", "filter.evil.clean", "cat")
    git(outer, "add", ".gitattributes")
    git(outer, "commit", "-qm", "3")
    git(outer, "push", "-q", str(ctx / "served" / "outer.git"), "main")
    home = ctx / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[filter "evil"]\n\tsmudge = touch {mark}; cat\n[core]\n\thooksPath = {home}\n'
    )
    (home / "post-checkout").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (home / "post-checkout").chmod(0o755)
    env = {**world.env, "HOME": str(home), "GIT_SSH_COMMAND": f"touch {mark}"}
    subprocess.run([*world.argv, "build", "-q", served], env=env, capture_output=True, check=False)
    assert not mark.exists()
    for url in (f"ext::sh -c touch% {mark}", f"file://{ctx}/inner", f"{ctx}/inner", "-u./x"):
        (outer / ".gitmodules").write_text(f'[submodule "m"]\n\tpath = m\n\turl = {url}\n')
        git(outer, "add", ".gitmodules")
        git(outer, "commit", "-qm", url)
        git(outer, "push", "-q", str(ctx / "served" / "outer.git"), "main")
        done = world("build", served, code=1)
        assert "cannot fetch submodules of" in done.stderr
        assert not mark.exists()
    for word in (
        f"ext::sh -c touch% {mark}",
        "ssh://-oProxyCommand=touch/x.git",
        "git@-oProxyCommand=x:y",
    ):
        world("build", word, code=1)
        assert not mark.exists()


def test_named_contexts(world: World, ctx: Path, web: Web, served: str) -> None:
    main, extra = ctx / "main", ctx / "extra"
    for path in (main, extra):
        path.mkdir()
    (extra / "f").write_text("extra")
    (extra / "ignored").write_text("x")
    (extra / ".dockerignore").write_text("ignored\n")
    web.files["/a.tgz"] = archive({"f": "from a url"})
    base = image(world, main, "FROM busybox\nRUN echo replaced > /base\n", "-t", "replaced:1")
    layout = Layout(ctx / "layout")
    layout.name(layout.image([{"base": "in a layout\n"}]), "1")
    text = """FROM busybox AS stage
RUN echo other > /base
FROM one/base AS next
COPY --from=dir . /dir/
COPY --from=url f /url
COPY --from=repo d/Dockerfile /git
COPY --from=pic /base /pic
COPY --from=oci /base /oci
COPY --from=also /base /stage
RUN --mount=from=dir,target=/m ls -A /m > /mounted
"""
    words = [
        f"one/base:latest=docker-image://{base}",
        f"dir={extra}",
        f"url={web.url}/a.tgz",
        f"repo={served}",
        "pic=docker-image://replaced:1",
        f"oci=oci-layout://{layout.directory}:1",
        "also=target:stage",
    ]
    flags = [word for text_ in words for word in ("--build-context", text_)]
    made = image(world, main, text, *flags)
    assert shell(
        world, made, "cat /base /url /pic /oci /stage; ls -A /dir; head -1 /git; cat /mounted"
    ) == (
        "replaced\nfrom a urlreplaced\nin a layout\nother\n.dockerignore\nf\nFROM busybox\n.dockerignore\nf"
    )
    done = build(world, main, text, *flags)
    assert done.stderr.count("CACHED") >= 7
    (extra / "f").write_text("changed")
    made = image(world, main, text, *flags)
    assert shell(world, made, "cat /dir/f") == "changed"


def test_a_directory_stands_for_an_image_or_a_stage(world: World, ctx: Path) -> None:
    main, tree = ctx / "main", ctx / "tree"
    main.mkdir()
    tree.mkdir()
    (tree / "f").write_text("root")
    text = "FROM nothing/like-it\nRUN false\nFROM scratch AS s\nFROM busybox\nCOPY --from=s /f /f\n"
    made = image(world, main, text, "--build-context", f"s={tree}")
    assert shell(world, made, "cat /f") == "root"
    text = "FROM here\nCOPY --from=busybox /bin /bin\n"
    made = image(world, main, text, "--build-context", f"here={tree}")
    assert shell(world, made, "cat /f") == "root"
    done = build(world, main, text, "--build-context", "here=/no/such", code=1)
    assert "no directory" in done.stderr
    assert "NAME=VALUE" in build(world, main, text, "--build-context", "here", code=1).stderr


def test_a_token_is_told_to_git_and_to_nobody_else(
    world: World, ctx: Path, served: str, web: Web
) -> None:
    (ctx / "token").write_text("t0ken\n")
    web.authorization.clear()
    words = ["--secret", f"id=GIT_AUTH_TOKEN,src={ctx}/token"]
    made = world.out("build", "-q", *words, f"{served}?submodules=false&keep-git-dir=1")
    assert web.authorization
    assert set(web.authorization) == {"basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="}
    assert shell(world, made, "grep -r t0ken /all; grep -ri eC1hY2Nlc3 /all; true") == ""
    web.authorization.clear()
    world.out("build", "-q", f"{served}?submodules=false")
    assert set(web.authorization) <= {""}


def test_links_that_go_round_and_names_that_are_odd(world: World, ctx: Path) -> None:
    main = ctx / "main"
    main.mkdir()
    for number in range(100):
        (main / f"l{number}").symlink_to(f"l{(number + 1) % 100}")
    (main / "self").symlink_to(".")
    (main / "up").symlink_to("../../../../../../..")
    (main / "odd \n\x01[*]").write_text("odd")
    deep = main
    for _ in range(60):
        deep = deep / "d"
        deep.mkdir()
    (deep / "f").write_text("deep")
    made = image(world, main, "FROM busybox\nCOPY . /all/\nCOPY self/self/self/d /d/\n")
    assert shell(
        world,
        made,
        "readlink /all/l99; readlink /all/self; ls /all | wc -l; find /d -name f | wc -l",
    ) == ("l0\n.\n105\n1")
    done = build(world, main, "FROM busybox\nCOPY l7 /x\n", code=1)
    assert "cannot copy /l7: ELOOP" in done.stderr
    done = build(world, main, "FROM busybox\nCOPY up/etc/passwd /x\n", code=1)
    assert "not found in the build context" in done.stderr
