"""The lane's own disk: what changes with every commit, and what the guest would else need a network for.

    checkout/   the files of this checkout
    wheels/     the package's and its tests' dependencies for the guest's Python
    images/     busybox and a real Debian as OCI layouts
    guest/      start and the library of the steps
    steps/      the guest's steps, and their order in ``order``

Wheels and the Debian are cached; the disk is made anew for each run and is read-only in the guest.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .guest import HERE, TOP, Guest, LaneError, cache
from .image import lock, mirror, mmdebstrap, prune, recipe_key, run, unfinished

LEFT_OUT = (".git", "__pycache__", "build", "libexec", ".*_cache", ".hypothesis", "*.pyc")
DEBIAN = "debian:11"
# Enough to install packages from inside: one whose files belong to a group that its scripts make.
DEBIAN_PACKAGES = ("ca-certificates", "python3-minimal")
DEBS = ("cron", "sensible-utils", "hello")
NO_WHEEL = ("fusepy",)  # sources only; what tests it is skipped in a guest
OCI = "application/vnd.oci.image"
# pip evaluates markers for the interpreter that runs it, whatever --python-version says.
PIP = """import sys
from pip._vendor.packaging import markers
real, version = markers.default_environment, sys.argv.pop(1)
markers.default_environment = lambda: {
    **real(), "python_version": version, "python_full_version": version + ".0"}
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def make(guest: Guest, steps: Sequence[str], disk: Path) -> None:
    """Write the lane's disk for one run; raises LaneError."""
    wheels, debian, busybox = (
        ensure_wheels(guest),
        ensure_debian(guest),
        f"{TOP}/tests/images/busybox.py",
    )
    tree = disk.with_suffix(".tree")
    shutil.copytree(TOP, tree / "checkout", symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copytree(wheels, tree / "wheels")
    shutil.copytree(debian, tree / "images" / "debian")
    run([sys.executable, busybox, str(tree / "images" / "busybox")], "make the busybox image")
    shutil.copytree(HERE / "guest", tree / "guest")
    shutil.copytree(guest.directory / "steps", tree / "steps")
    (tree / "steps" / "order").write_text("".join(f"{step}\n" for step in steps))
    size = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
    argv = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-L", "lane", "-d", str(tree)]
    run([*argv, str(disk), f"{size * 5 // 4 // 1024 + 16384}k"], f"make {disk.name}")
    shutil.rmtree(tree)


def ensure_wheels(guest: Guest) -> Path:
    """A directory of wheels for the guest's Python, from this machine's package index."""
    key = recipe_key(guest.python, os.uname().machine, TOP / "pyproject.toml", Path(__file__))
    final = cache() / f"wheels-{key}"
    with lock("wheels"):
        if not final.exists():
            print(f"tests/vm/run: fetching wheels for Python {guest.python}", flush=True)
            with unfinished(final) as directory:
                _fetch(guest.python, directory)
        prune("wheels", final)
    return final


def _fetch(python: str, directory: Path) -> None:
    environment = cache() / "pip"
    pip = environment / "bin" / "python"
    if not pip.exists():
        run([sys.executable, "-m", "venv", str(environment)], "make an environment with pip")
    machine, version = os.uname().machine, python.replace(".", "")
    argv = [str(pip), "-c", PIP, python, "download", "-q", "--disable-pip-version-check"]
    argv += ["-d", str(directory), "--only-binary=:all:", "--implementation=cp"]
    argv += [f"--python-version={python}", f"--abi=cp{version}", "--abi=abi3", "--abi=none"]
    argv += [f"--platform=manylinux2014_{machine}"]
    argv += [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(5, 32)]
    run([*argv, *_requirements(python)], f"fetch wheels for Python {python}")


def _requirements(python: str) -> list[str]:
    """What install.sh and the tests in the guest need."""
    code = (
        "import json, sys\n"
        "try:\n    import tomllib\n"
        "except ImportError:\n    from pip._vendor import tomli as tomllib\n"
        "document = tomllib.load(open(sys.argv[1], 'rb'))\n"
        "extras = document['project']['optional-dependencies']\n"
        "print(json.dumps([*document['project']['dependencies'], *document['build-system']['requires'],\n"
        "                  *extras['fast'], *extras['test']]))"
    )
    interpreter = str(cache() / "pip" / "bin" / "python")
    done = subprocess.run(
        [interpreter, "-c", code, str(TOP / "pyproject.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LaneError(f"cannot read pyproject.toml: {done.stderr.strip()}")
    return [one for one in json.loads(done.stdout) if not one.startswith(NO_WHEEL)]


def ensure_debian(guest: Guest) -> Path:
    """A real Debian of the guest's suite as an OCI layout, with packages to install from inside."""
    key = recipe_key(guest.suite, DEBIAN, DEBIAN_PACKAGES, DEBS, mirror(), Path(__file__))
    final = cache() / f"debian-{key}"
    with lock("debian"):
        if not final.exists():
            print("tests/vm/run: making the Debian image", flush=True)
            with unfinished(final) as directory:
                tar = directory / "root.tar"
                download = f"mkdir /srv/debs; cd /srv/debs; apt-get -q download {' '.join(DEBS)}"
                fetch = f'chroot "$1" sh -euc "{download}"'
                mmdebstrap(guest.suite, "apt", DEBIAN_PACKAGES, tar, f"--customize-hook={fetch}")
                _layout(tar, directory)
                tar.unlink()
        prune("debian", final)
    return final


def _layout(tar: Path, directory: Path) -> None:
    """The tar as the only layer of an image named DEBIAN, in the OCI layout DIRECTORY."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    content = tar.read_bytes()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(content, 1, mtime=0), "layer.v1.tar+gzip")],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": DEBIAN}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
