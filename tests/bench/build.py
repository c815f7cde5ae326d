"""Builds beside `buildah build --layers`, alternating in one run, on one filesystem.

    python tests/bench/build.py --rootless PROGRAM --base DEBIAN_TAR [--rounds N] [--json FILE] [CASE...]

DEBIAN_TAR is a Debian with Python, as the tests make it (~/.cache/rootless-tests/debian-*.tar); the Python that
runs this is that of the tests' environment.  Runs as an ordinary user in a directory (--where) that should be
on a tmpfs or a journaled filesystem; bench.py says why.  buildah works with its chroot isolation, the
fastest it has.  Nothing is fetched: commands copy, hash and compile what the base has.

Every figure is a whole process: a clean build of all steps, the same again with all in the cache, and with one
changed file in a COPY; milliseconds, median and the middle half.  Last, the most memory that all processes of
a clean build had at once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import debian  # type: ignore[import-not-found, unused-ignore]

BASE = "localhost/debian:12"
FILES = 2000
NAMES = ("rootless", "buildah")
KINDS = ("clean", "cached", "one changed COPY")


def _fan(count: int) -> str:
    stages = "".join(
        f"FROM {BASE} AS s{n}\nRUN sha256sum /usr/bin/* > /f{n}\n" for n in range(count)
    )
    return (
        f"{stages}FROM {BASE}\n"
        + "".join(f"COPY --from=s{n} /f{n} /\n" for n in range(count))
        + "COPY src /src\n"
    )


CASES = {
    "ten small steps": f"FROM {BASE}\nCOPY src /src\n"
    + "".join(f"RUN echo {n} > /{n}\n" for n in range(10)),
    "a service": (
        f"FROM {BASE}\nENV A=b\nRUN cp -a /usr/lib/python3* /opt/\nWORKDIR /srv\nCOPY src ./src\n"
        "RUN find . -type f | xargs sha256sum > /sums\nRUN python3 -m compileall -q /opt >/dev/null || true\n"
        'LABEL a=b\nCMD ["python3"]\n'
    ),
    "several stages, FROM scratch": (
        f"FROM {BASE} AS a\nRUN cp -a /usr/share/zoneinfo /out 2>/dev/null || mkdir /out\n"
        f"FROM {BASE} AS b\nCOPY src /src\nRUN cat /src/* > /all\n"
        "FROM scratch\nCOPY --from=a /out /out\nCOPY --from=b /all /\n"
    ),
    "30 stages fan out": _fan(30),
}


class Engine:
    """One builder: how its command line begins and with which environment."""

    def __init__(
        self, name: str, argv: Sequence[str], words: Sequence[str], env: dict[str, str]
    ) -> None:
        self.name, self.argv, self.words, self.env = name, list(argv), list(words), env

    def run(self, *words: str) -> str:
        """The output of a command; SystemExit if it fails."""
        done = subprocess.run(
            [*self.argv, *words], env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(
                f"{self.name} {' '.join(words)}: {done.returncode}\n{done.stderr[-2000:]}"
            )
        return done.stdout

    def build(self, context: str, *flags: str) -> float:
        """Milliseconds of one build."""
        start = time.perf_counter()
        self.run("build", *self.words, "-q", "-t", "bench", *flags, context)
        return (time.perf_counter() - start) * 1000

    def memory(self, context: str) -> float:
        """MiB: the most that all processes of a clean build had at once."""
        child = subprocess.Popen(
            [*self.argv, "build", *self.words, "-q", "--no-cache", "-t", "bench", context],
            env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        peak = 0
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.02):
                peak = max(peak, _tree(child.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        child.wait()
        done.set()
        watcher.join()
        return peak / 1024


def _tree(root: int) -> int:
    """KiB of resident memory (PSS where it may be read, else RSS) of a process and its descendants."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(name))
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        pending += parents.get(pid, ())
        total += _resident(pid)
    return total


