"""Timings inside containers, per storage driver, beside podman's and beside the bare filesystem, in one run.

    python3 tests/bench/storage.py --image LAYOUT --where DIRECTORY [--rounds N] [--json FILE] [NAME...]

LAYOUT is what tests/images/benchtree.py makes.  NAME is a storage driver of ours, podman-overlay or
podman-fuse-overlayfs.  Runs as an ordinary user; DIRECTORY should be on a tmpfs or a journaled filesystem
(tests/bench/bench.py says why, and how podman is started here).  In each round every engine makes a fresh
container of the image, and tests/bench/storage_work.py measures in it; the bare filesystem is a directory
beside the stores, bind-mounted into the container of the first engine and measured by the same program.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from storage_work import UNITS  # type: ignore[import-not-found, unused-ignore]

IMAGE = "benchtree:latest"
OURS = ("overlay", "fuse-overlayfs", "fusepy", "copy")
PODMAN = ("podman-overlay", "podman-fuse-overlayfs")
BARE = "bare"


class Engine:
    """One way to run the image: its name, how a command line of it begins, its environment."""

    def __init__(self, name: str, argv: Sequence[str], env: dict[str, str]) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = env

    def run(self, *words: str) -> str:
        """The output of a command of the engine; SystemExit if it fails."""
        done = subprocess.run(
            [*self.argv, *words], env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{self.name} {' '.join(words)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def measure(self, bare: str = "") -> dict[str, dict[str, float]]:
        """Figures of one fresh container, by engine name; with the bare filesystem's if it is given."""
        words = ["run", "--rm", "--network", "none"]
        bases = ["/bench"]
        if bare:
            words += ["-v", f"{bare}:/bare"]
            bases.append("/bare")
        found = json.loads(self.run(*words, IMAGE, "python3", "/bench/work.py", *bases))
        names = {"/bench": self.name, "/bare": BARE}
        return {names[base]: figures for base, figures in found.items()}


def ours(where: str, layout: str, program: str, names: Sequence[str]) -> list[Engine]:
    """Our drivers, sharing a store where their layers have one format."""
    base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    home, runtime = f"{where}/rootless", f"{where}/run"
    for path in (home, runtime):
        os.makedirs(path, 0o700, exist_ok=True)
    env = {**base, "HOME": home, "XDG_RUNTIME_DIR": runtime}
    found = [Engine(name, [program, "--storage-driver", name], env) for name in names]
    for engine in found[:1]:
        engine.run("load", "-i", layout)
    return found


def podman(where: str, layout: str, name: str, runtime: str) -> Engine:
    """Podman with a store of its own."""
    home = f"{where}/{name}"
    os.makedirs(f"{home}/.config/containers", exist_ok=True)
    options = ""
    if name == "podman-fuse-overlayfs":
        options = '[storage.options.overlay]\nmount_program = "/usr/bin/fuse-overlayfs"\n'
    with open(f"{home}/.config/containers/storage.conf", "w", encoding="ascii") as file:
        file.write(f'[storage]\ndriver = "overlay"\n{options}')
    run = f"{where}/run-{name}"
    os.makedirs(run, 0o700, exist_ok=True)
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": home, "XDG_RUNTIME_DIR": run}
    argv = ["podman", "--runtime", runtime, "--cgroup-manager", "cgroupfs", "--log-level", "error"]
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{layout}:{IMAGE}", f"containers-storage:{IMAGE}"],
        env=env,
        check=True,
    )
    return Engine(name, argv, env)


def bare_copy(engine: Engine, where: str) -> str:
    """A plain directory with what the image has in /bench."""
    path = f"{where}/{BARE}"
    os.makedirs(path)
    engine.run(
        "run", "--rm", "--network", "none", "-v", f"{path}:/bare", IMAGE,
        "cp", "-a", "/bench/.", "/bare/",
    )  # fmt: skip
    return path


def table(samples: dict[str, dict[str, list[float]]]) -> str:
    """The medians as a Markdown table, a column per engine."""
    names = list(samples)
    lines = [f"| case | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for case, unit in UNITS.items():
        cells = [f"{statistics.median(samples[name][case]):.3g}" for name in names]
        lines.append(f"| {case}, {unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--image", required=True)
    parser.add_argument("--where", required=True)
    parser.add_argument("--rootless", default=os.path.expanduser("~/.local/bin/rootless"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtime", default="crun")
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    names = options.names or [*OURS, *(PODMAN if shutil.which("podman") else ())]
    engines = ours(options.where, options.image, options.rootless, [n for n in names if n in OURS])
    bare = bare_copy(engines[0], options.where)
    engines += [
        podman(options.where, options.image, name, options.runtime)
        for name in names
        if name in PODMAN
    ]
    samples: dict[str, dict[str, list[float]]] = {}
    for number in range(options.rounds):
        for index, engine in enumerate(engines):
            for name, figures in engine.measure(bare if index == 0 else "").items():
                for case, value in figures.items():
                    samples.setdefault(name, {}).setdefault(case, []).append(value)
        subprocess.run(["rm", "-rf", f"{bare}/out"], check=True)
        sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
    print(table(samples))
    if options.json:
        everything: dict[str, Any] = {"units": UNITS, "samples": samples}
        with open(options.json, "w", encoding="ascii") as file:
            json.dump(everything, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
