"""Answers per second of the name service, asked by dnsperf in containers' namespaces, beside its CPU time.

    PYTHONPATH=.:tests/integration python3 tests/bench/names.py [--seconds N] [--containers N] [--json FILE]

Runs as an ordinary user in namespaces of its own; needs the packages dnsperf and iproute2.  Three loads:
names of containers by UDP and by TCP, and names of the outside, which a server on the host answers (that
server is Python, too, and shares the machine).  dnsperf keeps 100 questions under way per container.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from dnsrig import Server, World, fixed, in_world  # type: ignore[import-not-found, unused-ignore]

KNOWN = {f"web{number}": [f"10.1.0.{number}"] for number in range(1, 101)}


def load(world: World, containers: list[str], *words: str) -> dict[str, float]:
    """dnsperf in all CONTAINERS at once: the sum of what they got, and what one answer cost the service."""
    outputs: list[str] = []

    def ask(name: str) -> None:
        outputs.append(
            world.run(name, "dnsperf", "-s", "127.0.0.11", "-O", "suppress=timeout", *words)
        )

    threads = [threading.Thread(target=ask, args=(name,)) for name in containers]
    busy, started = world.do(time.thread_time), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    busy, wall = world.do(time.thread_time) - busy, time.monotonic() - started

    def figures(pattern: str) -> list[float]:
        return [float(found) for text in outputs for found in re.findall(pattern, text)]

    answered = sum(figures(r"Queries completed: +(\d+)"))
    return {
        "answers_per_second": round(sum(figures(r"Queries per second: +([\d.]+)"))),
        "lost": sum(figures(r"Queries lost: +(\d+)")),
        "microseconds_of_cpu_each": round(busy / max(1, answered) * 1e6, 1),
        "share_of_a_core": round(busy / wall, 2),
        "mean_latency_ms": statistics.mean(figures(r"Average Latency \(s\): +([\d.]+)\D+min"))
        * 1000,
    }


def measure(world: World, seconds: int, count: int) -> dict[str, Any]:
    """All loads, one after the other."""
    Server("127.0.0.53", fixed("192.0.2.1"))
    world.serve("127.0.0.53")
    containers = [f"c{number}" for number in range(count)]
    for name in containers:
        world.container(name, KNOWN)
    with tempfile.TemporaryDirectory() as scratch:
        inside, outside = Path(scratch, "inside"), Path(scratch, "outside")
        inside.write_text("".join(f"{name} A\n" for name in KNOWN))
        outside.write_text("".join(f"h{number}.example A\n" for number in range(100)))
        common = ("-l", str(seconds), "-q", "100")
        return {
            "containers, udp": load(world, containers, "-d", str(inside), *common),
            "containers, tcp": load(world, containers, "-d", str(inside), "-m", "tcp", *common),
            "outside, udp": load(world, containers, "-d", str(outside), *common),
        }


def main() -> None:
    """Print a line per load."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--containers", type=int, default=1)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    subprocess.run(["dnsperf", "-h"], check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch, "results")

        def case(world: World) -> None:
            results.write_text(json.dumps(measure(world, options.seconds, options.containers)))

        in_world(case, Path(scratch))
        found = json.loads(results.read_text())
    for name, figures in found.items():
        print(f"{name:16}", ", ".join(f"{key} {value:g}" for key, value in figures.items()))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
