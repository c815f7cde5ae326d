"""Builds for other platforms and for several: their variables, what runs where, one name for all of them."""

from __future__ import annotations

import json
import os
import platform as machine
import shutil
import struct
import tarfile
from pathlib import Path

import pytest
from buildrig import build, cached, image, shell
from registry_server import start_registry
from rig import World

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")

HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())
OTHER = "s390x"


# A cross build as it is usually written: compiled here, for there.
CROSS = """ARG BASE=busybox
FROM --platform=$BUILDPLATFORM $BASE AS make
RUN echo common > /common
ARG TARGETPLATFORM TARGETARCH TARGETVARIANT BUILDPLATFORM
RUN echo "$BUILDPLATFORM for $TARGETPLATFORM ($TARGETARCH,$TARGETVARIANT)" > /made
FROM scratch
COPY --from=make /common /made /
COPY --from=make /bin/busybox /bin/sh
LABEL a=b
"""


def platform_of(world: World, name: str) -> str:
    (found,) = json.loads(world.out("image", "inspect", name))
    return "/".join(found[key] for key in ("Os", "Architecture", "Variant") if found.get(key))


def blobs(world: World) -> set[str]:
    return set(os.listdir(f"{world.home}/.local/share/rootless/images/blobs/sha256"))


def test_an_image_for_another_machine_whose_commands_run_here(world: World, ctx: Path) -> None:
    made = image(world, ctx, CROSS, "--platform=linux/arm/v7")
    assert platform_of(world, made) == "linux/arm/v7"
    # What is in it is a program of this machine's, so it runs whatever it says.
    assert shell(world, made, "read -r line < /made; echo $line") == (
        f"linux/{HERE} for linux/arm/v7 (arm,v7)"
    )
    done = build(world, ctx, CROSS, f"--platform=linux/{OTHER}")
    assert cached(done)[0] is True  # what is done here for all of them is done once


def test_several_platforms_under_one_name(world: World, ctx: Path) -> None:
    before = world.out("images", "-q", "-f", "dangling=true")
    digest = image(
        world,
        ctx,
        CROSS,
        f"--platform=linux/{OTHER},linux/{HERE}",
        "-t",
        "several:1",
        "-t",
        "also:1",
    )
    assert platform_of(world, "several:1") == f"linux/{HERE}"
    assert platform_of(world, "also:1") == f"linux/{HERE}"
    assert platform_of(world, digest) == f"linux/{HERE}"
    path = Path(world.home, ".local/share/rootless/images/blobs/sha256", digest[7:])
    index = json.loads(path.read_text())
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert [one["platform"]["architecture"] for one in index["manifests"]] == [OTHER, HERE]
    script = (
        "--network=none",
        "--platform",
        f"linux/{OTHER}",
        "several:1",
        "sh",
        "-c",
        "read -r x < /made; echo $x",
    )
    assert world.out("run", "--rm", *script) == f"linux/{HERE} for linux/{OTHER} ({OTHER},)"
    assert world.out("images", "-q", "-f", "dangling=true") == before
    assert (
        image(world, ctx, CROSS, f"--platform=linux/{OTHER},linux/{HERE}", "-t", "several:1")
        == digest
    )
    # Collecting garbage keeps all of them while one name is left, and nothing after that.
    world("rmi", "also:1")
    world("image", "prune", "-f")
    world("system", "prune", "-f")
    assert world.out("run", "--rm", *script).endswith(f"({OTHER},)")
    world("tag", "several:1", "renamed:1")
    world("rmi", "several:1")
    world("system", "prune", "-f")
    assert platform_of(world, "renamed:1") == f"linux/{HERE}"
    other = index["manifests"][0]["digest"][7:]
    assert other in blobs(world)
    world("rmi", "renamed:1")
    world("builder", "prune", "-a", "-f")
    assert not {other, digest[7:]} & blobs(world)


def test_several_platforms_leave_as_one_index(world: World, ctx: Path, tmp_path: Path) -> None:
    where = f"--platform=linux/{HERE},linux/{OTHER}"
    archive, files, told = tmp_path / "a.tar", tmp_path / "files", tmp_path / "meta.json"
    (ctx / "ctx").mkdir()
    with start_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/cross:1"
        words = (
            "-o",
            f"type=oci,dest={archive},compression=uncompressed",
            "-o",
            str(files),
            "--push",
        )
        before = world.out("images", "-aq")
        build(world, ctx / "ctx", CROSS, where, *words, "-t", name, f"--metadata-file={told}")
        assert world.out("images", "-aq") == before
        digest = json.loads(told.read_text())["containerimage.digest"]
        index = json.loads(registry.blob_file(digest).read_bytes())
        found = [entry["platform"]["architecture"] for entry in index["manifests"]]
        assert found == [HERE, OTHER]
        world("pull", name)
        assert f"for linux/{HERE}" in shell(world, name, "cat /made")
        world("rmi", name)
    with tarfile.open(archive) as tar:
        (entry,) = json.loads(tar.extractfile("index.json").read())["manifests"]  # type: ignore[union-attr]
        assert entry["digest"] == digest
        names = set(tar.getnames())
    for entry in index["manifests"]:
        assert f"blobs/sha256/{entry['digest'][7:]}" in names
    for arch in (HERE, OTHER):
        assert f"for linux/{arch}" in (files / f"linux_{arch}" / "made").read_text()
    for words, reason in (
        (("-o", "type=docker,dest=x"), "docker exporter does not support"),
        (("-o", "-"), "tar exporter does not support"),
        (("--sbom=true",), "cannot attest images of several platforms"),
    ):
        assert reason in build(world, ctx / "ctx", CROSS, where, *words, code=1).stderr


