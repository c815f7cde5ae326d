"""What a build makes besides an image in the store: archives, directories, uploads; nothing when it fails."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildrig import build, image, shell, verify_layout
from registry_server import RegistryServer, start_registry
from rig import World

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")

SCRATCH = (
    "FROM busybox AS made\n"
    "RUN mkdir -p /out/deep /out/closed && echo data > /out/deep/file && ln -s /etc/passwd /out/link"
    " && ln /out/deep/file /out/hard && chown 1000:1000 /out/deep/file && chmod 4755 /out/deep/file"
    " && echo inside > /out/closed/in && chmod 555 /out/closed && mkfifo /out/pipe\n"
    "FROM scratch\nCOPY --from=made /out /\n"
)


def run_raw(world: World, *words: str) -> bytes:
    """The bytes that a command prints."""
    done = subprocess.run(
        [*world.argv, *words], env=world.env, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tree_of(directory: Path) -> dict[str, str]:
    """Path -> kind, mode and content below a directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        info = path.lstat()
        content = ""
        if stat.S_ISREG(info.st_mode):
            content = path.read_text() if info.st_mode & 0o400 else "?"
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(directory))] = f"{stat.filemode(info.st_mode)} {content}".strip()
    return found


# files


def test_a_directory_gets_the_files_as_the_callers_own(
    world: World, ctx: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "new" / "dest"
    build(world, ctx, SCRATCH, "-o", str(dest), "-t", "never:named")
    assert tree_of(dest) == {
        "closed": "dr-xr-xr-x",
        "closed/in": "-rw-r--r-- inside",
        "deep": "drwxr-xr-x",
        "deep/file": "-rwxr-xr-x data",
        "hard": "-rwxr-xr-x data",
        "link": "lrwxrwxrwx /etc/passwd",
        "pipe": "prw-r--r--",
    }
    assert {path.lstat().st_uid for path in dest.rglob("*")} == {os.getuid()}
    assert (dest / "hard").stat().st_ino == (dest / "deep/file").stat().st_ino
    assert "never" not in world.out("images")
    (dest / "closed").chmod(0o755)


def test_a_directory_that_is_there_is_added_to_and_no_link_in_it_is_followed(
    world: World, ctx: Path, tmp_path: Path
) -> None:
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    dest.mkdir()
    (outside / "hard").write_text("not yours")
    (dest / "deep").symlink_to(outside)
    (dest / "hard").symlink_to(outside / "hard")
    (dest / "mine").write_text("kept")
    text = (
        "FROM busybox AS made\nRUN mkdir -p /o/deep; echo x > /o/deep/y; echo x > /o/hard\n"
        "FROM scratch\nCOPY --from=made /o /\n"
    )
    build(world, ctx, text, "-o", f"type=local,dest={dest}")
    assert tree_of(outside) == {"hard": "-rw-r--r-- not yours"}
    assert tree_of(dest) == {
        "deep": "drwxr-xr-x",
        "deep/y": "-rw-r--r-- x",
        "hard": "-rw-r--r-- x",
        "mine": "-rw-r--r-- kept",
    }
    build(world, ctx, text, "-o", f"type=local,dest={dest},mode=delete")
    assert sorted(tree_of(dest)) == ["deep", "deep/y", "hard"]
    (dest / "hard").unlink()
    (dest / "hard").mkdir()
    (dest / "deep/y").write_text("before")
    done = build(world, ctx, text, "-o", str(dest), code=1)
    assert "cannot overwrite directory 'hard'" in done.stderr
    assert tree_of(dest) == {
        "deep": "drwxr-xr-x",
        "deep/y": "-rw-r--r-- before",
        "hard": "drwxr-xr-x",
    }


def test_a_tar_has_the_owners_of_the_image(world: World, ctx: Path, tmp_path: Path) -> None:
    (ctx / "Dockerfile").write_text(SCRATCH)
    data = run_raw(world, "build", "-q", "-o", "-", str(ctx))
    (tmp_path / "out.tar").write_bytes(data)
    with tarfile.open(tmp_path / "out.tar") as tar:
        members = {member.name: member for member in tar}
    assert (members["deep/file"].uid, members["deep/file"].mode) == (1000, 0o4755)
    assert members["hard"].islnk()
    assert members["pipe"].isfifo()
    world("build", "-q", "-o", f"type=tar,dest={tmp_path}/two.tar", str(ctx))
    assert (tmp_path / "two.tar").read_bytes() == data


def test_nothing_is_left_of_an_archive_that_could_not_be_written(
    world: World, ctx: Path, tmp_path: Path
) -> None:
    full = tmp_path / "no" / "such"
    full.parent.mkdir()
    full.parent.chmod(0o500)
    for kind in ("oci", "docker", "tar"):
        words = ("-t", "half:made", "-o", f"type={kind},dest={full}", "--load")
        done = build(world, ctx, SCRATCH, *words, code=1)
        assert "EACCES" in done.stderr
        assert list(full.parent.iterdir()) == []
    assert "half" not in world.out("images")
    done = build(world, ctx, SCRATCH, "-o", "type=oci,dest=/dev/full", code=1)
    assert "ENOSPC" in done.stderr


# images


def test_archives_can_be_loaded_and_read_by_others(world: World, ctx: Path, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN echo there > /said\n"
    for kind in ("oci", "docker"):
        dest = tmp_path / f"{kind}.tar"
        build(world, ctx, text, "-t", f"{kind}:arch", "-o", f"type={kind},dest={dest}")
        assert f"{kind} " not in world.out("images")
        with tarfile.open(dest) as tar:
            names = tar.getnames()
            found = verify_layout(lambda name, tar=tar: tar.extractfile(name).read())
        assert ("manifest.json" in names) == (kind == "docker")
        notes = found["entry"]["annotations"]
        assert notes["io.containerd.image.name"] == f"docker.io/library/{kind}:arch"
        assert notes["org.opencontainers.image.ref.name"] == "arch"
        wanted = "vnd.oci.image.manifest" if kind == "oci" else "vnd.docker.distribution.manifest"
        assert wanted in found["manifest"]["mediaType"]
        world("load", "-i", str(dest))
        assert shell(world, f"{kind}:arch", "cat /said") == "there"
        world("rmi", f"{kind}:arch")
    for source in (f"oci-archive:{tmp_path}/oci.tar:arch", f"docker-archive:{tmp_path}/docker.tar"):
        seen = subprocess.run(
            ["skopeo", "inspect", "--config", source], capture_output=True, text=True, check=False
        )
        assert seen.returncode == 0, seen.stderr
        assert json.loads(seen.stdout)["rootfs"]["type"] == "layers"


def test_a_layout_in_a_directory_keeps_other_images(
    world: World, ctx: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "layout"
    for name in ("one", "two", "one"):
        build(
            world,
            ctx,
            f"FROM busybox\nRUN echo {name} > /x\n",
            *("-t", f"{name}:1", "-o", f"type=oci,tar=false,dest={dest}"),
        )
    found = json.loads((dest / "index.json").read_text())["manifests"]
    names = [entry["annotations"]["io.containerd.image.name"] for entry in found]
    assert sorted(names) == ["docker.io/library/one:1", "docker.io/library/two:1"]
    assert list(dest.rglob(".*")) == []
    world("load", "-i", str(dest))
    assert shell(world, "two:1", "cat /x") == "two"
    world("rmi", "one:1", "two:1")


def test_several_outputs_of_one_build(world: World, ctx: Path, tmp_path: Path) -> None:
    words = ["-t", "many:1", "-t", "more:2", "--load"]
    for output in (
        f"type=oci,dest={tmp_path}/a.tar",
        f"type=tar,dest={tmp_path}/b.tar",
        str(tmp_path / "c"),
    ):
        words += ["-o", output]
    build(world, ctx, "FROM busybox\nRUN echo all > /all\n", *words)
    assert shell(world, "more:2", "cat /all") == "all"
    assert (tmp_path / "c/all").read_text() == "all\n"
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.extractfile("all").read() == b"all\n"  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "a.tar") as tar:
        index = json.loads(tar.extractfile("index.json").read())  # type: ignore[union-attr]
    assert len(index["manifests"]) == 2
    world("rmi", "many:1", "more:2")


def test_nothing_is_made_of_a_build_for_its_cache_alone(world: World, ctx: Path) -> None:
    before = world.out("images", "-aq")
    done = build(
        world, ctx, "FROM busybox\nRUN echo cached > /c\n", "-o", "type=cacheonly", "-t", "no:1"
    )
    assert "exporting" not in done.stderr
    assert world.out("images", "-aq") == before
    assert (
        "CACHED"
        in build(world, ctx, "FROM busybox\nRUN echo cached > /c\n", "-o", "type=none").stderr
    )


# compression


@pytest.mark.parametrize("kind", ["gzip", "zstd", "uncompressed"])
def test_layers_are_compressed_as_asked(world: World, ctx: Path, tmp_path: Path, kind: str) -> None:
    if kind == "zstd":
        pytest.importorskip("zstandard")
    text = f"FROM busybox\nRUN yes {kind} | head -c 300000 > /big\n"
    magic = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "uncompressed": b"big"}[kind]
    suffix = {"gzip": "tar+gzip", "zstd": "tar+zstd", "uncompressed": "v1.tar"}[kind]
    found = []
    # Packed so at once, and made so from what the cache has in another form.
    for words in (["--no-cache"], []):
        if not words:
            other = "uncompressed" if kind == "gzip" else "gzip"
            build(world, ctx, text, "--no-cache", "-o", f"type=image,compression={other}")
        dest = f"{tmp_path}/{len(found)}.tar"
        build(
            world, ctx, text, *words, "-t", "z:1", "-o", f"type=oci,dest={dest},compression={kind}"
        )
        with tarfile.open(dest) as tar:
            manifest = verify_layout(lambda name, tar=tar: tar.extractfile(name).read())["manifest"]
            last = manifest["layers"][-1]
            assert last["mediaType"].endswith(suffix)
            data = tar.extractfile(f"blobs/sha256/{last['digest'][7:]}").read()  # type: ignore[union-attr]
            assert data.startswith(magic)
            assert manifest["layers"][0]["mediaType"].endswith("gzip")  # the base image's own
        found.append(manifest["layers"])
        world("load", "-i", dest)
        assert shell(world, "z:1", "wc -c < /big") == "300000"
        world("rmi", "z:1")
    forced = f"{tmp_path}/forced.tar"
    words = ["-o", f"type=oci,dest={forced},compression={kind},force-compression=true"]
    build(world, ctx, text, *words)
    with tarfile.open(forced) as tar:
        layers = verify_layout(lambda name, tar=tar: tar.extractfile(name).read())["manifest"][
            "layers"
        ]
    assert all(layer["mediaType"].endswith(suffix) for layer in layers)


def test_a_level_makes_another_blob_of_the_same_image(
    world: World, ctx: Path, tmp_path: Path
) -> None:
    text = "FROM busybox\nRUN cat /bin/busybox > /copy\n"
    sizes, ids = [], set()
    for level in (1, 9):
        dest = f"{tmp_path}/{level}.tar"
        build(world, ctx, text, "-o", f"type=oci,dest={dest},compression-level={level}")
        with tarfile.open(dest) as tar:
            manifest = verify_layout(lambda name, tar=tar: tar.extractfile(name).read())["manifest"]
        sizes.append(manifest["layers"][-1]["size"])
        ids.add(manifest["config"]["digest"])
    assert sizes[1] < sizes[0]
    assert len(ids) == 1


# uploads


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with start_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.mark.requires("docker-registry", "skopeo", "openssl")
def test_an_image_is_pushed_and_pulled_again(
    world: World, ctx: Path, registry: RegistryServer
) -> None:
    one, two = f"{registry.host}/team/app:1", f"{registry.host}/team/app:two"
    text = "FROM busybox\nRUN echo pushed > /pushed\n"
    done = build(world, ctx, text, "--push", "-t", one, "-t", two)
    assert "Pushed" in done.stderr
    assert registry.host not in world.out("images")
    again = build(world, ctx, text, "-o", f"type=registry,name={one}")
    assert "Layer already exists" in again.stderr
    assert "Pushed" not in again.stderr
    # Layers that another repository has are mounted from there.
    world("pull", one)
    moved = build(
        world,
        ctx,
        f"FROM {one}\nRUN echo more > /more\n",
        "--push",
        "-t",
        f"{registry.host}/other:1",
    )
    assert "Mounted from team/app" in moved.stderr
    world("rmi", one)
    assert shell(world, two, "cat /pushed") == "pushed"
    assert shell(world, f"{registry.host}/other:1", "cat /pushed /more") == "pushed\nmore"
    world("rmi", two, f"{registry.host}/other:1")
    kept = f"{registry.host}/team/kept:1"
    build(world, ctx, text, "-o", "type=image,push=true", "-t", kept)
    (record,) = json.loads(world.out("image", "inspect", kept))
    assert record["RepoDigests"][0].startswith(f"{registry.host}/team/kept@sha256:")
    world("rmi", kept)


@pytest.mark.requires("docker-registry", "skopeo", "openssl", "htpasswd")
def test_pushing_takes_credentials(world: World, ctx: Path, tmp_path: Path) -> None:
    import base64

    with start_registry(tmp_path / "r", auth=("me", "secret"), tls=True) as server:
        name = f"{server.host}/private:1"
        env = {"SSL_CERT_FILE": server.ca_file}
        text = "FROM busybox\nRUN echo x > /x\n"
        done = build(world, ctx, text, "--push", "-t", name, code=1, env=env)
        assert "wants a user name and a password" in done.stderr
        config = tmp_path / "docker"
        config.mkdir()
        auth = base64.b64encode(b"me:secret").decode()
        (config / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
        env["DOCKER_CONFIG"] = str(config)
        build(world, ctx, text, "--push", "-t", name, env=env)
        world("pull", name, env=env)
        world("rmi", name)


def test_what_cannot_come_out_right_is_refused_before_the_build(world: World, ctx: Path) -> None:
    text = "FROM busybox\nRUN echo ran\n"
    for words, reason in (
        (["--push"], "tag is needed when pushing"),
        (["-o", "type=oci", "-o", "-"], "several outputs to stdout"),
        (["-o", "type=image,name=x/UPPER:1"], "lowercase"),
        (["-o", "type=nothing"], "is none of"),
    ):
        done = build(world, ctx, text, *words, code=1)
        assert reason in done.stderr
        assert "#1" not in done.stderr


def test_the_id_is_told(world: World, ctx: Path, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN echo told > /t\n"
    made = image(world, ctx, text, "--iidfile", f"{tmp_path}/iid")
    assert (tmp_path / "iid").read_text() == made
    quiet = image(world, ctx, text, "-o", f"type=oci,dest={tmp_path}/o.tar")
    assert quiet == made
