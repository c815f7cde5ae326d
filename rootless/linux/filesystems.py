"""What kind of filesystem a path is on, as the kernel's mount table has it."""

from __future__ import annotations

import os

# Those that several machines share; what is derived from blobs is better kept on the node.
NETWORK = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "afs", "9p", "lustre", "gpfs", "beegfs", "ceph", "panfs"),
        *(
            "pvfs2",
            "orangefs",
            "wekafs",
            "fuse.ceph",
            "fuse.glusterfs",
            "fuse.sshfs",
            "fuse.juicefs",
        ),
    )
)


def kind(path: str) -> str:
    """Type of the filesystem that PATH is, or would be, on (ext4, nfs4, fuse.sshfs ...); "" if unknown."""
    path = os.path.abspath(path)
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    real = os.path.realpath(path)
    best, found = -1, ""
    for words in lines:
        point = words[4]
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Some filesystems (btrfs) show other device numbers than their mounts have.
        if inside and len(point) + (words[2] == wanted) >= best:
            best, found = len(point) + (words[2] == wanted), words[words.index("-") + 1]
    return found


def is_network(name: str) -> bool:
    """Whether a filesystem of that type is shared between machines."""
    return name in NETWORK
