"""Timings of rootless beside podman, alternating in one run, on one filesystem.

    python3 tests/bench/bench.py --rootless ~/.local/bin/rootless [--rounds N] [--json FILE] [CASE...]

Runs as an ordinary user in a directory (--where, default a new one below $TMPDIR) that should be a tmpfs or a
journaled filesystem: on ext4 without a journal, making files after deleting others is ten times slower.
Podman of Debian 12 with crun refuses hybrid control groups; start this program in a mount namespace that
has cgroup2 alone at /sys/fs/cgroup (docs/benchmarks.md shows how), and with a runtime directory of its
own, as podman keeps the mount namespace that it first saw.

Every figure is a whole process, in milliseconds: median, and the middle half of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGE = "localhost/bench:latest"


class Engine:
    """One engine: how its command line begins and with which environment."""

    def __init__(self, name: str, argv: Sequence[str], env: dict[str, str]) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = env

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine to its end."""
        done = subprocess.run(
            [*self.argv, *words], env=self.env, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise SystemExit(f"{self.name} {' '.join(words)}: {done.returncode}\n{done.stderr}")
        return done

    def timed(self, *words: str) -> float:
        """Milliseconds of one command; raises SystemExit if it fails."""
        start = time.perf_counter()
        self.run(*words)
        return (time.perf_counter() - start) * 1000


class Result:
    """Figures of one case."""

    def __init__(self, case: str, samples: dict[str, list[float]], unit: str = "ms") -> None:
        self.case = case
        self.samples = samples
        self.unit = unit

    def median(self, name: str) -> float:
        """Median of an engine's samples."""
        return statistics.median(self.samples[name])

    def row(self) -> str:
        """One line of a Markdown table."""
        cells = [self.case]
        for name in ("rootless", "podman"):
            values = sorted(self.samples.get(name) or [])
            if not values:
                cells.append("-")
                continue
            low, high = values[len(values) // 4], values[(3 * len(values)) // 4]
            cells.append(f"{statistics.median(values):.1f} ({low:.1f}-{high:.1f}) {self.unit}")
        if self.samples.get("podman"):
            cells.append(f"{self.median('rootless') / self.median('podman'):.2f}")
        else:
            cells.append("-")
        return "| " + " | ".join(cells) + " |"


def alternate(
    case: str, engines: Sequence[Engine], rounds: int, words: Callable[[Engine], Sequence[str]]
) -> Result:
    """Time the same command of each engine in turn."""
    samples: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for engine in engines:
        engine.timed(*words(engine))  # warm
    for _ in range(rounds):
        for engine in engines:
            samples[engine.name].append(engine.timed(*words(engine)))
    return Result(case, samples)


def with_cpu(
    case: str, engines: Sequence[Engine], rounds: int, words: Sequence[str]
) -> list[Result]:
    """The same for a command that is short: its time, and the processor time of its processes."""
    wall: dict[str, list[float]] = {engine.name: [] for engine in engines}
    cpu: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(rounds + 1):
        for engine in engines:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            took = engine.timed(*words)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if number:  # the first one warms
                used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
                wall[engine.name].append(took)
                cpu[engine.name].append(used * 1000)
    return [Result(case, wall), Result(f"{case}: processor time", cpu)]


def case_run(engines: Sequence[Engine], rounds: int) -> list[Result]:
    """A container that does nothing, made and removed."""
    words = ("run", "--rm", "--network", "none", IMAGE, "true")
    return [alternate("run --rm --network none IMG true", engines, rounds, lambda _: words)]


def case_exec(engines: Sequence[Engine], rounds: int) -> list[Result]:
    """A further process in a running container."""
    for engine in engines:
        engine.run("run", "-d", "--name", "bench-exec", "--network", "none", IMAGE, "sleep", "9999")
    try:
        words = ("exec", "bench-exec", "true")
        return [alternate("exec CTR true", engines, rounds, lambda _: words)]
    finally:
        for engine in engines:
            engine.run("rm", "-f", "bench-exec")


def case_ps(engines: Sequence[Engine], rounds: int) -> list[Result]:
    """ps -a with few and with many containers."""
    results = []
    have = 0
    for count in (1, 100, 1000):
        for number in range(have, count):
            for engine in engines:
                engine.run(
                    "create", "--name", f"bench-ps-{number}", "--network", "none", IMAGE, "true"
                )
        have = count
        repeat = rounds if count < 1000 else max(3, rounds // 3)
        results += with_cpu(f"ps -a, {count} containers", engines, repeat, ("ps", "-a"))
    for engine in engines:
        for start in range(0, have, 100):
            names = [f"bench-ps-{n}" for n in range(start, min(have, start + 100))]
            engine.run("rm", *names)
    return results


def case_stats(engines: Sequence[Engine], rounds: int) -> list[Result]:
    """stats --no-stream with few and with many running containers."""
    results = []
    have = 0
    for count in (1, 100):
        for number in range(have, count):
            for engine in engines:
                words = ("--name", f"bench-stats-{number}", "--network", "none", IMAGE)
                engine.run("run", "-d", *words, "sleep", "9999")
        have = count
        case = f"stats --no-stream, {count} containers"
        results += with_cpu(case, engines, rounds, ("stats", "--no-stream"))
    for engine in engines:
        at_once = ("-t", "0") if engine.name == "podman" else ()
        engine.run("rm", "-f", *at_once, *(f"bench-stats-{n}" for n in range(have)))
    return results


def case_parallel(engines: Sequence[Engine], rounds: int) -> list[Result]:
    """200 containers at once, as many starters as there is room for."""
    samples: dict[str, list[float]] = {}
    words = ("run", "--rm", "--network", "none", IMAGE, "true")
    notes = []
    for engine in engines:
        before = os.times()
        start = time.perf_counter()
        with ThreadPoolExecutor(200) as pool:
            done = list(pool.map(lambda _: engine.run(*words, check=False), range(200)))  # noqa: B023
        wall = time.perf_counter() - start
        after = os.times()
        cpu = after.children_user + after.children_system
        cpu -= before.children_user + before.children_system
        failed = sum(1 for one in done if one.returncode)
        samples[engine.name] = [wall * 1000]
        notes.append(f"{engine.name}: {failed} failed, {cpu:.1f} s CPU of children")
    sys.stderr.write("; ".join(notes) + "\n")
    return [Result("200 parallel run --rm", samples)]


def case_pull(engines: Sequence[Engine], rounds: int, reference: str = "") -> list[Result]:
    """Pull and unpack of a large image from a registry on loopback, into an empty store."""
    if not reference:
        raise SystemExit("the case pull needs --pull-reference")
    samples: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for _ in range(max(3, rounds // 4)):
        for engine in engines:
            engine.run("rmi", "-f", reference, check=False)
            words = ["pull", "-q", reference]
            if engine.name == "podman":
                words.insert(1, "--tls-verify=false")
            samples[engine.name].append(engine.timed(*words))
    for engine in engines:
        engine.run("rmi", "-f", reference, check=False)
    return [Result("pull and unpack 300 MB, many files", samples)]


def case_monitor(engines: Sequence[Engine], rounds: int) -> list[Result]:
    """Resident memory of the process that supervises one container, in kB."""
    samples: dict[str, list[float]] = {}
    programs = {"rootless": "monitor", "podman": "conmon"}
    for engine in engines:
        engine.run("run", "-d", "--name", "bench-rss", "--network", "none", IMAGE, "sleep", "9999")
        identity = engine.run("inspect", "-f", "{{.Id}}", "bench-rss").stdout.strip()
        found = [_rss(pid) for pid in _pids(programs[engine.name], identity)]
        samples[engine.name] = [float(max(found, default=0))]
        engine.run("rm", "-f", "bench-rss")
    return [Result("supervisor VmRSS", samples, "kB")]


def _pids(program: str, identity: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if os.path.basename(words[0]).decode() == program and identity.encode() in b" ".join(words):
            found.append(int(name))
    return found


def _rss(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


CASES: dict[str, Callable[..., list[Result]]] = {
    "run": case_run,
    "exec": case_exec,
    "ps": case_ps,
    "stats": case_stats,
    "monitor": case_monitor,
    "parallel": case_parallel,
    "pull": case_pull,
}


def engines_in(where: str, options: argparse.Namespace) -> list[Engine]:
    """The engines that are here, with stores of their own below WHERE and the image loaded."""
    sys.path.insert(0, os.path.dirname(HERE))
    from images import busybox  # type: ignore[import-not-found, unused-ignore]

    layout = f"{where}/image"
    busybox.build(layout, IMAGE)
    base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    home = f"{where}/rootless"
    runtime = f"{where}/run"
    for path in (home, runtime):
        os.makedirs(path, 0o700, exist_ok=True)
    ours = Engine(
        "rootless", [options.rootless], {**base, "HOME": home, "XDG_RUNTIME_DIR": runtime}
    )
    ours.run("load", "-i", layout)
    found = [ours]
    if shutil.which("podman") and not options.alone:
        found.append(_podman(where, layout, base, options.runtime))
    return found


def _podman(where: str, layout: str, base: dict[str, str], runtime: str) -> Engine:
    home = f"{where}/podman"
    os.makedirs(f"{home}/.config/containers", exist_ok=True)
    with open(f"{home}/.config/containers/storage.conf", "w", encoding="ascii") as file:
        file.write('[storage]\ndriver = "overlay"\n')
    env = {**base, "HOME": home, "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}
    argv = ["podman", "--runtime", runtime, "--cgroup-manager", "cgroupfs", "--log-level", "error"]
    engine = Engine("podman", argv, env)
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{layout}:{IMAGE}", f"containers-storage:{IMAGE}"],
        env=env,
        check=True,
    )
    return engine


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE")
    parser.add_argument("--rootless", default=os.path.expanduser("~/.local/bin/rootless"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--where", default="")
    parser.add_argument("--runtime", default="crun")
    parser.add_argument("--alone", action="store_true", help="measure rootless only")
    parser.add_argument("--pull-reference", default="")
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    where = options.where or tempfile.mkdtemp(prefix="rootless-bench-")
    engines = engines_in(where, options)
    print("| case | rootless | podman | ratio |\n| --- | --- | --- | --- |", flush=True)
    everything: list[dict[str, Any]] = []
    for name in options.cases or [one for one in CASES if one != "pull"]:
        extra = {"reference": options.pull_reference} if name == "pull" else {}
        for result in CASES[name](engines, options.rounds, **extra):
            print(result.row(), flush=True)
            everything.append({"case": result.case, "unit": result.unit, **result.samples})
    if options.json:
        with open(options.json, "w", encoding="ascii") as file:
            json.dump(everything, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
