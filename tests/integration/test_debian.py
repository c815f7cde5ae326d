"""A real Debian, made from its packages: what people do in one."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from rig import World

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "mmdebstrap")
SUITE = "bookworm"
PACKAGES = "python3-minimal,ca-certificates"


def _sources() -> list[str]:
    """The machine's own package sources that serve the suite."""
    found = []
    for directory, name in (
        ("/etc/apt", "sources.list"),
        *(
            ("/etc/apt/sources.list.d", name)
            for name in sorted(os.listdir("/etc/apt/sources.list.d"))
        ),
    ):
        path = f"{directory}/{name}"
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                if SUITE in file.read():
                    found.append(path)
    return found


def _tar() -> str:
    """A minimal Debian as a tar, made once per recipe."""
    recipe = hashlib.sha256(repr((SUITE, PACKAGES, _sources())).encode()).hexdigest()[:16]
    base = os.environ.get("ROOTLESS_TEST_CACHE") or os.path.expanduser("~/.cache/rootless-tests")
    path = f"{base}/debian-{recipe}.tar"
    if not os.path.exists(path):
        os.makedirs(base, exist_ok=True)
        unfinished = f"{base}/.{os.getpid()}-debian.tar"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--mode=unshare", "--variant=apt", f"--include={PACKAGES}",
             SUITE, unfinished, *_sources()],
            check=True,
            env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
        os.rename(unfinished, path)
    return path


def _layout(tar: str, layout: str) -> None:
    """The tar as an image in the OCI layout."""
    os.makedirs(f"{layout}/blobs/sha256")

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
            file.write(data)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    with open(tar, "rb") as file:
        content = file.read()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["bash"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(content, 1, mtime=0), "layer.v1.tar+gzip")],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "debian:12"}
    with open(f"{layout}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
    with open(f"{layout}/oci-layout", "w", encoding="ascii") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        layout = f"{world.top}/debian"
        _layout(_tar(), layout)
        world("load", "-i", layout)
        shutil.rmtree(layout)
        yield world
    finally:
        world.close()


def test_python_and_pipelines(rl: World) -> None:
    assert rl.out("run", "--rm", "debian:12", "python3", "-c", "print(6 * 7)") == "42"
    pipeline = "seq 100 | grep 7 | sort -rn | head -n 1"
    assert rl.out("run", "--rm", "debian:12", "bash", "-c", pipeline) == "97"


def test_users_of_the_image(rl: World) -> None:
    assert rl.out("run", "--rm", "-u", "nobody", "debian:12", "id", "-un") == "nobody"
    owner = rl.out("run", "--rm", "debian:12", "stat", "-c", "%U:%G %a", "/etc/shadow")
    assert owner == "root:shadow 640"


def test_a_package_is_installed(rl: World) -> None:
    script = (
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends hello >/dev/null "
        "&& hello && stat -c %U /var/cache/apt/archives/partial"
    )
    done = rl("run", "--rm", "debian:12", "bash", "-c", script)
    assert done.stdout.splitlines()[-2:] == ["Hello, world!", "_apt"]


def test_a_package_is_built_and_unpacked(rl: World) -> None:
    script = (
        "mkdir -p /p/DEBIAN /p/srv && echo content > /p/srv/file && chown 33:33 /p/srv/file && "
        "printf 'Package: own\\nVersion: 1\\nArchitecture: all\\nMaintainer: t <t@example.org>\\n"
        "Description: t\\n' > /p/DEBIAN/control && dpkg-deb -b /p /own.deb >/dev/null && "
        "dpkg -i /own.deb >/dev/null && stat -c %U /srv/file && dpkg -r own >/dev/null && test ! -e /srv/file"
    )
    assert (
        rl.out("run", "--rm", "--network", "none", "debian:12", "bash", "-c", script) == "www-data"
    )
