"""Processes and resident memory that 1, 10, ... containers on the default network cost, per engine.

Counts what appears while they are started, but for the containers' own programs.  Memory is VmRSS, added up:
pages that programs share are counted for each.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from bench import IMAGE, Engine  # type: ignore[import-not-found, unused-ignore]

PAYLOAD = "sleep"
SERVICE = "netd/server.py"


def processes() -> dict[int, tuple[str, str, int]]:
    """Name, command line and kB of all processes that use memory of their own."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/status", encoding="utf-8") as file:
                status = dict(line.split(":", 1) for line in file.read().splitlines())
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if int(status["Uid"].split()[0]) == os.getuid() and "VmRSS" in status:
            found[int(entry)] = (status["Name"].strip(), line, int(status["VmRSS"].split()[0]))
    return found


def memory(engines: Sequence[Engine], counts: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """Measure, print a table, and give {engine and number: {name of program: [how many, kB]}}."""
    everything: dict[str, dict[str, list[float]]] = {}
    print(
        "| containers | engine | processes | VmRSS, MB | of these |\n| --- | --- | --- | --- | --- |"
    )
    for engine in engines:
        quiet()
        before = set(processes())
        names: list[str] = []
        for count in counts:
            for number in range(len(names), count):
                names.append(f"bench-memory-{number}")
                engine.run("run", "-d", "--name", names[-1], IMAGE, PAYLOAD, "99999")
            time.sleep(2)
            found: dict[str, list[float]] = {}
            for pid, (name, line, size) in processes().items():
                if pid not in before and name != PAYLOAD:
                    one = found.setdefault(
                        "netd" if name.startswith("python") and SERVICE in line else name, [0, 0]
                    )
                    one[0] += 1
                    one[1] += size
            everything[f"{engine.name}, {count}"] = found
            each = ", ".join(f"{n} {k:.0f} x {s / k / 1024:.2f}" for n, (k, s) in found.items())
            total = sum(size for _, size in found.values()) / 1024
            number = sum(many for many, _ in found.values())
            print(f"| {count} | {engine.name} | {number:.0f} | {total:.1f} | {each} |", flush=True)
        engine.run("kill", *names)
        engine.run("rm", "-f", *names)
    return everything


def quiet() -> None:
    """Wait until nothing of an earlier engine is left that ends by itself."""
    deadline = time.monotonic() + 30
    while any(SERVICE in line for _, line, _ in processes().values()):
        if time.monotonic() > deadline:
            sys.stderr.write("a network service of before is still there\n")
            return
        time.sleep(0.2)
