"""A real Debian as an image, made from its packages once per recipe."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from typing import Any

from rig import World

SUITE = "bookworm"
PACKAGES = "python3-minimal,ca-certificates"
# Servers and tools of real networks, without what they never open: documents, a compiler, Perl.
NETWORK_PACKAGES = (
    "python3-minimal,postgresql,nginx-light,iproute2,nftables,iperf3,bind9-dnsutils,dnsperf,"
    "dnsmasq-base"
)
NETWORK_HOOK = (
    "chroot \"$1\" sh -c 'ln -sf /usr/lib/postgresql/*/bin/psql /usr/bin/psql' && "
    'cd "$1" && rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/i18n '
    "usr/share/perl usr/share/perl5 usr/lib/*/perl usr/lib/*/perl5 usr/lib/*/perl-base "
    "usr/lib/*/libperl* usr/bin/perl* usr/lib/*/libLLVM* usr/lib/*/libz3* "
    "usr/lib/postgresql/*/lib/bitcode usr/lib/postgresql/*/lib/llvmjit* "
    "var/lib/postgresql/*/main var/cache/apt var/lib/apt/lists var/lib/dpkg/info"
)


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


def tar(packages: str = PACKAGES, hook: str = "") -> str:
    """A minimal Debian with PACKAGES as a tar, made once per recipe; HOOK is shell for its tree, $1."""
    parts = (SUITE, packages, _sources(), *([hook] if hook else []))
    recipe = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    base = os.environ.get("ROOTLESS_TEST_CACHE") or os.path.expanduser("~/.cache/rootless-tests")
    path = f"{base}/debian-{recipe}.tar"
    if not os.path.exists(path):
        os.makedirs(base, exist_ok=True)
        unfinished = f"{base}/.{os.getpid()}-debian.tar"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--mode=unshare", "--variant=apt", f"--include={packages}",
             *([f"--customize-hook={hook}"] if hook else []), SUITE, unfinished, *_sources()],
            check=True,
            env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
        os.rename(unfinished, path)
    return path


def layout_of(archive: str, layout: str, name: str = "debian:12") -> None:
    """The tar as the image NAME in the OCI layout."""
    os.makedirs(f"{layout}/blobs/sha256")

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
            file.write(data)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    with open(archive, "rb") as file:
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
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    with open(f"{layout}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
    with open(f"{layout}/oci-layout", "w", encoding="ascii") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


def load(world: World, name: str = "debian:12", packages: str = PACKAGES, hook: str = "") -> None:
    """Load the image NAME."""
    layout = f"{world.top}/debian"
    layout_of(tar(packages, hook), layout, name)
    world("load", "-i", layout)
    shutil.rmtree(layout)
