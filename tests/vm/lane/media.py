"""The lane's own disk: what changes with every commit, and what the guest would else need a network for.

    checkout/   the files of this checkout
    wheels/     the package's and its tests' dependencies for the guest's Python
    site/       in place of those two: rootless ready to run (site/bin/rootless), built by this machine
    images/     busybox and a real Debian as OCI layouts
    guest/      start and the library of the steps
    steps/      the guest's steps, and their order in ``order``

Wheels, what is unpacked of them and the Debian are cached; the disk is made anew for each run and is read-only
in the guest.
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
from .image import PATH, lock, mirror, mmdebstrap, prune, recipe_key, run, unfinished

LEFT_OUT = (".git", "__pycache__", "build", "libexec", ".*_cache", ".hypothesis", "*.pyc")
NO_WHEEL = ("fusepy",)  # sources only; what tests it is skipped in a guest
SITE_PROGRAM = """#!/usr/bin/python3 -IS
import sys
sys.path.append("/lane/site")
from rootless.__main__ import script
script()
"""
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
    tree = disk.with_suffix(".tree")
    tree.mkdir()
    if "checkout" in guest.parts:
        left_out = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(TOP, tree / "checkout", symlinks=True, ignore=left_out)
    if "wheels" in guest.parts:
        shutil.copytree(ensure_wheels(guest), tree / "wheels")
    if "site" in guest.parts:
        _site(guest, tree / "site")
    shutil.copytree(ensure_debian(guest), tree / "images" / "debian")
    busybox = [f"{TOP}/tests/images/busybox.py", str(tree / "images" / "busybox")]
    run([sys.executable, *busybox], "make the busybox image")
    shutil.copytree(HERE / "guest", tree / "guest")
    shutil.copytree(guest.directory / "steps", tree / "steps")
    (tree / "steps" / "order").write_text("".join(f"{step}\n" for step in steps))
    size = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
    argv = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-L", "lane", "-d", str(tree)]
    run([*argv, str(disk), f"{size * 5 // 4 // 1024 + 16384}k"], f"make {disk.name}")
    shutil.rmtree(tree)


def _site(guest: Guest, site: Path) -> None:
    """What install.sh would leave, for a guest in which it would take minutes."""
    shutil.copytree(ensure_dependencies(guest), site)
    package = site / "rootless"
    left_out = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(TOP / "rootless", package, ignore=left_out)
    shutil.copytree(TOP / "conf", package / "conf", ignore=left_out)
    scratch = site.parent / "scratch"
    make = ["make", "-s", "-C", str(TOP / "helpers"), "install", f"BUILD={scratch}"]
    run([*make, f"LIBEXEC={package / 'libexec'}"], "build the helper programs")
    shutil.rmtree(scratch)
    program = site / "bin" / "rootless"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SITE_PROGRAM)
    program.chmod(0o755)
    _compile(guest, package)


def _compile(guest: Guest, directory: Path) -> None:
    """Byte code, where this machine has the guest's Python; it would be made anew at each start else."""
    python = shutil.which(f"python{guest.python}", path=PATH)
    if python:
        argv = [python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        run([*argv, str(directory)], f"compile {directory.name}")


def ensure_dependencies(guest: Guest) -> Path:
    """The wheels that rootless itself needs, unpacked for the guest's Python."""
    wheels = ensure_wheels(guest)
    final = cache() / f"site-{recipe_key(wheels.name, Path(__file__))}"
    with lock("site"):
        if not final.exists():
            with unfinished(final) as directory:
                argv = [str(cache() / "pip" / "bin" / "python"), "-c", PIP, guest.python, "install"]
                argv += [
                    "-q",
                    "--disable-pip-version-check",
                    "--no-index",
                    f"--find-links={wheels}",
                ]
                argv += ["--no-compile", f"--target={directory}", *_target(guest.python)]
                wanted = _requirements("project dependencies", "fast")
                run([*argv, *wanted], "unpack wheels")
                _compile(guest, directory)
        prune("site", final)
    return final


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
    argv = [str(pip), "-c", PIP, python, "download", "-q", "--disable-pip-version-check"]
    argv += ["-d", str(directory), *_target(python)]
    wanted = _requirements("project dependencies", "build-system requires", "fast", "test")
    run([*argv, *wanted], f"fetch wheels for Python {python}")


def _target(python: str) -> list[str]:
    """Words that tell pip for which Python, not its own, it chooses."""
    machine, version = os.uname().machine, python.replace(".", "")
    return [
        "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
        f"--abi=cp{version}", "--abi=abi3", "--abi=none", f"--platform=manylinux2014_{machine}",
        *(f"--platform=manylinux_2_{minor}_{machine}" for minor in range(5, 32)),
    ]  # fmt: skip


def _requirements(*lists: str) -> list[str]:
    """What LISTS of pyproject.toml name: a table and a key of it, or an extra."""
    code = (
        "import json, sys\n"
        "try:\n    import tomllib\n"
        "except ImportError:\n    from pip._vendor import tomli as tomllib\n"
        "document = tomllib.load(open(sys.argv[1], 'rb'))\n"
        "extras = document['project']['optional-dependencies']\n"
        "found = [extras[name] if name in extras else document[name.split()[0]][name.split()[1]]\n"
        "         for name in sys.argv[2:]]\n"
        "print(json.dumps([one for every in found for one in every]))"
    )
    interpreter = str(cache() / "pip" / "bin" / "python")
    done = subprocess.run(
        [interpreter, "-c", code, str(TOP / "pyproject.toml"), *lists],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LaneError(f"cannot read pyproject.toml: {done.stderr.strip()}")
    return [one for one in json.loads(done.stdout) if not one.startswith(NO_WHEEL)]


def ensure_debian(guest: Guest) -> Path:
    """A real Debian of the guest's suite as an OCI layout, with packages to install from inside."""
    made_of = (guest.suite, guest.debian, guest.debian_packages, guest.debs)
    key = recipe_key(*made_of, mirror(), Path(__file__))
    final = cache() / f"debian-{key}"
    with lock("debian"):
        if not final.exists():
            print("tests/vm/run: making the Debian image", flush=True)
            with unfinished(final) as directory:
                tar = directory / "root.tar"
                words = [
                    "--dpkgopt=path-exclude=/usr/share/doc/*",
                    "--dpkgopt=path-exclude=/usr/share/locale/*",
                ]
                if guest.debs:
                    download = (
                        f"mkdir /srv/debs; cd /srv/debs; apt-get -q download {' '.join(guest.debs)}"
                    )
                    words.append(f"--customize-hook=chroot \"$1\" sh -euc '{download}'")
                mmdebstrap(guest.suite, "apt", guest.debian_packages, tar, *words)
                _layout(tar, directory, guest.debian)
                tar.unlink()
        prune("debian", final)
    return final


def _layout(tar: Path, directory: Path, name: str) -> None:
    """The tar as the only layer of an image NAME, in the OCI layout DIRECTORY."""
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
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
