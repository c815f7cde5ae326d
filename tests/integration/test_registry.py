"""Pulling from Debian's docker-registry: what arrives, what is said, and what is left when it fails."""

from __future__ import annotations

import base64
import json
import os
import pty
import random
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import cutting
from oci_layout import Layout
from registry_server import RegistryServer, start_registry

pytestmark = pytest.mark.requires("docker-registry", "skopeo", "openssl", "htpasswd", "overlay")

USER, PASSWORD = "someone", "s3cret:word"
SMALL = {"etc/": "", "etc/motd": "small\n"}


def noise(size: int, seed: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with start_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


class Pushed:
    """An image in a registry."""

    def __init__(
        self, server: RegistryServer, layout: Layout, entry: dict[str, Any], name: str
    ) -> None:
        self.document = layout.manifest(entry)
        self.digest = entry["digest"]
        self.name = f"{server.host}/{name}"
        layout.name(entry, "it")
        server.push(f"oci:{layout.directory}:it", name, "--all")

    @property
    def layers(self) -> list[str]:
        return [layer["digest"] for layer in self.document["layers"]]

    def short(self, index: int) -> str:
        return str(self.layers[index])[7:19]


def store(rootless: Any) -> Path:
    return Path(rootless.env["XDG_DATA_HOME"]) / "rootless"


def blobs(rootless: Any) -> set[str]:
    return {path.name for path in store(rootless).glob("images/blobs/sha256/*")}


def assert_nothing_half_made(rootless: Any) -> None:
    """No temporary blob, no half unpacked layer, no image."""
    assert list(store(rootless).glob("images/ingest/*")) == []
    assert [p for p in store(rootless).glob("layers/*/*") if p.suffix in (".tmp", ".lock")] == []
    assert rootless("images", "-aq").stdout == ""


def fails(rootless: Any, *words: str, **env: str) -> str:
    """What a command that must fail says: one sentence, and perhaps a hint."""
    done = rootless(*words, check=False, **env)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 2, done.stderr
    return str(done.stderr)


def program(libexec: str) -> bytes:
    return Path(libexec, "hello").read_bytes()


# what arrives


def test_an_oci_image_is_pulled_and_runs(
    rootless: Any, registry: RegistryServer, layout: Layout, libexec: str
) -> None:
    entry = layout.image(
        [SMALL, {"bin/": "", "bin/hello": program(libexec)}], Entrypoint=["/bin/hello"], Cmd=[]
    )
    image = Pushed(registry, layout, entry, "oci/hello:1")
    done = rootless("pull", image.name)
    lines = done.stdout.splitlines()
    assert lines[0] == "1: Pulling from oci/hello"
    assert lines[-3:] == [
        f"Digest: {image.digest}",
        f"Status: Downloaded newer image for {image.name}",
        image.name,
    ]
    for index in range(2):
        said = [line.partition(": ")[2] for line in lines if line.startswith(image.short(index))]
        assert said == [
            "Pulling fs layer",
            "Verifying Checksum",
            "Download complete",
            "Pull complete",
        ]
    assert "capabilities" in rootless("run", "--rm", "--network", "none", image.name).stdout
    again = rootless("pull", image.name).stdout.splitlines()
    assert [line.partition(": ")[2] for line in again[1:3]] == ["Already exists"] * 2
    assert again[-2] == f"Status: Image is up to date for {image.name}"
    assert rootless("pull", "-q", image.name).stdout == f"{image.name}\n"
    inspected = json.loads(rootless("image", "inspect", image.name).stdout)[0]
    assert inspected["RepoDigests"] == [f"{registry.host}/oci/hello@{image.digest}"]


def test_a_docker_schema_2_image(rootless: Any, registry: RegistryServer, layout: Layout) -> None:
    layout.name(layout.image([SMALL]), "it")
    registry.push(f"oci:{layout.directory}:it", "docker/small:1", "--format", "v2s2")
    rootless("pull", f"{registry.host}/docker/small:1")
    kinds = {
        json.loads(data).get("mediaType")
        for data in (p.read_bytes() for p in store(rootless).glob("images/blobs/sha256/*"))
        if data.startswith(b"{")
    }
    assert "application/vnd.docker.distribution.manifest.v2+json" in kinds


def test_of_an_index_the_right_platform(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    images = {
        name: layout.image([{"arch": name}], *name.split("/")[1:])
        for name in ("linux/arm64", "linux/amd64", "linux/arm/v6")
    }
    image = Pushed(
        registry, layout, layout.index([(e, n) for n, e in images.items()]), "many/arch:1"
    )
    for asked, name in (
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v6"),
    ):
        said = rootless("pull", "--platform", asked, image.name).stdout
        assert f"Digest: {image.digest}" in said
        wanted = layout.manifest(images[name])["config"]["digest"]
        assert rootless("images", "-q", "--no-trunc", image.name).stdout.split() == [wanted]
    said = fails(rootless, "pull", "--platform", "linux/s390x", image.name)
    assert "no matching manifest for linux/s390x in the manifest list entries" in said


def test_one_image_of_another_platform(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    image = Pushed(registry, layout, layout.image([SMALL], "s390x"), "one/arch:1")
    said = fails(rootless, "pull", "--platform", "linux/amd64", image.name)
    assert "does not match the specified platform: wanted linux/amd64, actual: linux/s390x" in said
    rootless("pull", image.name)


def test_by_digest_and_a_tag_that_moves(
    rootless: Any, registry: RegistryServer, layout: Layout, tmp_path: Path
) -> None:
    old = Pushed(registry, layout, layout.image([SMALL, {"v": "1"}]), "move/it:1")
    rootless("pull", old.name)
    second = Layout(tmp_path / "second")
    new = Pushed(registry, second, second.image([SMALL, {"v": "2"}]), "move/it:1")
    said = rootless("pull", new.name).stdout
    assert f"{new.short(0)}: Already exists" in said
    assert f"Status: Downloaded newer image for {new.name}" in said
    by_digest = f"{registry.host}/move/it@{old.digest}"
    said = rootless("pull", by_digest).stdout
    assert said.splitlines()[0] == f"{old.digest}: Pulling from move/it"
    assert said.splitlines()[-1] == by_digest
    assert "Image is up to date" in said
    rootless("pull", f"{registry.host}/move/it:9@{old.digest}")
    tags = rootless("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert sorted(tags) == sorted([new.name, f"{registry.host}/move/it:<none>"])


def test_an_image_without_layers(rootless: Any, registry: RegistryServer, layout: Layout) -> None:
    image = Pushed(registry, layout, layout.image([]), "no/layers:1")
    assert "Downloaded newer image" in rootless("pull", image.name).stdout


# who may


def test_what_is_not_there(rootless: Any, registry: RegistryServer, layout: Layout) -> None:
    image = Pushed(registry, layout, layout.image([SMALL]), "known/it:1")
    said = fails(rootless, "pull", image.name[:-1] + "2")
    assert f"manifest for {registry.host}/known/it:2 not found: manifest unknown" in said
    assert "unknown" in fails(rootless, "pull", f"{registry.host}/not/known:1")
    assert "invalid reference format" in fails(rootless, "pull", f"{registry.host}/Not/known:1")
    assert_nothing_half_made(rootless)


def test_a_password(rootless: Any, tmp_path: Path, layout: Layout) -> None:
    with start_registry(tmp_path / "registry", auth=(USER, PASSWORD)) as server:
        image = Pushed(server, layout, layout.image([SMALL]), "private/it:1")
        said = fails(rootless, "pull", image.name)
        assert "it wants a user name and a password" in said
        config = Path(rootless.env["HOME"]) / ".docker/config.json"
        config.parent.mkdir()
        for password in ("wrong", PASSWORD):
            auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
            config.write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
            if password == "wrong":
                said = fails(rootless, "pull", image.name)
                assert f"pull access denied for {server.host}/private/it" in said
                assert password not in said
                assert_nothing_half_made(rootless)
        assert rootless("pull", "-q", image.name).stdout == f"{image.name}\n"


def test_an_authority_of_its_own(rootless: Any, tmp_path: Path, layout: Layout) -> None:
    with start_registry(tmp_path / "registry", auth=(USER, PASSWORD), tls=True) as server:
        image = Pushed(server, layout, layout.image([SMALL]), "secure/it:1")
        auth = tmp_path / "auth.json"
        auth.write_text(
            json.dumps({"auths": {server.host: {"username": USER, "password": PASSWORD}}})
        )
        rootless.env["REGISTRY_AUTH_FILE"] = str(auth)
        said = fails(rootless, "pull", image.name)
        assert "its certificate cannot be trusted" in said
        assert f"certs.d/{server.host}/ca.crt" in said
        rootless("pull", image.name, SSL_CERT_FILE=server.ca_file)
        rootless("rmi", image.name)
        rootless("pull", image.name, ROOTLESS_REGISTRY_INSECURE=server.host)
        rootless("rmi", image.name)
        home = Path(rootless.env["XDG_CONFIG_HOME"]) / "rootless/certs.d" / server.host
        home.mkdir(parents=True)
        certificate = home / "ca.crt"
        certificate.write_text("not a certificate")
        said = fails(rootless, "pull", image.name)
        assert f"cannot use certificate {certificate}: it holds no PEM certificate" in said
        certificate.write_bytes(Path(server.ca_file).read_bytes())
        if os.getuid():
            certificate.chmod(0)
            assert "permission denied" in fails(rootless, "pull", image.name)
            certificate.chmod(0o600)
        rootless("pull", image.name)


def test_a_mirror_is_asked_first_and_may_fail(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    image = Pushed(registry, layout, layout.image([SMALL]), "mirror/team/it:1")
    config = Path(rootless.env["XDG_CONFIG_HOME"]) / "rootless/registries.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(
        f'[[registry]]\nprefix = "registry.invalid"\nlocation = "{registry.host}/nowhere"\n'
        f'mirrors = ["127.0.0.1:9", "{registry.host}/mirror"]\n'
    )
    said = rootless("pull", "registry.invalid/team/it:1").stdout
    assert said.splitlines()[-1] == "registry.invalid/team/it:1"
    assert f"Digest: {image.digest}" in said
    assert "registry.invalid/team/other:1 not found" in fails(
        rootless, "pull", "registry.invalid/team/other:1"
    )


# what breaks


def test_a_damaged_blob(rootless: Any, registry: RegistryServer, layout: Layout) -> None:
    image = Pushed(
        registry, layout, layout.image([SMALL, {"data": noise(300_000, 1)}]), "bad/blob:1"
    )
    file = registry.blob_file(image.layers[1])
    good = file.read_bytes()
    file.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
    said = fails(rootless, "pull", image.name)
    assert f"cannot verify blob {image.layers[1]}: its digest is sha256:" in said
    assert_nothing_half_made(rootless)
    assert image.layers[1][7:] not in blobs(rootless)
    file.write_bytes(good)
    assert "Pull complete" in rootless("pull", image.name).stdout


def test_a_truncated_blob(rootless: Any, registry: RegistryServer, layout: Layout) -> None:
    image = Pushed(registry, layout, layout.image([{"data": noise(300_000, 2)}]), "short/blob:1")
    file = registry.blob_file(image.layers[0])
    good = file.read_bytes()
    file.write_bytes(good[:100_000])
    said = fails(rootless, "pull", image.name)
    assert f"blob {image.layers[0]}" in said
    assert_nothing_half_made(rootless)
    file.write_bytes(good)
    rootless("pull", image.name)


def test_a_blob_that_is_gone(rootless: Any, registry: RegistryServer, layout: Layout) -> None:
    image = Pushed(registry, layout, layout.image([SMALL, {"data": "gone"}]), "gone/blob:1")
    file = registry.blob_file(image.layers[1])
    file.rename(file.with_name("moved"))
    said = fails(rootless, "pull", image.name)
    assert f"cannot fetch blob {image.layers[1]}" in said
    assert_nothing_half_made(rootless)


def test_a_damaged_manifest(rootless: Any, registry: RegistryServer, layout: Layout) -> None:
    image = Pushed(registry, layout, layout.image([SMALL]), "bad/manifest:1")
    file = registry.blob_file(image.digest)
    file.write_bytes(file.read_bytes().replace(b'"schemaVersion"', b'"schemaversion"'))
    fails(rootless, "pull", image.name)
    file.write_bytes(b"\x00" * 100)
    fails(rootless, "pull", f"{registry.host}/bad/manifest@{image.digest}")
    assert_nothing_half_made(rootless)


def test_a_layer_that_is_not_its_diff_id(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    entry = layout.image([SMALL, {"a": "b"}])
    document = layout.manifest(entry)
    document["layers"].reverse()
    data = json.dumps(document).encode()
    image = Pushed(registry, layout, layout.blob(data, entry["mediaType"]), "wrong/diff:1")
    said = fails(rootless, "pull", image.name)
    assert "cannot verify layer sha256:" in said
    assert_nothing_half_made(rootless)


def test_a_broken_connection_is_taken_up_again(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    image = Pushed(registry, layout, layout.image([{"data": noise(3_000_000, 3)}]), "cut/once:1")
    with cutting(registry.host, 1_000_000, 2) as proxy:
        name = image.name.replace(registry.host, proxy.host)
        assert "Pull complete" in rootless("pull", name).stdout
        assert proxy.done == 2
        assert proxy.brought < 4_500_000  # the parts that had arrived did not come twice


def test_a_registry_that_dies_while_it_sends(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    image = Pushed(
        registry, layout, layout.image([{"data": noise(2_000_000, 4)}, SMALL]), "dies/it:1"
    )
    with cutting(registry.host, 1 << 40, 0) as proxy:
        proxy.dies_after = 1_000_000
        name = image.name.replace(registry.host, proxy.host)
        said = fails(rootless, "pull", name)
        assert f"cannot reach registry {proxy.host}: " in said
    assert_nothing_half_made(rootless)
    assert image.layers[0][7:] not in blobs(rootless)
    rootless("pull", image.name)


def test_an_interrupted_pull_stops_at_once_and_goes_on_later(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    image = Pushed(
        registry,
        layout,
        layout.image([SMALL, {"data": noise(3_000_000, 6)}]),
        "stop/it:1",
    )
    with cutting(registry.host, 1 << 40, 0, delay=0.05) as proxy:
        name = image.name.replace(registry.host, proxy.host)
        process = subprocess.Popen(
            [*rootless.argv, "pull", name],
            env=rootless.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(image.short(0).encode()) and b"Pull complete" in line:
                break
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - before < 5
        assert process.returncode != 0
        assert b"Traceback" not in said
    assert_nothing_half_made(rootless)
    assert image.layers[0][7:] in blobs(rootless)
    done = rootless("pull", image.name).stdout
    assert f"{image.short(0)}: Already exists" in done
    assert f"{image.short(1)}: Pull complete" in done


def test_a_registry_that_is_down(rootless: Any, tmp_path: Path) -> None:
    server = start_registry(tmp_path / "registry")
    server.stop()
    said = fails(rootless, "pull", f"{server.host}/a/b:1")
    assert f"cannot reach registry {server.host}: ECONNREFUSED (connection refused)" in said


def test_a_blob_damaged_here_is_fetched_again(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    image = Pushed(registry, layout, layout.image([{"data": noise(50_000, 7)}]), "local/bad:1")
    rootless("pull", image.name)
    blob = store(rootless) / "images/blobs/sha256" / image.layers[0][7:]
    blob.write_bytes(bytes(blob.stat().st_size))
    rootless.python(
        "import os\n"
        "from rootless.engine.context import Context\n"
        "ctx = Context.load(os.environ)\n"
        "ctx.remove_trees([ctx.paths.layers])\n"
    )
    assert "Pull complete" in rootless("pull", image.name).stdout
    assert blob.read_bytes().strip(b"\0") != b""


def test_one_image_pulled_by_many_at_once(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    image = Pushed(
        registry, layout, layout.image([SMALL, {"data": noise(400_000, 8)}]), "many/pulls:1"
    )
    processes = [
        subprocess.Popen(
            [*rootless.argv, "pull", image.name],
            env=rootless.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 0, said
    assert len(rootless("images", "-q").stdout.split()) == 1
    assert list(store(rootless).glob("images/ingest/*")) == []


def test_a_live_display_on_a_terminal(
    rootless: Any, registry: RegistryServer, layout: Layout
) -> None:
    image = Pushed(
        registry, layout, layout.image([SMALL, {"data": noise(800_000, 9)}]), "live/it:1"
    )
    with cutting(registry.host, 1 << 40, 0, delay=0.01) as proxy:
        name = image.name.replace(registry.host, proxy.host)
        shown = on_terminal([*rootless.argv, "pull", name], {**rootless.env, "TERM": "xterm"})
    assert f"{image.short(1)}: Downloading" in shown
    assert f"{image.short(1)}: Pull complete" in shown
    assert "\x1b[?25l" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    assert shown.endswith(f"{name}\r\n")


def on_terminal(argv: list[str], env: dict[str, str]) -> str:
    """All that a command writes to its terminal."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(argv, env=env, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        slave = -1
        out = b""
        while select.select([master], [], [], 60)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: nobody has the other side any more
                break
            out += data
        assert process.wait(60) == 0, out
        return out.decode()
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