def test_the_base_of_a_stage_is_of_its_platform(world: World, ctx: Path) -> None:
    (ctx / "f").write_text("x")
    build(
        world,
        ctx,
        "FROM scratch\nCOPY f /base\n",
        f"--platform=linux/{OTHER},linux/arm64/v8,linux/{HERE}",
        "-t",
        "base:1",
    )
    made = image(world, ctx, "FROM base:1\nCOPY f /more\n", f"--platform={OTHER}")
    assert platform_of(world, made) == f"linux/{OTHER}"
    made = image(world, ctx, f"FROM --platform=linux/{OTHER} base:1\nCOPY f /more\n")
    assert platform_of(world, made) == f"linux/{OTHER}"
    assert platform_of(world, image(world, ctx, "FROM base:1\n")) == f"linux/{HERE}"


def test_commands_of_another_machine_need_an_emulator(world: World, ctx: Path) -> None:
    if os.path.exists(f"/proc/sys/fs/binfmt_misc/qemu-{OTHER}"):
        pytest.fail(f"this machine runs programs of {OTHER}: name another one in this test")
    text = 'FROM scratch\nCOPY Dockerfile /f\nRUN ["/bin/true"]\n'
    done = build(world, ctx, text, f"--platform=linux/{OTHER},linux/{HERE}", "-t", "no:1", code=1)
    assert f"cannot run commands of linux/{OTHER}: this machine is linux/{HERE}" in done.stderr
    assert "qemu-user-static" in done.stderr
    assert "Dockerfile:3:1" in done.stderr
    assert "no" not in world.out("images", "--format", "{{.Repository}}").split()
    # The platform that could be built leaves nothing, either.
    text = "ARG TARGETARCH\nFROM busybox AS amd64\nFROM busybox AS arm64\nFROM scratch AS " + OTHER
    text += f"\nCOPY missing /\nFROM {'$'}{{TARGETARCH}}\nLABEL only=here\n"
    before = world.out("images", "-aq")
    build(world, ctx, text, f"--platform=linux/{HERE},linux/{OTHER}", "-t", "no:1", code=1)
    assert world.out("images", "-aq") == before
    for bad, why in (("windows/amd64", "only for linux"), ("a/b/c/d", "invalid platform")):
        done = build(world, ctx, text, f"--platform={bad}", check=False)
        assert why in done.stderr


def arm_program(path: str, text: str) -> bytes:
    """A static program for 64-bit ARM that writes TEXT to the new file PATH, of system calls only."""
    words = [
        0x92800C60,
        0,
        0xD2800822,
        0xD2803483,
        0xD2800708,
        0xD4000001,
    ]  # openat(-100, path, 0x41, 0644)
    words += [0, 0xD2800002 | len(text) << 5, 0xD2800808, 0xD4000001]  # write(fd, text, size)
    words += [0xD2800000, 0xD2800BA8, 0xD4000001]  # exit(0)
    end = 4 * len(words)
    for place, target in ((1, end), (6, end + len(path) + 1)):  # adr x1, TARGET
        far = target - 4 * place
        words[place] = 0x10000001 | (far & 3) << 29 | (far >> 2) << 5
    code = struct.pack(f"<{len(words)}I", *words) + path.encode() + b"\0" + text.encode()
    start, size = 0x400000, 64 + 56 + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, start + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x1000)
    return ident + head + load + code


# Since Linux 6.7 a user namespace has formats of its own, so that nothing is changed on the machine.
REGISTER = r"""
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc &&
printf '%s' ":qemu-aarch64:M::$magic:$mask:$0:F" >/proc/sys/fs/binfmt_misc/register && exec "$@"
"""


@pytest.mark.requires("subid")
def test_commands_of_another_architecture_run_by_an_emulator(ctx: Path, tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64-static")
    assert emulator, "the package qemu-user-static is not installed"
    (ctx / "hello").write_bytes(arm_program("/made", "by arm64\n"))
    (ctx / "hello").chmod(0o755)
    text = 'FROM scratch\nCOPY hello /\nRUN ["/hello"]\n'
    words = ("--platform=linux/arm64", "-o", str(tmp_path / "out"))
    world = World()
    try:
        enter = ["unshare", "--user", "--map-auto", "--map-root-user", "--mount", "sh", "-c"]
        world.argv = [*enter, REGISTER, emulator, *world.argv]
        build(world, ctx, text, *words)
        assert (tmp_path / "out" / "made").read_text() == "by arm64\n"
    finally:
        world.close()
