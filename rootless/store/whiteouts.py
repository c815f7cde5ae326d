"""What a writable layer hides: reading whiteouts and opaque marks in every form a driver writes.

Overlayfs: 0/0 character devices, ``user.overlay.opaque``; fuse-overlayfs and our own: those, or empty files
``.wh.NAME`` and ``.wh..wh..opq``.  Pure looking; nothing is made or removed.
"""

from __future__ import annotations

import os
import stat

PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"
_OPAQUE_XATTRS = ("user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque")


def hidden_by(name: bytes, info: os.stat_result, *, marks: bool) -> bytes | None:
    """The name that the entry NAME hides in lower layers; None for an ordinary entry.

    MARKS: whether ``.wh.`` files mean anything here; b"" comes back for bookkeeping such as the opaque mark.
    """
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
        return name
    if marks and name.startswith(PREFIX):
        return b"" if name.startswith(b".wh..wh.") else name[len(PREFIX) :]
    return None


def is_opaque(directory: int, *, marks: bool) -> bool:
    """Whether the open directory hides all that lower layers have in it."""
    for name in _OPAQUE_XATTRS:
        try:
            if os.getxattr(directory, name) == b"y":
                return True
        except OSError:
            continue
    if marks:
        try:
            os.stat(OPAQUE, dir_fd=directory, follow_symlinks=False)
        except OSError:
            return False
        return True
    return False
