"""A filesystem that refuses what NFS refuses: python3 poorfs.py SOURCE MOUNTPOINT [SUBTYPE [mmap] [locks]]

SOURCE seen through FUSE, without extended attributes, device nodes, changes of owner, reflinks, O_TMPFILE,
renames that exchange or leave a whiteout.
SUBTYPE (sshfs) is what the mount table calls it.  With mmap it has no shared mappings, with locks no locks.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import mfusepy


def refuse(number: int) -> Any:
    def operation(*_: Any, **__: Any) -> Any:
        raise mfusepy.FuseOSError(number)

    return operation


class Poor(mfusepy.Operations):
    use_ns = True

    def __init__(self, source: str) -> None:
        self.source = source

    def real(self, path: str) -> str:
        return self.source + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        info = os.lstat(self.real(path))
        found = {
            key: getattr(info, key)
            for key in ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino", "st_blocks")
        }
        for key in ("atime", "mtime", "ctime"):
            found[f"st_{key}"] = getattr(info, f"st_{key}_ns")
        return found

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.real(path))]

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.real(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.real(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.real(path))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        os.rename(self.real(old), self.real(new))

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self.real(target))

    def readlink(self, path: str) -> str:
        return os.readlink(self.real(path))

    def link(self, target: str, source: str) -> None:
        os.link(self.real(source), self.real(target))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.real(path), mode)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self.real(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self.real(path), flags & ~(os.O_CREAT | os.O_EXCL | os.O_APPEND))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self.real(path), length)

    def flush(self, path: str, fh: int) -> None:
        pass

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(self.real(path), ns=times, follow_symlinks=False) if times else None

    def statfs(self, path: str) -> dict[str, int]:
        info = os.statvfs(self.source)
        return {
            key: getattr(info, key)
            for key in (
                "f_bavail",
                "f_bfree",
                "f_blocks",
                "f_bsize",
                "f_files",
                "f_ffree",
                "f_namemax",
            )
        }

    chown = refuse(errno.EPERM)
    mknod = refuse(errno.EPERM)
    setxattr = refuse(errno.ENOTSUP)
    getxattr = refuse(errno.ENOTSUP)
    listxattr = refuse(errno.ENOTSUP)
    removexattr = refuse(errno.ENOTSUP)


class Server(mfusepy.FUSE):
    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        """As libfuse 2 and NFS do; mfusepy ignores FLAGS, and a whiteout that was promised is missing."""
        if flags:
            raise mfusepy.FuseOSError(errno.EINVAL)
        return int(super().rename_fuse_3(old, new, flags) or 0)


if __name__ == "__main__":
    source, mountpoint, *rest = sys.argv[1:]
    options: dict[str, Any] = {"subtype": rest[0]} if rest else {}
    if "mmap" in rest[1:]:
        options["direct_io"] = True
    if "locks" in rest[1:]:
        Poor.lock = refuse(errno.ENOLCK)
    Server(Poor(source), mountpoint, foreground=True, nothreads=True, **options)
