"""Logging beside podman and conmon, alternating in one run: throughput, memory of the supervisor, reading.

    python3 tests/bench/log.py --rootless ~/.local/bin/rootless --where TMPFS_DIR [--rounds N] [--size MB]

Needs what tests/bench/bench.py needs, and memory for what is logged.  A container prints a file of lines that
it has mounted, four times; the clock runs from the start of `run -d` to the end of `wait`, without the second
that the container sleeps.  rootless writes json-file, podman k8s-file, whose lines are not escaped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from bench import IMAGE, Engine, Result, _pids, engines_in

KINDS = {"lines of 100 bytes": 100, "lines of 20 bytes": 20, "lines of 4,000 bytes": 4000}
SUPERVISORS = {"rootless": "monitor", "podman": "conmon"}
DRIVERS = {"rootless": "json-file", "podman": "k8s-file"}


def lines(path: str, length: int, size: int) -> None:
    """A file of SIZE bytes in lines of LENGTH bytes."""
    text = b"".join(b"%0*d" % (length - 1, n) + b"\n" for n in range(4096))
    with open(path, "wb") as file:
        for _ in range(max(1, size // len(text))):
            file.write(text)


class Watch(threading.Thread):
    """The greatest resident memory that a process has."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0

    def run(self) -> None:
        while True:
            try:
                with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
                    found = [line.split()[1] for line in file if line.startswith("VmRSS:")]
            except OSError:
                return
            self.peak = max([self.peak, *map(int, found)])
            time.sleep(0.02)


def measured(engine: Engine, path: str) -> tuple[float, float, float]:
    """(MB/s logged, kB of the supervisor, MB/s read back) of one container that prints the file at PATH."""
    size = os.path.getsize(path) / 1e6
    script = "sleep 1; cat /data; cat /data; cat /data; cat /data"
    start = time.perf_counter()
    engine.run(
        *("run", "-d", "--name", "bench-log", "--network", "none", "-v", f"{path}:/data:ro"),
        *("--log-driver", DRIVERS[engine.name], IMAGE, "sh", "-c", script),
    )
    identity = engine.run("inspect", "-f", "{{.Id}}", "bench-log").stdout.strip()
    watches = [Watch(pid) for pid in _pids(SUPERVISORS[engine.name], identity)]
    for watch in watches:
        watch.start()
    engine.run("wait", "bench-log")
    logged = 4 * size / (time.perf_counter() - start - 1)
    peak = max(watch.peak for watch in watches)
    start = time.perf_counter()
    subprocess.run(
        [*engine.argv, "logs", "bench-log"], env=engine.env, stdout=subprocess.DEVNULL, check=True
    )
    read = 4 * size / (time.perf_counter() - start)
    engine.run("rm", "-f", "bench-log")
    return logged, float(peak), read


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rootless", default=os.path.expanduser("~/.local/bin/rootless"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--size", type=int, default=64, help="MB of the file, which is printed four times"
    )
    parser.add_argument("--where", default="")
    parser.add_argument("--runtime", default="crun")
    parser.add_argument("--alone", action="store_true", help="measure rootless only")
    options = parser.parse_args(argv)
    where = options.where or tempfile.mkdtemp(prefix="rootless-bench-")
    engines = engines_in(where, options)
    print(
        f"load {os.getloadavg()[0]:.1f}\n| case | rootless | podman | ratio |\n| --- | --- | --- | --- |"
    )
    path = f"{where}/lines"
    lines(path, 100, 1_000_000)
    for engine in engines:  # images are unpacked, the host is probed
        measured(engine, path)
    for kind, length in KINDS.items():
        lines(path, length, options.size * 1_000_000)
        samples: dict[str, list[tuple[float, float, float]]] = {one.name: [] for one in engines}
        for _ in range(options.rounds):
            for engine in engines:
                samples[engine.name].append(measured(engine, path))
        for at, (what, unit) in enumerate(
            (("logged", "MB/s"), ("supervisor", "kB"), ("read", "MB/s"))
        ):
            figures = {name: [one[at] for one in found] for name, found in samples.items()}
            print(Result(f"{kind}: {what}", figures, unit).row(), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}, median of {options.rounds} rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
