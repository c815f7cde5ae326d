"""A guest's disk: made by mmdebstrap from the machine's own package mirror, kept by a hash of its recipe.

The cached files are never written to: the emulator puts a temporary overlay on the disk.  Whoever runs this
needs no root: an ordinary user's files get their owners in a user namespace.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .guest import HERE, Guest, LaneError, cache

BUILD_SECONDS = 900
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Image(NamedTuple):
    """What a machine boots from."""

    disk: Path
    kernel: Path
    initrd: Path


def mirror() -> str:
    """The Debian mirror this machine's package manager uses; raises LaneError."""
    chosen = os.environ.get("ROOTLESS_VM_MIRROR")
    if chosen:
        return chosen
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(LABEL)",
         "Created-By: Packages", "Component: main"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        uri, codename, label = (*line.split(), "", "")[:3]
        if label == "Debian" and "-" not in codename:
            return uri
    raise LaneError(
        "cannot find a Debian mirror among this machine's package sources: name one in ROOTLESS_VM_MIRROR"
    )


def mmdebstrap(
    suite: str, variant: str, packages: Sequence[str], target: Path, *words: str
) -> None:
    """Make a Debian as a tar; raises LaneError."""
    mode = "root" if os.getuid() == 0 else "unshare"
    argv = ["mmdebstrap", "--quiet", f"--mode={mode}", f"--variant={variant}", "--format=tar"]
    if packages:
        argv.append(f"--include={','.join(packages)}")
    run([*argv, *words, suite, str(target), f"deb {mirror()} {suite} main"], f"make {target.name}")


def run(argv: Sequence[str], what: str) -> None:
    """Run a program of the build; what it says is the reason when it fails.  Raises LaneError."""
    if not shutil.which(argv[0], path=PATH):
        raise LaneError(f"cannot {what}: {argv[0]} is not installed (tests/run installs it)")
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=BUILD_SECONDS,
            env={**os.environ, "PATH": PATH},
        )
    except subprocess.TimeoutExpired:
        raise LaneError(f"cannot {what}: not done after {BUILD_SECONDS} s") from None
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise LaneError(f"cannot {what}: {argv[0]} failed:\n{tail}")


def recipe_key(*parts: object) -> str:
    """A name for what is made of PARTS; files count with their content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


@contextmanager
def unfinished(final: Path) -> Iterator[Path]:
    """A directory that becomes FINAL when the body is done; what a kill left of an earlier one goes."""
    temporary = final.with_name(f".{final.name}.new")
    remove(temporary)
    temporary.mkdir()
    yield temporary
    for path in filter(Path.is_file, temporary.rglob("*")):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    temporary.rename(final)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """One builder at a time of what is kept under NAME."""
    with open(cache() / f".{name}.lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Take away a directory, whoever its files belong to."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        run([*namespace(), "rm", "-rf", "--", str(path)], f"remove {path}")


def prune(kind: str, keep: Path) -> None:
    """Remove what of KIND nobody used for a fortnight; using touches."""
    os.utime(keep)
    sweep(f"{kind}-*", days=14)


def sweep(pattern: str, days: float) -> None:
    """Remove directories of the cache that are older."""
    for path in cache().glob(pattern):
        if path.stat().st_mtime < time.time() - days * 86400:
            remove(path)


def namespace() -> list[str]:
    """What makes the following words root of a namespace with many IDs; nothing for root."""
    return [] if os.getuid() == 0 else ["unshare", "--map-root-user", "--map-auto"]


def ensure(guest: Guest) -> Image:
    """The guest's disk, kernel and initial RAM disk; built if this recipe never was.  Raises LaneError."""
    customize = guest.directory / "customize"
    service = HERE / "guest" / "lane.service"
    key = recipe_key(
        guest.suite, guest.packages, guest.disk, mirror(), customize, service, Path(__file__)
    )
    final = cache() / f"{guest.name}-{key}"
    with lock(guest.name):
        if not final.exists():
            print(f"tests/vm/run: building the {guest.name} guest", flush=True)
            with unfinished(final) as directory:
                _build(guest, customize, service, directory)
        prune(guest.name, final)
    return Image(final / "disk.img", final / "vmlinuz", final / "initrd")


def _build(guest: Guest, customize: Path, service: Path, directory: Path) -> None:
    tar, tree, disk = directory / "root.tar", directory / "root", directory / "disk.img"
    hooks = [
        f"--customize-hook=copy-in {service} /etc/systemd/system",
        f"--customize-hook=copy-in {customize} /tmp",
        '--customize-hook=chroot "$1" sh -eu /tmp/customize && rm "$1/tmp/customize"',
    ]
    mmdebstrap(guest.suite, "minbase", guest.packages, tar, *hooks)
    tree.mkdir()
    # The kernel fills /dev; nodes cannot be made in a namespace.
    script = (
        'tar -xf "$1" -C "$2" --numeric-owner --exclude="./dev/*" && rm "$1" && '
        'mke2fs -q -t ext4 -O ^has_journal -L root -d "$2" "$3" "$4" && '
        'cp "$2"/boot/vmlinuz-* "$5/vmlinuz" && cp "$2"/boot/initrd.img-* "$5/initrd" && rm -rf "$2"'
    )
    words = [str(tar), str(tree), str(disk), guest.disk, str(directory)]
    run([*namespace(), "sh", "-euc", script, "sh", *words], f"make {disk.name}")
