"""Timings of container networks beside podman's, slirp4netns, pasta, rootlesskit and bare wires, in one run.

    network_world.sh USER python3 tests/bench/network.py --where DIRECTORY [--rounds N] [--json FILE] [CASE...]

Runs as an ordinary user in the world that network_world.sh makes: a host of its own, and an outside at the
other end of a wire with an MTU of 1500.  In each round every case is measured once for every way to run it,
in turn, so that what else the machine does hits all of them; ratios are taken within a round.

Needs the packages iperf3, dnsperf, iproute2, podman (with crun, netavark, aardvark-dns), slirp4netns, passt and
rootlesskit.  Containers get the machine's /usr, for iperf3, dnsperf and network_work.py.  DIRECTORY should be
on a tmpfs (tests/bench/bench.py says why).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import network_ways as ways  # type: ignore[import-not-found, unused-ignore]
from network_memory import memory  # type: ignore[import-not-found, unused-ignore]
from network_ways import HOST, IPERF, OUTSIDE, SERVE, Place, Ways

from bench import IMAGE, Engine, engines_in  # type: ignore[import-not-found, unused-ignore]

Measure = Callable[[], float]
OURS = "rootless"
FAST, CONNECTS, RUNS = 3, 1000, 8  # seconds of iperf3 and dnsperf; how many of each


class Case:
    """One thing to measure, by each of the ways to run it."""

    def __init__(self, title: str, unit: str, measures: dict[str, Measure]) -> None:
        self.title = title
        self.unit = unit
        self.measures = measures
        self.samples: dict[str, list[float]] = {name: [] for name in measures}

    def round(self, number: int) -> None:
        """Measure each once, beginning with another one each time."""
        names = list(self.measures)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            self.samples[name].append(self.measures[name]())

    def rows(self) -> list[str]:
        """Lines of a Markdown table: the way, median and middle half, ratio of ours to it."""
        lines = []
        for name, values in self.samples.items():
            mine = next(iter(self.samples.values()))
            ratio = statistics.median(a / b for a, b in zip(mine, values))
            order = sorted(values)
            low, high = order[len(order) // 4], order[(3 * len(order)) // 4]
            cells = [self.title, name, f"{statistics.median(order):.3g} ({low:.3g}-{high:.3g})"]
            lines.append("| " + " | ".join([*cells, self.unit, f"{ratio:.2f}"]) + " |")
        return lines


def iperf(client: Place, address: str, port: int, *words: str) -> Measure:
    """Gbit/s that arrive."""

    def measure() -> float:
        argv = ["iperf3", "-J", "-c", address, "-p", str(port), "-t", str(FAST), *words]
        for _ in range(5):  # a server may be busy still with who was there before
            found = json.loads(client.run(*argv, check=False))
            if "sum_received" in found["end"]:
                return float(found["end"]["sum_received"]["bits_per_second"]) / 1e9
            time.sleep(0.5)
        raise SystemExit(f"{client.name}: {' '.join(argv)}: {found['error']}")

    return measure


def connects(client: Place, what: str, figure: str) -> Measure:
    """A figure of network_work.py."""

    def measure() -> float:
        found = json.loads(
            client.run(
                "python3",
                f"{client.bench}/network_work.py",
                what,
                OUTSIDE,
                str(SERVE),
                str(CONNECTS),
            )
        )
        if found.get("failed"):
            raise SystemExit(f"{client.name}: {found['failed']} of {CONNECTS} connections failed")
        return float(found[figure])

    return measure


def answers(client: Place) -> Measure:
    """Answers per second to questions for a container's name, 100 under way."""

    def measure() -> float:
        server = re.findall(r"nameserver (\S+)", client.run("cat", "/etc/resolv.conf"))[0]
        text = client.run(
            "sh", "-c",
            f"echo {ways.SERVER} A >/tmp/q; dnsperf -s {server} -d /tmp/q -l {FAST} -q 100",
        )  # fmt: skip
        lost = re.findall(r"Queries lost: +(\d+)", text)[0]
        if lost != "0":
            sys.stderr.write(f"{client.name}: {lost} questions without an answer\n")
        return float(re.findall(r"Queries per second: +([\d.]+)", text)[0])

    return measure