def _resident(pid: int) -> int:
    for path, key in ((f"/proc/{pid}/smaps_rollup", "Pss:"), (f"/proc/{pid}/status", "VmRSS:")):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                for line in file:
                    if line.startswith(key):
                        return int(line.split()[1])
        except OSError:
            continue
    return 0


def engines(where: str, rootless: str, base: str) -> list[Engine]:
    """Both, with a store of their own that has the base image."""
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": f"{where}/home", "TMPDIR": where}
    env["XDG_RUNTIME_DIR"] = f"{where}/run"
    for path in (env["HOME"], env["XDG_RUNTIME_DIR"]):
        os.makedirs(path, 0o700, exist_ok=True)
    layout = f"{where}/layout"
    debian.layout_of(base, layout, BASE)
    ours = Engine("rootless", [rootless], [], {**env, "ROOTLESS_NETWORK_DEFAULT": "host"})
    ours.run("load", "-i", layout)
    store = ["buildah", "--root", f"{where}/buildah", "--runroot", f"{where}/buildah-run"]
    theirs = Engine(
        "buildah",
        store,
        ["--layers", "--isolation", "chroot"],
        {**env, "STORAGE_DRIVER": "overlay"},
    )
    made = theirs.run("from", "scratch").strip()
    theirs.run("add", "-q", made, base, "/")
    theirs.run("commit", "-q", "--rm", made, BASE)
    return [ours, theirs]


def measure(
    both: Sequence[Engine], context: str, text: str, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Samples by kind and engine."""
    os.makedirs(f"{context}/src", exist_ok=True)
    for number in range(FILES):
        with open(f"{context}/src/{number}", "w", encoding="ascii") as file:
            file.write(f"{number}\n" * 500)
    with open(f"{context}/Dockerfile", "w", encoding="ascii") as file:
        file.write(text)
    samples: dict[str, dict[str, list[float]]] = {
        kind: {name: [] for name in NAMES} for kind in (*KINDS, "memory")
    }
    for number in range(rounds):
        for engine in both:
            samples["clean"][engine.name].append(engine.build(context, "--no-cache"))
            engine.build(
                context
            )  # what --no-cache made is the cache's from here on, or is made now
            samples["cached"][engine.name].append(engine.build(context))
        with open(f"{context}/src/7", "w", encoding="ascii") as file:
            file.write(f"changed {number} {time.time()}")
        for engine in both:
            samples["one changed COPY"][engine.name].append(engine.build(context))
    for engine in both:
        samples["memory"][engine.name].append(engine.memory(context))
    return samples


def row(case: str, kind: str, samples: dict[str, list[float]]) -> str:
    """One line of a Markdown table."""
    unit = "MiB" if kind == "memory" else "ms"
    cells = [f"{case}: {kind}"]
    for name in NAMES:
        values = sorted(samples[name])
        low, high = values[len(values) // 4], values[(3 * len(values)) // 4]
        cells.append(f"{statistics.median(values):.0f} ({low:.0f}-{high:.0f}) {unit}")
    cells.append(
        f"{statistics.median(samples['rootless']) / statistics.median(samples['buildah']):.2f}"
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rootless", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--where", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    args = parser.parse_args()
    where = tempfile.mkdtemp(prefix="rlb-", dir=args.where or None)
    found: dict[str, Any] = {}
    both = engines(where, os.path.abspath(args.rootless), args.base)
    try:
        print("| | rootless | buildah | ratio |\n|---|---|---|---|")
        for number, case in enumerate(args.cases or CASES):
            found[case] = measure(both, f"{where}/context{number}", CASES[case], args.rounds)
            for kind in (*KINDS, "memory"):
                print(row(case, kind, found[case][kind]), flush=True)
    finally:
        if args.json:
            with open(args.json, "w", encoding="ascii") as file:
                json.dump(found, file)
        both[0].run("system", "reset", "-f")
        subprocess.run(["buildah", "unshare", "rm", "-rf", where], env=both[1].env, check=False)


if __name__ == "__main__":
    main()
