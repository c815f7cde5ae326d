"""What the storage benchmark does inside a container: ``storage_work.py BASE...``; one JSON object to stdout.

BASE is a directory with what tests/images/benchtree.py makes, or a copy of it on another filesystem; the
figures of each are under its name.  Every figure is in the unit that UNITS has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

UNITS = {
    "untar 20,000 files": "s",
    "stat walk of 50,000 files, first": "us/file",
    "stat walk of 50,000 files, warm": "us/file",
    "open+read+close, warm": "us/file",
    "create 5,000 files": "us/file",
    "unlink 5,000 files": "us/file",
    "write 1 GB": "GB/s",
    "read 1 GB, warm": "GB/s",
    "import sympy": "s",
}
BLOCK = bytes(1 << 20)
SIZE = 1024


def listed(tree: str) -> list[str]:
    """The paths of TREE in the order in which git would look at them; made without a stat of any."""
    with open(f"{tree}.list", encoding="ascii") as file:
        return [f"{tree}/{line}" for line in file.read().split("\n") if line]


def seconds(work: object) -> float:
    """How long WORK takes."""
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def stat_all(paths: list[str]) -> None:
    """lstat each path."""
    lstat = os.lstat
    for path in paths:
        lstat(path)


def read_all(paths: list[str]) -> None:
    """Open, read and close each file."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 1 << 16)
        os.close(fd)


def create_all(directory: str, count: int) -> None:
    """Make files of one kilobyte."""
    os.mkdir(directory)
    for number in range(count):
        fd = os.open(f"{directory}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, BLOCK[:1024])
        os.close(fd)


def unlink_all(directory: str, count: int) -> None:
    """Remove what create_all() made."""
    for number in range(count):
        os.unlink(f"{directory}/{number}")
    os.rmdir(directory)


def write_big(path: str) -> None:
    """One gigabyte in pieces of one megabyte."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    for _ in range(SIZE):
        os.write(fd, BLOCK)
    os.close(fd)


def read_big(path: str) -> None:
    """The same back."""
    fd = os.open(path, os.O_RDONLY)
    buffer = bytearray(1 << 20)
    while os.readv(fd, [buffer]):
        pass
    os.close(fd)


def measure(base: str) -> dict[str, float]:
    """All figures of one directory."""
    paths = listed(f"{base}/tree")
    found: dict[str, float] = {}
    each = 1e6 / len(paths)
    found["stat walk of 50,000 files, first"] = seconds(lambda: stat_all(paths)) * each
    warm = sorted(seconds(lambda: stat_all(paths)) for _ in range(3))
    found["stat walk of 50,000 files, warm"] = warm[1] * each
    some = paths[:10_000]
    read_all(some)
    warm = sorted(seconds(lambda: read_all(some)) for _ in range(3))
    found["open+read+close, warm"] = warm[1] * 1e6 / len(some)
    work = f"{base}/work"
    found["create 5,000 files"] = seconds(lambda: create_all(work, 5000)) * 200
    found["unlink 5,000 files"] = seconds(lambda: unlink_all(work, 5000)) * 200
    big = f"{base}/big"
    found["write 1 GB"] = 1 / seconds(lambda: write_big(big))
    read_big(big)
    warm = sorted(seconds(lambda: read_big(big)) for _ in range(3))
    found["read 1 GB, warm"] = 1 / warm[1]
    os.unlink(big)
    out = f"{base}/out"
    os.mkdir(out)
    command = ["/bin/tar", "-xf", f"{base}/small.tar", "-C", out]
    found["untar 20,000 files"] = seconds(lambda: subprocess.run(command, check=True))
    code = f"import sys; sys.path.insert(0, {base + '/lib'!r}); import sympy"
    command = [sys.executable, "-I", "-S", "-c", code]
    subprocess.run(command, check=True)
    warm = sorted(seconds(lambda: subprocess.run(command, check=True)) for _ in range(3))
    found["import sympy"] = warm[1]
    return found


def main(bases: list[str]) -> None:
    """Measure each directory and tell."""
    print(json.dumps({base: measure(base) for base in bases}))


if __name__ == "__main__":
    main(sys.argv[1:])