def command(engine: Engine, network: str) -> Measure:
    """Milliseconds of a `run --rm` of a container that does nothing, the median of some in a row."""
    words = ["run", "--rm", *(["--network", network] if network else []), IMAGE, "true"]
    return lambda: statistics.median(engine.timed(*words) for _ in range(RUNS))


def restart(engine: Engine) -> Measure:
    """Milliseconds from the death of the network service until its successor has answered."""

    def measure() -> float:
        old = ways.service(engine)
        os.kill(old, 9)
        start = time.perf_counter()
        while ways.service(engine) in (0, old):
            time.sleep(0.001)
        taken = (time.perf_counter() - start) * 1000
        time.sleep(11)  # its guard counts deaths in its first ten seconds
        return taken

    return measure


def cases(found: Ways) -> list[Case]:
    """All cases; the first of each is ours."""
    outside, inner = found.outside, found.inner
    everyone = {**inner, "host": found.host}
    engines = found.engines
    speed, each = "Gbit/s", everyone.items()
    pairs = found.pairs.items()
    return [
        Case("container to outside", speed, {n: iperf(p, OUTSIDE, IPERF) for n, p in each}),
        Case("outside to container", speed, {n: iperf(p, OUTSIDE, IPERF, "-R") for n, p in each}),
        Case(
            "outside to published port",
            speed,
            {n: iperf(outside, HOST, port) for n, port in found.published.items()},
        ),
        Case("container to container", speed, {n: iperf(p, to, IPERF) for n, (p, to) in pairs}),
        Case("connect()", "us", {n: connects(p, "latency", "median_us") for n, p in each}),
        Case("connects", "1/s", {n: connects(p, "rate", "per_second") for n, p in each}),
        Case(
            "answers for a container's name",
            "1/s",
            {n: answers(p) for n, (p, _) in pairs if n != "veth"},
        ),
        Case("run --rm, default network", "ms", {n: command(e, "") for n, e in engines.items()}),
        Case("run --rm --network none", "ms", {n: command(e, "none") for n, e in engines.items()}),
        Case("service killed until it answers", "ms", {OURS: restart(engines[OURS])}),
    ]


def rounds(
    engines: dict[str, Engine], where: str, wanted: Sequence[str], count: int
) -> dict[str, object]:
    """Measure the WANTED cases (none: all) COUNT times, print a table, and give the samples."""
    with contextlib.ExitStack() as stack:
        chosen = [
            case
            for case in cases(Ways(engines, where, stack))
            if not wanted or any(word in case.title for word in wanted)
        ]
        for number in range(count):
            for case in chosen:
                case.round(number)
            load = os.getloadavg()[0]
            sys.stderr.write(f"round {number + 1} of {count}, load {load:.1f}\n")
    print("| case | way | median (middle half) | unit | rootless / it |")
    print("| --- | --- | --- | --- | --- |")
    for case in chosen:
        print("\n".join(case.rows()), flush=True)
    return {case.title: {"unit": case.unit, "samples": case.samples} for case in chosen}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="CASE", help="a word of the title, or memory")
    parser.add_argument("--rootless", default=os.path.expanduser("~/.local/bin/rootless"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--where", default="")
    parser.add_argument("--runtime", default="crun")
    parser.add_argument("--alone", action="store_true", help="measure rootless only")
    parser.add_argument("--containers", type=int, default=50, help="of the case memory")
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    where = options.where or tempfile.mkdtemp(prefix="rootless-bench-")
    engines = {engine.name: engine for engine in engines_in(where, options)}
    if "podman" in engines:  # which takes CNI, without names, where it finds images of before
        path = f"{where}/podman/.config/containers/containers.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write('[network]\nnetwork_backend = "netavark"\n')
    everything: dict[str, object] = {}
    if not options.words or "memory" in options.words:
        everything["memory"] = memory(list(engines.values()), (1, 10, options.containers))
    wanted = [word for word in options.words if word != "memory"]
    if wanted or not options.words:
        everything.update(rounds(engines, where, wanted, options.rounds))
    if options.json:
        with open(options.json, "w", encoding="ascii") as file:
            json.dump(everything, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
